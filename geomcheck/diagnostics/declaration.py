"""How a diagnostic declares itself. Suites, the editor's schema, measurement, verdicts, reports, calibration,
comparison and the documentation read the declaration, and keep no table of metrics of their own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol

from geomcheck.diagnostics.reading import Follows, Level, Published, Words

if TYPE_CHECKING:
    from torch import Tensor

    from geomcheck.diagnostics.path import Path
    from geomcheck.diagnostics.update import Update


class Unit(StrEnum):
    """The unit of a figure. Suites must write it where a bare number would be ambiguous (angles)."""

    FRACTION = "fraction"  # a ratio, not necessarily below 1
    DEGREES = "deg"
    NUMBER = "number"


Fold = Literal["mean", "median", "max", "min", "p95", "weighted"]
FOLDS: tuple[Fold, ...] = ("mean", "median", "max", "min", "p95", "weighted")

Ends = tuple[float | str, float | str]
"""The two ends of a band as suites write them: numbers, or text with a unit (``30%``, ``1 deg``)."""

REQUIRED = object()
"""The default of a parameter that has none."""

REFERENCE = "reference"
"""The value of a ``checkpoint`` parameter that means the reference run at matching progress."""

NO_REFERENCE = "no reference run with weights was given (--geom-reference=DIRECTORY)"
"""Why there is no figure that compares with one."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter of a metric, as a suite writes it.

    `kind` is the grammar of its value:

    - ``rank``: an integer >= 1, or a share of min(out, in) written as a percentage (``12.5%``);
    - ``number``: a float within [low, high];
    - ``integer``: an int within [low, high];
    - ``choice``: one of `choices`;
    - ``checkpoint``: ``last``, ``first``, ``previous``, ``{step: N}`` or ``{progress: P%}``, and ``reference`` where
      `choices` has it.

    A parameter that `selects` does not change what is measured, only which of the measured statistics is read (``stat``
    and ``side`` of an angle). `synonyms` are what people write for it. Once a rank that
    `spans` reaches min(out, in), the figure is the same whatever happened. `example` is what editors offer
    for it, and what documentation shows of one that has no default.
    """

    name: str
    kind: Literal["rank", "number", "integer", "choice", "checkpoint"]
    about: str
    default: Any = REQUIRED
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    selects: bool = False
    spans: bool = True
    synonyms: tuple[str, ...] = ()
    example: Any = None

    @property
    def required(self) -> bool:
        """Whether a suite must give this parameter."""
        return self.default is REQUIRED

    @property
    def usual(self) -> Any:
        """Its default, or the example of one that has none."""
        return self.example if self.required else self.default


def resolve_rank(rank: int | str, shape: tuple[int, ...]) -> int:
    """The number of dimensions that `rank` means for a matrix of `shape`, ``(out, in)``.

    A share such as ``"12.5%"`` is rounded to the nearest integer, and is at least 1:

    >>> resolve_rank("12.5%", (64, 32)), resolve_rank(16, (64, 32))
    (4, 16)
    """
    if isinstance(rank, int):
        return rank
    return max(1, round(float(rank.removesuffix("%")) / 100 * min(shape)))


class RunView(Protocol):
    """What a metric may ask about the rest of the run while it looks at one checkpoint."""

    def channel(self, at: Any, k: int, side: str) -> Tensor:
        """Top-k singular subspace of the update at checkpoint `at`: V_K, shape (in, k), or U_K, shape (out, k)."""
        ...

    def reference(self) -> Update:
        """The reference run's update of the same weight at matching progress."""
        ...

    def path(self) -> Path:
        """The way of this weight from W0 to this checkpoint, for metrics that are `of_path`."""
        ...

    def cosine(self, at: Any) -> float:
        """Cosine of this update and that at checkpoint `at`, for metrics that are `of_path`. Raises Undefined."""
        ...


Compute = Callable[["Update", Mapping[str, Any], RunView], Mapping[str, float]]
"""Figures of one weight at one checkpoint, by statistic name."""

Chance = Callable[[Mapping[str, Any], tuple[int, ...], tuple[float, float]], float]
"""What chance gives, with these parameters, for a matrix of this shape and the visible densities of two updates."""

Bounds = Callable[[Mapping[str, Any], tuple[int, ...]], tuple[float, float]]
"""The closed range of a figure with these parameters, of a matrix of this shape."""


def scalar(figure: Callable[..., float], *ranks: str) -> Compute:
    """A metric with one figure: of the update and the parameters, of which `ranks` are resolved for its shape."""

    def computed(update: Update, params: Mapping[str, Any], _: RunView) -> Mapping[str, float]:
        return {"value": figure(update, **{**params, **{k: resolve_rank(params[k], update.shape) for k in ranks}})}

    return computed


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One diagnostic: what it is called, what its figure means, and the function that computes it.

    All of geomcheck's own give `words`, `distrust` and `example`, which tests hold. Another package's metric may leave
    them out, and has the defaults that are named here.

    Attributes:
        name: the key that suites write.
        title: what reports print.
        definition: the formula, in one line.
        unit: of the figure; suites may write a FRACTION in percent, and must write ``deg`` or ``rad`` behind DEGREES.
        low, high: the closed range of the figure whatever the matrix; `high` is None where there is no bound.
        bounds: its closed range for a shape, where that is narrower; see `range`.
        at_most: what bounds the figure by the shape, in words, where nothing else does.
        limited_by: a metric without parameters that this figure never exceeds at the same weight and checkpoint, and
            that is far cheaper; empty where there is none. See `geomcheck.suite.early`.
        inner: whether it is there as what limits another one alone: it is found by its name, and no suite, record or
            document knows it.
        baseline: what chance gives, in words; empty where chance has no figure.
        chance: what chance gives, as a number, where the metric compares with a reference run and that is known.
        parameters: in the order in which documentation lists them.
        fold: how figures of several weights become one, as the source does it.
        undefined: when there is no figure, in words.
        source: paper and, where known, table or equation.
        of_entries: whether the computation compares entries alone, and factorizes nothing.
        when_unchanged: whether the figure exists for a matrix that did not change (D = 0).
        across: whether the computation looks at other checkpoints of the same weight: at those that its parameters of
            kind ``checkpoint`` name, or, where it has none, at all earlier ones. See `is_across`.
        of_path: whether it looks at them by inner products of updates (`RunView.path`), not by their subspaces.
        against_reference: whether the computation needs the weights of a reference run, whatever its parameters. See
            `needs_reference`.
        compute: figures of one weight at one checkpoint, by statistic name ("value" for scalars).
        on_request: whether it is measured only where it is named, by a suite or ``--metrics``: because it is dear, or
            of use to few.
        trivial_at: the ``checkpoint`` parameter that names where the figure is fixed by definition (a
            checkpoint compared with itself): it is neither measured nor judged there.
        least: how many checkpoints, this one included, the figure is made of at the least; with fewer it is fixed by
            definition, or there is none: it is neither measured nor judged there.
        version: raised whenever the same input may give another figure.
        words: the metric in plain words; by default they are made of title and definition.
        distrust: when not to trust the figure, in one or two sentences; by default nothing is said.
        inflated_by_rounding: whether rounding of W_t to its storage format changes the figure out of proportion to its
            share of the update, so that verdicts warn: by default, and of D_t's spectrum, its subspaces, and angles.
        follows: why calibration leaves the metric out beside another one; by default it does not.
        drawn: what every report measures of it and draws: its "trajectory" (mean over weights), the statistics of each
            weight as a "spectrum", or, on the "map" alone, what layers and modules have of it; by default only what
            suites ask for is shown.
        published: figures of papers that reports draw beside a run's own.
        example: the ends of a sensible band as suites write them, for editors; by default one of the metric's unit.
        synonyms: what papers and people call it; a suite that writes one of them is told the name. In snake_case, and
            without a number behind it (``V16`` is ``v``).
        akin: what is something else, and not measured, where this is the nearest; in snake_case too.
    """

    name: str
    title: str
    definition: str
    unit: Unit
    low: float = 0.0
    high: float | None = None
    bounds: Bounds | None = None
    at_most: str = ""
    limited_by: str = ""
    inner: bool = False
    baseline: str = ""
    chance: Chance | None = None
    parameters: tuple[Parameter, ...] = ()
    fold: Fold = "mean"
    undefined: str = ""
    source: str
    of_entries: bool = False
    when_unchanged: bool = False
    across: bool = False
    of_path: bool = False
    against_reference: bool = False
    compute: Compute
    on_request: bool = False
    trivial_at: str | None = None
    least: int = 1
    version: int = 1
    words: Words | None = None
    distrust: str = ""
    inflated_by_rounding: bool = True
    follows: Follows | None = None
    drawn: Literal["", "trajectory", "spectrum", "map"] = ""
    published: Published | None = None
    example: Ends | None = None
    synonyms: tuple[str, ...] = ()
    akin: tuple[str, ...] = ()

    def range(self, params: Mapping[str, Any], shape: tuple[int, ...] = ()) -> tuple[float, float]:
        """The closed range of the figure with these parameters; an excess over a null may be negative.

        Args:
            shape: of the matrix, where that is known: ``(out, in)``.
        """
        low, high = self.low, math.inf if self.high is None else self.high
        if self.bounds is not None and shape:
            low, high = self.bounds({**self.defaults, **params}, shape)
        return (low - high, high - low) if params.get("excess_over", "none") != "none" else (low, high)

    @property
    def limits(self) -> str:
        """The range for any matrix, in words."""
        return f"{self.low:g} to {self.at_most or f'{math.inf if self.high is None else self.high:g}'}"

    @property
    def defaults(self) -> dict[str, Any]:
        """The parameters by name, with their default values."""
        return {parameter.name: parameter.default for parameter in self.parameters}

    @property
    def levels(self) -> tuple[Level, ...]:
        """What papers report of each training regime."""
        return self.published.levels if self.published else ()

    @property
    def measured_by_default(self) -> bool:
        """Whether it is measured where none is asked for: it needs no request, reference run or parameter."""
        needs_more = self.on_request or self.against_reference
        return not needs_more and not any(parameter.required for parameter in self.parameters)

    def needs_reference(self, params: Mapping[str, Any]) -> bool:
        """Whether the computation with these parameters needs the weights of a reference run."""
        return self.against_reference or any(params.get(p.name) == REFERENCE for p in self._checkpoints)

    def is_across(self, params: Mapping[str, Any]) -> bool:
        """Whether the computation with these parameters looks at other checkpoints of the same weight."""
        return self.across and (self.against_reference or not self.needs_reference(params))

    @property
    def with_reference(self) -> dict[str, str] | None:
        """The parameters with which it compares with a reference run, beside defaults; None where it never does."""
        named = {p.name: REFERENCE for p in self._checkpoints if REFERENCE in p.choices}
        return named if named or self.against_reference else None

    def places(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The checkpoints of the same run that these parameters name, by parameter."""
        return {p.name: params[p.name] for p in self._checkpoints if params[p.name] != REFERENCE}

    @property
    def why_trivial(self) -> str:
        """Why there is nothing to judge where the figure is trivial: what it does there, after its name."""
        if self.least > 1:
            return f"says nothing, as it is a figure of {self.least} checkpoints or more"
        return "compares that checkpoint with itself"

    @property
    def _checkpoints(self) -> tuple[Parameter, ...]:
        return tuple(parameter for parameter in self.measured_parameters if parameter.kind == "checkpoint")

    @property
    def plainly(self) -> Words:
        """The metric in plain words, also where it declares none."""
        return self.words or Words.of(self.title, self.definition)

    @property
    def is_share(self) -> bool:
        """Whether the figure is a share of something, which people write in percent."""
        return self.unit is Unit.FRACTION and self.high == 1.0

    def stat(self, params: Mapping[str, Any]) -> str:
        """The statistic that `params` select: the selecting parameters' values joined by dots, or "value"."""
        chosen = [str(params.get(p.name, p.default)) for p in self.parameters if p.selects]
        return ".".join(chosen) or "value"

    def selected(self, stat: str) -> dict[str, str]:
        """The selecting parameters of one of `stats`."""
        names = [p.name for p in self.parameters if p.selects]
        return dict(zip(names, stat.split("."), strict=True)) if names else {}

    def spanned(self, params: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, int]:
        """Parameters of kind ``rank`` that reach min(out, in) and span it, with their value: the figure is fixed."""
        spanning = [p for p in self.parameters if p.kind == "rank" and p.spans]
        ranks = {p.name: resolve_rank(params.get(p.name, p.default), shape) for p in spanning}
        return {name: rank for name, rank in ranks.items() if rank >= min(shape)} if ranks else {}

    @property
    def stats(self) -> tuple[str, ...]:
        """Every statistic that parameters can select."""
        choices = [p.choices for p in self.parameters if p.selects]
        return tuple(".".join(chosen) for chosen in itertools.product(*choices)) if choices else ("value",)

    def parameter(self, name: str) -> Parameter | None:
        """The parameter called `name`, or None."""
        return next((parameter for parameter in self.parameters if parameter.name == name), None)

    @property
    def measured_parameters(self) -> tuple[Parameter, ...]:
        """The parameters that change what is measured."""
        return tuple(parameter for parameter in self.parameters if not parameter.selects)


share = partial(Metric, unit=Unit.FRACTION, high=1.0)
"""Declares a metric that is a share of something, 0..1."""


@dataclass
class Registry:
    """Metrics by name, in order of declaration; those that are `inner` by name alone."""

    _metrics: dict[str, Metric] = field(default_factory=dict)

    def add(self, metric: Metric) -> Metric:
        """Register `metric`. Raises ValueError when its name is taken."""
        if metric.name in self._metrics:
            raise ValueError(f"metric {metric.name!r} is declared twice")
        self._metrics[metric.name] = metric
        return metric

    def __getitem__(self, name: str) -> Metric:
        return self._metrics[name]

    def get(self, name: str) -> Metric | None:
        """The metric called `name`; None where this installation knows none."""
        return self._metrics.get(name)

    def __contains__(self, name: object) -> bool:
        metric = self._metrics.get(name) if isinstance(name, str) else None
        return metric is not None and not metric.inner

    def __iter__(self) -> Iterator[Metric]:
        return (metric for metric in self._metrics.values() if not metric.inner)

    def names(self) -> tuple[str, ...]:
        """All names, in order of declaration."""
        return tuple(metric.name for metric in self)
