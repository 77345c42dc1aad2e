"""Parts of a matrix that stood still while the rest moved, or that are zero: rows or columns in a row, as a rank or a
head has them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from geomcheck.diagnosis.case import Case
from geomcheck.diagnosis.finding import Finding
from geomcheck.diagnosis.kind import Kind
from geomcheck.diagnosis.look import Look

LEAST = 1 / 16
"""Share of the rows, at least, that stand still together."""

MOST = 3
"""Findings of one kind, and weights that are evidence of one."""

BY_CHANCE = 0.01
"""Largest expected number of rows that stand still in a moving matrix, as few entries visibly move."""

LOOKED_UP = ("embedding", "table")
"""Roles whose rows move only where they are used."""

EVERY = 0.9
"""Share of the entries of a head's moving rows that must have moved: every token has a gradient there, but of rare ones
it is so small that a coarse format hides it."""


class Block(NamedTuple):
    """Rows or columns in a row: which of them, from, up to, and of how many."""

    side: str
    start: int
    stop: int
    length: int

    def __str__(self) -> str:
        return f"{self.side} {self.start} to {self.stop - 1} of {self.length}"


def _block(look: Look, role: str) -> Block | None:
    """What stands still of a weight at its last checkpoint, if the rest moved too much for that to be chance."""
    for side, still, per_one in (
        ("rows", look.still_rows, look.per_row),
        ("columns", look.still_columns, look.per_column),
    ):
        block = _stretch(side, still)
        if block is not None and _is_no_chance(block, per_one, role, look.shape):
            return block
    return None


def _stretch(side: str, chosen: Tensor) -> Block | None:
    """The chosen rows or columns, if all of them lie together, and are many and not all."""
    count, held = int(chosen.sum()), len(chosen)
    if not LEAST * held <= count < held:
        return None
    start, length = _longest(chosen)
    return Block(side, start, start + length, held) if length == count else None


def _is_no_chance(block: Block, per_one: float, role: str, shape: tuple[int, int]) -> bool:
    """Whether rows or columns in which that many entries move elsewhere stand still for a reason."""
    if block.length * math.exp(-per_one) > BY_CHANCE:
        return False
    return block.side != "rows" or (role not in LOOKED_UP and not (role == "head" and per_one < EVERY * shape[1]))


def _longest(still: Tensor) -> tuple[int, int]:
    """Where the longest stretch begins, and how long it is."""
    edges = torch.diff(torch.nn.functional.pad(still.int(), (1, 1)))
    starts, ends = torch.nonzero(edges == 1).flatten(), torch.nonzero(edges == -1).flatten()
    best = int(torch.argmax(ends - starts))
    return int(starts[best]), int(ends[best] - starts[best])


def _find(case: Case) -> Iterator[Finding]:
    """Blocks that never moved, then those that are what they were at the checkpoint before."""
    last = len(case.points) - 1
    never, stale = {}, {}
    for name, look in case.examined.items():
        role = case.weights[name].role
        if not case.weights[name].is_matrix:
            continue
        block = _block(look, role) if case.free({(name, last)}) else None
        if block is not None:
            never[name] = (block, tuple(range(last + 1)))
            continue
        found = {index: _stale(case, name, index) for index in range(1, last + 1) if case.free({(name, index)})}
        blocks = {index: block for index, block in found.items() if block is not None}
        if blocks:
            stale[name] = (next(iter(blocks.values())), tuple(blocks))
    yield from _told(case, never, STILL, "{part} never moved while the others did")
    yield from _told(case, stale, STILL, "{part} stand still {when} while the others move: as at {before}, to the bit")


def _stale(case: Case, name: str, index: int) -> Block | None:
    """What stood still from one checkpoint to the next; both are read again where it may be."""
    seen, look = case.examined[name].seen[index], case.examined[name]
    for axis, side in enumerate(("rows", "columns")):
        block = _stretch(side, seen.stayed[axis]) if seen.stayed else None
        if block is None:
            continue
        moved = (case.matrix(name, index).double() != case.matrix(name, index - 1).double()).sum(1 - axis)
        if _is_no_chance(block, float(moved[moved > 0].double().mean()), case.weights[name].role, look.shape):
            return block
    return None


def _find_zeros(case: Case) -> Iterator[Finding]:
    """Blocks that are zero, and not in W0."""
    found: dict[str, tuple[Block, tuple[int, ...]]] = {}
    for name, look in case.examined.items():
        if not case.weights[name].is_matrix:
            continue
        blocks = {
            i: _zeros(case, name, i)
            for i, seen in enumerate(look.seen)
            if seen.emptied and (name, i) not in case.explained
        }
        held = {index: block for index, block in blocks.items() if block is not None}
        if held:
            found[name] = (next(iter(held.values())), tuple(held))
    yield from _told(case, found, ZEROS, "{part} are zero {when}, and not in W0")


def _zeros(case: Case, name: str, index: int) -> Block | None:
    emptied = case.examined[name].seen[index].emptied
    for axis, side in enumerate(("rows", "columns")):
        block = _stretch(side, emptied[axis]) if emptied else None
        if block is not None and (case.matrix(name).transpose(0, axis)[block.start : block.stop] != 0).any():
            return block
    return None


def _told(
    case: Case, found: Mapping[str, tuple[Block, tuple[int, ...]]], kind: Kind, sentence: str
) -> Iterator[Finding]:
    """Blocks in the same place of several weights, at the same checkpoints, as one finding."""
    groups: dict[tuple[str, float, float, tuple[int, ...]], set[str]] = {}
    for name, (block, at) in found.items():
        share = (block.side, round(block.start / block.length, 3), round(block.stop / block.length, 3), at)
        groups.setdefault(share, set()).add(name)
    for (side, start, stop, at), names in sorted(groups.items(), key=lambda item: -len(item[1]))[:MOST]:
        words = {"part": f"{stop - start:.0%} of the {side} of {case.named(names)}", "when": case.when(at)}
        words["before"] = case.points[max(0, at[0] - 1)].name
        yield kind.finding(
            case,
            {(name, index) for name in names for index in at},
            f"{sentence.format(**words)}: {found[min(names)][0]}",
            evidence=tuple(f"{name}: {found[name][0]}" for name in sorted(names)[:MOST]),
        )


STILL = Kind(
    name="still-block",
    group="A",
    grade="fact",
    title="a block that never moved",
    about="Rows or columns that lie together are W0's to the bit at the last checkpoint, or those of the checkpoint "
    "before, while all others moved in so many entries that it is no chance. Rows of embeddings are not looked at, as "
    "unused tokens do not move; those of a head are where all others moved in nearly every entry.",
    looks_at=("weights",),
    causes=(
        "one tensor-parallel rank's update, or its part of the gathered weight, was lost",
        "heads or neurons that are masked, pruned or frozen",
        "rows that pad the vocabulary, which the loss of this framework masks",
    ),
    next_step="Compare the shards of each rank before they are gathered.",
    find=_find,
)

ZEROS = Kind(
    name="zero-block",
    group="A",
    grade="fact",
    title="a block of zeros",
    about="Rows or columns that lie together are zero, and are not in W0.",
    looks_at=("weights",),
    causes=(
        "one rank's part of the gathered weight was allocated and never filled",
        "heads or neurons that were pruned",
    ),
    next_step="Compare the shards of each rank before they are gathered.",
    find=_find_zeros,
)

KINDS = (ZEROS, STILL)
