"""Split queries, keys and values that are fused group by group: the queries that share a key, that key, its value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from geomcheck.checkpoints.canonical.parts import Part
from geomcheck.checkpoints.canonical.rows import RowLayout
from geomcheck.checkpoints.source import Stored

if TYPE_CHECKING:
    from torch import Tensor


def split_grouped_qkv(fused: Part, *, heads: Any, groups: Any, size: Any) -> dict[str, Part] | None:
    """The parts ``q``, ``k`` and ``v`` of a fused weight or bias.

    Megatron and torchtitan store it as (groups, queries per group + 2, size, in). Where attention has an output
    gate, which shows in the number of rows, the gates of a group follow its queries; Hugging Face has each query head
    followed by its own gate.

    Args:
        fused: the whole of it, without `take`.
        heads: number of query heads, whatever the config says it is; `groups` and `size` likewise.
        groups: number of keys.
        size: rows per head.

    Returns:
        The parts, or None where these are no numbers of heads, or do not fit the number of rows.
    """
    if any(type(number) is not int or number < 1 for number in (heads, groups, size)) or heads % groups:
        return None
    rows, *rest = fused.stored.shape or (0,)
    own = heads // groups * size
    plain, gated = (RowLayout(groups, (("q", queries), ("k", size), ("v", size))) for queries in (own, 2 * own))
    if rows not in (plain.rows, gated.rows):
        return None
    layout = plain if rows == plain.rows else gated
    parts = {}
    for letter, count, taken in layout.split():
        own_gates = letter == "q" and layout is gated
        take = partial(_with_own_gates, queries=taken, groups=groups, size=size) if own_gates else taken
        parts[letter] = replace(fused, stored=Stored((count, *rest), fused.stored.dtype), take=take)
    return parts


def _with_own_gates(tensor: Tensor, *, queries: Callable[[Tensor], Tensor], groups: int, size: int) -> Tensor:
    """Each query head followed by its gate, (2 heads * size, in), where a group has all queries before all gates."""
    heads = queries(tensor)
    rest = heads.shape[1:]
    return heads.reshape(groups, 2, -1, size, *rest).transpose(1, 2).reshape(-1, *rest)
