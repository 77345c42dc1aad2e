"""All defects: ours, then those that installed packages add."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import entry_points

from geomcheck.defects.catalogue import DEFECTS
from geomcheck.defects.defect import Defect
from geomcheck.errors import UsageError
from geomcheck.options import closest

ENTRY_POINT_GROUP = "geomcheck.defects"


@cache
def load_defects() -> tuple[Defect, ...]:
    """The defects that a suite is tried with.

    Raises:
        UsageError: an entry point of group ``geomcheck.defects`` is not a Defect, or takes a name in use.
    """
    known = {defect.name: defect for defect in DEFECTS}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        defect = entry.load()
        if not isinstance(defect, Defect):
            raise UsageError(f"entry point {entry.name!r} ({entry.value}) is not a geomcheck.defects.Defect")
        if defect.name in known:
            raise UsageError(f"entry point {entry.name!r} ({entry.value}): defect {defect.name!r} is declared twice")
        known[defect.name] = defect
    return tuple(known.values())


def chosen(names: Sequence[str]) -> tuple[Defect, ...]:
    """The defects of these names, in their order; all where there are none. Raises UsageError where one is unknown."""
    known = {defect.name: defect for defect in load_defects()}
    for name in names:
        if name not in known:
            raise UsageError(f"no defect is called {name!r}{closest(name, known)}. There are {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names)) if names else tuple(known.values())
