"""Prompts are new in every round, and data sets are read as their authors write them."""

import json
from pathlib import Path

import pytest

from benchmarks.compare.plan import Part, Scenario, edition, full
from benchmarks.compare.prompts import (
    STRUCTURED,
    TOOLS,
    Prompt,
    conversations,
    draw,
    own_prompts,
    read_dataset,
)


def test_our_prompts_are_of_eight_kinds_in_turns() -> None:
    prompts = own_prompts(3)
    kinds = {prompt.kind for prompt in prompts}
    assert len(kinds) == 8
    assert len(prompts) == 24
    assert {prompt.kind for prompt in prompts[:8]} == kinds


def test_structured_and_tool_prompts_ask_for_their_forms() -> None:
    fields = {prompt.kind: prompt.fields for prompt in own_prompts(1)}
    assert fields[STRUCTURED]["response_format"]["type"] == "json_schema"
    assert len(fields[TOOLS]["tools"]) == 2
    assert all(not each for kind, each in fields.items() if kind not in (STRUCTURED, TOOLS))


def test_no_round_of_no_scenario_sees_a_prompt_again() -> None:
    prompts = own_prompts(2)
    scenarios = full([STRUCTURED, "chat"], tokens=8)
    seen: set[str] = set()
    for number in range(3):
        for scenario in scenarios:
            if not scenario.repeated:
                asked = scenario.prompts(prompts, edition(scenarios, scenario, number))
                firsts = {prompt.turns[0] for prompt in asked}
                assert not firsts & seen
                seen |= firsts


def test_the_repeated_prompt_is_the_same_in_every_round() -> None:
    (scenario,) = [each for each in full([], 8) if each.repeated]
    asked = {prompt for number in range(3) for prompt in _hashable(scenario, number)}
    assert len(asked) == 1


def _hashable(scenario: Scenario, number: int) -> list[tuple[str, ...]]:
    return [prompt.turns for prompt in scenario.prompts(own_prompts(2), number)]


def test_a_scenario_of_a_kind_asks_nothing_else() -> None:
    scenario = Scenario("tools", Part.KINDS, 3, 1, 8, kind=TOOLS)
    assert {prompt.kind for prompt in scenario.prompts(own_prompts(2), 0)} == {TOOLS}


def test_mixed_scenarios_need_nothing_but_text() -> None:
    scenario = Scenario("mixed", Part.CLIENTS, 20, 1, 8)
    assert all(not prompt.fields for prompt in scenario.prompts(own_prompts(2), 0))


def test_short_prompts_of_a_kind_become_conversations() -> None:
    prompts = [Prompt("a", ("1",)), Prompt("b", ("2",)), Prompt("a", ("3",)), Prompt("c", ("4",))]
    assert conversations(prompts, 2) == [Prompt("a", ("1", "3"))]


def test_conversations_of_a_data_set_are_kept() -> None:
    prompts = [Prompt("a", ("1", "2", "3")), Prompt("a", ("4",))]
    assert conversations(prompts, 2) == [Prompt("a", ("1", "2"))]


def test_there_are_always_enough_prompts() -> None:
    drawn = draw([Prompt("a", ("1",))], 3, 7)
    assert [prompt.turns for prompt in drawn] == [("(7.0) 1",), ("(7.1) 1",), ("(7.2) 1",)]


def test_mt_bench_and_spec_bench_are_read(tmp_path: Path) -> None:
    path = tmp_path / "question.jsonl"
    questions = [
        {"question_id": 81, "category": "writing", "turns": ["Write.", "Rewrite."]},
        {"question_id": 82, "category": "writing", "turns": ["Again.", "More."]},
        {"question_id": 83, "category": "rag", "turns": ["Find."], "reference": ["x"]},
    ]
    path.write_text("\n".join(map(json.dumps, questions)) + "\n")
    assert read_dataset(path) == [
        Prompt("writing", ("Write.", "Rewrite.")),
        Prompt("rag", ("Find.",)),
        Prompt("writing", ("Again.", "More.")),
    ]


def test_share_gpt_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sharegpt.json"
    said = [
        {"from": "human", "value": "Hello"},
        {"from": "gpt", "value": "Hi"},
        {"from": "human", "value": "Bye"},
    ]
    file = [{"id": "a", "conversations": said}, {"id": "b", "conversations": said[1:2]}]
    path.write_text(json.dumps(file))
    assert read_dataset(path) == [Prompt("ShareGPT", ("Hello", "Bye"))]


@pytest.mark.parametrize("text", ["", "[]", "{", '[{"a": 1}]', '{"category": "x"}', "[1]"])
def test_other_files_are_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"other\.json"):
        read_dataset(path)
