"""Damaged GGUFs, each loaded in a child process that may crash or hang without harm."""

import faulthandler
import logging
import os
import random
import resource
import signal
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import gguf

from medusa.engine.client import generate
from medusa.engine.config import EngineConfig
from medusa.engine.requests import GenerationRequest
from medusa.errors import MedusaError
from medusa.llama import runtime
from medusa.loading import open_model
from medusa.sampling.params import SamplingParams
from medusa.speculation.heads.reading import read_heads
from models import DEFAULT_MODEL, resolve
from tests.app.tiny_model import write_tiny_model
from tests.fuzz.outcome import Outcome

SECONDS = 10
"""For what takes milliseconds on a whole file."""

_VALUES = (0, 1, 255, 2**31, 2**32 - 1, 2**60, 2**63, 2**64 - 1)
_REFUSED, _UNEXPECTED = 1, 2


def fuzz_models(cases: int, seed: int) -> Outcome:
    """Damage a model's header, tensors and length; load it and generate."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.gguf"
        write_tiny_model(path)
        return _fuzz(path, cases, seed, _use_model)


def fuzz_heads(cases: int, seed: int) -> Outcome:
    """The same with the default model's heads, which are read in full."""
    heads = resolve(DEFAULT_MODEL).heads
    assert heads is not None
    return _fuzz(heads, cases, seed, _use_heads)


def _use_model(path: Path) -> None:
    loaded = open_model(path, None, EngineConfig(n_slots=2, n_ctx=512, n_threads=1))
    loaded.model.tokenize("hello abcd <|end|>", parse_special=True)
    request = GenerationRequest((1, 2, 3), SamplingParams(temperature=0), 5, ignore_eos=True)
    generate(loaded.engine, [request])


def _use_heads(path: Path) -> None:
    for tensor in read_heads(path).tensors.values():
        tensor.data.sum(dtype="float64")


def _fuzz(source: Path, cases: int, seed: int, use: Callable[[Path], None]) -> Outcome:
    runtime.load()
    logging.disable(logging.CRITICAL)
    data, spots = source.read_bytes(), _header_spots(source)
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder:
        path, log = Path(folder) / "damaged.gguf", Path(folder) / "log"
        for number in range(cases):
            dice = random.Random(f"{seed}-{number}")
            damaged, how = damage(data, spots, dice)
            path.write_bytes(damaged)
            code = _in_child(lambda: use(path), log)
            if code in (0, _REFUSED):
                outcome.count("loaded" if code == 0 else "refused in one line")
                continue
            what = {-signal.SIGALRM: "hang", _UNEXPECTED: "another exception"}.get(code, "crash")
            said = log.read_text(errors="replace").strip()[-300:]
            outcome.count(what, wrong=f"seed {seed}, case {number}, {how}, exit {code}: {said}")
    return outcome


def _header_spots(path: Path) -> list[tuple[int, int]]:
    """(position, length) of the values in a header, of long arrays only some."""
    reader = gguf.GGUFReader(path)
    start = reader.data.ctypes.data
    parts = [
        part
        for field in (*reader.fields.values(), *(tensor.field for tensor in reader.tensors))
        for part in field.parts[:40]
    ]
    return [
        (part.ctypes.data - start, part.nbytes)
        for part in parts
        if 0 <= part.ctypes.data - start < len(reader.data)
    ]


def damage(data: bytes, spots: list[tuple[int, int]], dice: random.Random) -> tuple[bytes, str]:
    """A damaged copy, and in words what was done."""
    changed = bytearray(data)
    header = max(at + length for at, length in spots)
    kind = dice.choice(("cut", "bit", "value", "value", "value", "tensors"))
    if kind == "cut":
        size = dice.choice((dice.randrange(header), dice.randrange(len(data))))
        return data[:size], f"cut to {size} bytes"
    if kind == "value":
        at, length = dice.choice(spots)
        value = struct.pack("<Q", dice.choice(_VALUES))[:length].ljust(length, b"\0")
        changed[at : at + length] = value
        return bytes(changed), f"{value[:8].hex()} at {at}"
    at = dice.randrange(header) if kind == "bit" else dice.randrange(header, len(data))
    bit = dice.randrange(8)
    changed[at] ^= 1 << bit
    return bytes(changed), f"bit {bit} of byte {at}"


def _in_child(work: Callable[[], None], log: Path) -> int:
    """The exit code of a fork that does the work; negative: the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(_child(work, log))
        finally:
            os._exit(_UNEXPECTED)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _child(work: Callable[[], None], log: Path) -> int:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ["GGML_NO_BACKTRACE"] = "1"
    signal.alarm(SECONDS)
    try:
        work()
    except MedusaError as error:
        return _REFUSED if "\n" not in str(error) else _UNEXPECTED
    except BaseException as error:
        print(repr(error), flush=True)
        return _UNEXPECTED
    return 0
