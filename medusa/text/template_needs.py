"""What a chat template takes, found out by trying, and messages in that form."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from medusa.text.rendering import RenderingError

Message = Mapping[str, Any]
Content = str | Sequence[Mapping[str, str]] | None

WORDS = "what the user says"
_ORDER = "what the system says"
_USER: Message = {"role": "user", "content": WORDS}
_SYSTEM: Message = {"role": "system", "content": _ORDER}


@dataclass(frozen=True)
class TemplateNeeds:
    """What a template cannot do without."""

    parts: bool = False  # content as a list of text parts instead of a string
    system_as_user: bool = False  # a system message as the beginning of the first user message
    tools_as_list: bool = False  # an empty list, instead of none, where there are no tools

    def variables(self, messages: Sequence[Message]) -> dict[str, Any]:
        """What the template is to be given for a conversation without tools."""
        if self.system_as_user:
            messages = _system_as_user(messages)
        form = _parts if self.parts else _string
        return {
            "messages": [{**each, "content": form(each.get("content"))} for each in messages],
            "tools": [] if self.tools_as_list else None,
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
                return _with_system(render, needs)
        except RenderingError as error:
            failure = failure or error
    raise failure or RenderingError("it leaves out what the user says")


def _with_system(render: Callable[[Mapping[str, Any]], str], needs: TemplateNeeds) -> TemplateNeeds:
    try:
        if _ORDER in render(needs.variables([_SYSTEM, _USER])):
            return needs
    except RenderingError:
        pass
    return TemplateNeeds(needs.parts, system_as_user=True, tools_as_list=needs.tools_as_list)


def _string(content: Content) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part["text"] for part in content)


def _parts(content: Content) -> Sequence[Mapping[str, str]]:
    if content is None or isinstance(content, str):
        return [{"type": "text", "text": content or ""}]
    return content


def _system_as_user(messages: Sequence[Message]) -> Sequence[Message]:
    """As llama.cpp does it."""
    if [message["role"] for message in messages[:2]] != ["system", "user"]:
        return messages
    system, user, *rest = messages
    return [{**user, "content": f"{_string(system['content'])}\n{_string(user['content'])}"}, *rest]
