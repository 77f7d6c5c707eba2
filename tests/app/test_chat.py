from concurrent.futures import ThreadPoolExecutor

import pytest
from openai import OpenAI

from medusa.llama.model import Model
from medusa.text.chat_template import ChatTemplate
from tests.app.conftest import Server

QUESTION = [{"role": "user", "content": "Explain how a bicycle stays upright."}]


def ask(client: OpenAI, **fields: object):  # type: ignore[no-untyped-def]
    defaults = {"model": "default", "messages": QUESTION, "temperature": 0, "max_tokens": 30}
    return client.chat.completions.create(**(defaults | fields))  # type: ignore[call-overload]


def test_a_conversation_is_answered(client: OpenAI) -> None:
    answer = ask(client)
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert "bicycle" in choice.message.content
    assert choice.finish_reason in ("stop", "length")


def test_a_stream_adds_up_to_the_whole_answer(client: OpenAI) -> None:
    whole = ask(client).choices[0]
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.message.content
    assert chunks[-2].choices[0].finish_reason == whole.finish_reason
    assert chunks[-1].usage.prompt_tokens > 0
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_chat_template_is_the_models(
    client: OpenAI, model: Model, template: ChatTemplate
) -> None:
    prompt = model.tokenize(template.render(QUESTION), parse_special=True)
    raw = client.completions.create(model="default", prompt=prompt, temperature=0, max_tokens=30)
    answer = ask(client)
    assert answer.usage.prompt_tokens == len(prompt)
    assert answer.choices[0].message.content == raw.choices[0].text


def test_content_parts_and_the_developer_role_are_understood(client: OpenAI) -> None:
    system = {"role": "system", "content": "Be brief."}
    asked = "Explain how a bicycle\nstays upright."
    plain = ask(client, messages=[system, {"role": "user", "content": asked}])
    parts = [{"type": "text", "text": line} for line in asked.splitlines()]
    other = ask(
        client,
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": parts},
        ],
    )
    assert other.choices[0].message.content == plain.choices[0].message.content


def test_max_completion_tokens_counts(client: OpenAI) -> None:
    answer = ask(client, max_tokens=None, max_completion_tokens=3)
    assert answer.usage.completion_tokens == 3


def test_logprobs_come_with_alternatives_and_bytes(client: OpenAI) -> None:
    answer = ask(client, logprobs=True, top_logprobs=3, max_tokens=6)
    content = answer.choices[0].logprobs.content
    text = b"".join(bytes(entry.bytes) for entry in content).decode()
    assert text == answer.choices[0].message.content
    for entry in content:
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].token == entry.token
        assert entry.logprob == entry.top_logprobs[0].logprob <= 0


def test_several_choices(client: OpenAI) -> None:
    answer = ask(client, n=3, temperature=1.0, seed=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) > 1
    chunks = list(ask(client, n=2, temperature=1.0, seed=3, stream=True))
    texts = ["", ""]
    for chunk in chunks:
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == [choice.message.content for choice in answer.choices[:2]]


def test_a_follow_up_turn_finds_its_prefix_in_the_cache(client: OpenAI) -> None:
    first = ask(client, messages=[{"role": "user", "content": "Name four rivers of Europe."}])
    turn = ask(
        client,
        messages=[
            {"role": "user", "content": "Name four rivers of Europe."},
            {"role": "assistant", "content": first.choices[0].message.content},
            {"role": "user", "content": "And of Asia?"},
        ],
    )
    known = first.usage.prompt_tokens + first.usage.completion_tokens
    assert turn.usage.prompt_tokens_details.cached_tokens >= known - 4


@pytest.mark.parametrize("stream", [False, True])
def test_eight_clients_at_once_are_all_answered(server: Server, stream: bool) -> None:
    client = server.client()

    def one(number: int) -> str:
        messages = [{"role": "user", "content": f"Count from {number} to {number + 5}."}]
        if not stream:
            content: str = ask(client, messages=messages).choices[0].message.content
            return content
        chunks = ask(client, messages=messages, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(one, range(8)))
    assert all(texts)
    server.wait_idle()
