"""Following a grammar: two tools, and whether a text is an answer that calls them."""

from medusa.llama.model import Model
from medusa.sampling.constraints import TokenConstraint
from medusa.sampling.grammars.answers import Calls
from medusa.sampling.grammars.compiler import GrammarCompiler
from medusa.sampling.grammars.spec import GrammarSpec
from medusa.text.tool_formats import HERMES, ToolFormat

CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Ulm", "Bonn"]}},
    "required": ["city"],
    "additionalProperties": False,
}
NOTHING = {"type": "object", "additionalProperties": False}
TOOLS = {"weather": GrammarSpec.json_schema(CITY), "we": GrammarSpec.json_schema(NOTHING)}
TEXTS = {"weather": frozenset(["city"])}


def calls(layout: ToolFormat = HERMES, *, required: bool = False, parallel: bool = True) -> Calls:
    return Calls(layout, TOOLS, required=required, parallel=parallel, texts=TEXTS)


def follow(
    compiler: GrammarCompiler, spec: GrammarSpec | None, tokens: list[int]
) -> TokenConstraint | None:
    """The constraint after these tokens; None if it does not allow them."""
    assert spec is not None
    constraint = compiler.compile(spec)()
    for token in tokens:
        if not constraint.allows(token):
            return None
        constraint.accept(token)
    return constraint


def ends(
    tiny: Model, compiler: GrammarCompiler, spec: GrammarSpec | None, text: str
) -> bool | None:
    """Whether an answer may end with this text; None if it cannot even begin with it."""
    constraint = follow(compiler, spec, tiny.tokenize(text, add_special=False, parse_special=True))
    return None if constraint is None else constraint.allows(tiny.eos_token)


def forced(
    tiny: Model, compiler: GrammarCompiler, spec: GrammarSpec | None, text: str
) -> str | None:
    """What must follow."""
    constraint = follow(compiler, spec, tiny.tokenize(text, add_special=False, parse_special=True))
    return None if constraint is None else tiny.detokenize(list(constraint.forced()))
