"""Which runs are of one recipe, as far as names and headers tell, and so may be calibrated together."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from glob import escape
from typing import Any

from geomcheck._text import plural
from geomcheck.scaffold.survey import Found

_TIME = re.compile(
    r"(?<!\d)(?:19|20)\d{2}([-_.]?)\d{2}\1\d{2}(?:[-_T .]*\d{2}([-_.:h]?)\d{2}(?:\2\d{2})?)?(?!\d)(?:-[0-9a-z]{8}$)?"
    r"|^\d{2}-\d{2}(?:-\d{2})?$"
)
"""A date, with a time and a tracker's id behind it where there are; or a time alone."""

_LAST_NUMBER = re.compile(r"\d+(?=\D*$)")
_ANY = re.compile("[#@]+")
_SAYS_NOTHING = frozenset({"", "seed", "run", "runs", "trial", "exp", "experiment", "v", "version", "job", "train"})


@dataclass(frozen=True)
class Group:
    """Runs that may be calibrated together.

    Attributes:
        name: a slug, for the suite.
        pattern: of the names of its runs, and of no other group's; empty where their names tell no pattern.
        runs: those that look finished.
        left_out: (run, why) of those that bear such a name and do not go with them.
    """

    name: str
    pattern: str
    runs: tuple[Found, ...]
    left_out: tuple[tuple[Found, str], ...] = ()

    @property
    def can_be_calibrated(self) -> bool:
        """Whether two runs or more go together, each with its W0."""
        return len(self.runs) > 1 and all(run.seen.base for run in self.runs)


def groups(runs: Sequence[Found], directory: str) -> list[Group]:
    """The runs by recipe: those whose names differ in a number at the end, a date or a time, and that hold the same
    weights, at the same steps, from the same W0.

    Args:
        directory: the name of the directory that holds them, for runs whose own names say nothing.
    """
    found: list[Group] = []
    taken: set[str] = set()
    for family, members in _grouped((_family(run.parts), run) for run in runs).items():
        whole = [run for run in members if not run.unfinished]
        left = [(run, run.unfinished) for run in members if run.unfinished]
        alike = sorted(_alike(whole), key=len, reverse=True) or [[]]
        for number, own in enumerate(alike):
            if number and len(own) < 2:  # what differs from all others is named beside them
                continue
            name = _free(_name(family, directory), taken)
            taken.add(name)
            odd = [(run, _difference(own[0], run)) for other in alike[number + 1 :] if len(other) < 2 for run in other]
            found.append(Group(name, _pattern(family), tuple(own), tuple([*left, *odd] if not number else ())))
    patterns = [group.pattern for group in found]
    return [g if patterns.count(g.pattern) == 1 else Group(g.name, "", g.runs, g.left_out) for g in found]


def _grouped(pairs: Iterable[tuple[Hashable, Found]]) -> dict[Any, list[Found]]:
    """The runs of each key, all in the order in which they came."""
    found: dict[Any, list[Found]] = {}
    for key, run in pairs:
        found.setdefault(key, []).append(run)
    return found


def _alike(runs: Iterable[Found]) -> list[list[Found]]:
    return [*_grouped(((tuple(_traits(run).values())), run) for run in runs).values()]


def _traits(run: Found) -> dict[str, object]:
    """What runs of one recipe have in common, by what it is called."""
    shapes = {(g.module, g.shape): g.count for g in run.seen.groups if g.reason is None}
    return {
        "what they train": "an adapter" if run.is_adapter else "all weights",
        "their weights": tuple(sorted(shapes.items())),
        "their storage": tuple(sorted(run.seen.checkpoints[-1].dtypes)),
        "their checkpoints": run.steps,
        "their W0": run.start,
    }


def _difference(one: Found, other: Found) -> str:
    """What keeps a run from being calibrated with another."""
    ours, theirs = _traits(one), _traits(other)
    what = next((what for what in ours if ours[what] != theirs[what]), "")
    told = {"their checkpoints": f": {_steps(other)} against {_steps(one)}"}.get(what, "")
    return f"{what} differ{told}, beside {one.name}"


def _steps(run: Found) -> str:
    steps = run.steps
    return f"steps {' '.join(map(str, steps))}" if len(steps) <= 8 else f"{plural(len(steps), 'step')} to {steps[-1]}"


def _family(parts: Sequence[str]) -> tuple[str, ...]:
    """The path of a run with what differs from run to run of a recipe replaced: the last number, dates and times."""
    return tuple(_LAST_NUMBER.sub("#", _TIME.sub("@", part)) for part in parts)


def _pattern(family: Sequence[str]) -> str:
    """The glob of the names of a family's directories; empty where it would match anything."""
    pattern = _ANY.sub("*", escape(family[-1]))
    return re.sub("^!", "?", pattern) if pattern.strip("*-_.") else ""


def _name(family: Sequence[str], directory: str) -> str:
    """A slug from the last part that says something."""
    for part in (*reversed(family), directory):
        slug = re.sub(r"[^a-z0-9]+", "-", _ANY.sub("", part).lower()).strip("-")
        if slug not in _SAYS_NOTHING:
            return slug
    return "recipe"


def _free(name: str, taken: set[str]) -> str:
    number = 2
    free = name
    while free in taken:
        free, number = f"{name}-{number}", number + 1
    return free
