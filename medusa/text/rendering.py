"""The process that renders a chat template, kept ready from one conversation to the next."""

import contextlib
import json
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medusa.text import renderer

_PROGRAM = Path(renderer.__file__)


class RenderingError(Exception):
    """A template cannot be compiled or rendered; the message is the template's, if it has one."""


class RenderingProcess:
    """Renders a template in a process of its own, see `medusa.text.renderer`. For any thread.

    A template that takes too long or too much ends its process only; the next rendering begins
    another. The process ends with this object, and with this program whatever ends that.

    Args:
        source: Jinja source.

    Raises:
        RenderingError: it cannot be compiled.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._start()

    def render(self, variables: Mapping[str, Any]) -> str:
        """The text that the template makes of variables, which JSON must be able to hold.

        Raises:
            RenderingError: the template raises an error, takes too long, or too much memory.
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
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(_PROGRAM)],
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
            raise RenderingError(
                f"it takes more than {renderer.CPU_SECONDS} seconds of processor time "
                f"or {renderer.MEMORY_BYTES >> 20} MiB of memory"
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
