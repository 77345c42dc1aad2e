"""Put weights together from the parts that ranks hold, or from blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geomcheck._lazy import torch
from geomcheck.checkpoints.formats.torch_save.pickle_data import Call
from geomcheck.checkpoints.formats.torch_save.tensors import Distributed, Packed
from geomcheck.checkpoints.source import Stored

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Whole:
    """A weight as the ranks hold it.

    Attributes:
        stored: shape and format of the whole.
        dim: the dimension that is sharded; None where one rank holds everything.
        parts: (rank, its part), in the order of the dimension, without empty ones.
        copies: further ranks whose plain tensor should be the same as the one of `parts`.
    """

    stored: Stored
    dim: int | None
    parts: tuple[tuple[int, Packed], ...]
    copies: tuple[tuple[int, Packed], ...] = ()


Block = tuple[tuple[int, ...], tuple[int, ...], Callable[[tuple[int, ...]], "Tensor"]]
"""A box of a tensor: its offsets, its shape, and what reads the part of it at some leading indices."""


def assembled(name: str, shape: tuple[int, ...], at: tuple[int, ...], blocks: Iterable[Block]) -> Tensor:
    """``tensor[at]`` of the tensor of this `shape` that `blocks` tile, of which those that `at` touches are read one
    by one. Raises IndexError where there is no such part, and as reading does."""
    if len(at) > len(shape) or not all(0 <= i < size for i, size in zip(at, shape, strict=False)):
        raise IndexError(f"{name}: {at} lies outside {shape}")
    touched = [
        (offsets, sizes, read)
        for offsets, sizes, read in blocks
        if all(o <= i < o + n for i, o, n in zip(at, offsets, sizes, strict=False))
    ]
    whole: Tensor | None = None
    for offsets, sizes, read in touched:
        block = read(tuple(i - o for i, o in zip(at, offsets, strict=False)))
        if len(touched) == 1:
            return block
        whole = torch.empty(shape[len(at) :], dtype=block.dtype) if whole is None else whole
        whole[tuple(slice(o, o + n) for o, n in zip(offsets, sizes, strict=True))[len(at) :]] = block
    if whole is None:
        raise IndexError(f"{name}: no block holds {at}")
    return whole


class ShardingProblem(Exception):
    """The ranks' parts do not make one weight; the message says why."""


def whole(tensors: Sequence[Packed | Distributed]) -> Whole:
    """Put together what ranks 0, 1, ... hold of one weight. Raises ShardingProblem if the ranks disagree, a part is
    missing or there twice, or the sharding is not one dimension over one dimension of the mesh."""
    parts = [tensor for tensor in tensors if isinstance(tensor, Distributed)]
    plain = [tensor for tensor in tensors if isinstance(tensor, Packed)]
    if parts and plain:
        raise ShardingProblem("a DTensor on some ranks, a plain tensor on others")
    _require_one("dtypes", [*(tensor.dtype for tensor in plain), *(part.local.dtype for part in parts)])
    _require_one("shapes", [tensor.shape for tensor in tensors])
    if plain:
        (first, *others) = enumerate(plain)
        return Whole(plain[0].stored, None, (first,), tuple(others))
    _require_one("placements", [_placements(part) for part in parts])
    return _sharded(parts)


def mesh_ranks(tensor: Distributed) -> int | None:
    """How many ranks the device mesh of a DTensor has; None where the file does not say."""
    state = _mesh(tensor)
    for key in ("_rank_map", "mesh"):
        match state.get(key):
            case Call(args=(_, _, tuple(shape), *_)) if all(type(size) is int for size in shape):
                return math.prod(shape)
    return None


def _sharded(parts: Sequence[Distributed]) -> Whole:
    shape = parts[0].shape
    placements = _placements(parts[0])
    at = [_coordinate(part, axes=len(placements)) for part in parts]
    if len(set(at)) != len(at) or math.prod(1 + max(axis) for axis in zip(*at, strict=True)) != len(at):
        raise ShardingProblem("two ranks hold the same place in the device mesh, or a place in it is empty")
    stored = Stored(shape, parts[0].local.stored.dtype)
    sharded = [(axis, dim) for axis, dim in enumerate(placements) if dim is not None]
    if not sharded:
        _require_one("shapes", [shape, *(part.local.shape for part in parts)])
        return Whole(stored, None, ((0, parts[0].local),))
    ((axis, dim),) = sharded
    if dim >= len(shape):
        raise ShardingProblem(f"sharded along dimension {dim}, but its shape is {shape}")
    holders: dict[int, list[int]] = {}
    for rank, coordinate in enumerate(at):
        holders.setdefault(coordinate[axis], []).append(rank)
    for ranks in holders.values():
        _require_one("shapes", [parts[rank].local.shape for rank in ranks])
    ordered = [(ranks[0], parts[ranks[0]].local) for _, ranks in sorted(holders.items())]
    filled = tuple((rank, local) for rank, local in ordered if 0 not in local.shape)
    _require_cover(shape, dim, [local.shape for _, local in filled])
    return Whole(stored, dim, filled or (ordered[0],))


def _require_cover(shape: tuple[int, ...], dim: int, parts: Sequence[tuple[int, ...]]) -> None:
    for part in parts:
        if len(part) != len(shape) or any(a != b for i, (a, b) in enumerate(zip(part, shape, strict=True)) if i != dim):
            raise ShardingProblem(f"a part of shape {part} is no part of {shape} along dimension {dim}")
    covered = sum(part[dim] for part in parts)
    if 0 not in shape and covered != shape[dim]:
        raise ShardingProblem(f"the ranks hold {covered} of {shape[dim]} entries along dimension {dim}")


def _placements(tensor: Distributed) -> tuple[int | None, ...]:
    """For each dimension of the mesh, the tensor dimension that it shards; None where it replicates."""
    match tensor.spec.get("placements"):
        case tuple(placements) | list(placements) if placements:
            dims = tuple(_sharded_dim(placement) for placement in placements)
        case _:
            raise ShardingProblem("its placements are not known; was it written by a newer torch?")
    if sum(dim is not None for dim in dims) > 1:
        raise ShardingProblem("sharded over two dimensions of the device mesh (tensor parallelism)")
    return dims


def _sharded_dim(placement: object) -> int | None:
    match placement:
        case Call(what) if what.leaf == "Replicate":
            return None
        case Call(what, state={"dim": int(dim)}) | Call(what, (int(dim),)) if what.leaf == "Shard" and dim >= 0:
            return dim
        case Call(what):
            raise ShardingProblem(f"the placement {what.leaf} is not read, only one Shard(dim), and Replicate")
    raise ShardingProblem("its placements are not known; was it written by a newer torch?")


def _coordinate(tensor: Distributed, *, axes: int) -> tuple[int, ...]:
    match _mesh(tensor).get("_coordinate_on_dim"):
        case tuple(at) | list(at) if len(at) == axes and all(type(index) is int and index >= 0 for index in at):
            return tuple(at)
    raise ShardingProblem("its place in the device mesh is not known; was it written by a newer torch?")


def _mesh(tensor: Distributed) -> Mapping[str, object]:
    match tensor.spec.get("mesh"):
        case Call(state=dict(state)):
            return state
    raise ShardingProblem("its device mesh is not known; was it written by a newer torch?")


def _require_one(what: str, values: Sequence[object]) -> None:
    for rank, value in enumerate(values):
        if value != values[0]:
            raise ShardingProblem(f"the ranks disagree on its {what}: {values[0]} and, on rank {rank}, {value}")
