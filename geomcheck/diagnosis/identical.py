"""Tensors that are equal to the bit and should not be: to W0, to an earlier checkpoint, to another weight.

All from the `contents` of the record; weights are read only where W0 and the run store them in different formats, or
where a format may hide small steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from geomcheck._text import plural
from geomcheck.diagnosis.case import Case, median
from geomcheck.diagnosis.finding import Finding
from geomcheck.diagnosis.kind import Kind
from geomcheck.diagnosis.words import listed, span

OF_A_CAST = 2**-7
"""Relative norm that no cast of W0 to another format reaches."""

OUT_OF_LINE, CLEARLY = 0.15, 2.0
"""How far from the norm in line with those of the others, relative to it, and how many times as far as the other of two
checkpoints, that one must be which is a copy of the other."""

MOST = 3
"""Findings of one kind; what is left is told together."""

Told = Callable[[Case, set[str], "Same"], str]


class Same(NamedTuple):
    """At which checkpoints something is equal, and to what: the index of an earlier checkpoint, or -1 for W0."""

    at: tuple[int, ...]
    to: tuple[int, ...]


W0 = -1


def _is_start(case: Case, name: str, codes: tuple[int, ...]) -> list[bool]:
    """At which checkpoints a weight is W0's, by value."""
    same = [code == codes[0] for code in codes[1:]]
    sizes = case.sizes.get(name, ())
    if sizes:
        same = [one or size == 0 for one, size in zip(same, sizes, strict=True)]
    if all(same) or len(case.weights[name].dtypes) < 2 or (sizes and min(sizes) > OF_A_CAST):
        return same
    look = case.look(name)
    return same if look is None else [one or seen.equal for one, seen in zip(same, look.seen, strict=True)]


def _starts_at_zero(case: Case, name: str) -> bool:
    """Whether a weight is zero in W0, which may be what it should stay: many have no gradient there."""
    if case.weights[name].is_matrix and not case.has_weights:
        return False
    look = case.look(name)
    return case.weights[name].role == "bias" if look is None else look.constant == 0


def stories(case: Case) -> Mapping[str, dict[Same, set[str]]]:
    """The weights by what became of them: ``never``, ``late``, ``back``, ``stale`` or ``copy``, and where."""
    if "stories" not in case.memory:
        case.memory["stories"] = _stories(case)
    told: Mapping[str, dict[Same, set[str]]] = case.memory["stories"]
    return told


def _stories(case: Case) -> Mapping[str, dict[Same, set[str]]]:
    found: dict[str, dict[Same, set[str]]] = {}

    def tell(story: str, name: str, pairs: Iterable[tuple[int, int]]) -> None:
        held = [(at, to) for at, to in pairs if case.shows(name, at, since=None if to == W0 else to)]
        if held:
            at, to = zip(*held, strict=True)
            found.setdefault(story, {}).setdefault(Same(at, to), set()).add(name)

    for name, codes in case.contents.items():
        start = _is_start(case, name, codes)
        moved = next((index for index, same in enumerate(start) if not same), len(start))
        early = [(index, W0) for index in range(moved)]
        as_usual = moved == len(start) and name in case.left_alone
        if early and not as_usual and not _starts_at_zero(case, name):
            tell("never" if moved == len(start) else "late", name, early)
        tell("back", name, [(index, W0) for index in range(moved, len(start)) if start[index]])
        first = {code: index for index, code in reversed(list(enumerate(codes[1:])))}
        again = [(i, first[c]) for i, c in enumerate(codes[1:]) if first[c] < i and not start[i]]
        stale = [(i, j) for i, j in again if len(set(codes[j + 1 : i + 2])) == 1]
        tell("stale", name, stale)
        tell("copy", name, [pair for pair in again if pair not in stale])
    return found


def _of(story: str, sentence: Told) -> Callable[[Case], Iterator[Finding]]:
    """Finds what became of weights so."""

    def find(case: Case) -> Iterator[Finding]:
        groups = stories(case).get(story, {})
        ordered = sorted(groups.items(), key=lambda item: (-len(item[1]) * len(item[0].at), item[0]))
        for same, names in _bounded(ordered):
            kind, words, at = _told(case, story, sentence, names, same)
            cells = {(name, index) for name in names for index in at}
            if case.free(cells):
                yield kind.finding(case, cells, words, evidence=_evidence(case, names))

    return find


def _told(case: Case, story: str, sentence: Told, names: set[str], same: Same) -> tuple[Kind, str, tuple[int, ...]]:
    """The kind and the sentence of a story, and at which checkpoints the weights are not their own."""
    copy = _copied(case, same) if _is_whole(case, names) else same.at
    if copy == same.at or (story == "stale" and not copy):
        return KINDS[story], sentence(case, names, same), same.at
    if copy:
        return COPY, _copy(case, names, Same(same.to, same.at)), copy
    both = tuple(sorted(same.at + same.to))
    return COPY, f"{listed([case.points[index].name for index in both])} hold the same weights, to the bit", both


def _copied(case: Case, same: Same) -> tuple[int, ...]:
    """Which of two checkpoints that hold the same weights is the copy: the one whose norm is out of line with those of
    the others, over the steps; empty where that does not tell."""
    if len(same.at) > 1 or W0 in same.to:
        return same.at
    pair = (*same.at, *same.to)
    norms = [median(sizes[index] for sizes in case.sizes.values()) for index in range(len(case.points))]
    steps = [point.step for point in case.points]
    others = [(0, 0.0), *((steps[i], norms[i]) for i in range(len(steps)) if i not in pair and steps[i] > 0)]
    off = [abs(norms[i] - _in_line(others, steps[i])) for i in pair] if len(others) > 1 else [0.0, 0.0]
    least, most = sorted(off)
    if most < max(OUT_OF_LINE * norms[pair[0]], CLEARLY * least) or not most:
        return ()
    return (pair[off.index(most)],)


def _in_line(others: Sequence[tuple[int, float]], step: int) -> float:
    """The norm at a step, on the line through those of the checkpoints on either side of it, or of the last two."""
    after = next((i for i, (at, _) in enumerate(others) if at > step), len(others) - 1)
    (start, low), (end, high) = others[after - 1 : after + 1]
    return low + (high - low) * (step - start) / (end - start)


def _bounded(groups: list[tuple[Same, set[str]]]) -> list[tuple[Same, set[str]]]:
    """The first groups as they are, and what is left as one."""
    rest = groups[MOST - 1 :]
    if len(rest) < 2:
        return groups
    merged = {pair for same, _ in rest for pair in zip(*same, strict=True)}
    at, to = zip(*sorted(merged), strict=True)
    return [*groups[: MOST - 1], (Same(at, to), set().union(*(names for _, names in rest)))]


def _evidence(case: Case, names: set[str]) -> Iterator[str]:
    known = len(case.contents)
    yield f"{len(names)} of {known} tensors, by the digests of all their bytes"
    others = [sizes[-1] for name, sizes in case.sizes.items() if name not in names and sizes[-1] > 0]
    if others:
        yield f"the others moved by {span(others)} of their norm by {case.points[-1].name}"


def _is_whole(case: Case, names: set[str]) -> bool:
    return names == set(case.contents)


def _places(case: Case, same: Same) -> str:
    return listed([case.points[index].name for index in same.at])


def _is(same: Same) -> str:
    return "is" if len(same.at) == 1 else "are"


def _origins(case: Case, same: Same) -> str:
    return listed([case.points[to].name for to in sorted(set(same.to))])


def _never(case: Case, names: set[str], same: Same) -> str:
    if _is_whole(case, names):
        return "no checkpoint differs from W0 in any weight: nothing was trained, or it was not saved"
    if len(same.at) < len(case.points):  # where small steps do not show at first
        return f"{case.named(names)} never moved: W0 still, to the bit, {case.when(same.at)}"
    return f"{case.named(names)} never moved: W0, to the bit, at every checkpoint"


def _late(case: Case, names: set[str], same: Same) -> str:
    last = case.points[max(same.at)].name
    if _is_whole(case, names):
        return f"{_places(case, same)} {_is(same)} W0, to the bit, in every weight"
    return f"{case.named(names)} did not move up to {last}, and moved then"


def _back(case: Case, names: set[str], same: Same) -> str:
    if _is_whole(case, names):
        return f"{_places(case, same)} {_is(same)} W0, to the bit, after training had moved it"
    return f"{case.named(names).verb('is', 'are')} back at W0 {case.when(same.at)}, to the bit, after having moved"


def _stale(case: Case, names: set[str], same: Same) -> str:
    origin, there = _origins(case, same), case.when(same.at)
    if _is_whole(case, names):
        hold = "holds" if len(same.at) == 1 else "hold"
        return f"{_places(case, same)} {hold} the weights of {origin}, to the bit"
    return f"{case.named(names).verb('stands', 'stand')} still {there}: that of {origin}, to the bit"


def _copy(case: Case, names: set[str], same: Same) -> str:
    origin, there = _origins(case, same), case.when(same.at)
    if _is_whole(case, names):
        return f"{_places(case, same)} {_is(same)} a copy of {origin}, to the bit"
    return f"{case.named(names).verb('is', 'are')} {there} a copy of {origin}, to the bit, though moved in between"


def _left(case: Case) -> Iterator[Finding]:
    """What an adapter leaves to W0, and moves in every good run."""
    good = [one for one in case.good if one.record.points]
    left = {name for name, weight in case.weights.items() if weight.lent}
    left &= frozenset.intersection(*(one.moved for one in good)) if good else frozenset()
    cells = {(name, index) for name in left for index in range(len(case.points))}
    if case.free(cells):
        named = case.named(left)
        yield NEVER.finding(
            case,
            cells,
            f"{named} never moved: the adapter leaves {'them' if named.plural else 'it'} to W0, and good runs do not",
            evidence=(
                f"{len(left)} tensors without factors here, which differ from W0 in {plural(len(good), 'good run')}",
            ),
            causes=("left out of the adapter's targets", "the adapter's tensors were lost when it was saved or merged"),
        )


def _find_never(case: Case) -> Iterator[Finding]:
    yield from _of("never", _never)(case)
    yield from _left(case)


def _twins(case: Case) -> Iterator[Finding]:
    """Weights that hold what another holds, and did not in W0; the one that is further from its own W0 has the other's
    values."""
    groups: dict[tuple[str, str], set[int]] = {}
    for index in range(len(case.points)):
        by_code: dict[int, list[str]] = {}
        for name, codes in case.contents.items():
            by_code.setdefault(codes[index + 1], []).append(name)
        for first, *others in by_code.values():
            for name in others:
                if case.contents[name][0] != case.contents[first][0] and not _is_constant(case, name, index):
                    copy, original = sorted((first, name), key=lambda one: -case.size(one, index))
                    groups.setdefault((copy, original), set()).add(index)
    by_time: dict[tuple[int, ...], list[tuple[str, str]]] = {}
    for pair, indices in groups.items():
        by_time.setdefault(tuple(sorted(indices)), []).append(pair)
    for at, pairs in sorted(by_time.items(), key=lambda item: -len(item[1]) * len(item[0]))[:MOST]:
        copies, originals = ({pair[side] for pair in pairs} for side in (0, 1))
        cells = {(name, index) for name in copies for index in at}
        if case.free(cells):
            yield TWINS.finding(
                case,
                cells,
                f"{case.named(copies).verb('holds', 'hold')} the values of {case.named(originals)} {case.when(at)}, to "
                "the bit",
                evidence=[f"{plural(len(pairs), 'pair')} of equal tensors that differ in W0, by all their bytes"],
            )


def _is_constant(case: Case, name: str, index: int) -> bool:
    """Whether a tensor may have one value throughout, as biases and norms have before training."""
    look = case.look(name)
    return not case.weights[name].is_matrix if look is None else look.seen[index].constant is not None


NEVER = Kind(
    name="never-moved",
    group="A",
    grade="fact",
    title="weights that never moved",
    about="Some weights are W0's to the bit at every checkpoint. That is right for parts that were meant to be frozen. "
    "A tensor whose format is too coarse to show the steps of this run is not counted, nor one that is zero in W0. "
    "What an adapter leaves to W0 is told where good runs move it.",
    looks_at=("record", "weights"),
    causes=(
        "frozen on purpose, or by a flag or pattern that matches too much",
        "left out of the optimizer or of the adapter's targets",
        "trained, but the save or the merge wrote the base's tensors",
    ),
    next_step="If these were meant to train: list requires_grad and the optimizer's parameter groups at the first "
    "step, and compare a saved tensor with the one in memory.",
    source="https://github.com/OpenRLHF/OpenRLHF/issues/1258",
    find=_find_never,
)

BACK = Kind(
    name="back-at-w0",
    group="A",
    grade="fact",
    title="weights that are W0's again",
    about="Weights that had moved are W0's again, to the bit.",
    causes=("the base was saved or copied under the name of this checkpoint", "a save that was not finished"),
    next_step="Save this checkpoint again, or take it out of the run.",
    source="https://github.com/verl-project/verl/issues/7285",
    find=_of("back", _back),
)

LATE = Kind(
    name="late-start",
    group="A",
    grade="fact",
    title="weights that moved late",
    about="Weights are W0's to the bit at the first checkpoints, and move after that.",
    looks_at=("record", "weights"),
    causes=("unfrozen in a later stage", "the first checkpoints were written before training, or from the base"),
    next_step="Compare with the schedule: when was this part meant to begin?",
    find=_of("late", _late),
)

STALE = Kind(
    name="stale",
    group="A",
    grade="fact",
    title="weights that stand still",
    about="Weights that had moved are those of the checkpoint before, to the bit.",
    looks_at=("record", "weights"),
    causes=("a stale shard or file was saved again", "the learning rate or the gradient became zero", "frozen midway"),
    next_step="Compare the modification times of the shards, and the learning rate in the trainer's log.",
    source="https://github.com/huggingface/trl/issues/6700",
    find=_of("stale", _stale),
)

COPY = Kind(
    name="copy",
    group="A",
    grade="fact",
    title="weights copied from another checkpoint",
    about="Weights are those of another checkpoint, to the bit, and not because they stood still. Of two whole "
    "checkpoints, the copy is the one whose norm is out of line.",
    looks_at=("record", "weights"),
    causes=("a checkpoint was copied or linked under a wrong name", "training was resumed from the earlier checkpoint"),
    next_step="Find what wrote this checkpoint; take it out of the run or save it again.",
    source="https://github.com/EleutherAI/pythia/issues/195",
    find=_of("copy", _copy),
)

TWINS = Kind(
    name="twins",
    group="A",
    grade="fact",
    title="two weights with the same values",
    about="Two weights that differ in W0 are equal to the bit; tied weights are one weight, and are not counted.",
    causes=("a conversion wrote one tensor under two names", "a layer was duplicated"),
    next_step="Check the name mapping of the save or the conversion.",
    find=_twins,
)

KINDS = {"never": NEVER, "back": BACK, "late": LATE, "stale": STALE, "copy": COPY}
"""By story."""
