"""The process that renders a chat template, kept ready from one conversation to the next."""

import contextlib
import json
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROGRAM = Path(__file__).with_name("renderer.py")


class RenderingError(Exception):
    """A template cannot be compiled or rendered; the message is the template's, if it has one."""


class CostlyRenderingError(RenderingError):
    """A rendering takes more than it may."""


@dataclass(frozen=True)
class RenderingLimits:
    """What one rendering may take.

    seconds: of processor time.
    memory: of the process, in bytes of address space.
    """

    seconds: int = 2
    memory: int = 1 << 30


class RenderingProcess:
    """Renders a template in a process of its own, see `medusa.text.renderer`. For any thread.

    A template that takes too long or too much ends its process only; the next rendering begins
    another. The process ends with this object, and with this program whatever ends that.

    Args:
        source: Jinja source.
        limits: on each rendering.

    Raises:
        RenderingError: it cannot be compiled.
    """

    def __init__(self, source: str, limits: RenderingLimits | None = None) -> None:
        self._source = source
        self._limits = limits or RenderingLimits()
        self._lock = threading.Lock()
        self._start()

    def render(self, variables: Mapping[str, Any]) -> str:
        """The text that the template makes of variables, which JSON must be able to hold.

        Raises:
            CostlyRenderingError: it takes too long, or too much memory.
            RenderingError: the template raises an error.
        """
        with self._lock:
            if self._process.poll() is not None:
                self.close()
                self._start()
            return self._ask(variables)

    def close(self) -> None:
        """End the process."""
        self._end()

    def _start(self) -> None:
        limits = self._limits
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(_PROGRAM), str(limits.seconds), str(limits.memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C on the terminal is not for it
        )
        self._end = weakref.finalize(self, _end, self._process)
        self._ask({"source": self._source})

    def _ask(self, request: Mapping[str, Any]) -> str:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line.endswith(b"\n"):
            self._process.wait()
            raise CostlyRenderingError(
                f"it takes more than {self._limits.seconds} seconds of processor time "
                f"or {self._limits.memory >> 20} MiB of memory"
            )
        reply = json.loads(line)
        if "error" in reply:
            raise RenderingError(reply["error"])
        text: str = reply["text"]
        return text


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with contextlib.suppress(BrokenPipeError):  # what was not read of the last request
            pipe.close()
    process.wait()
