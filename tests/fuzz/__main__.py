"""`python -m tests.fuzz --cases N`: nothing that a client or a file says may hurt the server.

Cases are shared between the OpenAPI description, our own mutations of requests, damaged models and
damaged heads. The exit code is 1 if anything was wrong.
"""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from tests.app.conftest import running_server
from tests.app.tiny_model import write_tiny_model
from tests.fuzz.files import fuzz_heads, fuzz_models
from tests.fuzz.http import Fuzzer
from tests.fuzz.outcome import Outcome
from tests.reporting import write_section

TEMPLATE = (
    "{% for tool in tools %}{{ tool.function.name }}{% endfor %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% for call in m.tool_calls %}"
    '<tool_call>\n{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments }}}'
    "\n</tool_call>{% endfor %}{% endfor %}"
)
MOST_FILES = 1000
"""Damaged files of each kind; the other cases are requests."""


def main(
    cases: Annotated[int, typer.Option(help="How many in all.", min=4)] = 1000,
    seed: Annotated[int, typer.Option(help="For the same cases again.")] = 0,
    markdown: Annotated[Path | None, typer.Option(help="Also write the figures here.")] = None,
) -> None:
    """Fuzz a server and the readers of files."""
    n_files = min(MOST_FILES, cases // 4)
    outcomes = {  # files first: their cases are forks, before there are any threads
        "damaged models": fuzz_models(n_files, seed),
        "damaged heads": fuzz_heads(n_files, seed),
        "requests": _fuzz_server(cases - 2 * n_files, seed),
    }
    figures: dict[str, object] = {}
    for name, outcome in outcomes.items():
        figures[name] = f"{outcome.cases:,}"
        figures |= {f"{name}: {what}": f"{n:,}" for what, n in sorted(outcome.counts.items())}
    wrong = [case for outcome in outcomes.values() for case in outcome.wrong]
    for key, value in figures.items():
        print(f"{key:40}{value:>10}")
    for case in wrong:
        print("WRONG", case)
    if markdown is not None:
        write_section(markdown, "Fuzzing", figures)
    raise SystemExit(bool(wrong))


def _fuzz_server(cases: int, seed: int) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "tiny.gguf"
        write_tiny_model(model, chat_template=TEMPLATE)
        # without a supervisor a crash is the end
        with running_server(Path(folder), str(model), "--no-supervise", "-np", "4") as server:
            fuzzer = Fuzzer(server)
            fuzzer.by_schema(cases // 2, seed)
            fuzzer.by_mutation(cases - fuzzer.outcome.cases, seed)
            fuzzer.check()
            assert server.process.poll() is None
        log = server.log.read_text()
        if "Traceback" in log:
            fuzzer.outcome.wrong.append(f"tracebacks in the log: {log[log.index('Traceback') :]}")
    return fuzzer.outcome


if __name__ == "__main__":
    typer.run(main)
