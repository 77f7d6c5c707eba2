"""How models write tool calls, and how to ask for them where a chat template knows of none."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Message = Mapping[str, Any]


@dataclass(frozen=True)
class ToolFormat:
    """The text of calls: begin, then before NAME between ARGUMENTS after for each, then end.

    Arguments are a JSON object.
    """

    marker: str
    """How calls begin; no other part of an answer does."""
    before: str
    between: str
    after: str
    begin: str = ""
    end: str = ""
    separator: str | None = None  # between calls; None: there is never more than one
    after_text: bool = True  # whether text may come before calls

    def write(self, calls: Sequence[tuple[str, str]]) -> str:
        """The text of calls, each a name and its arguments as JSON."""
        each = (f"{self.before}{name}{self.between}{text}{self.after}" for name, text in calls)
        return f"{self.begin}{(self.separator or '').join(each)}{self.end}"


HERMES = ToolFormat(
    marker="<tool_call>",
    before='<tool_call>\n{"name": "',
    between='", "arguments": ',
    after="}\n</tool_call>",
    separator="\n",
)
"""Hermes, Qwen and many others; also what models are asked for that know of no tools."""

FORMATS = (
    HERMES,
    ToolFormat(  # Mistral since v11
        marker="[TOOL_CALLS]",
        before="[TOOL_CALLS]",
        between="[ARGS]",
        after="",
        separator="",
    ),
    ToolFormat(  # Mistral before
        marker="[TOOL_CALLS]",
        begin="[TOOL_CALLS][",
        before='{"name": "',
        between='", "arguments": ',
        after="}",
        separator=", ",
        end="]",
    ),
    ToolFormat(  # Functionary for Llama 3.1
        marker="<function=",
        before="<function=",
        between=">",
        after="</function>",
        separator="",
    ),
    ToolFormat(  # Llama 3
        marker='{"name": "',
        before='{"name": "',
        between='", "parameters": ',
        after="}",
        after_text=False,
    ),
)


def recognised(rendered: str, name: str, arguments: str) -> ToolFormat | None:
    """The format in which a template writes a call, if it is one of ours.

    Args:
        rendered: what a template made of a conversation with that call.
        name: the called tool's.
        arguments: the call's, as JSON.
    """
    for each in FORMATS:
        if f"{each.begin}{each.before}{name}{each.between}{arguments}" in rendered:
            return each
    return None


_ASKING = """# Tools

You may call functions to help with the user's request. Their signatures:
<tools>
{tools}
</tools>

To call one, answer with its name and arguments in this form, and nothing behind it:
<tool_call>
{{"name": "NAME", "arguments": {{...}}}}
</tool_call>"""


def as_text(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> list[Message]:
    """A conversation for a template that knows no tools: they are described, in Hermes' form.

    Args:
        messages: as OpenAI's API has them, arguments as JSON; content strings, or None.
        tools: definitions as OpenAI's API has them; may be empty.
    """
    plain = list(_plain(messages))
    if not tools:
        return plain
    asking = _ASKING.format(tools="\n".join(json.dumps(t, ensure_ascii=False) for t in tools))
    if plain and plain[0]["role"] == "system":
        first, *plain = plain
        asking = f"{text_of(first.get('content'))}\n\n{asking}"
    return [{"role": "system", "content": asking}, *plain]


def _plain(messages: Sequence[Message]) -> Iterator[Message]:
    """Calls as what the assistant wrote, and results as what the user says."""
    results: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            content = text_of(message.get("content"))
            results.append(f"<tool_response>\n{content}\n</tool_response>")
            continue
        if results:
            yield {"role": "user", "content": "\n".join(results)}
            results = []
        if message.get("tool_calls"):
            functions = [call["function"] for call in message["tool_calls"]]
            calls = HERMES.write([(each["name"], each["arguments"]) for each in functions])
            text = text_of(message.get("content"))
            kept = {key: value for key, value in message.items() if key != "tool_calls"}
            yield {**kept, "content": f"{text}\n{calls}" if text else calls}
        else:
            yield message
    if results:
        yield {"role": "user", "content": "\n".join(results)}


def text_of(content: str | Sequence[Mapping[str, str]] | None) -> str:
    """A message's content as one string."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part["text"] for part in content)
