"""Vectors that are W0's with 1 added to or taken from every entry, as two conventions of norms differ."""

from __future__ import annotations

from collections.abc import Iterator

from geomcheck._text import plural
from geomcheck.diagnosis.case import Case
from geomcheck.diagnosis.finding import Cell, Finding
from geomcheck.diagnosis.kind import Kind

ASIDE, PACES, MOST = 0.05, 5, 0.25
"""How far an entry may lie from W0's plus or minus 1, the root mean square, as a bf16 number near 2 has steps of .016;
how many times as far as those of the matrices moved, and how far at most."""


def _aside(case: Case, name: str, index: int) -> tuple[int, float]:
    """The nearer one of plus and minus 1, and how far the update lies from it, the root mean square over entries."""
    update = case.matrix(name, index).double() - case.matrix(name).double()
    shift = 1 if float(update.mean()) > 0 else -1
    return shift, float((update - shift).square().mean().sqrt())


def _find_shifted(case: Case) -> Iterator[Finding]:
    found = {(name, index): _aside(case, name, index) for name, at in case.strayed.items() for index in at}
    found = {
        (name, index): (shift, aside)
        for (name, index), (shift, aside) in found.items()
        if aside <= min(MOST, max(ASIDE, PACES * case.pace(index)))
    }
    for shift, told in ((-1, "W0 - 1"), (1, "W0 + 1")):
        for at, names in case.grouped(cell for cell, (by, _) in found.items() if by == shift):
            cells: set[Cell] = {(name, index) for name in names for index in at}
            most = max(found[cell][1] for cell in cells & found.keys())
            yield SHIFTED.finding(
                case,
                cells,
                f"{case.named(names).verb('is', 'are')} {told} in every entry {case.when(at)}",
                evidence=(
                    f"{plural(len(names), 'vector')}, within {most:.2g} of {told}, the root mean square over entries",
                ),
            )


SHIFTED = Kind(
    name="shifted-by-one",
    group="A",
    grade="fact",
    title="W0 plus or minus one",
    about="A vector, mostly a norm, is W0's with 1 added to every entry, or taken from it; training moved it little "
    "beside that.",
    looks_at=("weights",),
    causes=(
        "a conversion between w and 1 + w (Gemma's convention of norms) was applied once too often, or not at all",
        "weights were saved by one implementation of the model and read by another",
    ),
    next_step="Load this checkpoint and W0 with the code that serves them, and compare what their norms multiply by.",
    find=_find_shifted,
)
