"""The load generator asks as it is told and tells what came, against a server with a script."""

import asyncio

import pytest

from benchmarks.compare.load import Burst, Job, burst, generator
from benchmarks.compare.prompts import Prompt
from tests.benchmarks.compare.scripted import Script, scripted


def had(script: Script, *prompts: Prompt, clients: int = 1, starts: float = 0.0) -> Burst:
    """The conversations, each so many seconds after the one before."""
    times = tuple(starts * place for place in range(len(prompts)))
    with scripted(script) as url:
        return asyncio.run(burst(Job(url, "scripted", prompts, times, clients, 5)))


def test_an_answer_is_put_together_and_timed() -> None:
    found = had(Script(pause=0.05), Prompt("chat", ("Hello",)))
    (answer,) = found.answers
    assert (answer.text, answer.completion_tokens, answer.finish_reason) == ("Good day", 7, "stop")
    assert answer.error == ""
    assert 0.05 <= answer.first <= answer.last <= found.seconds
    assert list(answer.gaps) == [answer.last - answer.first]


def test_requests_are_greedy_bounded_and_streamed_and_have_the_prompts_fields() -> None:
    script = Script()
    had(script, Prompt("chat", ("Hello",), {"response_format": {"type": "json_object"}}))
    (body,) = script.bodies
    assert body["messages"] == [{"role": "user", "content": "Hello"}]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("scripted", 0, 5)
    assert body["stream"] is True
    assert body["response_format"] == {"type": "json_object"}


def test_the_answer_is_part_of_the_next_turn() -> None:
    script = Script()
    found = had(script, Prompt("chat", ("Hello", "And then?")))
    assert len(found.answers) == 2
    assert script.bodies[1]["messages"] == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Good day"},
        {"role": "user", "content": "And then?"},
    ]


@pytest.mark.parametrize("clients", [1, 3])
def test_no_more_clients_than_wanted_ask_at_a_time(clients: int) -> None:
    script = Script(pause=0.05)
    had(script, *[Prompt("chat", (str(n),)) for n in range(6)], clients=clients)
    assert (len(script.bodies), script.most) == (6, clients)


def test_arrivals_do_not_wait_for_answers() -> None:
    script = Script(pause=0.3)
    prompts = [Prompt("chat", (str(n),)) for n in range(3)]
    found = had(script, *prompts, clients=3, starts=0.1)
    assert script.most == 3
    assert found.seconds >= 0.2 + 2 * 0.3


def test_answers_come_in_the_order_of_prompts() -> None:
    found = had(Script(), *[Prompt("chat", ("a", "b"))] * 3, clients=3)
    assert len(found.answers) == 6


def test_calls_count_as_text() -> None:
    call = {"index": 0, "function": {"name": "save", "arguments": "{"}}
    rest = {"index": 0, "function": {"arguments": "}"}}
    pieces = ({"tool_calls": [call]}, {"tool_calls": [rest]})
    (answer,) = had(Script(pieces), Prompt("calls", ("Save.",))).answers
    assert answer.text == "save{}"


def test_tokens_that_are_not_told_are_not_invented() -> None:
    (answer,) = had(Script(usage=False), Prompt("chat", ("Hello",))).answers
    assert answer.completion_tokens is None


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (Script(status=503), "503"),
        (Script(ends=False), "early"),
    ],
)
def test_what_goes_wrong_is_told_and_ends_nothing_else(script: Script, error: str) -> None:
    found = had(script, Prompt("chat", ("1",)), Prompt("chat", ("2",)))
    assert [error in answer.error for answer in found.answers] == [True, True]


def test_nobody_there_is_an_error_of_the_answer() -> None:
    job = Job("http://127.0.0.1:9", "none", (Prompt("chat", ("1",)),), (0.0,), 1, 5)
    (answer,) = asyncio.run(burst(job)).answers
    assert "Connect" in answer.error


def test_the_generator_serves_job_after_job_and_tells_its_processor_time() -> None:
    script = Script()
    with scripted(script) as url, generator() as elsewhere:
        job = Job(url, "scripted", (Prompt("chat", ("Hello",)),), (0.0,), 1, 5)
        found = [elsewhere.run(job) for _ in range(2)]
    assert [each.answers[0].text for each in found] == ["Good day"] * 2
    assert all(each.cpu_seconds > 0 for each in found)
