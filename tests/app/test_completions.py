from pathlib import Path

import pytest
from openai import OpenAI

from medusa.llama.model import Model
from tests.app.conftest import running_server

PROMPT = "The capital of France is"
GREEDY = {"model": "default", "temperature": 0, "max_tokens": 12}


def complete(client: OpenAI, **fields: object):  # type: ignore[no-untyped-def]
    return client.completions.create(**(GREEDY | {"prompt": PROMPT} | fields))  # type: ignore[call-overload]


def test_a_prompt_is_continued(client: OpenAI) -> None:
    answer = complete(client)
    (choice,) = answer.choices
    assert answer.object == "text_completion"
    assert answer.model == "smollm2-135m-instruct"
    assert choice.text
    assert choice.finish_reason == "length"
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12


def test_a_stream_adds_up_to_the_whole_answer(client: OpenAI) -> None:
    whole = complete(client, max_tokens=40)
    chunks = list(
        complete(client, max_tokens=40, stream=True, stream_options={"include_usage": True})
    )
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == whole.choices[0].text
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 40
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_every_kind_of_prompt_is_taken(client: OpenAI, model: Model) -> None:
    tokens = model.tokenize(PROMPT)
    text = complete(client).choices[0].text
    assert complete(client, prompt=tokens).choices[0].text == text
    several = complete(client, prompt=[PROMPT, "One, two, three,"])
    assert [choice.index for choice in several.choices] == [0, 1]
    assert several.choices[0].text == text
    as_tokens = complete(client, prompt=[tokens, model.tokenize("One, two, three,")])
    assert [c.text for c in as_tokens.choices] == [c.text for c in several.choices]
    assert several.usage.prompt_tokens == len(tokens) + len(model.tokenize("One, two, three,"))


def test_an_empty_prompt_starts_from_bos(client: OpenAI) -> None:
    assert complete(client, prompt="").usage.prompt_tokens == 1


def test_n_choices_differ_and_a_seed_brings_them_back(client: OpenAI) -> None:
    def texts() -> list[str]:
        answer = complete(client, n=3, temperature=1.0, seed=7, max_tokens=16)
        return [choice.text for choice in answer.choices]

    first = texts()
    assert len(set(first)) == 3
    assert texts() == first


def test_best_of_returns_the_likeliest(client: OpenAI) -> None:
    fields = {"temperature": 1.0, "seed": 11, "max_tokens": 8, "logprobs": 0}
    candidates = complete(client, n=4, **fields).choices
    means = [sum(c.logprobs.token_logprobs) / len(c.logprobs.token_logprobs) for c in candidates]
    best = complete(client, n=1, best_of=4, **fields)
    assert len(best.choices) == 1
    assert best.choices[0].index == 0
    assert best.choices[0].text == candidates[means.index(max(means))].text
    assert best.usage.completion_tokens == 32


def test_echo_gives_the_prompt_back_with_its_logprobs(client: OpenAI, model: Model) -> None:
    answer = complete(client, echo=True, logprobs=2, max_tokens=3)
    (choice,) = answer.choices
    prompt_tokens = model.tokenize(PROMPT)
    assert choice.text.startswith(PROMPT)
    logprobs = choice.logprobs
    assert "".join(logprobs.tokens) == choice.text
    assert len(logprobs.tokens) == len(prompt_tokens) + 3
    assert logprobs.token_logprobs[0] is None
    assert all(value <= 0 for value in logprobs.token_logprobs[1:])
    for token, offset in zip(logprobs.tokens, logprobs.text_offset, strict=True):
        assert choice.text[offset:].startswith(token)
    for token, top in zip(logprobs.tokens[-3:], logprobs.top_logprobs[-3:], strict=True):
        assert len(top) == 2
        assert max(top, key=top.get) == token  # greedy


def test_a_prompt_can_be_scored_without_generating(client: OpenAI, model: Model) -> None:
    answer = complete(client, echo=True, logprobs=1, max_tokens=0)
    assert answer.choices[0].text == PROMPT
    assert len(answer.choices[0].logprobs.tokens) == len(model.tokenize(PROMPT))
    assert answer.usage.completion_tokens == 0


def test_a_scored_text_has_an_entry_more_than_its_tokens(client: OpenAI, model: Model) -> None:
    """Of one token after the text, too, where that is the end token."""
    said = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello! How can I help you today?"
    answer = complete(client, prompt=said, echo=True, logprobs=1, max_tokens=1)
    (choice,) = answer.choices
    assert choice.finish_reason == "stop"
    assert choice.text == said
    assert len(choice.logprobs.tokens) == len(model.tokenize(said, parse_special=True)) + 1
    assert choice.logprobs.tokens[-1] == "<|im_end|>"
    assert choice.logprobs.token_logprobs[-1] == max(choice.logprobs.top_logprobs[-1].values())


def test_echo_and_logprobs_stream_too(client: OpenAI) -> None:
    whole = complete(client, echo=True, logprobs=1, max_tokens=6).choices[0]
    chunks = list(complete(client, echo=True, logprobs=1, max_tokens=6, stream=True))
    parts = [chunk.choices[0].logprobs for chunk in chunks if chunk.choices[0].logprobs]
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.text
    assert [t for part in parts for t in part.tokens] == whole.logprobs.tokens
    assert [o for part in parts for o in part.text_offset] == whole.logprobs.text_offset


def test_a_stop_string_ends_the_text_and_is_not_part_of_it(client: OpenAI) -> None:
    text = complete(client, max_tokens=40).choices[0].text
    stop = text[20:25]
    for stream in (False, True):
        answer = complete(client, max_tokens=40, stop=["@@@", stop], stream=stream)
        if stream:
            chunks = list(answer)
            got = "".join(chunk.choices[0].text for chunk in chunks)
            reason = chunks[-1].choices[0].finish_reason
        else:
            got, reason = answer.choices[0].text, answer.choices[0].finish_reason
        assert got == text[: text.index(stop)]
        assert reason == "stop"


def test_logit_bias_decides(client: OpenAI, model: Model) -> None:
    (token,) = model.tokenize(" Berlin")
    answer = complete(client, logit_bias={str(token): 100}, max_tokens=2)
    assert answer.choices[0].text == " Berlin Berlin"


def test_repetition_penalty_changes_a_greedy_text(client: OpenAI) -> None:
    text = complete(client, max_tokens=60).choices[0].text
    penalised = complete(client, max_tokens=60, extra_body={"repetition_penalty": 1.3})
    assert penalised.choices[0].text != text


def test_ignore_eos_goes_on(client: OpenAI, model: Model) -> None:
    prompt = model.tokenize(
        "<|im_start|>user\nSay hi.<|im_end|>\n<|im_start|>assistant\n", parse_special=True
    )
    ended = complete(client, prompt=prompt, max_tokens=150)
    assert ended.choices[0].finish_reason == "stop"
    endless = complete(client, prompt=prompt, max_tokens=150, extra_body={"ignore_eos": True})
    assert endless.choices[0].finish_reason == "length"
    assert endless.usage.completion_tokens == 150
    assert endless.choices[0].text.startswith(ended.choices[0].text)


def test_usage_tells_how_the_drafts_fared(tmp_path: Path) -> None:
    """On a server with a fixed tree, whose guesses do not depend on how fast the machine is."""
    tree = tmp_path / "tree.json"
    tree.write_text("[[0], [1], [0, 0]]")
    with running_server(tmp_path, "--tree", str(tree)) as server:
        answer = complete(server.client(), prompt="1, 2, 3, 4, 5, 6,", max_tokens=100)
        details = answer.usage.completion_tokens_details
        assert details.accepted_prediction_tokens > 0
        assert details.rejected_prediction_tokens > 0
        server.wait_for("generated_tokens_total", answer.usage.completion_tokens)
        accepted = server.metric("draft_tokens_accepted_total")
        assert accepted == details.accepted_prediction_tokens
        proposed = server.metric("draft_tokens_proposed_total")
        assert proposed == accepted + details.rejected_prediction_tokens


@pytest.mark.parametrize("text", ["🙂🙃🙂🙃🙂🙃🙂🙃", "日本語のテキスト、日本語の"])
def test_characters_of_several_tokens_are_not_split(client: OpenAI, text: str) -> None:
    chunks = list(complete(client, prompt=text * 4, max_tokens=40, stream=True))
    whole = complete(client, prompt=text * 4, max_tokens=40).choices[0].text
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole
    for chunk in chunks[:-2]:
        assert "\ufffd" not in chunk.choices[0].text
