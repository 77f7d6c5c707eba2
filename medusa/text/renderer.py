"""Renders one chat template, as a program of its own: `python -I renderer.py SECONDS BYTES`.

Templates come with models, hence from anybody, and Jinja's sandbox bounds neither time nor memory.
A process can be bounded from outside; a thread cannot. So this file imports nothing of ours.

A line of standard input is a JSON object, and so is the line that answers it. The first is the
template, {"source": ...}, answered by {"text": ""}; each further one holds the variables of one
rendering, answered by {"text": ...}. Or by {"error": ...}, in the template's words if it has any.
"""

import contextlib
import datetime
import json
import resource
import sys
import time
from collections.abc import Mapping
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import SandboxedEnvironment

MAX_CHARACTERS = 4_000_000
"""Longest text that a rendering may yield."""

_LONGEST_ERROR = 1000


class _Generation(Extension):
    """Hugging Face's tag around what the assistant wrote, which matters to training only."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """What is inside, as if the tag was not there."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.datetime.now().strftime(form)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON for prompts, without the escapes that HTML needs."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def compiled(source: str) -> jinja2.Template:
    """A template in the environment that Hugging Face's transformers defines for chats.

    Raises:
        TemplateError: the source is not valid Jinja.
    """
    environment = SandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment.from_string(source)


def answer(template: jinja2.Template, variables: Mapping[str, Any]) -> dict[str, str]:
    """What a rendering is answered by."""
    try:
        text = template.render(variables)
    except jinja2.TemplateError as error:
        return {"error": _shortened(str(error))}
    except MemoryError:
        raise
    except Exception as error:  # a template can raise whatever Python can
        return {"error": _shortened(f"{type(error).__name__}: {error}")}
    if len(text) > MAX_CHARACTERS:
        return {"error": f"it makes {len(text):,} characters of them"}
    return {"text": text}


def _shortened(message: str) -> str:
    return message if len(message) <= _LONGEST_ERROR else message[:_LONGEST_ERROR] + " ..."


def _limit_processor_time(seconds: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(time.process_time()) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def main(seconds: int, memory: int) -> None:
    """Answer line by line, until there are no more, or a rendering takes more than it may.

    Args:
        seconds: of processor time, for one rendering; the kernel ends the process that takes more.
        memory: bytes of address space, for the process.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):  # a tighter limit holds already
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    template: jinja2.Template | None = None
    for line in sys.stdin.buffer:
        _limit_processor_time(seconds)
        request = json.loads(line)
        if template is not None:
            reply = answer(template, request)
        else:
            try:
                template, reply = compiled(request["source"]), {"text": ""}
            except MemoryError:
                raise
            except Exception as error:  # SyntaxError and RecursionError come too
                reply = {"error": _shortened(f"{type(error).__name__}: {error}")}
        sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
