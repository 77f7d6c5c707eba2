"""What to write in a given form: JSON under random schemas, calls of random tools."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import jsonschema

from benchmarks.schemas import Case, random_cases
from benchmarks.workload import Bench
from medusa.sampling.constraints import TokenConstraint
from medusa.sampling.grammars.answers import Calls, answer_grammar
from medusa.sampling.grammars.compiler import GrammarCompiler
from medusa.sampling.grammars.spec import GrammarSpec
from medusa.text.answers import AnswerForm, AnswerParser, Arguments, Call
from medusa.text.chat_template import Conversation


@dataclass(frozen=True)
class Task:
    """A prompt, the grammar of its answer, and whether a text is such an answer."""

    kind: str
    prompt: tuple[int, ...]
    spec: GrammarSpec
    is_valid: Callable[[str], bool]

    def compile(self, compiler: GrammarCompiler) -> Callable[[], TokenConstraint]:
        """What makes constraints for its answers."""
        return compiler.compile(self.spec)


def json_tasks(bench: Bench, per_kind: int) -> list[Task]:
    """So many schemas of each of the eight kinds, in turns."""
    return [_json_task(bench, case) for case in random_cases(per_kind)]


def tool_tasks(bench: Bench, count: int) -> list[Task]:
    """As many prompts that offer two tools of which one must be called, once."""
    cases = random_cases(count)[: 2 * count]
    return [_tool_task(bench, *two) for two in list(pairwise(cases))[::2]]


def _json_task(bench: Bench, case: Case) -> Task:
    return Task(
        case.kind,
        bench.prompt(case.prompt),
        GrammarSpec.json_schema(case.schema),
        lambda text: _validates(text, case),
    )


def _tool_task(bench: Bench, first: Case, second: Case) -> Task:
    cases = {"save_first": first, "save_second": second}
    tools = [
        {"type": "function", "function": {"name": name, "parameters": case.schema}}
        for name, case in cases.items()
    ]
    conversation = Conversation([{"role": "user", "content": first.prompt}], tools)
    prompt = bench.template.prompt(conversation)
    form = bench.template.answer_form(conversation, prompt)
    assert form.calls is not None
    arguments = {name: GrammarSpec.json_schema(case.schema) for name, case in cases.items()}
    spec = answer_grammar(None, Calls(form.calls, arguments, required=True, parallel=False), None)
    assert spec is not None
    return Task(
        "tool calls",
        tuple(prompt.tokens(bench.model)),
        spec,
        lambda text: _calls_validate(text, form, cases),
    )


def _validates(text: str, case: Case) -> bool:
    try:
        jsonschema.validate(json.loads(text), case.schema)
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


def _calls_validate(text: str, form: AnswerForm, cases: dict[str, Case]) -> bool:
    """Whether a text is nothing but calls of tools, each with arguments that validate."""
    parser = AnswerParser(form)
    calls: list[tuple[str, str]] = []
    for part in [*parser.feed(text), *parser.finish()]:
        match part:
            case Call(name=name):
                calls.append((name, ""))
            case Arguments(text=more) if calls:
                name, arguments = calls[-1]
                calls[-1] = (name, arguments + more)
            case _:
                return False
    return calls != [] and all(_validates(text, cases[name]) for name, text in calls)
