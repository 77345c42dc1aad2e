"""The parameters of a metric as keys of a suite: what reads them, and what editors know of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field

from geomcheck.diagnostics import Metric, Parameter, Unit
from geomcheck.suite.language.fields import PERCENT_SCHEMA, called, place_schema, read_by, word, word_schema
from geomcheck.suite.language.places import parse_place
from geomcheck.suite.language.quantities import Refusal, percent, quantity, share_text, spelled, unquoted

_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "k": ("rank", "top_k", "topk", "top", "dim", "dimension", "dimensions", "r", "n"),
    "rank": ("k", "r", "top_k"),
    "eta": ("threshold", "rtol", "relative_tolerance", "epsilon", "eps"),
    "stat": ("statistic", "summary", "quantile", "percentile"),
    "cast": ("dtype", "precision", "format"),
    "to": ("reference", "against", "target"),
    "excess_over": ("null", "baseline", "chance", "excess"),
    "index": ("i", "sigma", "number"),
}
"""What people write for parameters of these names, of whichever metric."""
_CHOICES: Mapping[str, str] = {
    "max": "The largest.",
    "mean": "The arithmetic mean.",
    "median": "The median: half is below it.",
    "p95": "The 95th percentile.",
    "left": "Left singular vectors U, of the output space.",
    "right": "Right singular vectors V, of the input space.",
    "both": "The angles of left and right subspaces pooled.",
    "rows": "Rows, one per output.",
    "columns": "Columns, one per input.",
    "bf16": "In bfloat16, of 8 bits of exponent and 7 of mantissa.",
    "fp16": "In float16, of 5 bits of exponent and 10 of mantissa.",
    "none": "As it is.",
    "shuffled": "Less the mean figure of seeded structureless updates of the same size.",
}
"""What the choices of parameters mean."""


def parameters_of(metric: Metric, *, required: bool = True) -> dict[str, Any]:
    """The fields of the metric's parameters, for `create_model`; none is required unless `required`."""
    return {f"parameter_{p.name}": _parameter(p, required and p.required) for p in metric.parameters}


def _parameter(parameter: Parameter, required: bool) -> tuple[Any, Any]:
    reader, schema = _reader(parameter)
    default = ... if required else (None if parameter.required else reader(parameter.default))
    about = parameter.about if parameter.required else f"{parameter.about} Default: {_shown(parameter.default)}."
    examples = None if parameter.example is None else [parameter.example]
    field = Field(default, alias=parameter.name, description=about, examples=examples)
    return Annotated[
        Any, *read_by(reader, schema), called(*_SYNONYMS.get(parameter.name, ()), *parameter.synonyms)
    ], field


def _shown(default: Any) -> str:
    if isinstance(default, dict):
        return "{" + ", ".join(f"{key}: {value}" for key, value in default.items()) + "}"
    return str(default)


def _reader(parameter: Parameter) -> tuple[Callable[[Any], Any], dict[str, Any]]:
    match parameter.kind:
        case "rank":
            low = int(parameter.low or 1)
            schema = {"anyOf": [{"type": "integer", "minimum": low}, PERCENT_SCHEMA]}
            return lambda raw: rank(raw, low), {**schema, "examples": [16, "12.5%"]}
        case "choice":
            meanings = {choice: _CHOICES.get(choice, parameter.about) for choice in parameter.choices}
            return lambda raw: word(raw, parameter.choices), word_schema(meanings)
        case "checkpoint":
            others = ("previous", *parameter.choices)
            return lambda raw: parse_place(raw, others=others).canonical, place_schema(*others)
        case "integer":
            return lambda raw: _bounded(_integer(raw), parameter), _range_schema("integer", parameter)
        case _:
            share = parameter.high is not None and parameter.high <= 1
            number = _range_schema("number", parameter)
            schema = {"anyOf": [number, PERCENT_SCHEMA]} if share else number
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
        hint = f"; did you mean `{raw:.0f}`?" if isinstance(raw, float) and raw.is_integer() and raw >= low else hint
        raise Refusal(f"found {spelled(raw)}; allowed: {allowed}{hint or unquoted(raw)}")
    return raw


def _integer(raw: Any) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int):
        raise Refusal(f"found {spelled(raw)}; expected an integer{unquoted(raw)}")
    return raw


def _bounded(value: Any, parameter: Parameter) -> Any:
    low, high = parameter.low, parameter.high
    if (low is not None and value < low) or (high is not None and value > high):
        if high is None:
            allowed = f"at least {low:g}"
        else:
            allowed = f"at most {high:g}" if low is None else f"from {low:g} to {high:g}"
        meant = high is not None and high <= 1 < value and (low or 0) <= value / 100 <= high
        hint = f"; did you mean `{value:g}%`?" if meant else ""
        raise Refusal(f"{value:g} is out of range; allowed: {allowed}{hint}")
    return value


def _range_schema(kind: str, parameter: Parameter) -> dict[str, Any]:
    bounds = {"minimum": parameter.low, "maximum": parameter.high}
    return {"type": kind, **{key: bound for key, bound in bounds.items() if bound is not None}}
