"""Fields of the grammar's models: for each kind of value, what reads it and what editors know of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import Field, PlainValidator, WithJsonSchema

from geomcheck.diagnostics import Metric, Parameter, Unit
from geomcheck.suite.language.places import Place, parse_at, parse_place
from geomcheck.suite.language.quantities import Quantity, Refusal, did_you_mean, percent, quantity, share_text, spelled
from geomcheck.suite.language.selection import ROLES

_NUMBER = r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?"
_PERCENT_SCHEMA = {"type": "string", "pattern": rf"^{_NUMBER}\s*%$"}
_ANGLE_SCHEMA = {"type": "string", "pattern": rf"^{_NUMBER}\s*(deg|°|rad)$"}

RATIO_SCHEMA: dict[str, Any] = {"anyOf": [{"type": "number"}, _PERCENT_SCHEMA], "examples": ["5%"]}
_STEP_SCHEMA = {"step": {"type": "integer", "minimum": 0}}
_PROGRESS_SCHEMA = {"progress": RATIO_SCHEMA}
_GLOBS_SCHEMA = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}

WEIGHTS_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"enum": list(ROLES)},
        {
            "type": "object",
            "properties": {"include": _GLOBS_SCHEMA, "exclude": _GLOBS_SCHEMA},
            "additionalProperties": False,
            "minProperties": 1,
        },
    ],
    "examples": ["attention", {"include": ["*.q_proj.weight"]}],
}

FieldDefinition = tuple[Any, Any]


def one_of(words: Sequence[str]) -> tuple[Any, Any]:
    """Annotations of a field that holds one of `words`."""

    return PlainValidator(lambda raw: word(raw, words)), WithJsonSchema({"enum": list(words)})


def word(raw: Any, words: Sequence[str]) -> str:
    """Read one of `words`. Raises Refusal."""
    if isinstance(raw, str) and raw in words:
        return raw
    hint = did_you_mean(raw, tuple(words)) if isinstance(raw, str) else ""
    raise Refusal(f"found {spelled(raw)}; allowed: {', '.join(words)}{hint}")


def place_schema(words: Sequence[str]) -> dict[str, Any]:
    """The editor schema of one checkpoint."""
    objects = [
        {"type": "object", "properties": p, "required": list(p), "additionalProperties": False}
        for p in (_STEP_SCHEMA, _PROGRESS_SCHEMA)
    ]
    return {"anyOf": [{"enum": list(words)}, *objects], "examples": ["last", {"progress": "20%"}]}


def _at_schema() -> dict[str, Any]:
    place = place_schema(("first", "last"))
    span = {
        "type": "object",
        "properties": {"from": place, "to": place},
        "additionalProperties": False,
        "minProperties": 1,
    }
    single = place_schema(("all", "first", "last"))
    return {
        "anyOf": [*single["anyOf"], span],
        "examples": ["last", {"from": {"progress": "20%"}, "to": "last"}],
    }


AT = (PlainValidator(parse_at), WithJsonSchema(_at_schema()))


def conditions_of(metric: Metric) -> dict[str, Any]:
    """The fields of conditions whose values are in the metric's unit, for `create_model`."""
    unit = metric.unit
    figure = _quantity_schema(unit)
    near = {"deg": "1 deg", "fraction": "50%", "number": 25}[unit.value]
    angle = [_ANGLE_SCHEMA] if unit is Unit.DEGREES else []
    loose = {"anyOf": [{"type": "number"}, _PERCENT_SCHEMA, *angle], "examples": ["10%"]}
    pair = {"type": "array", "items": figure, "minItems": 2, "maxItems": 2}

    def read(raw: Any) -> Quantity:
        return quantity(raw, unit)

    def read_pair(raw: Any) -> tuple[Quantity, Quantity]:
        return _pair(raw, unit)

    def read_bands(raw: Any) -> list[tuple[Place, tuple[Quantity, Quantity]]]:
        return _bands(raw, unit)

    return {
        "within": _optional(read_pair, pair, "The figure lies between two values, or on them."),
        "bands": _optional(
            read_bands, _bands_schema(pair), "At each of these checkpoints the figure lies in that checkpoint's band."
        ),
        "above": _optional(read, figure, "The figure is larger; may be combined with `below`."),
        "below": _optional(read, figure, "The figure is smaller; may be combined with `above`."),
        "near": _optional(read, {**figure, "examples": [near]}, "The figure is this, within `tolerance`."),
        "tolerance": _optional(
            lambda raw: raw,
            loose,
            "For `near`, `trend`, `like` and `unlike`: an amount, or a percentage of the target.",
        ),
    }


def parameters_of(metric: Metric, *, required: bool = True) -> dict[str, Any]:
    """The fields of the metric's parameters, for `create_model`; none is required unless `required`."""
    return {f"parameter_{p.name}": _parameter(p, required and p.required) for p in metric.parameters}


def _parameter(parameter: Parameter, required: bool) -> FieldDefinition:
    reader, schema = _reader(parameter)
    default = ... if required else (None if parameter.required else reader(parameter.default))
    about = parameter.about if parameter.required else f"{parameter.about} Default: {_shown(parameter.default)}."
    field = Field(default, alias=parameter.name, description=about)
    return Annotated[Any, PlainValidator(reader), WithJsonSchema(schema)], field


def _shown(default: Any) -> str:
    if isinstance(default, dict):
        return "{" + ", ".join(f"{key}: {value}" for key, value in default.items()) + "}"
    return str(default)


def _reader(parameter: Parameter) -> tuple[Callable[[Any], Any], dict[str, Any]]:
    match parameter.kind:
        case "rank":
            low = int(parameter.low or 1)
            schema = {"anyOf": [{"type": "integer", "minimum": low}, _PERCENT_SCHEMA]}
            return lambda raw: rank(raw, low), {**schema, "examples": [16, "12.5%"]}
        case "choice":
            return lambda raw: word(raw, parameter.choices), {"enum": list(parameter.choices)}
        case "checkpoint":
            words = ("first", "last", "previous")
            return lambda raw: parse_place(raw, previous=True).canonical, place_schema(words)
        case "integer":
            return lambda raw: _bounded(_integer(raw), parameter), _range_schema("integer", parameter)
        case _:
            share = parameter.high is not None and parameter.high <= 1
            number = _range_schema("number", parameter)
            schema = {"anyOf": [number, _PERCENT_SCHEMA]} if share else number
            unit = Unit.FRACTION if share else Unit.NUMBER
            return lambda raw: _bounded(quantity(raw, unit).value, parameter), schema


def rank(raw: Any, low: int = 1) -> int | str:
    """Read a rank: an integer >= `low`, or a share above 0% and below 100% in its one spelling.

    Raises Refusal.
    """
    allowed = f"an integer >= {low}, or a share of min(out, in) such as `12.5%`"
    if isinstance(raw, str) and raw.strip().endswith("%"):
        value = quantity(raw, Unit.FRACTION).value
        if not 0 < value < 1:
            raise Refusal(f"`{raw}` is not above 0% and below 100%; allowed: {allowed}")
        return share_text(value)
    if isinstance(raw, bool) or not isinstance(raw, int) or raw < low:
        wrong_share = isinstance(raw, float) and 0 < raw < 1
        hint = f"; did you mean `{share_text(percent(raw * 100))}`?" if wrong_share else ""
        raise Refusal(f"found {spelled(raw)}; allowed: {allowed}{hint}")
    return raw


def _integer(raw: Any) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int):
        raise Refusal(f"found {spelled(raw)}; expected an integer")
    return raw


def _bounded(value: Any, parameter: Parameter) -> Any:
    low, high = parameter.low, parameter.high
    if (low is not None and value < low) or (high is not None and value > high):
        if high is None:
            allowed = f"at least {low:g}"
        else:
            allowed = f"at most {high:g}" if low is None else f"from {low:g} to {high:g}"
        raise Refusal(f"{value:g} is out of range; allowed: {allowed}")
    return value


def _range_schema(kind: str, parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": kind}
    if parameter.low is not None:
        schema["minimum"] = parameter.low
    if parameter.high is not None:
        schema["maximum"] = parameter.high
    return schema


def _pair(raw: Any, unit: Unit) -> tuple[Quantity, Quantity]:
    if not isinstance(raw, list) or len(raw) != 2:
        found = f"a list of {len(raw)}" if isinstance(raw, list) else spelled(raw)
        raise Refusal(f"expected two values, `[low, high]`; found {found}")
    ends = []
    for index, value in enumerate(raw):
        try:
            ends.append(quantity(value, unit))
        except Refusal as refusal:
            raise Refusal(str(refusal), path=(index,)) from None
    return ends[0], ends[1]


def _bands(raw: Any, unit: Unit) -> list[tuple[Place, tuple[Quantity, Quantity]]]:
    form = "`{step: 30, within: [low, high]}` or `{progress: 20%, within: [low, high]}`"
    if not isinstance(raw, list) or not raw:
        raise Refusal(f"expected a list of {form}; found {spelled(raw)}")
    found: dict[Place, tuple[Quantity, Quantity]] = {}
    for index, entry in enumerate(raw):
        if not isinstance(entry, dict) or "within" not in entry:
            raise Refusal(f"expected {form}; found {spelled(entry)}", path=(index,))
        try:
            place = parse_place({key: value for key, value in entry.items() if key != "within"})
        except Refusal as refusal:
            raise Refusal(str(refusal), path=(index, *refusal.path)) from None
        if place in found:
            raise Refusal(f"{place.text} has two bands; keep one", path=(index,))
        try:
            found[place] = _pair(entry["within"], unit)
        except Refusal as refusal:
            raise Refusal(str(refusal), path=(index, "within", *refusal.path)) from None
    return list(found.items())


def _bands_schema(pair: dict[str, Any]) -> dict[str, Any]:
    entry = [
        {
            "type": "object",
            "properties": {**p, "within": pair},
            "required": [*p, "within"],
            "additionalProperties": False,
        }
        for p in (_STEP_SCHEMA, _PROGRESS_SCHEMA)
    ]
    return {"type": "array", "items": {"anyOf": entry}, "minItems": 1}


def _quantity_schema(unit: Unit) -> dict[str, Any]:
    if unit is Unit.DEGREES:
        return dict(_ANGLE_SCHEMA)
    if unit is Unit.FRACTION:
        return {"anyOf": [{"type": "number"}, _PERCENT_SCHEMA]}
    return {"type": "number"}


def _optional(reader: Callable[[Any], Any], schema: dict[str, Any], about: str) -> FieldDefinition:
    return Annotated[Any, PlainValidator(reader), WithJsonSchema(schema)], Field(None, description=about)
