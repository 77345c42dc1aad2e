"""Values as suites write them: what reads each kind of value, and the JSON Schema that editors know it by."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import PlainValidator, WithJsonSchema

from geomcheck.diagnostics import Metric, Unit
from geomcheck.suite.language.places import PLACES, parse_at
from geomcheck.suite.language.quantities import Refusal, did_you_mean, spelled
from geomcheck.suite.language.selection import ROLES, parse_selection

Schema = dict[str, Any]

_NUMBER = r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?"
PERCENT_SCHEMA: Schema = {"type": "string", "pattern": rf"^{_NUMBER}\s*%$"}
ANGLE_SCHEMA: Schema = {"type": "string", "pattern": rf"^{_NUMBER}\s*(deg|°|rad)$"}
RATIO_SCHEMA: Schema = {"anyOf": [{"type": "number"}, PERCENT_SCHEMA], "examples": ["5%"]}

STEP_SCHEMA: Schema = {
    "step": {
        "type": "integer",
        "minimum": 0,
        "description": "The checkpoint of this optimizer step, as the framework counts; the run must have it.",
        "examples": [500],
    }
}
PROGRESS_SCHEMA: Schema = {
    "progress": {
        **RATIO_SCHEMA,
        "description": "The checkpoint nearest to this share of the training, within 5 points.",
        "examples": ["20%"],
    }
}

_GLOBS_SCHEMA: Schema = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}


_SAME = {
    "error": ("fatal", "critical", "fail", "failure", "high", "err", "must"),
    "warn": ("medium", "should"),
    "info": ("low", "note", "notice", "debug"),
    "mean": ("avg", "average"),
    "max": ("maximum", "largest"),
    "min": ("minimum", "smallest"),
    "p95": ("95%", "quantile", "percentile", "p99", "p90"),
    "rising": ("up", "upward", "upwards", "increase", "increasing", "grows", "growing", "ascending", "monotone"),
    "falling": ("down", "downward", "downwards", "decrease", "decreasing", "shrinking", "descending"),
    "flat": ("stable", "constant", "steady", "level", "plateau", "none"),
    "run": ("all", "model", "global"),
    "layer": ("block",),
    "module": ("type", "kind", "projection"),
    "weight": ("matrix", "tensor", "parameter", "param"),
}
"""Other words for the words of suites."""


def word_schema(words: Collection[str]) -> Schema:
    """The schema of one of `words`, with their meanings where `words` maps to them."""
    meanings = {"enumDescriptions": list(words.values())} if isinstance(words, Mapping) else {}
    return {"enum": list(words), **meanings}


def read_by(read: Callable[[Any], Any], schema: Schema) -> tuple[Any, Any]:
    """Annotations of a field: what reads its plain YAML value (it raises Refusal), and the schema of that."""
    return PlainValidator(read), WithJsonSchema(schema)


def one_of(words: Collection[str]) -> tuple[Any, Any]:
    """Annotations of a field that holds one of `words`."""
    return read_by(lambda raw: word(raw, words), word_schema(words))


def word(raw: Any, words: Collection[str]) -> str:
    """Read one of `words`. Raises Refusal."""
    if isinstance(raw, str) and raw in words:
        return raw
    hint = ""
    if isinstance(raw, str):
        meant = [known for known in words if raw.lower() in _SAME.get(known, ())]
        hint = f"; did you mean `{meant[0]}`?" if meant else did_you_mean(raw, tuple(words))
    raise Refusal(f"found {spelled(raw)}; allowed: {', '.join(words)}{hint}")


@dataclass(frozen=True)
class AlsoCalled:
    """What people write for a key that has another name here; an annotation of its field."""

    words: tuple[str, ...]


def called(*words: str) -> AlsoCalled:
    """An annotation: what people write for this key."""
    return AlsoCalled(words)


def quantity_schema(metric: Metric, end: int = 0) -> Schema:
    """The schema of a figure of `metric`, with one `end` (0 or 1) of its example band."""
    return {**_figure(metric.unit), "examples": [_example(metric)[end]]}


def pair_schema(metric: Metric) -> Schema:
    """The schema of ``[low, high]``, two figures of `metric`."""
    pair = {"type": "array", "items": _figure(metric.unit), "minItems": 2, "maxItems": 2}
    return {**pair, "examples": [[*_example(metric)]]}


def amount_schema(unit: Unit) -> Schema:
    """The schema of a tolerance: an amount in `unit`, or a percentage."""
    angle = [ANGLE_SCHEMA] if unit is Unit.DEGREES else []
    amount = {Unit.FRACTION: 0.05, Unit.NUMBER: 5, Unit.DEGREES: "0.5 deg"}[unit]
    return {"anyOf": [{"type": "number"}, PERCENT_SCHEMA, *angle], "examples": [amount, "10%"]}


def _figure(unit: Unit) -> Schema:
    if unit is Unit.DEGREES:
        return ANGLE_SCHEMA
    return {"anyOf": [{"type": "number"}, PERCENT_SCHEMA]} if unit is Unit.FRACTION else {"type": "number"}


def _example(metric: Metric) -> tuple[float | str, float | str]:
    """The ends of a sensible band: the metric's own, or one of its unit."""
    usual: dict[Unit, tuple[float | str, float | str]] = {
        Unit.FRACTION: ("20%", "30%"),
        Unit.NUMBER: (20, 30),
        Unit.DEGREES: ("0.5 deg", "1.5 deg"),
    }
    return metric.example or usual[metric.unit]


def place_objects(*others: Schema, **further: Schema) -> list[Schema]:
    """The schemas of ``{step: N}`` and ``{progress: P%}``, and `others`, with `further` keys, all of them required."""
    objects = ({**place, **further} for place in (STEP_SCHEMA, PROGRESS_SCHEMA, *others))
    return [{"type": "object", "properties": o, "required": [*o], "additionalProperties": False} for o in objects]


def place_schema(*others: str) -> Schema:
    """The schema of one checkpoint: ``first``, ``last``, a step, a progress, or one of `others`."""
    words = {word: about for word, about in PLACES.items() if word in ("first", "last", *others)}
    return {"anyOf": [word_schema(words), *place_objects()], "examples": ["last", {"progress": "20%"}]}


def _at_schema() -> Schema:
    place = place_schema()
    ends = {
        "from": {
            **place,
            "description": "The first checkpoint of the span, included; the run's first where it is left out.",
            "examples": [{"progress": "20%"}, "first"],
        },
        "to": {
            **place,
            "description": "The last checkpoint of the span, included; the run's last where it is left out.",
            "examples": ["last", {"step": 900}],
        },
    }
    span = {"type": "object", "properties": ends, "additionalProperties": False, "minProperties": 1}
    return {
        "anyOf": [*place_schema("all")["anyOf"], span],
        "examples": ["last", {"from": {"progress": "20%"}, "to": "last"}],
    }


def _weights_schema() -> Schema:
    about = "Globs over whole canonical names"
    chosen = {
        "role": {**word_schema(ROLES), "description": "What the weights do in the network; `linear` by default."},
        "stack": {
            "type": "string",
            "minLength": 1,
            "description": "Only the layers of one stack, as reports name it or by a part of its path; an unknown one "
            "is an error that lists those that are there.",
            "examples": ["decoder", "vision_tower"],
        },
        "include": {
            **_GLOBS_SCHEMA,
            "description": f"{about}, case-sensitive; a glob that matches no weight is an error.",
            "examples": [["*.q_proj.weight", "*.k_proj.weight"]],
        },
        "exclude": {
            **_GLOBS_SCHEMA,
            "description": f"{about} that are taken out again.",
            "examples": [["model.layers.0.*"]],
        },
    }
    mapping = {"type": "object", "properties": chosen, "additionalProperties": False, "minProperties": 1}
    mapping["not"] = {"required": ["role", "include"]}
    examples = ["attention", {"role": "attention", "stack": "decoder"}, {"include": ["*.q_proj.weight"]}]
    return {"anyOf": [word_schema(ROLES), mapping], "examples": examples}


AT = read_by(parse_at, _at_schema())
WEIGHTS = read_by(parse_selection, _weights_schema())
