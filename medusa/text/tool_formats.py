"""How models write tool calls: one kind of data, and a table of what is known."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Message = Mapping[str, Any]


@dataclass(frozen=True)
class Label:
    """What tells calls from each other, behind a name: a mark, then letters and digits."""

    mark: str
    pattern: str  # of the letters and digits, as a regular expression
    width: int = 1  # of numbers that are written as such


@dataclass(frozen=True)
class Pairs:
    """Arguments as before KEY between VALUE end after for each. Texts stand there as they are.

    All other values are JSON; see `text_arguments`.
    """

    before: str
    between: str
    end: str
    """What ends a value; no text has it inside."""
    after: str

    def write(self, arguments: Mapping[str, Any]) -> str:
        """Arguments in this form."""
        return "".join(
            f"{self.before}{key}{self.between}{self._value(value)}{self.end}{self.after}"
            for key, value in arguments.items()
        )

    @staticmethod
    def _value(value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True)
class ToolFormat:
    """The text of calls: begin, then before NAME between ARGUMENTS after for each, then end."""

    marker: str
    """How calls begin; no other part of an answer does."""
    before: str
    between: str
    after: str
    begin: str = ""
    end: str = ""
    separator: str | None = None  # between calls; None: there is never more than one
    after_text: bool = True  # whether text may come before calls
    label: Label | None = None  # between NAME and `between`
    pairs: Pairs | None = None  # how arguments are written; None: as a JSON object
    rendered: tuple[str, str] | None = None
    """What templates write around NAME, where that is not what models do."""

    @property
    def marks(self) -> Iterator[str]:
        """All that is written around names and arguments."""
        yield from (self.begin, self.before, self.between, self.after, self.separator or "")
        yield from (self.end, self.label.mark if self.label else "")
        if self.pairs:
            yield from (self.pairs.before, self.pairs.between, self.pairs.end, self.pairs.after)

    def write(self, calls: Sequence[tuple[str, str]]) -> str:
        """The text of calls, each a name and its arguments as JSON."""
        each = (
            f"{self.before}{name}{self._label(number)}{self.between}"
            f"{self._arguments(arguments)}{self.after}"
            for number, (name, arguments) in enumerate(calls)
        )
        return f"{self.begin}{(self.separator or '').join(each)}{self.end}"

    def is_in(self, rendered: str, name: str, arguments: str) -> bool:
        """Whether a template has written a call so; see `recognised`."""
        if self.rendered is not None:
            before, between = self.rendered
            return f"{before}{name}{between}{arguments}" in rendered
        label = re.escape(self.label.mark) + self.label.pattern if self.label else ""
        head, tail = f"{self.begin}{self.before}{name}", self.between + self._arguments(arguments)
        return re.search(re.escape(head) + label + re.escape(tail), rendered) is not None

    def _label(self, number: int) -> str:
        return f"{self.label.mark}{number:0{self.label.width}}" if self.label else ""

    def _arguments(self, arguments: str) -> str:
        return self.pairs.write(json.loads(arguments)) if self.pairs else arguments


def _listed(opening: str, closing: str) -> ToolFormat:
    """Calls as a JSON list between marks."""
    return ToolFormat(
        marker=opening,
        begin=f"{opening}[",
        before='{"name": "',
        between='", "arguments": ',
        after="}",
        separator=", ",
        end=f"]{closing}",
    )


HERMES = ToolFormat(
    marker="<tool_call>",
    before='<tool_call>\n{"name": "',
    between='", "arguments": ',
    after="}\n</tool_call>",
    separator="\n",
)
"""Hermes, Qwen and many others; also what models are asked for that know of no tools."""

GRANITE = _listed("<|tool_call|>", "")
"""Granite 3: its template asks for calls, but does not write them."""

PHI = _listed("<|tool_call|>", "<|/tool_call|>")
"""Phi 4 mini: its template takes tools as a part of the system message, and writes no calls."""

LLAMA = ToolFormat(
    marker='{"name": "',
    before='{"name": "',
    between='", "parameters": ',
    after="}",
    after_text=False,
)

HARMONY = ToolFormat(
    marker="<|channel|>commentary to=functions.",
    before="<|channel|>commentary to=functions.",
    between=" <|constrain|>json<|message|>",
    after="",
    after_text=False,
    rendered=(" to=functions.", "<|channel|>commentary json<|message|>"),
)
"""gpt-oss."""

FORMATS = (
    HERMES,
    ToolFormat(  # Mistral since v11
        marker="[TOOL_CALLS]",
        before="[TOOL_CALLS]",
        between="[ARGS]",
        after="",
        separator="",
    ),
    ToolFormat(  # Mistral Small 3.2
        marker="[TOOL_CALLS]",
        before="[TOOL_CALLS]",
        label=Label("[CALL_ID]", "[a-zA-Z0-9]{9}", 9),
        between="[ARGS]",
        after="",
        separator="",
    ),
    _listed("[TOOL_CALLS]", ""),  # Mistral before
    _listed("<tool_calls>", "</tool_calls>"),  # Apriel
    _listed("<TOOLCALL>", "</TOOLCALL>"),  # Nemotron Nano 2
    ToolFormat(  # MiniMax M1
        marker="<tool_calls>",
        begin="<tool_calls>\n",
        before='{"name": "',
        between='", "arguments": ',
        after="}",
        separator="\n",
        end="\n</tool_calls>",
    ),
    ToolFormat(  # GigaChat 3.1
        marker="<|function_call|>",
        before='<|function_call|>{"name": "',
        between='", "arguments": ',
        after="}",
    ),
    ToolFormat(  # DeepSeek V3 and R1
        marker="<｜tool▁calls▁begin｜>",
        begin="<｜tool▁calls▁begin｜>",
        before="<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
        between="\n```json\n",
        after="\n```<｜tool▁call▁end｜>",
        separator="\n",
        end="<｜tool▁calls▁end｜>",
    ),
    ToolFormat(  # DeepSeek V3.1
        marker="<｜tool▁calls▁begin｜>",
        begin="<｜tool▁calls▁begin｜>",
        before="<｜tool▁call▁begin｜>",
        between="<｜tool▁sep｜>",
        after="<｜tool▁call▁end｜>",
        separator="",
        end="<｜tool▁calls▁end｜>",
    ),
    ToolFormat(  # Kimi K2
        marker="<|tool_calls_section_begin|>",
        begin="<|tool_calls_section_begin|>",
        before="<|tool_call_begin|>functions.",
        label=Label(":", "[0-9]{1,4}"),
        between="<|tool_call_argument_begin|>",
        after="<|tool_call_end|>",
        separator="",
        end="<|tool_calls_section_end|>",
    ),
    ToolFormat(  # Qwen 3 Coder, Qwen 3.5, Nemotron 3 Nano, Step 3.5
        marker="<tool_call>",
        before="<tool_call>\n<function=",
        between=">\n",
        pairs=Pairs("<parameter=", ">\n", "\n</parameter>", "\n"),
        after="</function>\n</tool_call>",
        separator="\n",
    ),
    ToolFormat(  # Seed-OSS
        marker="<seed:tool_call>",
        before="<seed:tool_call>\n<function=",
        between=">\n",
        pairs=Pairs("<parameter=", ">", "</parameter>", "\n"),
        after="</function>\n</seed:tool_call>",
        separator="\n",
    ),
    ToolFormat(  # GLM 4.5 and 4.6
        marker="<tool_call>",
        before="<tool_call>",
        between="\n",
        pairs=Pairs("<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>", "\n"),
        after="</tool_call>",
        separator="\n",
    ),
    ToolFormat(  # GLM 4.7
        marker="<tool_call>",
        before="<tool_call>",
        between="",
        pairs=Pairs("<arg_key>", "</arg_key><arg_value>", "</arg_value>", ""),
        after="</tool_call>",
        separator="",
    ),
    ToolFormat(  # MiniMax M2
        marker="<minimax:tool_call>",
        begin="<minimax:tool_call>\n",
        before='<invoke name="',
        between='">\n',
        pairs=Pairs('<parameter name="', '">', "</parameter>", "\n"),
        after="</invoke>",
        separator="\n",
        end="\n</minimax:tool_call>",
    ),
    ToolFormat(  # Functionary for Llama 3.1
        marker="<function=",
        before="<function=",
        between=">",
        after="</function>",
        separator="",
    ),
    HARMONY,
    LLAMA,
)


def recognised(rendered: str, name: str, arguments: str) -> ToolFormat | None:
    """The format in which a template writes a call, if it is one of ours.

    Args:
        rendered: what a template made of a conversation with that call.
        name: the called tool's.
        arguments: the call's, as JSON.
    """
    return next((each for each in FORMATS if each.is_in(rendered, name, arguments)), None)


def text_arguments(parameters: Mapping[str, Any]) -> frozenset[str]:
    """The arguments that `Pairs` has as plain texts: strings that may be any or are listed.

    Args:
        parameters: a tool's, as a JSON schema.
    """
    properties = parameters.get("properties")
    if not isinstance(properties, Mapping):
        return frozenset()
    return frozenset(key for key, schema in properties.items() if _is_text(schema))


_ANNOTATIONS = {"type", "title", "description", "default", "examples"}


def _is_text(schema: Any) -> bool:
    if not isinstance(schema, Mapping):
        return False
    beyond = schema.keys() - _ANNOTATIONS
    if not beyond:
        return schema.get("type") == "string"
    listed = [schema["const"]] if beyond == {"const"} else schema.get("enum")
    if len(beyond) > 1 or not isinstance(listed, list) or not listed:
        return False
    return all(isinstance(each, str) for each in listed)
