"""Parts of a matrix that never moved while the rest did: rows or columns in a row, as a rank or a head has them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from geomcheck.diagnosis.case import Case
from geomcheck.diagnosis.finding import Finding
from geomcheck.diagnosis.kind import Kind
from geomcheck.diagnosis.look import Look

LEAST = 1 / 16
"""Share of the rows, at least, that stand still together."""

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
        count, held = int(still.sum()), len(still)
        if not LEAST * held <= count < held or held * math.exp(-per_one) > BY_CHANCE:
            continue
        if side == "rows" and (role in LOOKED_UP or (role == "head" and per_one < EVERY * look.shape[1])):
            continue
        start, length = _longest(still)
        if length == count:
            return Block(side, start, start + length, held)
    return None


def _longest(still: Tensor) -> tuple[int, int]:
    """Where the longest stretch begins, and how long it is."""
    edges = torch.diff(torch.nn.functional.pad(still.int(), (1, 1)))
    starts, ends = torch.nonzero(edges == 1).flatten(), torch.nonzero(edges == -1).flatten()
    best = int(torch.argmax(ends - starts))
    return int(starts[best]), int(ends[best] - starts[best])


def _find(case: Case) -> Iterator[Finding]:
    found: dict[str, Block] = {}
    for name, look in case.examined.items():
        weight = case.weights[name]
        if weight.is_matrix and case.free({(name, len(case.points) - 1)}):
            block = _block(look, weight.role)
            if block is not None:
                found[name] = block
    groups: dict[tuple[str, float, float], set[str]] = {}
    for name, block in found.items():
        share = (block.side, round(block.start / block.length, 3), round(block.stop / block.length, 3))
        groups.setdefault(share, set()).add(name)
    for (side, start, stop), names in sorted(groups.items(), key=lambda item: -len(item[1]))[:3]:
        part = f"{stop - start:.0%} of the {side}"
        cells = {(name, index) for name in names for index in range(len(case.points))}
        named = case.named(names)
        yield STILL.finding(
            case,
            cells,
            f"{part} of {named} never moved while the others did: {found[min(names)]}",
            evidence=tuple(f"{name}: {found[name]}" for name in sorted(names)[:3]),
        )


STILL = Kind(
    name="still-block",
    group="A",
    grade="fact",
    title="a block that never moved",
    about="Rows or columns that lie together are W0's to the bit at the last checkpoint, while all others moved in so "
    "many entries that it is no chance. Rows of embeddings are not looked at, as unused tokens do not move; those of a "
    "head are where all others moved in nearly every entry.",
    looks_at=("weights",),
    causes=(
        "one tensor-parallel rank's update, or its part of the gathered weight, was lost",
        "heads or neurons that are masked, pruned or frozen",
        "rows that pad the vocabulary, which the loss of this framework masks",
    ),
    next_step="Compare the shards of each rank before they are gathered.",
    find=_find,
)

KINDS = (STILL,)
