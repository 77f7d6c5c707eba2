from typing import Any

import pytest

from medusa.errors import InvalidRequestError
from medusa.text.chat_template import ChatTemplate

MESSAGES = [{"role": "user", "content": "Hi"}]
BOTH = [{"role": "system", "content": "Be brief."}, *MESSAGES]
STRINGS = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
PARTS = (
    "{% for m in messages %}[{{ m.role }}] "
    "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}"
    "{{ '\\n' }}{% endfor %}"
)
EITHER = (
    "{% for m in messages %}[{{ m.role }}] {% if m.content is string %}{{ m.content }}"
    "{% else %}{% for p in m.content %}<{{ p.text }}>{% endfor %}{% endif %}{{ '\\n' }}{% endfor %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
LOSES_SYSTEM = (
    "{% for m in messages if m.role != 'system' %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
)
SYSTEM_FIRST = "{% if messages[0].role != 'system' %}{{ raise_exception('whose?') }}{% endif %}"
TOOLS = "{% for tool in tools %}{{ tool }}{% endfor %}"


def test_default_models_template_matches_its_documentation(template: ChatTemplate) -> None:
    assert template.render(BOTH) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_template_can_refuse_messages_in_its_own_words() -> None:
    source = STRINGS + "{% if messages|length > 1 %}{{ raise_exception('too long') }}{% endif %}"
    with pytest.raises(InvalidRequestError, match="too long") as caught:
        ChatTemplate(source).render(MESSAGES * 2)
    assert caught.value.field == "messages"


def test_any_error_of_a_template_is_the_requests() -> None:
    source = STRINGS + "{{ messages[0].name + 1 if messages[0].name }}"
    with pytest.raises(InvalidRequestError, match="TypeError: can only concatenate str"):
        ChatTemplate(source).render([{**MESSAGES[0], "name": "x"}])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{% for %}", "invalid|Expected"),
        ("{{ 'always the same' }}", "leaves out what the user says"),
        ("{{ raise_exception('never') }}", "never"),
        ("{{ 'a' * 10 ** 10 }}", "memory"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(source: str, reason: str) -> None:
    with pytest.raises(InvalidRequestError, match=reason):
        ChatTemplate(source)


@pytest.mark.parametrize(
    ("source", "content", "text"),
    [
        (STRINGS, "One Two", "One Two"),
        (PARTS, "One Two", "One Two"),
        (STRINGS, [{"type": "text", "text": each} for each in ("One", "Two")], "One\nTwo"),
        (PARTS, [{"type": "text", "text": each} for each in ("One ", "Two")], "One Two"),
    ],
)
def test_templates_get_content_in_the_form_that_they_want(
    source: str, content: Any, text: str
) -> None:
    messages = [{"role": "user", "content": content}]
    assert ChatTemplate(source).render(messages) == f"[user] {text}\n"


def test_templates_that_take_either_get_strings() -> None:
    assert ChatTemplate(EITHER).render(MESSAGES) == "[user] Hi\n"


@pytest.mark.parametrize("source", [STRINGS, PARTS])
def test_there_may_be_no_content(source: str) -> None:
    messages: list[dict[str, Any]] = [{"role": "assistant", "content": None}, {"role": "assistant"}]
    messages += MESSAGES
    assert ChatTemplate(source).render(messages) == "[assistant] \n[assistant] \n[user] Hi\n"


@pytest.mark.parametrize("source", [NO_SYSTEM + STRINGS, NO_SYSTEM + PARTS, LOSES_SYSTEM])
def test_a_system_message_that_may_not_be_becomes_a_part_of_the_users(source: str) -> None:
    template = ChatTemplate(source)
    assert template.render(BOTH) == "[user] Be brief.\nHi\n"
    assert template.render(MESSAGES) == "[user] Hi\n"


def test_what_the_system_says_later_is_read_by_every_template() -> None:
    late: list[dict[str, Any]] = [
        *BOTH, {"role": "system", "content": "Now in verse."}, *MESSAGES,
        {"role": "assistant", "content": "Ho"}, {"role": "system", "content": "Stop."},
    ]  # fmt: skip
    assert ChatTemplate(STRINGS).render(late) == (
        "[system] Be brief.\n[user] Hi\n[system] Now in verse.\n[user] Hi\n[assistant] Ho\n"
        "[system] Stop.\n"
    )
    first = (
        "{% for m in messages[1:] if m.role == 'system' %}{{ raise_exception('late') }}{% endfor %}"
    )
    folded = "[user] Hi\n\nNow in verse.\n\nHi\n[assistant] Ho\n[user] Stop.\n"
    assert ChatTemplate(first + STRINGS).render(late) == f"[system] Be brief.\n{folded}"
    without = ChatTemplate(LOSES_SYSTEM).render(late)
    assert without == folded.replace("Hi", "Be brief.\nHi", 1)


def test_a_system_message_that_must_be_is_known_of() -> None:
    template = ChatTemplate(SYSTEM_FIRST + STRINGS)
    assert template.render(BOTH) == "[system] Be brief.\n[user] Hi\n"
    with pytest.raises(InvalidRequestError, match="whose"):
        template.render(MESSAGES)


def test_templates_that_go_through_tools_find_none() -> None:
    assert ChatTemplate(TOOLS + STRINGS).render(MESSAGES) == "[user] Hi\n"
    assert ChatTemplate("{{ tools is none }}" + STRINGS).render(MESSAGES) == "True[user] Hi\n"


def test_special_tokens_have_their_names() -> None:
    source = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}"
    assert ChatTemplate(source, bos="<s>", eos="</s>").render(MESSAGES) == "<s>Hi</s>"


def test_the_default_models_user_turn_opens_as_its_documentation_says(
    template: ChatTemplate,
) -> None:
    opening = template.user_opening([])
    assert opening.endswith("<|im_start|>user\n")
    answered = [*MESSAGES, {"role": "assistant", "content": "Hello!"}]
    later = template.user_opening(answered)
    assert later == template.render(answered, add_generation_prompt=False) + "<|im_start|>user\n"


def test_a_user_turn_opens_where_its_words_would_begin() -> None:
    template = ChatTemplate(STRINGS)
    assert template.user_opening([]) == "[user] "
    assert template.user_opening(MESSAGES) == "[user] Hi\n[user] "


def test_a_template_can_refuse_a_user_turn() -> None:
    source = STRINGS + "{% if messages|length > 1 %}{{ raise_exception('too long') }}{% endif %}"
    with pytest.raises(InvalidRequestError, match="too long"):
        ChatTemplate(source).user_opening(MESSAGES)
