"""Random JSON schemas of the kinds that people send, each with what to ask for."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

_FIELDS = ("name", "city", "title", "price", "count", "note", "colour", "owner", "size", "level")
_LONG = (
    "estimated_delivery_duration_in_business_days",
    "primary_contact_email_address_of_the_customer",
    "total_amount_including_value_added_tax",
    "preferred_language_for_correspondence",
    "identifier_of_the_responsible_department",
    "has_accepted_the_terms_and_conditions",
)
_WORDS = ("red", "green", "blue", "small", "large", "open", "closed", "low", "high", "other")


@dataclass(frozen=True)
class Case:
    """A schema, its kind, and a request for such JSON."""

    kind: str
    schema: Schema
    prompt: str


def random_cases(per_kind: int, seed: int = 0) -> list[Case]:
    """So many of each kind, the kinds in turns."""
    dice = random.Random(seed)
    return [_case(kind, make(dice), dice) for _ in range(per_kind) for kind, make in _KINDS.items()]


def _case(kind: str, schema: Schema, dice: random.Random) -> Case:
    topic = dice.choice(("a shop", "a book", "a journey", "a person", "a machine", "an order"))
    fields = ", ".join(schema.get("properties", {})) or "the requested values"
    return Case(kind, schema, f"Describe {topic} as JSON with {fields}.")


def _object(properties: dict[str, Schema]) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _text(dice: random.Random) -> Schema:
    return {"type": "string", "maxLength": dice.randint(8, 24)}


def _enum(dice: random.Random) -> Schema:
    return {"enum": dice.sample(_WORDS, dice.randint(2, 5))}


def _scalar(dice: random.Random) -> Schema:
    return dice.choice(
        (
            _text(dice),
            {"type": "integer", "minimum": 0, "maximum": 9999},
            {"type": "boolean"},
            {"type": "number", "minimum": 0, "maximum": 100},
            _enum(dice),
        )
    )


def _flat(dice: random.Random) -> Schema:
    names = dice.sample(_FIELDS, dice.randint(3, 6))
    return _object({name: _scalar(dice) for name in names})


def _nested(dice: random.Random) -> Schema:
    names = dice.sample(_FIELDS, 3)
    return _object({names[0]: _flat(dice), names[1]: _object({names[2]: _scalar(dice)})})


def _arrays(dice: random.Random) -> Schema:
    names = dice.sample(_FIELDS, 2)
    most = dice.randint(2, 4)
    items = _object({name: _scalar(dice) for name in dice.sample(_FIELDS, 2)})
    return _object(
        {
            names[0]: {"type": "array", "items": _scalar(dice), "minItems": 1, "maxItems": most},
            names[1]: {"type": "array", "items": items, "maxItems": 2},
        }
    )


def _enums(dice: random.Random) -> Schema:
    return _object({name: _enum(dice) for name in dice.sample(_FIELDS, dice.randint(3, 6))})


def _unions(dice: random.Random) -> Schema:
    names = dice.sample(_FIELDS, 3)
    either = [{"type": "null"}, _scalar(dice), _object({"kind": {"const": dice.choice(_WORDS)}})]
    return _object({name: {"anyOf": dice.sample(either, 2)} for name in names})


def _long_names(dice: random.Random) -> Schema:
    return _object({name: _scalar(dice) for name in dice.sample(_LONG, dice.randint(3, 5))})


def _dates(dice: random.Random) -> Schema:
    date = {"type": "string", "pattern": "^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9])$"}
    time = {"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$"}
    return _object({"name": _text(dice), "date": date, "from": time, "to": time})


def _records(dice: random.Random) -> Schema:
    kinds = (_flat, _enums, _unions, _dates)
    parts = dice.sample(kinds, 2)
    return _object(
        {
            "first": parts[0](dice),
            "others": {"type": "array", "items": parts[1](dice), "maxItems": 2},
        }
    )


_KINDS: dict[str, Callable[[random.Random], Schema]] = {
    "flat": _flat,
    "nested": _nested,
    "arrays": _arrays,
    "enums": _enums,
    "unions": _unions,
    "long names": _long_names,
    "dates": _dates,
    "records": _records,
}
