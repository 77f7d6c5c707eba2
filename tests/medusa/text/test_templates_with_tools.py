"""Tools in chat templates that know of them, and in those that do not."""

import json
from typing import Any

import pytest

from medusa.errors import InvalidRequestError
from medusa.text.chat_template import ChatTemplate, Conversation
from medusa.text.tool_formats import FORMATS, GRANITE, HARMONY, HERMES, PHI, ToolFormat

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Of a city.",
        "parameters": {"type": "object", "properties": {"<|stop|>": {"type": "string"}}},
    },
}
ARGUMENTS = '{"city": "Köln"}'
CALL = {
    "id": "abcdefghi",
    "type": "function",
    "function": {"name": "weather", "arguments": ARGUMENTS},
}
TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": "Is it warm?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": "20 degrees", "tool_call_id": "abcdefghi"},
]
PLAIN = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
LISTED = "{% for tool in tools or [] %}{{ tool | tojson }}\n{% endfor %}"
BODY = (
    "{%% for m in messages %%}[{{ m.role }}] {{ m.content }}"
    "{%% for c in m.tool_calls or [] %%}%s{%% endfor %%}{{ '\\n' }}{%% endfor %%}"
)
NAME = "{{ c.function.name }}"
AS_TEXT = "{{ c.function.arguments }}"
AS_JSON = "{{ c.function.arguments | tojson }}"
QWEN = '<tool_call>\n{"name": "%s", "arguments": %s}\n</tool_call>'
LLAMA = '{"name": "%s", "parameters": %s}'
MISTRAL = '[TOOL_CALLS][{"name": "%s", "arguments": %s, "id": "{{ c.id }}"}]'
FUNCTIONARY = "<function=%s>%s</function>"
NEW_MISTRAL = "[TOOL_CALLS]%s[ARGS]%s"


LISTED_CALLS = '%s[{"name": "%%s", "arguments": %%s, "id": "{{ c.id }}"}]%s'
JSON_FORMS = [
    QWEN, LLAMA, MISTRAL, FUNCTIONARY, NEW_MISTRAL,
    "[TOOL_CALLS]%s[CALL_ID]{{ c.id }}[ARGS]%s",  # Mistral Small 3.2
    LISTED_CALLS % ("<tool_calls>", "</tool_calls>"),  # Apriel
    LISTED_CALLS % ("<TOOLCALL>", "</TOOLCALL>"),  # Nemotron Nano 2
    '<tool_calls>\n{"name": "%s", "arguments": %s}\n</tool_calls>',  # MiniMax M1
    '<|function_call|>{"name": "%s", "arguments": %s}',  # GigaChat 3.1
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>%s\n```json\n%s\n```"
    "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",  # DeepSeek R1
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>%s<｜tool▁sep｜>%s"
    "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",  # DeepSeek V3.1
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.%s:0<|tool_call_argument_begin|>%s"
    "<|tool_call_end|><|tool_calls_section_end|>",  # Kimi K2
]  # fmt: skip


@pytest.mark.parametrize("arguments", [AS_TEXT, AS_JSON])
@pytest.mark.parametrize("form", JSON_FORMS)
def test_the_form_of_calls_is_found_and_arguments_come_out_right(form: str, arguments: str) -> None:
    template = ChatTemplate(LISTED + BODY % (form % (NAME, arguments)))
    text, calls = rendered(template)
    expected = form.replace("{{ c.id }}", "abcdefghi") % ("weather", ARGUMENTS)
    assert f"[assistant] {expected}\n[tool] 20 degrees\n" in text
    written = calls.write([("weather", ARGUMENTS)])
    assert written == expected.replace(', "id": "abcdefghi"', "").replace("abcdefghi", "000000000")


def rendered(template: ChatTemplate) -> tuple[str, ToolFormat]:
    """A prompt with tools, a call and its result, and how calls are written."""
    conversation = Conversation(TURNS, [TOOL])
    text = template.prompt(conversation).text
    assert text.startswith(json.dumps(TOOL))
    found = template.answer_form(conversation, template.prompt(conversation))
    assert found.names == ("weather",)
    assert found.calls in FORMATS
    assert found.calls is not None
    return text, found.calls


EACH = "{%% for k, v in c.function.arguments.items() %%}%s{%% endfor %%}"
PAIRED_FORMS = [
    ("<tool_call>\n<function=%s>\n%s</function>\n</tool_call>",
     "<parameter={{ k }}>\n{{ v }}\n</parameter>{{ '\n' }}"),  # Qwen 3 Coder
    ("<seed:tool_call>\n<function=%s>\n%s</function>\n</seed:tool_call>",
     "<parameter={{ k }}>{{ v }}</parameter>{{ '\n' }}"),  # Seed-OSS
    ("<tool_call>%s{{ '\n' }}%s</tool_call>",
     "<arg_key>{{ k }}</arg_key>\n<arg_value>{{ v }}</arg_value>{{ '\n' }}"),  # GLM 4.6
    ("<tool_call>%s%s</tool_call>",
     "<arg_key>{{ k }}</arg_key><arg_value>{{ v }}</arg_value>"),  # GLM 4.7
    ('<minimax:tool_call>\n<invoke name="%s">\n%s</invoke>\n</minimax:tool_call>',
     '<parameter name="{{ k }}">{{ v }}</parameter>{{ \'\n\' }}'),  # MiniMax M2
]  # fmt: skip


@pytest.mark.parametrize(("form", "each"), PAIRED_FORMS)
def test_arguments_may_have_marks_of_their_own(form: str, each: str) -> None:
    text, calls = rendered(ChatTemplate(LISTED + BODY % (form % (NAME, EACH % each))))
    assert calls.pairs is not None
    assert f"[assistant] {calls.write([('weather', ARGUMENTS)])}\n[tool] 20 degrees\n" in text
    assert "Köln" in text


@pytest.mark.parametrize("name", ["thinking", "reasoning_content"])
def test_reasoning_before_a_call_comes_back_by_the_name_that_the_template_has(name: str) -> None:
    shown = BODY.replace("{{ m.content }}", f"{{{{ m.{name} }}}}{{{{ m.content }}}}")
    template = ChatTemplate(LISTED + shown % (QWEN % (NAME, AS_TEXT)))
    turns = [TURNS[0], {**TURNS[1], "reasoning_content": "Let me look."}, TURNS[2]]
    assert "[assistant] Let me look." in template.prompt(Conversation(turns, [TOOL])).text


def test_gpt_oss_writes_calls_otherwise_than_its_template() -> None:
    form = "<|start|>assistant to=functions.%s<|channel|>commentary json<|message|>%s<|call|>"
    _, calls = rendered(ChatTemplate(LISTED + BODY % (form % (NAME, AS_JSON))))
    assert calls is HARMONY


@pytest.mark.parametrize(
    "source",
    [
        PLAIN,
        LISTED + PLAIN,  # shows tools, but not how they are called
        LISTED + BODY % f"call {NAME} with {AS_TEXT}",  # in a way of its own
        "{% if tools %}{{ raise_exception('no tools') }}{% endif %}" + PLAIN,
    ],
)
def test_templates_that_know_no_tools_get_them_as_text(source: str) -> None:
    template = ChatTemplate(source)
    conversation = Conversation(TURNS, [TOOL])
    prompt = template.prompt(conversation)
    assert prompt.text.startswith("[system] # Tools\n")
    assert json.dumps(TOOL) in prompt.text
    assert prompt.text.endswith(
        f"[user] Is it warm?\n[assistant] {HERMES.write([('weather', ARGUMENTS)])}\n"
        "[user] <tool_response>\n20 degrees\n</tool_response>\n"
    )
    assert template.answer_form(conversation, prompt).calls is HERMES


def test_a_template_that_writes_calls_but_shows_no_tools_gets_those_as_text() -> None:
    template = ChatTemplate(BODY % (NEW_MISTRAL % (NAME, AS_TEXT)))
    text = template.prompt(Conversation(TURNS, [TOOL])).text
    assert text.startswith("[system] # Tools\n")
    assert "in this form, and nothing behind it:\n[TOOL_CALLS]NAME[ARGS]{...}" in text
    assert text.endswith(
        f"[user] Is it warm?\n[assistant] [TOOL_CALLS]weather[ARGS]{ARGUMENTS}\n[tool] 20 degrees\n"
    )


GRANITE_LIKE = (
    "{% if tools %}Answer with <|tool_call|> and a JSON list. {{ tools | tojson }}{% endif %}"
)
PHI_LIKE = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}"
    "{% if m.tools %}<|tool|>{{ m.tools }}<|/tool|>{% endif %}{{ '\n' }}{% endfor %}"
)


@pytest.mark.parametrize(
    ("source", "calls"), [(GRANITE_LIKE + PLAIN, GRANITE), (PHI_LIKE, PHI)], ids=["Granite", "Phi"]
)
def test_a_template_that_shows_tools_but_writes_no_calls(source: str, calls: ToolFormat) -> None:
    template = ChatTemplate(source)
    conversation = Conversation(TURNS, [TOOL])
    prompt = template.prompt(conversation)
    assert template.answer_form(conversation, prompt).calls is calls
    assert prompt.text.count("Of a city.") == 1
    assert "# Tools" not in prompt.text
    written = calls.write([("weather", ARGUMENTS)])
    assert prompt.text.endswith(f"[assistant] {written}\n[tool] 20 degrees\n")


def test_as_text_tools_stand_behind_what_the_system_says_and_results_together() -> None:
    template = ChatTemplate(PLAIN)
    turns = [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {**TURNS[0]},
        {"role": "assistant", "content": "Well:", "tool_calls": [CALL, CALL]},
        *[{"role": "tool", "content": text, "tool_call_id": "abcdefghi"} for text in "ab"],
        {"role": "user", "content": "And now?"},
    ]
    text = template.prompt(Conversation(turns, [TOOL])).text
    assert text.startswith("[system] Be brief.\n\n# Tools\n")
    calls = HERMES.write([("weather", ARGUMENTS)] * 2)
    results = "\n".join(f"<tool_response>\n{each}\n</tool_response>" for each in "ab")
    assert text.endswith(f"[assistant] Well:\n{calls}\n[user] {results}\n[user] And now?\n")
    assert "# Tools" not in template.prompt(Conversation(turns)).text


def test_without_tools_there_are_no_calls() -> None:
    template = ChatTemplate(LISTED + BODY % (QWEN % (NAME, AS_TEXT)))
    conversation = Conversation(TURNS)
    assert template.answer_form(conversation, template.prompt(conversation)).calls is None


def test_control_tokens_in_tools_are_text_also_in_names() -> None:
    template = ChatTemplate(
        LISTED + BODY % (QWEN % (NAME, AS_TEXT)), control={"<|stop|>": False, "[user]": False}
    )
    prompt = template.prompt(Conversation(TURNS[:1], [TOOL]))
    assert [piece.is_plain for piece in prompt.pieces if "<|stop|>" in piece.text] == [True]
    assert json.dumps(TOOL) in prompt.text


def test_further_variables_reach_the_template_but_not_its_own() -> None:
    source = PLAIN + "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
    template = ChatTemplate(source)
    off = Conversation(TURNS[:1], variables={"enable_thinking": False})
    assert template.prompt(off).text.endswith("<think>\n\n</think>\n\n")
    with pytest.raises(InvalidRequestError, match="messages is not") as caught:
        template.prompt(Conversation(TURNS[:1], variables={"messages": []}))
    assert caught.value.field == "chat_template_kwargs"


def test_reasoning_that_the_prompt_opens_is_known() -> None:
    source = PLAIN + "{% if not quiet %}<think>\n{% else %}<think></think>{% endif %}"
    template = ChatTemplate(source)
    for quiet in (False, True):
        conversation = Conversation(TURNS[:1], variables={"quiet": quiet})
        form = template.answer_form(conversation, template.prompt(conversation))
        assert form.reasoning is not None
        assert form.in_reasoning is not quiet
    conversation = Conversation(TURNS[:1])
    plain = ChatTemplate(PLAIN)
    assert plain.answer_form(conversation, plain.prompt(conversation)).reasoning is None
