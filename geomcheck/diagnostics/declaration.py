"""What a diagnostic says about itself, once. The suite grammar, the editor schema, the planner, the
reports and the documentation all read this declaration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from geomcheck.diagnostics.update import Update


class Unit(StrEnum):
    """The unit of a figure. Suites must write it where a bare number would be ambiguous (angles)."""

    FRACTION = "fraction"  # a ratio, not necessarily below 1
    DEGREES = "deg"
    NUMBER = "number"


Fold = Literal["mean", "median", "max", "min", "p95", "weighted"]
FOLDS: tuple[Fold, ...] = ("mean", "median", "max", "min", "p95", "weighted")


class Required:
    """The default of a parameter that has none."""


REQUIRED = Required()


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter of a metric, as a suite writes it.

    `kind` is the grammar of its value:

    - ``rank``: an integer >= 1, or a share of min(out, in) written as a percentage (``12.5%``);
    - ``number``: a float within [low, high];
    - ``integer``: an int within [low, high];
    - ``choice``: one of `choices`;
    - ``checkpoint``: ``last``, ``first``, ``previous``, ``{step: N}`` or ``{progress: P%}``.

    A parameter that `selects` does not change what is measured, only which of the measured statistics
    is read (``stat`` and ``side`` of an angle). A rank that `spans` makes the figure the same whatever happened once it
    reaches min(out, in).
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

    @property
    def required(self) -> bool:
        """Whether a suite must give this parameter."""
        return self.default is REQUIRED


def resolve_rank(rank: int | str, shape: tuple[int, ...]) -> int:
    """The number of dimensions that `rank` means for a matrix of `shape`.

    A share such as ``"12.5%"`` is rounded to the nearest integer, and is at least 1.
    """
    if isinstance(rank, int):
        return rank
    return max(1, round(float(rank.removesuffix("%")) / 100 * min(shape)))


class RunView(Protocol):
    """What a metric may ask about the rest of the run while it looks at one checkpoint."""

    def channel(self, at: Any, k: int, side: str) -> Tensor:
        """Top-k singular subspace V_K (or U_K) of the update at checkpoint `at`: orthonormal columns."""
        ...

    def reference(self) -> Update:
        """The reference run's update of the same weight at matching progress."""
        ...


Compute = Callable[["Update", Mapping[str, Any], RunView], Mapping[str, float]]
"""Figures of one weight at one checkpoint, by statistic name."""


Bounds = Callable[[Mapping[str, Any], tuple[int, ...]], tuple[float, float]]
"""The closed range of a figure with these parameters, of a matrix of this shape."""


def scalar(figure: Callable[[Update], float]) -> Compute:
    """A metric with one figure and no parameters."""
    return lambda update, _params, _run: {"value": figure(update)}


def scalar_of_rank(figure: Callable[[Update, int], float]) -> Compute:
    """A metric with one figure and the parameter ``k``, a rank."""
    return lambda update, params, _run: {"value": figure(update, resolve_rank(params["k"], update.shape))}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One diagnostic: what it is called, what its figure means, and the function that computes it.

    Attributes:
        name: the key that suites write.
        title: what reports print.
        definition: the formula, in one line.
        unit: of the figure; suites may write a FRACTION as a percentage, and must write ``deg`` or ``rad``
            behind DEGREES.
        low, high: the closed range of the figure whatever the matrix; `high` is None where there is no bound.
        bounds: its closed range for a shape, where that is narrower; see `range`.
        at_most: what bounds the figure by the shape, in words, where nothing else does.
        baseline: what chance gives, in words; empty where chance has no figure.
        parameters: in the order in which documentation lists them.
        fold: how figures of several weights become one, as the source does it.
        undefined: when there is no figure, in words.
        source: paper and, where known, table or equation.
        of_entries: whether the computation compares entries alone, and factorizes nothing.
        when_unchanged: whether the figure exists for a matrix that did not change (D = 0).
        across: the computation looks at other checkpoints of the same weight.
        against_reference: the computation needs the weights of a reference run.
        compute: figures of one weight at one checkpoint, by statistic name ("value" for scalars).
        trivial_at: the ``checkpoint`` parameter that names where the figure is fixed by definition (a
            checkpoint compared with itself): it is neither measured nor judged there.
        version: raised whenever the same input may give another figure.
    """

    name: str
    title: str
    definition: str
    unit: Unit
    low: float = 0.0
    high: float | None = None
    bounds: Bounds | None = None
    at_most: str = ""
    baseline: str = ""
    parameters: tuple[Parameter, ...] = ()
    fold: Fold = "mean"
    undefined: str = ""
    source: str
    of_entries: bool = False
    when_unchanged: bool = False
    across: bool = False
    against_reference: bool = False
    compute: Compute
    trivial_at: str | None = None
    version: int = 1

    def range(self, params: Mapping[str, Any], shape: tuple[int, ...] = ()) -> tuple[float, float]:
        """The closed range of the figure with these parameters; an excess over a null may be negative.

        Args:
            shape: of the matrix, where that is known: ``(out, in)``.
        """
        low, high = self.low, math.inf if self.high is None else self.high
        if self.bounds is not None and shape:
            low, high = self.bounds({p.name: params.get(p.name, p.default) for p in self.parameters}, shape)
        return (low - high, high - low) if params.get("excess_over", "none") != "none" else (low, high)

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
        given = {p.name: params.get(p.name, p.default) for p in spanning}
        ranks = {name: resolve_rank(value, shape) for name, value in given.items()}
        return {name: rank for name, rank in ranks.items() if rank >= min(shape)}

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


@dataclass
class Registry:
    """Metrics by name, in order of declaration."""

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
        return name in self._metrics

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._metrics.values())

    def names(self) -> tuple[str, ...]:
        """All names, in order of declaration."""
        return tuple(self._metrics)
