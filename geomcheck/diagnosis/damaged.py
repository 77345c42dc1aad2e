"""Tensors whose values no training gives: not numbers, one value throughout, or absurdly large."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from geomcheck._text import plural
from geomcheck.diagnosis.case import Case
from geomcheck.diagnosis.finding import Cell, Finding
from geomcheck.diagnosis.kind import Kind
from geomcheck.diagnosis.look import Look, Seen
from geomcheck.diagnostics.formats import FORMATS
from geomcheck.measurement.survey import IN_NO_CHECKPOINT, NOT_IN_W0

ABSURD = 1e3
"""How many times the largest entry of W0 no entry should reach."""

NEXT = "Compare the tensor in memory with the one in the file, right after the save."

OF_ALL = 10
"""How many times the largest entry of all tensors, too: what starts near zero may grow."""

Test = Callable[[Case, Look, Seen], bool]


Told = Callable[[Case, set[str], tuple[int, ...]], str]


def _finder(name: str, test: Test, sentence: Told) -> Callable[[Case], Iterator[Finding]]:
    """Finds the weights of which `test` is true, and the checkpoints."""

    def find(case: Case) -> Iterator[Finding]:
        cells: set[Cell] = {
            (weight, index)
            for weight, look in case.examined.items()
            for index, seen in enumerate(look.seen)
            if test(case, look, seen)
        }
        for at, names in case.grouped(cells):
            held = {(weight, index) for weight in names for index in at}
            yield KINDS[name].finding(case, held, sentence(case, names, at), evidence=_evidence(case, names, at))

    return find


def _evidence(case: Case, names: set[str], at: tuple[int, ...]) -> Iterator[str]:
    name = min(names)
    look, seen = case.examined[name], case.examined[name].seen[at[0]]
    yield f"{len(names)} of {len(case.examined)} tensors that were looked at"
    if seen.finite:
        here, before = (f"{of.low:.3g} to {of.high:.3g}" for of in (seen, look))
        yield f"{name}: {here} at {case.points[at[0]].name}, {before} in W0"


def _find_unreadable(case: Case) -> Iterator[Finding]:
    """What could not be read, by the reason."""
    _ = case.examined
    by_reason: dict[str, set[str]] = {}
    for name, reason in case.unread.items():
        by_reason.setdefault(reason, set()).add(name)
    for reason, names in sorted(by_reason.items(), key=lambda item: -len(item[1]))[:3]:
        cells = {(name, index) for name in names for index in range(len(case.points))}
        yield UNREADABLE.finding(case, cells, f"{case.named(names)} cannot be read: {reason}")


def _find_changed(case: Case) -> Iterator[Finding]:
    """What one checkpoint lacks, or holds in another shape or format, by the reason."""
    told = {name for name, _ in case.explained}
    by_reason: dict[str, set[str]] = {}
    for name, reason in case.record.skipped.items():
        held = set(case.record.weights[name].dtypes) <= {*FORMATS} and name not in case.unread
        meant = reason == NOT_IN_W0 or (reason == IN_NO_CHECKPOINT and not _is_part(case, name))
        if held and name not in told and not meant:
            by_reason.setdefault(reason, set()).add(name)
    for reason, names in sorted(by_reason.items(), key=lambda item: -len(item[1]))[:3]:
        cells = {(name, index) for name in names for index in range(len(case.points))}
        some = f"{plural(len(names), 'tensor')}, such as {min(names)}," if len(names) > 1 else min(names)
        yield CHANGED.finding(case, cells, f"{some} cannot be followed along the run: {reason}")


def _is_part(case: Case, name: str) -> bool:
    """Whether a weight lies in a layer of which the run has others, as one expert of several; whole layers, a tied head
    or a tower may be left out on purpose."""
    here = case.record.weights[name]
    there = (case.record.weights[other] for other in case.record.weights.keys() - case.record.skipped.keys())
    return here.layer is not None and any((one.stack, one.layer) == (here.stack, here.layer) for one in there)


def _is_constant(_: Case, look: Look, seen: Seen) -> bool:
    return look.constant is None and look.numel > 1 and seen.constant not in (None, 0.0)


def _is_absurd(case: Case, look: Look, seen: Seen) -> bool:
    most = _largest(look)
    if not math.isfinite(most) or _largest(seen) < ABSURD * most:
        return False
    return most > 0 and _largest(seen) >= OF_ALL * max(map(_largest, case.examined.values()))


def _largest(of: Look | Seen) -> float:
    """Magnitude of the largest entry."""
    return max(abs(of.low), abs(of.high))


def _not_finite(case: Case, names: set[str], at: tuple[int, ...]) -> str:
    return f"{case.named(names).verb('holds', 'hold')} NaN or infinity {case.when(at)}"


def _zeros(case: Case, names: set[str], at: tuple[int, ...]) -> str:
    return f"{case.named(names).verb('is', 'are')} all zeros {case.when(at)}, and not in W0"


def _constant(case: Case, names: set[str], at: tuple[int, ...]) -> str:
    values = {case.examined[name].seen[at[0]].constant for name in names}
    value = f"{next(iter(values)):.4g}" if len(values) == 1 else "one value"
    return f"{case.named(names).verb('is', 'are')} {value} in every entry {case.when(at)}, and not in W0"


def _absurd(case: Case, names: set[str], at: tuple[int, ...]) -> str:
    looks = [case.examined[name] for name in names]
    most, before = max(_largest(look.seen[i]) for look in looks for i in at), max(map(_largest, looks))
    named = case.named(names)
    return f"{named.verb('has', 'have')} entries up to {most:.2g} {case.when(at)}, where W0 has {before:.2g} at most"


UNREADABLE = Kind(
    name="unreadable",
    group="A",
    grade="fact",
    title="weights that cannot be read",
    about="A tensor cannot be read, or not made from what an adapter stores: an untrained adapter, a damaged file.",
    looks_at=("weights",),
    causes=("the adapter was not trained, or a fresh one was saved over it", "a file was not written to the end"),
    next_step="Save or copy the checkpoint again; compare a tensor in memory with the one in the file.",
    find=_find_unreadable,
)

CHANGED = Kind(
    name="incomparable",
    group="A",
    grade="fact",
    title="weights that cannot be followed",
    about="A tensor is missing from a checkpoint that others have it in, or has another shape or storage format there. "
    "Or it is in no checkpoint, though others of its layer are.",
    causes=("a shard that was lost, or a save that was not finished", "another way of saving, from some step on"),
    next_step="Write that checkpoint again as the others were written.",
    find=_find_changed,
)

NOT_FINITE = Kind(
    name="not-finite",
    group="A",
    grade="fact",
    title="NaN or infinity",
    about="A tensor holds entries that are no numbers.",
    looks_at=("weights",),
    causes=("training diverged", "an overflow in a cast to fp16", "a file that was not written to the end"),
    next_step="Look for the first step with a loss that is not finite; take the last checkpoint before it.",
    find=_finder("not-finite", lambda _, __, seen: not seen.finite, _not_finite),
)

ZEROS = Kind(
    name="zeros",
    group="A",
    grade="fact",
    title="all zeros",
    about="A tensor that is not zero in W0 holds nothing but zeros.",
    looks_at=("weights",),
    causes=("a shard that was allocated and never filled", "a tensor that was missing when the state was gathered"),
    next_step=NEXT,
    source="https://github.com/microsoft/BitNet/issues/608",
    find=_finder("zeros", lambda _, look, seen: seen.constant == 0 and look.constant != 0, _zeros),
)

CONSTANT = Kind(
    name="one-value",
    group="A",
    grade="fact",
    title="one value throughout",
    about="A tensor holds one value in every entry, as norms do when they are made, and several in W0.",
    looks_at=("weights",),
    causes=("the weights were not loaded, so that their initial values were saved", "a name mapping that missed them"),
    next_step="Look for warnings of missing keys where the model is loaded or converted.",
    source="https://github.com/vllm-project/speculators/issues/765",
    find=_finder("one-value", _is_constant, _constant),
)

ABSURD_KIND = Kind(
    name="absurd",
    group="A",
    grade="fact",
    title="absurd magnitude",
    about="Entries are more than a thousand times as large as the largest of W0.",
    looks_at=("weights",),
    causes=("training diverged", "a scale that was applied twice, or not at all", "bytes read in another format"),
    next_step=NEXT,
    source="https://github.com/bghira/SimpleTuner/issues/2714",
    find=_finder("absurd", _is_absurd, _absurd),
)

KINDS = {kind.name: kind for kind in (UNREADABLE, NOT_FINITE, ZEROS, CONSTANT, ABSURD_KIND, CHANGED)}
"""By name."""
