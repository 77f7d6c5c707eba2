import pytest

from medusa.errors import InvalidRequestError
from medusa.text.chat_template import ChatTemplate

MESSAGES = [{"role": "user", "content": "Hi"}]


def test_default_models_template_matches_its_documentation(template: ChatTemplate) -> None:
    assert template.render([{"role": "system", "content": "Be brief."}, *MESSAGES]) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_templates_cannot_reach_python() -> None:
    nasty = ChatTemplate("{{ ''.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(InvalidRequestError, match="refuses"):
        nasty.render(MESSAGES)


def test_a_template_can_refuse_messages_in_its_own_words() -> None:
    picky = ChatTemplate("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(InvalidRequestError, match="roles must alternate"):
        picky.render(MESSAGES)


def test_a_broken_template_is_reported() -> None:
    with pytest.raises(InvalidRequestError, match="invalid"):
        ChatTemplate("{% for %}")


def test_bos_is_not_doubled() -> None:
    source = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}"
    assert ChatTemplate(source, bos="<s>", eos="</s>").render(MESSAGES) == "<s>Hi</s>"
    added = ChatTemplate(source, bos="<s>", eos="</s>", bos_is_added=True)
    assert added.render(MESSAGES) == "Hi</s>"


def test_the_default_models_user_turn_opens_as_its_documentation_says(
    template: ChatTemplate,
) -> None:
    opening = template.user_opening([])
    assert opening.endswith("<|im_start|>user\n")
    answered = [*MESSAGES, {"role": "assistant", "content": "Hello!"}]
    later = template.user_opening(answered)
    assert later == template.render(answered, add_generation_prompt=False) + "<|im_start|>user\n"


def test_a_user_turn_opens_where_its_words_would_begin() -> None:
    template = ChatTemplate("{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}")
    assert template.user_opening([]) == "[user] "
    assert template.user_opening(MESSAGES) == "[user] Hi\n[user] "


def test_a_template_can_refuse_a_user_turn() -> None:
    picky = ChatTemplate("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(InvalidRequestError, match="roles must alternate"):
        picky.user_opening(MESSAGES)
