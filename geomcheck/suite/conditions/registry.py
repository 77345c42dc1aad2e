"""All conditions that suites may state: ours, then those that installed packages add."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import entry_points

from geomcheck.errors import UsageError
from geomcheck.suite.conditions.bands import Bands
from geomcheck.suite.conditions.figure import FigureCondition, Key
from geomcheck.suite.conditions.like import Like, Unlike
from geomcheck.suite.conditions.parts import Parts
from geomcheck.suite.conditions.regime import Regime
from geomcheck.suite.conditions.subject import SubjectCondition
from geomcheck.suite.conditions.sufficiency import Sufficiency
from geomcheck.suite.conditions.trains import Trains
from geomcheck.suite.conditions.trend import Trend
from geomcheck.suite.conditions.within import AboveBelow, Near, Within

ENTRY_POINT_GROUP = "geomcheck.conditions"


@dataclass(frozen=True)
class Conditions:
    """The kinds of conditions.

    Attributes:
        of_figures: those on a metric's figures, which a suite states by their keys.
        of_subjects: those that stand instead of a metric.
    """

    of_figures: tuple[type[FigureCondition], ...]
    of_subjects: tuple[type[SubjectCondition], ...]

    @property
    def keys(self) -> Iterator[Key]:
        """Every key of a condition on figures."""
        return (key for kind in self.of_figures for key in kind.keys)

    @property
    def instead(self) -> list[str]:
        """The keys that stand instead of `metric`."""
        return [kind.keyword for kind in self.of_subjects if kind.instead_of_metric]

    @cached_property
    def by_key(self) -> dict[str, type[FigureCondition] | type[SubjectCondition]]:
        """The kind that each key states."""
        figures = {key.name: kind for kind in self.of_figures for key in kind.keys}
        return {**figures, **{kind.keyword: kind for kind in self.of_subjects if kind.instead_of_metric}}

    @property
    def tolerant(self) -> list[str]:
        """The keys that `tolerance` goes with."""
        return [key.name for kind in self.of_figures if kind.tolerant for key in kind.keys]

    @property
    def metric_names(self) -> tuple[str, ...]:
        """What `metric` may name beside metrics."""
        return tuple(kind.keyword for kind in self.of_subjects if not kind.instead_of_metric)


@cache
def load_conditions() -> Conditions:
    """The conditions that suites may state.

    Raises UsageError where an entry point of group ``geomcheck.conditions`` is no condition, or takes a key in use.
    """
    figures: list[type[FigureCondition]] = [Within, Bands, AboveBelow, Near, Trend, Like, Unlike, Parts]
    subjects: list[type[SubjectCondition]] = [Regime, Sufficiency, Trains]
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        kind = entry.load()
        where = f"entry point {entry.name!r} ({entry.value})"
        taken = {name for one in figures for name in (key.name for key in one.keys)} | {k.keyword for k in subjects}
        if isinstance(kind, type) and issubclass(kind, FigureCondition):
            _require_free([key.name for key in kind.keys], taken, where)
            figures.append(kind)
        elif isinstance(kind, type) and issubclass(kind, SubjectCondition):
            _require_free([kind.keyword], taken, where)
            subjects.append(kind)
        else:
            raise UsageError(f"{where} is not a condition of geomcheck.suite.conditions")
    return Conditions(tuple(figures), tuple(subjects))


def _require_free(names: list[str], taken: set[str], where: str) -> None:
    used = [name for name in names if name in taken]
    if used:
        raise UsageError(f"{where}: the key `{used[0]}` is taken by another condition")
