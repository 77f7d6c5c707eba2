"""Self-distillation data: the engine answers prompts in large batches, its answers are recorded."""

import queue
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from medusa.chat import ChatTemplate, prompt_tokens
from medusa.engine import Engine
from medusa.errors import InvalidRequestError
from medusa.requests import Delta, Event, Failed, Finished, GenerationRequest
from medusa.sampling import SamplingParams
from medusa.training.shards import Answer, ShardStore

ANSWER_TOKENS = 256
SHARD_TOKENS = 20_000
SAMPLED_TEMPERATURE = 0.7


@dataclass
class _Recording:
    number: int
    prompt: int
    tokens: list[int] = field(default_factory=list)
    hidden: list[np.ndarray] = field(default_factory=list)


def distill(
    engine: Engine,
    template: ChatTemplate,
    prompts: Sequence[str],
    store: ShardStore,
    n_tokens: int,
    on_progress: Callable[[int], None] = lambda _tokens: None,
) -> int:
    """Answer prompts until `n_tokens` tokens are recorded in all, earlier runs included.

    Every other answer is greedy, the rest sampled. Prompts are taken in order, and again from the
    start with other seeds when they run out.

    Args:
        engine: runs the model; its slots are kept busy all the time.
        template: the model's chat template.
        prompts: user messages.
        store: where answers are recorded and what is recorded already.
        n_tokens: when to stop.
        on_progress: told the number of recorded tokens.

    Returns:
        The number of tokens recorded in all.
    """
    recorded, number = store.progress()
    events: queue.SimpleQueue[tuple[_Recording, Event]] = queue.SimpleQueue()
    finished: list[Answer] = []
    gathered = running = 0
    on_progress(recorded)
    while running or recorded + gathered < n_tokens:
        while running < engine.config.n_slots and recorded + gathered < n_tokens:
            running += _submit(engine, template, prompts, number, events)
            number += 1
        recording, event = events.get()
        match event:
            case Delta(tokens=tokens, hidden=hidden) if hidden is not None:
                recording.tokens.extend(tokens)
                recording.hidden.append(hidden.astype(np.float16))
            case Finished():
                running -= 1
                if recording.tokens:
                    finished.append(_answer(recording))
                    gathered += len(recording.tokens)
                    on_progress(recorded + gathered)
            case Failed(error=error):
                raise error
        if gathered >= SHARD_TOKENS or (finished and not running):
            store.write(finished)
            recorded += gathered
            finished, gathered = [], 0
    return recorded


def _submit(
    engine: Engine,
    template: ChatTemplate,
    prompts: Sequence[str],
    number: int,
    events: queue.SimpleQueue[tuple[_Recording, Event]],
) -> bool:
    """Queue one prompt; False when it is too long for the context."""
    prompt = number % len(prompts)
    request = GenerationRequest(
        prompt=prompt_tokens(
            engine.model, template, [{"role": "user", "content": prompts[prompt]}]
        ),
        sampling=SamplingParams(
            temperature=0.0 if number % 2 == 0 else SAMPLED_TEMPERATURE, seed=number
        ),
        max_tokens=ANSWER_TOKENS,
        record_hidden=True,
    )
    recording = _Recording(number, prompt)
    try:
        engine.submit([request], [lambda event: events.put((recording, event))])
    except InvalidRequestError:
        return False
    return True


def _answer(recording: _Recording) -> Answer:
    return Answer(
        recording.number,
        recording.prompt,
        np.array(recording.tokens, np.int32),
        np.concatenate(recording.hidden),
    )
