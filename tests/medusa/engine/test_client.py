from collections.abc import Iterator

import pytest

from medusa.engine.client import Client, generate, stream
from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.events import Delta, Finished
from medusa.engine.requests import GenerationRequest
from medusa.errors import GenerationFailedError, InvalidRequestError
from medusa.llama.model import Model
from medusa.sampling.params import SamplingParams
from medusa.sampling.sampler import Sampler
from tests.conftest import THREADS

GREEDY = SamplingParams(temperature=0)


@pytest.fixture(scope="module")
def engine(model: Model) -> Iterator[Engine]:
    engine = Engine(model, config=EngineConfig(n_slots=2, n_ctx=1024, n_threads=THREADS))
    yield engine
    engine.close()


def request(first: int = 1, max_tokens: int = 8) -> GenerationRequest:
    return GenerationRequest((first, 2, 3), GREEDY, max_tokens, ignore_eos=True, logprobs=1)


def test_generate_answers_in_the_order_of_the_requests(engine: Engine) -> None:
    requests = [request(first, max_tokens) for first, max_tokens in ((1, 20), (9, 3), (5, 9))]
    answers = generate(engine, requests)
    assert [len(answer.tokens) for answer in answers] == [20, 3, 9]
    assert [len(answer.logprobs) for answer in answers] == [20, 3, 9]
    assert [generate(engine, [one])[0].tokens for one in requests] == [a.tokens for a in answers]


def test_no_more_run_at_a_time_than_asked_for(engine: Engine) -> None:
    answers = generate(engine, [request(first) for first in range(6)], parallel=1)
    assert [len(answer.tokens) for answer in answers] == [8] * 6
    assert all(a.usage is not None and a.usage.queue_seconds < 1.0 for a in answers)


def test_a_stream_yields_events_as_they_come_and_the_end_last(engine: Engine) -> None:
    *deltas, last = stream(engine, request(max_tokens=12))
    assert all(isinstance(delta, Delta) for delta in deltas)
    assert len(deltas) > 1
    assert isinstance(last, Finished)


def test_leaving_a_stream_stops_its_request(engine: Engine) -> None:
    events = stream(engine, request(max_tokens=900))
    next(iter(events))
    events.close()  # type: ignore[attr-defined]
    client = Client(engine)
    client.submit(request())
    assert [type(event) for event in client.events()][-1] is Finished
    while engine.n_running:
        pass


def test_more_may_be_submitted_while_events_come(engine: Engine) -> None:
    client = Client(engine)
    client.submit(request(1))
    ended = []
    for event in client.events():
        if isinstance(event, Finished):
            ended.append(event.request_id)
            if len(ended) < 3:
                client.submit(request(len(ended) + 5))
    assert len(ended) == 3
    assert client.n_open == 0


def test_a_failure_is_raised_anew_for_each_who_asks(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> int:
        raise RuntimeError("the sampler broke")

    monkeypatch.setattr(Sampler, "sample", broken)
    errors = []
    for _ in range(2):
        with pytest.raises(GenerationFailedError, match="RuntimeError: the sampler broke") as one:
            generate(engine, [request()])
        errors.append(one.value)
    assert errors[0] is not errors[1]


def test_requests_of_one_call_need_ids_of_their_own(engine: Engine) -> None:
    one = request()
    with pytest.raises(InvalidRequestError, match="same id"):
        engine.submit([one, one], lambda _event: None)
    with pytest.raises(ValueError, match="id of its own"):
        generate(engine, [one, one])


def test_an_id_is_free_again_when_its_request_has_ended(engine: Engine) -> None:
    endless = request(max_tokens=900)
    client = Client(engine)
    client.submit(endless)
    with pytest.raises(InvalidRequestError, match="same id"):
        engine.submit([endless], lambda _event: None)
    client.cancel()
    short = request()
    first, again = (generate(engine, [short])[0].tokens for _ in range(2))
    assert first == again


def test_nobody_at_a_time_is_no_way_to_generate(engine: Engine) -> None:
    with pytest.raises(ValueError, match="one at a time"):
        generate(engine, [request()], parallel=0)
