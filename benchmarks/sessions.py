"""More conversations than slots: first tokens with and without the prompt cache."""

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.table import Table

from benchmarks.report import JsonFile, MarkdownFile, report
from benchmarks.workload import QUESTIONS, Bench
from medusa.engine.client import generate
from medusa.engine.engine import Engine
from medusa.engine.requests import GenerationRequest
from medusa.llama.batch import Batch
from medusa.llama.context import Context
from medusa.llama.model import Model
from medusa.llama.params import ContextParams
from medusa.llama.threads import default_threads
from medusa.sampling.params import SamplingParams
from medusa.text.chat_template import prompt_tokens
from medusa.text.tool_formats import Message

_RAM = 8 << 30
_LENGTHS = (128, 512, 1024, 2048)
_BATCH = 512
_ANSWER = 32
_WORDS = " ".join(QUESTIONS).split()


@dataclass(frozen=True)
class Turn:
    """First tokens of one turn of all conversations. Times are medians."""

    number: int
    prompt_tokens: int  # mean
    cached_with: int  # mean
    cached_without: int  # mean
    without_ms: float
    with_ms: float
    ratio: float  # median of the ratios of neighbours


@dataclass(frozen=True)
class Copy:
    """What it takes to have a text in the KV cache. Times are medians."""

    tokens: int
    mib: float
    prefill_ms: float
    save_ms: float
    restore_ms: float
    ratio: float  # prefill / restore, median of neighbours


def sessions(
    conversations: Annotated[int, typer.Option(min=1, help="How many there are.")] = 12,
    slots: Annotated[int, typer.Option(min=1, help="Slots that they share.")] = 8,
    turns: Annotated[int, typer.Option(min=2, help="Turns of each.")] = 4,
    words: Annotated[int, typer.Option(min=1, help="Words that each begins with.")] = 500,
    rounds: Annotated[int, typer.Option(min=1, help="Times that a text is restored.")] = 5,
    json: JsonFile = None,
    markdown: MarkdownFile = None,
) -> None:
    """Compare first tokens with and without the prompt cache, and restoring with prefill."""
    bench = Bench.load()
    without, with_cache = (
        bench.engine(slots, speculate=True, prompt_cache_ram=ram) for ram in (0, _RAM)
    )
    talk = _talk(bench, (without, with_cache), conversations, turns, words)
    kept = with_cache.prompt_cache
    without.close()
    with_cache.close()
    first = Table(
        "turn", "prompt tokens", "cached without", "cached with", "first token ms without",
        "ms with", "ratio",
        title=f"{conversations} conversations over {slots} slots, one after the other; "
        f"{kept.texts} texts in {kept.n_bytes / 2**20:.0f} MiB at the end",
    )  # fmt: skip
    for turn in talk:
        first.add_row(
            str(turn.number), str(turn.prompt_tokens), str(turn.cached_without),
            str(turn.cached_with), f"{turn.without_ms:.0f}", f"{turn.with_ms:.0f}",
            f"{turn.ratio:.1f}",
        )  # fmt: skip
    copies = [_copy(bench.model, length, rounds) for length in _LENGTHS]
    second = Table(
        "tokens", "MiB", "prefill ms", "save ms", "restore ms", "prefill / restore",
        title=f"a text's state; medians of {rounds} rounds in turns",
    )  # fmt: skip
    for copy in copies:
        second.add_row(
            str(copy.tokens), f"{copy.mib:.1f}", f"{copy.prefill_ms:.0f}", f"{copy.save_ms:.1f}",
            f"{copy.restore_ms:.1f}", f"{copy.ratio:.0f}",
        )  # fmt: skip
    figures = {"turns": [vars(turn) for turn in talk], "copies": [vars(copy) for copy in copies]}
    report("sessions", [first, second], figures, json, markdown)


def _talk(
    bench: Bench, engines: Sequence[Engine], conversations: int, turns: int, words: int
) -> list[Turn]:
    """Let conversations take turns; each prompt goes to all engines, one after the other."""
    talks: list[list[Message]] = [[] for _ in range(conversations)]
    measured = []
    for number in range(1, turns + 1):
        seconds: list[list[float]] = [[] for _ in engines]
        cached: list[list[int]] = [[] for _ in engines]
        lengths = []
        for index, messages in enumerate(talks):
            dice = random.Random(f"{index} {number}")
            said = " ".join(dice.choices(_WORDS, k=words if number == 1 else 20))
            messages.append({"role": "user", "content": f"({index}) {said}"})
            prompt = prompt_tokens(bench.model, bench.template, messages)
            request = GenerationRequest(prompt, SamplingParams(temperature=0), _ANSWER)
            lengths.append(len(prompt))
            answers = set()
            for engine, own_seconds, own_cached in zip(engines, seconds, cached, strict=True):
                (answered,) = generate(engine, [request])
                usage = answered.usage
                assert usage is not None
                own_seconds.append(usage.queue_seconds + usage.prompt_seconds)
                own_cached.append(usage.cached_tokens)
                answers.add(answered.text)
            (answer,) = answers  # whatever is cached, they say the same
            messages.append({"role": "assistant", "content": answer})
        ratios = [a / b for a, b in zip(*seconds, strict=True)]
        measured.append(
            Turn(
                number,
                round(statistics.fmean(lengths)),
                round(statistics.fmean(cached[1])),
                round(statistics.fmean(cached[0])),
                1000 * statistics.median(seconds[0]),
                1000 * statistics.median(seconds[1]),
                statistics.median(ratios),
            )
        )
    return measured


def _copy(model: Model, length: int, rounds: int) -> Copy:
    """Prefill a text, save its state, and load it as another sequence."""
    params = ContextParams(
        n_ctx=2 * length + _BATCH, n_seq_max=2, n_batch=_BATCH, n_threads=default_threads()
    )
    context, batch = Context(model, params), Batch(_BATCH, 1)
    text = random.Random(length).choices(range(100, model.n_vocab - 100), k=length)
    prefill, save, restore = [], [], []
    for _ in range(rounds + 1):
        context.clear()
        began = time.perf_counter()
        for start in range(0, length, _BATCH):
            batch.clear()
            batch.add_run(text[start : start + _BATCH], start, [0], output=False)
            context.prefill(batch)
        computed = time.perf_counter()
        state = context.save_sequence(0)
        saved = time.perf_counter()
        context.load_sequence(1, state)
        loaded = time.perf_counter()
        prefill.append(computed - began)
        save.append(saved - computed)
        restore.append(loaded - saved)
    context.close()
    ratios = [a / b for a, b in zip(prefill, restore, strict=True)]
    return Copy(  # the first round warms up
        length,
        state.nbytes / 2**20,
        1000 * statistics.median(prefill[1:]),
        1000 * statistics.median(save[1:]),
        1000 * statistics.median(restore[1:]),
        statistics.median(ratios[1:]),
    )
