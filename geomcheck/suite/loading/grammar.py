"""The grammar of suites as pydantic models: one per metric, built from its declaration.

The models check values and give the editor schema; `validate` turns pydantic's findings into our sentences.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
    create_model,
)

from geomcheck.diagnostics import FOLDS, Metric, Unit, load_metrics
from geomcheck.diagnostics.formats import FORMATS
from geomcheck.errors import Problem, UsageError
from geomcheck.suite.conditions.profile import PAPER
from geomcheck.suite.conditions.sufficiency import SUFFICIENCY
from geomcheck.suite.language import fields
from geomcheck.suite.language.document import Node
from geomcheck.suite.language.places import ALL, LAST, At
from geomcheck.suite.language.quantities import Quantity, Refusal, did_you_mean, quantity, ratio, spelled
from geomcheck.suite.language.selection import Selection, parse_selection

FORMAT = 1
LEVELS = ("error", "warn", "info")
GROUPINGS = ("run", "layer", "module", "weight")
DIRECTIONS = ("rising", "falling", "flat")
BETTER = ("higher", "lower")
SINCE = ("start", "constraint")

_SLUG = re.compile(r"[a-z0-9][a-z0-9_.-]*")


def _slug(raw: Any) -> str:
    if not isinstance(raw, str) or not _SLUG.fullmatch(raw):
        raise Refusal(
            f"{spelled(raw)} is not a slug: lower-case letters, digits, `_`, `.` and `-`, "
            "beginning with a letter or digit"
        )
    return raw


def _version(raw: Any) -> int:
    if isinstance(raw, bool) or raw != FORMAT:
        raise Refusal(f"unknown format version {spelled(raw)}; this geomcheck reads `geomcheck: {FORMAT}`")
    return FORMAT


def _text(raw: Any) -> str:
    if not isinstance(raw, str) or not raw.strip():
        raise Refusal(f"expected a text; found {spelled(raw)}")
    return raw


def _allowance(raw: Any) -> float:
    value = ratio(raw)
    if not 0 <= value < 1:
        raise Refusal(f"`allow` is a share of the groups, from 0% to below 100%; found {spelled(raw)}")
    return value


def _expectations(raw: Any) -> list[Any]:
    if not isinstance(raw, list):
        raise Refusal(f"expected a list of `- id: ...`; found {spelled(raw)}")
    return raw


def _sources(raw: Any) -> list[str]:
    if not isinstance(raw, list) or not raw or not all(isinstance(source, str) and source for source in raw):
        raise Refusal(f"expected a list such as `[paper, profiles/mine.yaml]`; found {spelled(raw)}")
    return raw


def _formats(raw: Any) -> list[str]:
    known = FORMATS
    if not isinstance(raw, list) or not raw or not all(isinstance(name, str) and name in known for name in raw):
        raise Refusal(f"expected a list of W0's format and the run's, such as `[bf16, fp32]`, of {', '.join(known)}")
    return list(dict.fromkeys(raw))


def _controls(raw: Any) -> list[str]:
    paths = [raw] if isinstance(raw, str) else raw
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) and path.strip() for path in paths):
        raise Refusal(f"expected a path, or a list of them such as `[../random-0, ../random-1]`; found {spelled(raw)}")
    if len(set(paths)) < len(paths):
        raise Refusal("a control is named twice; keep one")
    return paths


def _share(raw: Any) -> Quantity:
    return quantity(raw, Unit.FRACTION)


def _number(raw: Any) -> float:
    return quantity(raw, Unit.NUMBER).value


def _gain(raw: Any) -> float:
    value = _number(raw)
    if value < 0:
        raise Refusal(f"a gain that is asked for is not negative; found {spelled(raw)}")
    return value


def _margin(raw: Any) -> float:
    value = ratio(raw)
    if value < 0:
        raise Refusal(f"a margin above random channels is not negative; found {spelled(raw)}")
    return value


def _patterns(raw: Any) -> tuple[str, ...]:
    if not isinstance(raw, list) or not raw:
        raise Refusal(f'expected a list of run name patterns such as `["*opd*"]`; found {spelled(raw)}')
    for index, pattern in enumerate(raw):
        if not isinstance(pattern, str) or not pattern.removeprefix("!"):
            raise Refusal(f"a pattern is a text; found {spelled(pattern)}", path=(index,))
    return tuple(raw)


_TEXT_SCHEMA = {"type": "string", "minLength": 1}
_TEXTS_SCHEMA = {"type": "array", "items": _TEXT_SCHEMA, "minItems": 1}

Slug = Annotated[str, PlainValidator(_slug), WithJsonSchema({"type": "string", "pattern": f"^{_SLUG.pattern}$"})]
Text = Annotated[str, PlainValidator(_text), WithJsonSchema({"type": "string", "minLength": 1})]
Weights = Annotated[Selection, PlainValidator(parse_selection), WithJsonSchema(fields.WEIGHTS_SCHEMA)]

_FORBID = ConfigDict(extra="forbid", arbitrary_types_allowed=True, populate_by_name=False)


class Heading(BaseModel):
    """The keys of a suite file."""

    model_config = _FORBID

    geomcheck: Annotated[
        int,
        PlainValidator(_version),
        WithJsonSchema({"const": FORMAT}),
        Field(description="Version of the suite format."),
    ]
    name: Slug = Field("", description="Name of the suite; the file's name where it is left out.")
    about: Text = Field("", description="What the figures are for and where they come from.")
    applies_to: Annotated[
        tuple[str, ...],
        PlainValidator(_patterns),
        WithJsonSchema({"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}),
    ] = Field(("*",), description="Patterns of run directory names; `!` excludes.")
    base: Text = Field("", description="Where W0 comes from: a directory (relative to this file) or a Hub id.")
    storage: Annotated[
        list[str],
        PlainValidator(_formats),
        WithJsonSchema({"type": "array", "items": {"enum": list(FORMATS)}, "minItems": 1}),
    ] = Field([], description="Storage formats, W0's first, that the figures are for; a run in others is an error.")
    profiles: Annotated[
        list[str],
        PlainValidator(_sources),
        WithJsonSchema({"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}),
    ] = Field(["paper"], description="What `regime` compares with: `paper`, profile files, directories of them.")
    weights: Weights = Field(Selection(), description="The weights that expectations look at by default.")
    defaults: dict[str, Any] = Field(default_factory=dict, description="Parameters per metric.")
    extends: Text = Field("", description="A shipped suite or a path; expectations override its by `id`.")
    expect: Annotated[list[Any], PlainValidator(_expectations), WithJsonSchema({"type": "array"})] = Field(
        default_factory=list, description="The expectations."
    )


class Statement(BaseModel):
    """What every expectation may say, whatever it is about."""

    model_config = _FORBID

    id: Slug = Field(description="Name of the expectation, unique in the suite.")
    at: Annotated[At, *fields.AT] = Field(ALL, description="The checkpoints; each must hold. Default: all.")
    weights: Annotated[Selection | None, PlainValidator(parse_selection), WithJsonSchema(fields.WEIGHTS_SCHEMA)] = (
        Field(None, description="Overrides the suite's `weights`.")
    )
    level: Annotated[str, *fields.one_of(LEVELS)] = Field(
        "error", description="What a violation is: a failure, a warning, or information."
    )
    why: Text = Field("", description="The reason, shown on failure.")


class RegimeStatement(Statement):
    """An expectation about the regime that the run looks like."""

    regime: Annotated[
        str, PlainValidator(_text), WithJsonSchema({"type": "string", "examples": [p.name for p in PAPER]})
    ] = Field(description="The training method it must look like: the name of a profile.")
    at: Annotated[At, *fields.AT] = Field(
        At(LAST, LAST, single=True), description="The checkpoints; each must hold. Default: last."
    )


class SufficiencyStatement(Statement):
    """An expectation about what training inside a small channel keeps of the free run's gain."""

    metric: Annotated[str, *fields.one_of((SUFFICIENCY,))] = Field(
        description="The share of the free run's gain in a score that training inside a learned channel keeps."
    )
    score: Text = Field(
        description="Name of the score: an `eval...` entry of log_history, or of scores.json or scores.csv in the run."
    )
    better: Annotated[str, *fields.one_of(BETTER)] = Field(
        "higher", description="Which scores are better: `higher` or `lower`. Default: higher."
    )
    free: Text = Field(
        "", description="The run without constraint, or its record, relative to this file. Default: --geom-reference."
    )
    random: Annotated[
        list[str], PlainValidator(_controls), WithJsonSchema({"anyOf": [_TEXT_SCHEMA, _TEXTS_SCHEMA]})
    ] = Field(description="Runs in random channels of the same K, or their records, relative to this file.")
    start: Annotated[float | None, PlainValidator(_number), WithJsonSchema({"type": "number"})] = Field(
        None, description="The score before training. Default: each run's own at step 0."
    )
    since: Annotated[str, *fields.one_of(SINCE)] = Field(
        "start",
        description="Where the gain is counted from: `start` of the training, or `constraint`. Default: start.",
    )
    min_gain: Annotated[float, PlainValidator(_gain), WithJsonSchema({"type": "number", "minimum": 0})] = Field(
        0.0, description="What the free run must have gained for a share of it to mean anything. Default: 0."
    )
    above: Annotated[Quantity | None, PlainValidator(_share), WithJsonSchema(fields.RATIO_SCHEMA)] = Field(
        None, description="More of the gain is kept; may be combined with `below`."
    )
    below: Annotated[Quantity | None, PlainValidator(_share), WithJsonSchema(fields.RATIO_SCHEMA)] = Field(
        None, description="Less of the gain is kept; may be combined with `above`."
    )
    over_random: Annotated[float | None, PlainValidator(_margin), WithJsonSchema(fields.RATIO_SCHEMA)] = Field(
        None, description="By how much the best random channel must be exceeded. Default: 0 with `above`."
    )
    at: Annotated[At, *fields.AT] = Field(
        At(LAST, LAST, single=True), description="The checkpoints; each must hold. Default: last."
    )


class MetricStatement(Statement):
    """An expectation about a figure. Subclasses add `metric`, parameters and conditions in the right unit."""

    metric: str
    within: Any = None
    bands: Any = None
    above: Any = None
    below: Any = None
    near: Any = None
    tolerance: Any = None
    trend: Annotated[str | None, *fields.one_of(DIRECTIONS)] = Field(
        None, description="How the figure moves over the checkpoints."
    )
    like: Annotated[str | None, *fields.one_of(("reference",))] = Field(
        None, description="Compare with the reference run at matching progress."
    )
    unlike: Annotated[str | None, *fields.one_of(("reference",))] = Field(
        None, description="Differ from the reference run at matching progress by more than `tolerance`."
    )
    per: Annotated[str, *fields.one_of(GROUPINGS)] = Field(
        "run", description="The condition must hold for every group of weights."
    )
    fold: Annotated[str | None, *fields.one_of(FOLDS)] = Field(
        None, description="How the figures of a group's weights become one. Default: as the source does it."
    )
    allow: Annotated[float | None, PlainValidator(_allowance), WithJsonSchema(fields.RATIO_SCHEMA)] = Field(
        None, description="Share of the groups that may violate the condition."
    )

    def parameters(self, metric: Metric) -> dict[str, Any]:
        """All parameters of `metric`, defaults filled in, in canonical spelling."""
        return {p.name: getattr(self, f"parameter_{p.name}") for p in metric.parameters}


class UnsettledStatement(MetricStatement):
    """What can be checked of an expectation while it is open which metric it is about: not its parameters."""

    model_config = ConfigDict(extra="ignore")

    metric: Any = None


@cache
def statement_model(name: str) -> type[MetricStatement]:
    """The model of expectations about the metric called `name`.

    Raises:
        UsageError: its declaration calls a parameter as a key that every expectation has.
    """
    metric = load_metrics()[name]
    _require_free_names(metric)
    return create_model(
        f"Expect_{name}",
        __base__=MetricStatement,
        __doc__=f"{metric.title}: {metric.definition}",
        metric=(Annotated[str, *fields.one_of((name,))], Field(description=metric.definition)),
        **fields.conditions_of(metric),
        **fields.parameters_of(metric),
    )


def _require_free_names(metric: Metric) -> None:
    taken = [p.name for p in metric.parameters if p.name in (*MetricStatement.model_fields, "regime")]
    if taken:
        raise UsageError(
            f"metric {metric.name!r} declares a parameter `{taken[0]}`, which is a key of every expectation; "
            "its author must rename it"
        )


@cache
def defaults_model(name: str) -> type[BaseModel]:
    """The model of ``defaults: {name: ...}``: the metric's parameters, none of them required."""
    metric = load_metrics()[name]
    made = fields.parameters_of(metric, required=False)
    return create_model(f"Defaults_{name}", __config__=_FORBID, **made)


def validate(model: type[BaseModel], node: Node, *, what: str) -> tuple[Any, list[Problem]]:
    """An instance of `model` from `node`, or None with the problems; `what` names the thing in messages."""
    try:
        return model.model_validate(node.plain()), []
    except ValidationError as invalid:
        return None, [_translate(error, model, node, what) for error in invalid.errors(include_url=False)]


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys that `model` allows, as suites write them."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _translate(error: Any, model: type[BaseModel], node: Node, what: str) -> Problem:
    path = error["loc"]
    key = path[-1] if path else ""
    match error["type"]:
        case "missing":
            return Problem(node.position, f"{what} needs `{key}`{_description(model, key)}")
        case "extra_forbidden":
            return Problem(node.locate(path, key=True), unknown_key(str(key), keys_of(model), what))
        case "value_error":
            refusal = error["ctx"]["error"]
            inner = getattr(refusal, "path", ())
            return Problem(node.locate((*path[:1], *inner)), f"`{path[0]}`: {refusal}")
        case "dict_type":
            return Problem(node.locate(path), f"`{key}`: expected a mapping; found {spelled(error['input'])}")
        case _:
            return Problem(node.locate(path), f"`{key}`: {error['msg']}; found {spelled(error['input'])}")


def unknown_key(key: str, allowed: list[str], what: str) -> str:
    """The sentence for a key that `what` does not have; only metrics' parameters may be none at all."""
    if not allowed:
        return f"unknown key `{key}` in {what}: it has no parameters"
    return f"unknown key `{key}` in {what}; allowed: {', '.join(allowed)}{did_you_mean(key, allowed)}"


def _description(model: type[BaseModel], key: Any) -> str:
    for name, field in model.model_fields.items():
        if key in (name, field.alias) and field.description:
            return f": {field.description[0].lower()}{field.description[1:]}".rstrip(".")
    return ""
