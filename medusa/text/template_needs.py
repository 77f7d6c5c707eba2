"""What a chat template takes, found out by trying, and messages in that form."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from medusa.text.rendering import RenderingError
from medusa.text.tool_formats import GRANITE, HERMES, PHI, Message, ToolFormat, recognised
from medusa.text.tool_prompts import (
    calls_as_text,
    describing,
    handing_over,
    results_as_text,
    text_of,
)

Content = str | Sequence[Mapping[str, str]] | None

WORDS = "what the user says"
_ORDER = "what the system says"
_USER: Message = {"role": "user", "content": WORDS}
_SYSTEM: Message = {"role": "system", "content": _ORDER}
_TOOL_NAME = "name_of_the_tool"
_PURPOSE = "what the tool does"
_REASONS = "why it is called"
_ARGUMENTS = '{"what": "is given"}'
_TOOL: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": _TOOL_NAME,
        "description": _PURPOSE,
        "parameters": {"type": "object", "properties": {"what": {"type": "string"}}},
    },
}
_CALL: Mapping[str, Any] = {
    "id": "123456789",  # of the length that Mistral's insist on
    "type": "function",
    "function": {"name": _TOOL_NAME, "arguments": _ARGUMENTS},
}
_CALLING: Sequence[Message] = [
    {"role": "assistant", "content": None, "tool_calls": [_CALL]},
    {"role": "tool", "content": "what it gives", "tool_call_id": _CALL["id"]},
]


@dataclass(frozen=True)
class TemplateNeeds:
    """What a template cannot do without."""

    parts: bool = False  # content as a list of text parts instead of a string
    system_as_user: bool = False  # a system message as the beginning of the first user message
    late_system_as_user: bool = False  # what the system says later in the user's words beside it
    tools_as_list: bool = False  # an empty list, instead of none, where there are no tools
    calls: ToolFormat = HERMES  # how its model writes tool calls
    tools_as_text: bool = True  # in a system message, and results as what the user says
    tools_in_system: bool = False  # as a field of the system message
    calls_as_text: bool = True  # as what the assistant says
    arguments_as_mapping: bool = False  # of tool calls, instead of their JSON
    reasoning_as_thinking: bool = False  # the field's name, as gpt-oss has it

    def variables(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()
    ) -> dict[str, Any]:
        """What the template is to be given for a conversation."""
        if self.calls_as_text:
            messages = calls_as_text(messages, self.calls)
        elif self.arguments_as_mapping:
            messages = [_with_mappings(message) for message in messages]
        if self.reasoning_as_thinking:
            messages = [_renamed(message) for message in messages]
        if self.tools_as_text:
            messages = results_as_text(messages) if self.calls_as_text else messages
            messages, tools = describing(messages, tools, self.calls) if tools else messages, ()
        elif self.tools_in_system:
            messages, tools = handing_over(messages, tools) if tools else messages, ()
        if self.late_system_as_user:
            messages = _late_system_as_user(messages)
        if self.system_as_user:
            messages = _system_as_user(messages)
        form = _parts if self.parts else text_of
        return {
            "messages": [{**each, "content": form(each.get("content"))} for each in messages],
            "tools": list(tools) or ([] if self.tools_as_list else None),
            "documents": None,
        }


def find_needs(render: Callable[[Mapping[str, Any]], str]) -> TemplateNeeds:
    """Find out what a template needs for a user's words to be in the prompt.

    Args:
        render: gives the template the variables of `TemplateNeeds.variables`.

    Raises:
        RenderingError: they never are; the message is what the template says of the first try.
    """
    failure: RenderingError | None = None
    for before, tools_as_list, parts in product(([], [_SYSTEM]), (False, True), (False, True)):
        needs = TemplateNeeds(parts=parts, tools_as_list=tools_as_list)
        try:
            if WORDS in render(needs.variables([*before, _USER])):
                return _with_tools(render, _with_system(render, needs))
        except RenderingError as error:
            failure = failure or error
    raise failure or RenderingError("it leaves out what the user says")


def _with_system(render: Callable[[Mapping[str, Any]], str], needs: TemplateNeeds) -> TemplateNeeds:
    def is_read(*messages: Message) -> bool:
        try:
            return _ORDER in render(needs.variables(messages))
        except RenderingError:
            return False

    return replace(
        needs,
        system_as_user=not is_read(_SYSTEM, _USER),
        late_system_as_user=not is_read(_USER, _SYSTEM),
    )


def _with_tools(render: Callable[[Mapping[str, Any]], str], needs: TemplateNeeds) -> TemplateNeeds:
    """What is known of tools: calls and tools, calls alone, tools alone, or nothing."""
    knowing = replace(needs, tools_as_text=False, calls_as_text=False)
    for before, as_mapping in product(([], [_SYSTEM]), (False, True)):
        trial = replace(knowing, arguments_as_mapping=as_mapping)
        text = _tried(render, trial.variables([*before, _USER, *_CALLING], [_TOOL]))
        calls = recognised(text, _TOOL_NAME, _ARGUMENTS)
        if calls is not None:
            found = replace(trial, calls=calls, tools_as_text=_PURPOSE not in text)
            return _with_reasoning(render, found, [*before, _USER])
    for calls, in_system in ((GRANITE, False), (PHI, True)):
        trial = replace(needs, calls=calls, tools_as_text=False, tools_in_system=in_system)
        text = _tried(render, trial.variables([_USER, *_CALLING], [_TOOL]))
        speaks = in_system or calls.marker in text.partition(WORDS)[0]
        if speaks and _PURPOSE in text and _ARGUMENTS in text:
            return trial
    return needs


def _with_reasoning(
    render: Callable[[Mapping[str, Any]], str], needs: TemplateNeeds, before: Sequence[Message]
) -> TemplateNeeds:
    call, result = _CALLING
    turns = [*before, {**call, "reasoning_content": _REASONS}, result]
    renaming = replace(needs, reasoning_as_thinking=True)
    if _REASONS in _tried(render, needs.variables(turns, [_TOOL])):
        return needs
    return renaming if _REASONS in _tried(render, renaming.variables(turns, [_TOOL])) else needs


def _renamed(message: Message) -> Message:
    """With its reasoning as gpt-oss' template wants it, beside calls without content."""
    if "reasoning_content" not in message or (message.get("content") and message.get("tool_calls")):
        return message
    return {**message, "thinking": message["reasoning_content"]}


def _tried(render: Callable[[Mapping[str, Any]], str], variables: Mapping[str, Any]) -> str:
    """What a template makes of variables; nothing where it refuses them."""
    try:
        return render(variables)
    except RenderingError:
        return ""


def _with_mappings(message: Message) -> Message:
    if not message.get("tool_calls"):
        return message
    functions = [call["function"] for call in message["tool_calls"]]
    mappings = [{**each, "arguments": json.loads(each["arguments"])} for each in functions]
    calls = zip(message["tool_calls"], mappings, strict=True)
    return {**message, "tool_calls": [{**call, "function": each} for call, each in calls]}


def _parts(content: Content) -> Sequence[Mapping[str, str]]:
    if content is None or isinstance(content, str):
        return [{"type": "text", "text": content or ""}]
    return content


def _late_system_as_user(messages: Sequence[Message]) -> Sequence[Message]:
    """Without further turns of the user's, which many templates would not take in a row."""
    told: list[Message] = []
    was_late = False
    for message in messages:
        is_late = message["role"] == "system" and bool(told)
        if not is_late and not (was_late and message["role"] == "user"):
            told.append(message)
        elif told[-1]["role"] == "user":
            texts = [text_of(each.get("content")) for each in (told[-1], message)]
            told[-1] = {**told[-1], "content": "\n\n".join(texts)}
        else:
            told.append({**message, "role": "user"})
        was_late = is_late
    return told


def _system_as_user(messages: Sequence[Message]) -> Sequence[Message]:
    """As llama.cpp does it."""
    if [message["role"] for message in messages[:2]] != ["system", "user"]:
        return messages
    system, user, *rest = messages
    return [{**user, "content": f"{text_of(system['content'])}\n{text_of(user['content'])}"}, *rest]
