"""The grammar of a suite file: its heading, and what an expectation about a metric may say."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from geomcheck.diagnostics import FOLDS, Metric, load_metrics
from geomcheck.diagnostics.formats import FORMATS
from geomcheck.errors import UsageError
from geomcheck.suite.conditions import FigureCondition, Key, load_conditions
from geomcheck.suite.good_runs import EXAMPLE as GOOD
from geomcheck.suite.good_runs import SCHEMA, GoodRuns
from geomcheck.suite.language import fields
from geomcheck.suite.language.quantities import Refusal, Refusals, ratio, spelled, unquoted
from geomcheck.suite.language.selection import DEFAULT, Selection, require_glob, starred
from geomcheck.suite.language.statement import STRICT, TEXTS_SCHEMA, Slug, Statement, Text
from geomcheck.suite.loading.parameters import parameters_of
from geomcheck.suite.normal import EXAMPLE, Normal

FORMAT = 1
GROUPINGS = {
    "run": "One figure for all selected weights.",
    "layer": "One figure for each layer.",
    "module": "One figure for each kind of module, such as q_proj over all layers.",
    "weight": "Each weight's own figure; nothing is folded.",
}
_FOLDS = {
    "mean": "The arithmetic mean.",
    "median": "The median: half is below it.",
    "max": "The largest.",
    "min": "The smallest.",
    "p95": "The 95th percentile.",
    "weighted": "The mean, each weight counted by its number of entries.",
}
_FORMATS = {
    "bf16": "bfloat16.",
    "fp16": "IEEE half precision.",
    "fp32": "IEEE single precision.",
    "fp64": "IEEE double precision.",
}


_NORMAL_SCHEMA = {"type": "object", "additionalProperties": {"type": "string"}}

_SAME_FORMAT = {
    **{"bfloat16": "bf16", "float16": "fp16", "half": "fp16"},
    **{"float32": "fp32", "float": "fp32", "float64": "fp64", "double": "fp64"},
}
_FOLD = ("agg", "aggregate", "aggregation", "reduce", "reduction", "average", "combine", "over_weights")
_TOLERANCE = (
    "tol",
    "atol",
    "rtol",
    "delta",
    "epsilon",
    "eps",
    "margin",
    "error",
    "slack",
    "plus_minus",
    "within_percent",
)


def _normal(raw: Any) -> dict[str, Normal]:
    if not isinstance(raw, dict):
        raise Refusal(f"expected an expectation's `id` and its lines; found {spelled(raw)}")
    found = {}
    with Refusals() as refusals:
        for name, lines in raw.items():
            with refusals.at(name):
                found[name] = Normal.parse(lines)
    return found


def _version(raw: Any) -> int:
    if isinstance(raw, bool) or raw != FORMAT:
        said = f"unknown format version {spelled(raw)}; this geomcheck reads `geomcheck: {FORMAT}`"
        raise Refusal(f"{said}{unquoted(raw)}")
    return FORMAT


def _allowance(raw: Any) -> float:
    value = ratio(raw)
    if not 0 <= value < 1:
        meant = f"; did you mean `{raw}%`?" if isinstance(raw, int | float) and 1 <= value < 100 else ""
        raise Refusal(f"`allow` is a share of the groups, from 0% to below 100%; found {spelled(raw)}{meant}")
    return value


def _expectations(raw: Any) -> list[Any]:
    if not isinstance(raw, list):
        found = "a text" if isinstance(raw, str) else spelled(raw)
        first = next(iter(raw)) if isinstance(raw, dict) and raw else ""
        wrapped = isinstance(raw, dict) and isinstance(raw[first], dict)
        hint = f"; write `- id: {first}` where `{first}:` is" if wrapped else ""
        hint = "; a `-` is missing before `id`" if isinstance(raw, dict) and "id" in raw else hint
        raise Refusal(f"expected a list of `- id: ...`; found {found}{hint}")
    return raw


def _sources(raw: Any) -> list[str]:
    if not isinstance(raw, list) or not raw or not all(isinstance(source, str) and source for source in raw):
        raise Refusal(f"expected a list such as `[paper, profiles/mine.yaml]`; found {spelled(raw)}")
    return raw


def _formats(raw: Any) -> list[str]:
    if not isinstance(raw, list) or not raw or not all(isinstance(name, str) and name in FORMATS for name in raw):
        given = (
            [_SAME_FORMAT.get(str(name).removeprefix("torch."), str(name)) for name in raw]
            if isinstance(raw, list)
            else []
        )
        meant = f"; did you mean `[{', '.join(given)}]`?" if given and all(name in FORMATS for name in given) else ""
        said = f"expected a list of W0's format and the run's, such as `[bf16, fp32]`, of {', '.join(FORMATS)}"
        raise Refusal(said + meant)
    return list(dict.fromkeys(raw))


def _patterns(raw: Any) -> tuple[str, ...]:
    if not isinstance(raw, list) or not raw:
        parts = [starred(part.strip()) for part in raw.split(",") if part.strip()] if isinstance(raw, str) else []
        hint = "; did you mean `[{}]`?".format(", ".join(f'"{part}"' for part in parts)) if parts else ""
        raise Refusal(f'expected a list of run name patterns such as `["*opd*"]`; found {spelled(raw)}{hint}')
    with Refusals() as refusals:
        for index, pattern in enumerate(raw):
            with refusals.at(index):
                if not isinstance(pattern, str) or not pattern.removeprefix("!"):
                    raise Refusal(f"a pattern is a text; found {spelled(pattern)}")
                require_glob(pattern, pattern.removeprefix("!"))
    return tuple(raw)


class Heading(BaseModel):
    """The keys of a suite file."""

    model_config = STRICT

    geomcheck: Annotated[
        int, *fields.read_by(_version, {"const": FORMAT}), fields.called("version", "format", "schema")
    ] = Field(description="Version of the suite format.", examples=[FORMAT])
    name: Slug = Field("", description="Name of the suite; the file's name where it is left out.", examples=["opd-8b"])
    about: Annotated[Text, fields.called("description", "why", "comment", "doc", "summary", "note")] = Field(
        "",
        description="What the figures are for and where they come from.",
        examples=["On-policy distillation of our 8B student; bands from the five runs of May."],
    )
    applies_to: Annotated[
        tuple[str, ...],
        *fields.read_by(_patterns, TEXTS_SCHEMA),
        fields.called("apply_to", "applies", "runs", "run", "match", "for", "patterns"),
    ] = Field(("*",), description="Patterns of run directory names; `!` excludes.", examples=[["*opd*", "!tiny-*"]])
    base: Annotated[Text, fields.called("base_model", "w0", "model", "anchor", "start")] = Field(
        "",
        description="Where W0 comes from: a directory (relative to this file) or a Hub id.",
        examples=["../models/anchor", "Qwen/Qwen3-8B@main"],
    )
    storage: Annotated[
        list[str], *fields.read_by(_formats, {"type": "array", "items": fields.word_schema(_FORMATS), "minItems": 1})
    ] = Field(
        [],
        description="Storage formats, W0's first, that the figures are for; a run in others is an error.",
        examples=[["bf16", "bf16"]],
    )
    profiles: Annotated[list[str], *fields.read_by(_sources, TEXTS_SCHEMA)] = Field(
        ["paper"],
        description="What `regime` compares with: `paper`, profile files, directories of them.",
        examples=[["paper", "profiles/mine.yaml"]],
    )
    weights: Annotated[Selection, *fields.WEIGHTS, fields.called("layers", "modules", "params", "tensors")] = Field(
        DEFAULT, description="The weights that expectations look at by default."
    )
    defaults: dict[str, Any] = Field(
        default_factory=dict, description="Parameters per metric.", examples=[{"subspace_alignment": {"k": 32}}]
    )
    extends: Annotated[Text, fields.called("inherits", "inherit", "include", "import", "parent", "from")] = Field(
        "", description="A shipped suite or a path; expectations override its by `id`.", examples=["opd", "./team.yaml"]
    )
    expect: Annotated[
        list[Any],
        *fields.read_by(_expectations, {"type": "array"}),
        fields.called("checks", "tests", "rules", "assertions", "asserts", "conditions", "metrics"),
    ] = Field(
        default_factory=list,
        description="The expectations.",
        examples=[[{"id": "support", "metric": "update_support", "below": "30%", "at": "last"}]],
    )
    normal: Annotated[dict[str, Normal], *fields.read_by(_normal, _NORMAL_SCHEMA)] = Field(
        default_factory=dict,
        description="By `id`, what is normal for each weight, as `geomcheck calibrate` writes it: tells which is off.",
        examples=[{"relative-update-norm": EXAMPLE}],
    )
    calibrated: Annotated[GoodRuns | None, *fields.read_by(GoodRuns.parse, SCHEMA)] = Field(
        None,
        description="What the good runs had, as `geomcheck calibrate` writes it: a run that differs is an error.",
        examples=[GOOD],
    )


class MetricStatement(Statement):
    """An expectation about a figure. Subclasses add `metric`, its parameters, and the conditions in its unit."""

    metric: str
    per: Annotated[str, *fields.one_of(GROUPINGS), fields.called("group", "groups", "group_by", "by", "each")] = Field(
        "run", description="The condition must hold for every group of weights."
    )
    fold: Annotated[str | None, *fields.one_of({fold: _FOLDS[fold] for fold in FOLDS}), fields.called(*_FOLD)] = Field(
        None, description="How the figures of a group's weights become one. Default: as the source does it."
    )
    allow: Annotated[
        float | None, *fields.read_by(_allowance, fields.RATIO_SCHEMA), fields.called("allowed", "except", "outliers")
    ] = Field(None, description="Share of the groups that may violate the condition.")

    def parameters(self, metric: Metric) -> dict[str, Any]:
        """All parameters of `metric`, defaults filled in, in canonical spelling."""
        return {p.name: getattr(self, f"parameter_{p.name}") for p in metric.parameters}

    def given(self, kind: type[FigureCondition]) -> dict[str, Any]:
        """The values of the keys of a condition, as far as they are given."""
        values = {key.name: getattr(self, f"condition_{key.name}") for key in kind.keys}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def tolerance(self) -> Any:
        """`tolerance` as it is written; None where it is not."""
        return getattr(self, "condition_tolerance", None)


@cache
def statement_model(name: str) -> type[MetricStatement]:
    """The model of expectations about the metric called `name`.

    Raises UsageError where its declaration calls a parameter as a key that every expectation has.
    """
    metric = load_metrics()[name]
    _require_free_names(metric)
    return create_model(
        f"Expect_{name}",
        __base__=MetricStatement,
        metric=(Annotated[str, *fields.one_of((name,))], Field(description=metric.definition)),
        **_conditions(metric),
        **parameters_of(metric),
    )


@cache
def unsettled_model() -> type[MetricStatement]:
    """The model of what can be checked while it is open which metric an expectation is about: not its parameters.

    Values of conditions are in the metric's unit, so that they stay as they are.
    """
    names = [*(key.name for key in load_conditions().keys), "tolerance"]
    unread: dict[str, Any] = {f"condition_{name}": (Any, Field(None, alias=name)) for name in names}
    return create_model("ExpectUnsettled", __base__=_Unsettled, metric=(Any, None), **unread)


class _Unsettled(MetricStatement):
    model_config = ConfigDict(extra="ignore")


@cache
def defaults_model(name: str) -> type[BaseModel]:
    """The model of ``defaults: {name: ...}``: the metric's parameters, none of them required."""
    made = parameters_of(load_metrics()[name], required=False)
    return create_model(f"Defaults_{name}", __config__=STRICT, **made)


def _conditions(metric: Metric) -> dict[str, Any]:
    """The fields of all conditions, whose values are in the unit of `metric`, and of their tolerance."""
    conditions = load_conditions()
    *others, last = (f"`{name}`" for name in conditions.tolerant)
    about = f"For {', '.join(others)} and {last}: an amount, or a percentage of the target."
    schema = lambda metric: fields.amount_schema(metric.unit)  # noqa: E731
    tolerance = Key("tolerance", about, lambda raw, _unit: raw, schema, _TOLERANCE)
    return {f"condition_{key.name}": _field(key, metric) for key in (*conditions.keys, tolerance)}


def _field(key: Key, metric: Metric) -> tuple[Any, Any]:
    annotations = fields.read_by(lambda raw: key.read(raw, metric.unit), key.schema(metric))
    return Annotated[Any, *annotations, fields.called(*key.synonyms)], Field(
        None, alias=key.name, description=key.about
    )


def _require_free_names(metric: Metric) -> None:
    conditions = load_conditions()
    taken = {*MetricStatement.model_fields, *conditions.by_key, "tolerance"}
    used = [parameter.name for parameter in metric.parameters if parameter.name in taken]
    if used:
        raise UsageError(
            f"metric {metric.name!r} declares a parameter `{used[0]}`, which is a key of every expectation; "
            "its author must rename it"
        )
