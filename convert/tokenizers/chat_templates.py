"""Chat templates: those beside a model's weights, and of models that carry none."""

from pathlib import Path

from convert.files.checkpoint import read_optional_json

TEMPLATE_FILES = ("chat_template.jinja", "tokenizer_config.json")
"""Where a repository may have one."""

VICUNA = """\
{%- if messages[0]['role'] == 'system' -%}
    {%- set system, turns = messages[0]['content'], messages[1:] -%}
{%- else -%}
    {%- set system = "A chat between a curious user and an artificial intelligence assistant. \
The assistant gives helpful, detailed, and polite answers to the user's questions." -%}
    {%- set turns = messages -%}
{%- endif -%}
{{- bos_token + system + ' ' -}}
{%- for message in turns -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{- raise_exception('Vicuna takes user and assistant messages in turn') -}}
    {%- endif -%}
    {%- if message['role'] == 'user' -%}
        {{- 'USER: ' + message['content'] + ' ' -}}
    {%- else -%}
        {{- 'ASSISTANT: ' + message['content'] + eos_token -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- 'ASSISTANT:' -}}
{%- endif -%}
"""
"""Vicuna v1.1 to v1.5, as FastChat's conversation "vicuna_v1.1" defines it."""


def default_template(name: str) -> str | None:
    """The template that a model of this name was trained on, if it is one of the known few."""
    return VICUNA if "vicuna" in name.lower() else None


def template_in(folder: Path) -> str | None:
    """The template in a folder's files, None where there is none.

    Raises:
        CheckpointError: tokenizer_config.json is damaged.
    """
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text("utf-8", "replace")
    template = read_optional_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(template, list):  # several by name
        named = {each.get("name"): each.get("template") for each in template}
        template = named.get("default")
    return template if isinstance(template, str) else None
