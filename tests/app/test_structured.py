"""Structured output over HTTP, as OpenAI's, llama-server's and vLLM's clients ask for it."""

import json
import re
from typing import Any

import jsonschema
import pytest

from tests.app.conftest import Server

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "big": {"type": "boolean"}},
    "required": ["city", "big"],
    "additionalProperties": False,
}
AS_JSON = json.dumps(SCHEMA)
ANSWERS = "yes|no"
MESSAGES = [{"role": "user", "content": "Name a city."}]


def chat(server: Server, status: int = 200, **fields: Any) -> Any:
    body = {"messages": MESSAGES, "max_tokens": 60, "temperature": 1, "seed": 3} | fields
    answer = server.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def text_of(server: Server, **fields: Any) -> str:
    choice = chat(server, **fields)["choices"][0]
    assert choice["finish_reason"] == "stop"
    text: str = choice["message"]["content"]
    return text


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA,
                                                                    "strict": True}}},
        {"response_format": {"type": "json_object", "schema": SCHEMA}},
        {"json_schema": SCHEMA},
        {"guided_json": SCHEMA},
        {"guided_json": AS_JSON},
        {"structured_outputs": {"json": SCHEMA}},
    ],
)  # fmt: skip
def test_every_way_to_send_a_schema_is_kept_to(server: Server, fields: dict[str, Any]) -> None:
    jsonschema.validate(json.loads(text_of(server, **fields)), SCHEMA)


@pytest.mark.parametrize(
    "fields",
    [
        {"guided_regex": ANSWERS},
        {"guided_choice": ["yes", "no"]},
        {"guided_grammar": 'start: "yes" | "no"'},
        {"grammar": 'root ::= "yes" | "no"'},
        {"structured_outputs": {"regex": ANSWERS}},
        {"structured_outputs": {"choice": ["yes", "no"]}},
        {"structured_outputs": {"grammar": 'root ::= "yes" | "no"'}},
    ],
)
def test_every_other_grammar_is_kept_to(server: Server, fields: dict[str, Any]) -> None:
    assert re.fullmatch(ANSWERS, text_of(server, **fields))


def test_completions_are_held_to_them_too_and_streams_as_well(server: Server) -> None:
    body = {"prompt": "A city:", "guided_json": SCHEMA, "max_tokens": 60, "n": 2, "seed": 5}
    whole = server.http.post("/v1/completions", json=body).json()
    for choice in whole["choices"]:
        jsonschema.validate(json.loads(choice["text"]), SCHEMA)
    texts = ["", ""]
    with server.http.stream("POST", "/v1/completions", json=body | {"stream": True}) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    texts[choice["index"]] += choice["text"]
    assert texts == [choice["text"] for choice in whole["choices"]]


def test_any_json_object(server: Server) -> None:
    answer = chat(server, response_format={"type": "json_object"}, max_tokens=200)
    text, reason = answer["choices"][0]["message"]["content"], answer["choices"][0]["finish_reason"]
    assert text.startswith("{")
    if reason == "stop":
        assert isinstance(json.loads(text), dict)


def test_an_answer_cut_short_has_length_as_its_reason(server: Server) -> None:
    choice = chat(server, guided_json=SCHEMA, max_tokens=3)["choices"][0]
    assert choice["finish_reason"] == "length"


def test_a_stop_string_ends_what_a_grammar_would_go_on_with(server: Server) -> None:
    answer = chat(server, guided_choice=["xylophone"], stop="oph", n=2)
    for choice in answer["choices"]:
        assert choice["message"]["content"] == "xyl"
        assert choice["finish_reason"] == "stop"


def test_logprobs_are_those_of_the_model_before_the_grammar(server: Server) -> None:
    choice = chat(server, guided_choice=["xylophone"], logprobs=True)["choices"][0]
    assert choice["message"]["content"] == "xylophone"
    assert choice["logprobs"]["content"][0]["logprob"] < -3


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"guided_json": {"not": {}}}, "guided_json", "not"),
        ({"guided_regex": "("}, "guided_regex", "unclosed"),
        ({"grammar": "root ::= nothing"}, "grammar", "nothing"),
        ({"guided_json": "{"}, "guided_json", "not JSON"),
        ({"guided_choice": []}, "guided_choice", "at least 1"),
        ({"guided_regex": "a", "grammar": 'root ::= "b"'}, "guided_regex", "together"),
        ({"guided_regex": "a", "ignore_eos": True}, "guided_regex", "ignore_eos"),
        ({"response_format": {"type": "xml"}}, "response_format", "json_schema"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "required"),
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag",
         "not supported"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_to_is_refused(
    server: Server, fields: dict[str, Any], param: str, words: str
) -> None:
    error = chat(server, 400, **fields)["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert words in error["message"]
