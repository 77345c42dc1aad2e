"""What installed packages add to ours, by entry points."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points
from typing import Protocol, TypeVar

from geomcheck.errors import UsageError


class Named(Protocol):
    """Something that is known by its name."""

    @property
    def name(self) -> str:
        """Its name, which no other has."""


T = TypeVar("T")
N = TypeVar("N", bound=Named)


def declared(group: str, kind: type[T], called: str) -> Iterator[tuple[str, T]]:
    """What the entry points of `group` declare, each with the words for where.

    Raises UsageError where one is no `kind`, which users know as `called`.
    """
    for entry in entry_points(group=group):
        where, found = f"entry point {entry.name!r} ({entry.value})", entry.load()
        if not isinstance(found, kind):
            raise UsageError(f"{where} is not a {called}")
        yield where, found


def with_declared(ours: Iterable[N], group: str, kind: type[N], called: str, *, a: str) -> dict[str, N]:
    """`ours` by name, and what packages add: each is `a` metric, finding or the like.

    Raises UsageError where an entry point of `group` is no `kind`, or takes a name in use.
    """
    known = {one.name: one for one in ours}
    for where, found in declared(group, kind, called):
        if found.name in known:
            raise UsageError(f"{where}: {a} {found.name!r} is declared twice")
        known[found.name] = found
    return known
