"""Tools, calls and results for chat templates that do not know all of them."""

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

from medusa.text.tool_formats import Message, ToolFormat

_ASKING = """# Tools

You may call functions to help with the user's request. Their signatures:
<tools>
{tools}
</tools>

To call one, answer with its name and arguments in this form, and nothing behind it:
{form}"""


def describing(
    messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], form: ToolFormat
) -> list[Message]:
    """A conversation whose system message describes tools and how to call them.

    Args:
        messages: content is strings, lists of text parts, or None.
        tools: definitions as OpenAI's API has them; at least one.
        form: how calls are to be written.
    """
    asking = _ASKING.format(
        tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools),
        form=form.write([("NAME", '{"ARGUMENT": "VALUE"}' if form.pairs else "{...}")]),
    )
    return _with_system(messages, lambda said: f"{said}\n\n{asking}" if said else asking)


def handing_over(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> list[Message]:
    """A conversation whose system message has the tools as a field, as Phi 4 mini's has."""
    system, *others = _with_system(messages, lambda said: said)
    listed = [tool["function"] for tool in tools]
    return [{**system, "tools": json.dumps(listed, ensure_ascii=False)}, *others]


def _with_system(messages: Sequence[Message], word: Callable[[str], str]) -> list[Message]:
    said, others = "", list(messages)
    if others and others[0]["role"] == "system":
        said = text_of(others.pop(0).get("content"))
    return [{"role": "system", "content": word(said)}, *others]


def calls_as_text(messages: Sequence[Message], form: ToolFormat) -> list[Message]:
    """Calls as what the assistant wrote."""
    return [
        _spoken(message, form) if message.get("tool_calls") else message for message in messages
    ]


def _spoken(message: Message, form: ToolFormat) -> Message:
    functions = [call["function"] for call in message["tool_calls"]]
    calls = form.write([(each["name"], each["arguments"]) for each in functions])
    text = text_of(message.get("content"))
    kept = {key: value for key, value in message.items() if key != "tool_calls"}
    return {**kept, "content": f"{text}\n{calls}" if text else calls}


def results_as_text(messages: Sequence[Message]) -> list[Message]:
    """Results as what the user says, those that stand together in one message."""
    plain: list[Message] = []
    for is_result, group in groupby(messages, lambda message: message["role"] == "tool"):
        if is_result:
            contents = (text_of(message.get("content")) for message in group)
            told = (f"<tool_response>\n{each}\n</tool_response>" for each in contents)
            plain.append({"role": "user", "content": "\n".join(told)})
        else:
            plain.extend(group)
    return plain


def text_of(content: str | Sequence[Mapping[str, str]] | None) -> str:
    """A message's content as one string."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part["text"] for part in content)
