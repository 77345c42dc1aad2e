"""All defects: ours, then those that installed packages add."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from geomcheck._plugins import with_declared
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
    found = with_declared(DEFECTS, ENTRY_POINT_GROUP, Defect, "geomcheck.defects.Defect", a="defect")
    return tuple(found.values())


def chosen(names: Sequence[str]) -> tuple[Defect, ...]:
    """The defects of these names, in their order; all where there are none. Raises UsageError where one is unknown."""
    known = {defect.name: defect for defect in load_defects()}
    for name in names:
        if name not in known:
            raise UsageError(f"no defect is called {name!r}{closest(name, known)}. There are {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names)) if names else tuple(known.values())
