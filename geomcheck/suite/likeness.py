"""Whether the figures of two records can be held side by side: the same weights, storage and definitions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from geomcheck.checkpoints.weights import Weight
from geomcheck.record import Record, digests
from geomcheck.suite.language.selection import Selection


@dataclass(frozen=True)
class Difference:
    """Something in which two records must agree and do not; or, where `untold` says why, of which nobody knows."""

    what: str
    ours: str
    theirs: str
    untold: str = ""

    def __str__(self) -> str:
        if self.untold:
            return f"{self.what} cannot be compared: {self.ours} against {self.theirs}: {self.untold}"
        return f"{self.what} differ: {self.ours} against {self.theirs}"


def differences(one: Record, other: Record, weights: Selection) -> Iterator[Difference]:
    """What keeps figures of `one` from being compared with figures of `other`. Raises Unanswerable."""
    ours, theirs = ({w.name: w for w in weights.select(record.weights)} for record in (one, other))
    for name in sorted(ours.keys() | theirs.keys()):
        yield from _of_weight(name, ours.get(name), theirs.get(name))
    for name in sorted(one.versions.keys() & other.versions.keys()):
        a, b = one.versions[name], other.versions[name]
        if a != b:
            yield Difference(f"the definitions of {name}", f"version {a}", f"version {b}")
    measured = one.measured_weights(), other.measured_weights()
    for name in sorted((measured[0] ^ measured[1]) & ours.keys()):
        here, there = (f"{name} {'' if name in names else 'not '}measured" for names in measured)
        yield Difference("the measured weights", here, there)


def weight_difference(ours: Weight, theirs: Weight) -> Difference | None:
    """How the shape or the storage formats of a weight differ, or None."""
    if ours.shape != theirs.shape:
        return Difference(f"the shapes of {ours.name}", str(ours.shape), str(theirs.shape))
    if ours.dtypes == theirs.dtypes:
        return None
    what = f"the storage formats of {ours.name} (W0, run)"
    return Difference(what, ", ".join(ours.dtypes), ", ".join(theirs.dtypes))


def _of_weight(name: str, ours: Weight | None, theirs: Weight | None) -> Iterator[Difference]:
    if ours is None or theirs is None:
        here, there = (f"no {name}" if weight is None else f"has {name}" for weight in (ours, theirs))
        yield Difference("their weights", here, there)
    elif difference := weight_difference(ours, theirs):
        yield difference


def start_difference(one: Record, other: Record) -> Difference | None:
    """How the W0 of two records differ in what both measured of it, or why that cannot be told; None where they do not
    differ."""
    odd = different_in_w0(one, other)
    pairs = [*_common_w0(one, other).values()]
    if not one.w0.keys() & other.w0.keys():  # records of older versions
        pairs = [(one.fingerprints.get("W0", ""), other.fingerprints.get("W0", ""))]
    if all(a == b for a, b in pairs):
        return None
    untold = (
        ""
        if odd or all(digests.comparable(a, b) for a, b in pairs)
        else f"{digests.UNLIKE}; measure both runs with one geomcheck"
    )
    return Difference(f"their W0{f' (in {odd[0]})' if odd else ''}", content_of_w0(one), content_of_w0(other), untold)


def different_in_w0(one: Record, other: Record) -> list[str]:
    """The weights whose W0 is known to be another in the two records, as far as both have its content."""
    pairs = _common_w0(one, other).items()
    return [name for name, (a, b) in pairs if a != b and digests.comparable(a, b)]


def _common_w0(one: Record, other: Record) -> dict[str, tuple[str, str]]:
    """The digests of W0 in both records, by weight, where both have it in one format: digests tell formats too."""
    both = sorted(one.w0.keys() & other.w0.keys())
    alike = (name for name in both if _base_format(one, name) == _base_format(other, name))
    return {name: (one.w0[name], other.w0[name]) for name in alike}


def _base_format(record: Record, name: str) -> tuple[str, ...]:
    return record.weights[name].dtypes[:1]


def content_of_w0(record: Record) -> str:
    """Where a record's W0 came from, and its content in short."""
    return f"{record.origin.path} (content {digests.short(record.fingerprints.get('W0', 'unknown'))})"
