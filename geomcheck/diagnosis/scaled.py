"""Updates that are multiples of W0: nothing but a factor happened to these weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import fmean

from geomcheck.diagnosis.case import Case
from geomcheck.diagnosis.finding import Cell, Finding
from geomcheck.diagnosis.kind import Kind
from geomcheck.diagnosis.look import Look
from geomcheck.diagnosis.words import span

PARALLEL = 0.95
"""Cosine of an update with W0 from which it is a multiple of W0: of trained matrices it is .1 or so."""

SMALL = 0.02
"""Relative norm up to which weight decay may have shrunk a weight."""

PACES, ROUNDING = 5, 0.02
"""How many times as far as those of the matrices the entries of a vector may have moved beside a factor, and the share
of its update that rounding may add."""

FEWEST = 256
"""Entries of a matrix, at least; vectors may well shrink by one factor, but none by one far from 1."""


def _cells(case: Case, *, decay: bool) -> set[Cell]:
    """Where weights were shrunk a little, or else were multiplied by some factor."""
    return {
        (name, index)
        for name, look in case.examined.items()
        for index, seen in enumerate(look.seen)
        if (look.numel >= FEWEST and min(look.shape) > 1) or _is_vector_times(case, name, index)
        if min(abs(seen.along), abs(look.likeness(index))) >= PARALLEL
        and decay == (seen.along < 0 and look.size(index) <= SMALL)
    }


def _is_vector_times(case: Case, name: str, index: int) -> bool:
    """Whether a vector strayed by a factor alone: those near one value stray by any number as if by a factor."""
    if index not in case.strayed.get(name, ()):
        return False
    look, seen = case.examined[name], case.examined[name].seen[index]
    left = seen.moved * math.sqrt(max(0.0, 1 - seen.along**2))
    trained = PACES * case.pace(index) * math.sqrt(look.numel) * max(1.0, abs(_factor(look, index)))
    return left <= max(trained, ROUNDING * seen.moved)


def _find_decay(case: Case) -> Iterator[Finding]:
    for at, names in case.grouped(_cells(case, decay=True)):
        looks = [case.examined[name] for name in names]
        cosine, size = fmean(look.seen[at[-1]].along for look in looks), max(look.size(at[-1]) for look in looks)
        yield DECAY.finding(
            case,
            {(name, index) for name in names for index in at},
            f"{case.named(names)} only shrank {case.when(at)}: the update is W0 itself, with the other sign",
            evidence=(
                f"cosine of the update with W0 {cosine:.3f} at {case.points[at[-1]].name}, on average",
                f"size {size:.2g} of the norm of W0 at most",
            ),
        )


def _factor(look: Look, index: int) -> float:
    """By which W0 was multiplied."""
    return 1 + look.seen[index].along * look.size(index)


def _find_scaled(case: Case) -> Iterator[Finding]:
    for at, names in case.grouped(_cells(case, decay=False)):
        factors = [_factor(case.examined[name], at[-1]) for name in names]
        yield SCALED.finding(
            case,
            {(name, index) for name in names for index in at},
            f"{case.named(names).verb('is', 'are')} W0 times {span(factors)} {case.when(at)}",
            evidence=(f"cosine of the update with W0 {fmean(case.examined[n].seen[at[-1]].along for n in names):.3f}",),
        )


DECAY = Kind(
    name="only-decay",
    group="A",
    grade="fact",
    title="weight decay and nothing else",
    about="The update points against W0 and is small: the weights were shrunk, and no gradient moved them.",
    looks_at=("weights",),
    causes=("no gradient reaches these weights, and the optimizer's weight decay does",),
    next_step="Print the gradient norms of these parameters; take them out of the optimizer if they are to be frozen.",
    source="https://github.com/jingyaogong/minimind/issues/858",
    find=_find_decay,
)

SCALED = Kind(
    name="scaled",
    group="A",
    grade="fact",
    title="W0 times a factor",
    about="The weights are W0 times one factor; what training did is small beside it.",
    looks_at=("weights",),
    causes=("a merge with weights that do not add up to one", "a scale applied twice, or to the wrong tensor"),
    next_step="Check the scales of the merge or the conversion against the config.",
    find=_find_scaled,
)

KINDS = (SCALED, DECAY)
