"""Queries, keys and values fused group by group: the queries that share a key, that key, its value."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from geomcheck.checkpoints.canonical.parts import Part
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
    plain, gated = (heads + 2 * groups) * size, (2 * heads + 2 * groups) * size
    if rows not in (plain, gated):
        return None
    own = groups * size
    query = partial(_query, groups=groups, size=size, gated=rows == gated)
    takes = {
        "q": (rows - 2 * own, query),
        "k": (own, partial(_from_group, groups=groups, size=size, last=2)),
        "v": (own, partial(_from_group, groups=groups, size=size, last=1)),
    }
    dtype = fused.stored.dtype
    return {
        letter: replace(fused, stored=Stored((count, *rest), dtype), take=take)
        for letter, (count, take) in takes.items()
    }


def _query(tensor: Tensor, *, groups: int, size: int, gated: bool) -> Tensor:
    rest = tensor.shape[1:]
    heads = tensor.reshape(groups, -1, size, *rest)[:, :-2]
    if gated:
        heads = heads.reshape(groups, 2, -1, size, *rest).transpose(1, 2)
    return heads.reshape(-1, *rest)


def _from_group(tensor: Tensor, *, groups: int, size: int, last: int) -> Tensor:
    """The keys (2nd from last in each group) or the values (last)."""
    rest = tensor.shape[1:]
    return tensor.reshape(groups, -1, size, *rest)[:, -last].reshape(-1, *rest)
