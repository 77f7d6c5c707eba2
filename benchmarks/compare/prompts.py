"""What servers are asked: conversations of our own kinds, or of data sets that users have."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise, zip_longest
from pathlib import Path
from typing import Any

from benchmarks.schemas import Case, random_cases
from benchmarks.speculation import load_prompts

STRUCTURED = "structured output"
TOOLS = "tool calls"


@dataclass(frozen=True)
class Prompt:
    """The user's side of a conversation.

    Attributes:
        kind: what it asks for.
        turns: the user's messages; each is sent once the one before is answered.
        fields: what the requests' bodies hold beyond the messages.
    """

    kind: str
    turns: tuple[str, ...]
    fields: Mapping[str, Any] = field(default_factory=dict)

    def marked(self, mark: str) -> "Prompt":
        """The same, but what begins with another mark shares no prefix of its text."""
        return replace(self, turns=(f"({mark}) {self.turns[0]}", *self.turns[1:]))


def own_prompts(per_kind: int = 12) -> list[Prompt]:
    """Those of our six kinds, structured output and tool calls, the kinds in turns."""
    texts = [Prompt(kind.replace("_", " "), (text,)) for kind, text in load_prompts(per_kind)]
    cases = random_cases(per_kind)
    return in_turns([*texts, *map(_structured, cases[:per_kind]), *_tool_prompts(cases, per_kind)])


def in_turns(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Reordered so that the first of every kind come first, then all second ones."""
    kinds: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        kinds.setdefault(prompt.kind, []).append(prompt)
    return [each for each in chain(*zip_longest(*kinds.values())) if each is not None]


def conversations(prompts: Sequence[Prompt], turns: int) -> list[Prompt]:
    """Prompts of that many turns: as they are where they have them, else joined of one kind's."""
    long = [replace(p, turns=p.turns[:turns]) for p in prompts if len(p.turns) >= turns]
    short: dict[str, list[str]] = {}
    for prompt in prompts:
        if len(prompt.turns) < turns and not prompt.fields:
            short.setdefault(prompt.kind, []).extend(prompt.turns)
    joined = [
        Prompt(kind, tuple(texts[start : start + turns]))
        for kind, texts in short.items()
        for start in range(0, len(texts) - turns + 1, turns)
    ]
    return in_turns([*long, *joined])


def draw(prompts: Sequence[Prompt], count: int, edition: int) -> tuple[Prompt, ...]:
    """So many prompts, other ones in each edition as far as there are; no two begin alike."""
    return tuple(
        prompts[(edition * count + place) % len(prompts)].marked(f"{edition}.{place}")
        for place in range(count)
    )


def read_dataset(path: Path) -> list[Prompt]:
    """The conversations of a file, its kinds in turns.

    MT-bench and Spec-Bench (question.jsonl: `category` and `turns`), ShareGPT (a JSON list of
    `conversations`, whose `human` messages are taken).

    Raises:
        ValueError: it is none of these, or holds nothing to ask.
    """
    text = path.read_text("utf-8")
    try:
        read = _share_gpt if text.lstrip().startswith("[") else _questions
        prompts = [prompt for prompt in read(text) if prompt.turns]
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no MT-bench, Spec-Bench or ShareGPT file: {error!r}") from None
    if not prompts:
        raise ValueError(f"{path} holds no prompts")
    return in_turns(prompts)


def _questions(text: str) -> Iterator[Prompt]:
    for line in text.splitlines():
        if line.strip():
            question = json.loads(line)
            yield Prompt(str(question["category"]), tuple(question["turns"]))


def _share_gpt(text: str) -> Iterator[Prompt]:
    for conversation in json.loads(text):
        said = [message for message in conversation["conversations"] if message["from"] == "human"]
        yield Prompt("ShareGPT", tuple(message["value"] for message in said))


def _structured(case: Case) -> Prompt:
    schema = {"name": "answer", "strict": True, "schema": case.schema}
    form = {"type": "json_schema", "json_schema": schema}
    return Prompt(STRUCTURED, (case.prompt,), {"response_format": form})


def _tool_prompts(cases: Sequence[Case], count: int) -> Iterator[Prompt]:
    for pair in list(pairwise(cases))[:count]:
        tools = [
            {"type": "function", "function": {"name": name, "parameters": case.schema}}
            for name, case in zip(("save_first", "save_second"), pair, strict=True)
        ]
        yield Prompt(TOOLS, (pair[0].prompt,), {"tools": tools, "tool_choice": "required"})
