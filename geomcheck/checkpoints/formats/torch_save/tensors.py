"""Find the tensors that a pickle, read as data, describes: where their elements lie, and in which layout."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from geomcheck._lazy import torch
from geomcheck.checkpoints.formats.dtypes import DTYPES, STORAGES, UNTYPED, Dtype, dtype_named
from geomcheck.checkpoints.formats.torch_save.archive import ByteRange
from geomcheck.checkpoints.formats.torch_save.pickle_data import Call, Global, PickleProblem, Reference
from geomcheck.checkpoints.inside import read_bytes
from geomcheck.checkpoints.source import Stored

if TYPE_CHECKING:
    from torch import Tensor

MAX_DIMENSIONS = 16
MAX_SIZE = 2**48

_REBUILD = {f"torch._utils._rebuild_tensor{version}" for version in ("", "_v2", "_v3")}
_PARAMETER = {"torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"}
_FROM_TYPE = "torch._tensor._rebuild_from_type_v2"
_WRAPPER = "torch._utils._rebuild_wrapper_subclass"
_PLAIN_TYPES = {"torch.Tensor", "torch._tensor.Tensor", "torch.nn.parameter.Parameter"}
_TENSOR_NAMES = {*_REBUILD, *STORAGES, *(f"torch.{name}" for name in DTYPES), "collections.OrderedDict"}
_STATE_DICT_NAMES = {
    *(_TENSOR_NAMES | _PARAMETER | _PLAIN_TYPES),
    *(_FROM_TYPE, _WRAPPER, "torch.Size", "torch.device", "torch.serialization._get_layout"),
}
_DTENSOR_MODULES = (
    "torch.distributed.tensor.",
    "torch.distributed._tensor.",
    "torch.distributed.device_mesh.",
    "torch.distributed._mesh_layout.",
)


@dataclass(frozen=True)
class Packed:
    """A tensor in a file: where its storage lies, and how its elements lie in it (counted in elements)."""

    place: ByteRange
    dtype: Dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def stored(self) -> Stored:
        """Its shape and format."""
        return Stored(self.shape, self.dtype.called)

    def at(self, index: tuple[int, ...]) -> Packed:
        """``tensor[index]``, where it lies in the file. Raises IndexError."""
        if len(index) > len(self.shape) or not all(0 <= i < n for i, n in zip(index, self.shape, strict=False)):
            raise IndexError(f"{index} lies outside a tensor of shape {self.shape}")
        offset = self.offset + sum(i * step for i, step in zip(index, self.stride, strict=False))
        return replace(self, offset=offset, shape=self.shape[len(index) :], stride=self.stride[len(index) :])

    @property
    def span(self) -> ByteRange:
        """From its first element to its last: no more bytes than its own where it is contiguous."""
        last = sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))
        nbytes = 0 if 0 in self.shape else (last + 1) * self.dtype.nbytes
        return ByteRange(self.place.offset + self.offset * self.dtype.nbytes, nbytes)

    def read(self, path: Path) -> Tensor:
        """The tensor, of this `shape`, from the file in which it lies. Raises OSError where the file cannot be read;
        ValueError where it ends before."""
        dtype, span = getattr(torch, self.dtype.name), self.span
        if span.nbytes == 0:
            return torch.empty(self.shape, dtype=dtype)
        return read_bytes(path, span.offset, span.nbytes).view(dtype).as_strided(self.shape, self.stride)


@dataclass(frozen=True)
class Distributed:
    """A DTensor: one rank's part of a tensor of the given `shape`, and its sharding as the pickle describes it."""

    shape: tuple[int, ...]
    local: Packed
    spec: Mapping[str, object]


def is_of_tensors(name: str) -> bool:
    """Whether one plain tensor may name this global."""
    return name in _TENSOR_NAMES


def is_of_state_dicts(name: str) -> bool:
    """Whether a state dict of tensors, parameters and DTensors may name this global."""
    return name in _STATE_DICT_NAMES or name.startswith(_DTENSOR_MODULES)


def storage_key(reference: Reference) -> str:
    """The key of the storage that a reference names. Raises PickleProblem if it names none."""
    match reference.to:
        case ("storage", _, str(key), *_):
            return key
    raise PickleProblem("refers to something that is no storage of a tensor")


def element_bytes(reference: Reference) -> int:
    """Size of one element of the storage that is referred to. Raises PickleProblem."""
    match reference.to:
        case ("storage", Global(name), *_) if name in STORAGES:
            return STORAGES[name].nbytes
    raise PickleProblem("refers to a storage of an unknown type")


def tensor_of(value: object, storages: Mapping[str, ByteRange]) -> Packed | Distributed | None:
    """The tensor that `value` describes; None if it is none. Raises PickleProblem if it does not lie in its storage, or
    is of a class that is not read."""
    match value:
        case Call(Global(name), (Call() as data, *_)) if name in _PARAMETER and data.name not in _PARAMETER:
            return tensor_of(data, storages)
        case Call(Global(name), (Global(function), kind, tuple(args), *_)) if (
            name == _FROM_TYPE and function in _REBUILD
        ):
            if not isinstance(kind, Global) or kind.name not in _PLAIN_TYPES:
                raise PickleProblem(f"holds a tensor of the class {_shown(kind)}, which is not read")
            return _packed(args, storages)
        case Call(Global(name), (Global(function), _, (kind, _, shape, *_), state)) if (
            name == _FROM_TYPE and function == _WRAPPER
        ):
            return _distributed(kind, shape, state, storages)
        case Call(Global(name), args) if name in _REBUILD:
            return _packed(args, storages)
    return None


def _distributed(kind: object, shape: object, state: object, storages: Mapping[str, ByteRange]) -> Distributed:
    if not isinstance(kind, Global) or kind.leaf != "DTensor":
        raise PickleProblem(f"holds a tensor of the class {_shown(kind)}, which is not read")
    match state[1] if isinstance(state, tuple) and len(state) == 2 else state:  # (attributes, slots), or attributes
        case {"_local_tensor": Call() as data, "_spec": Call(state=dict(spec))}:
            local = tensor_of(data, storages)
            if isinstance(local, Packed):
                return Distributed(_sizes(shape), local, spec)
    raise PickleProblem("holds a DTensor in a form that is not known; was it written by a newer torch?")


def _packed(args: tuple[object, ...], storages: Mapping[str, ByteRange]) -> Packed:
    """A plain tensor. Raises PickleProblem unless it lies in its storage, and its elements do not share bytes."""
    match args:
        case (Reference() as reference, offset, shape, stride, *rest) if _is_size(offset):
            place = _place(reference, storages)
            packed = Packed(place, _dtype(reference, rest), offset, _sizes(shape), _sizes(stride))
        case _:
            raise PickleProblem("holds a tensor in a form that is not known; was it written by a newer torch?")
    if not _fits(packed):
        raise PickleProblem(
            f"a tensor of shape {packed.shape} and stride {packed.stride} does not fit its storage of "
            f"{place.nbytes} bytes: the file is damaged, or an expanded tensor was saved (save .contiguous() ones)"
        )
    return packed


def _place(reference: Reference, storages: Mapping[str, ByteRange]) -> ByteRange:
    """Where a storage lies. Raises PickleProblem unless it is there, as large as the pickle says."""
    key = storage_key(reference)
    match reference.to:
        case (_, _, _, _, count) | (_, _, _, _, count, None) if key in storages and _is_size(count):
            if count * element_bytes(reference) == storages[key].nbytes:
                return storages[key]
    raise PickleProblem(f"its storage {key[:100]!r} is missing, or not as large as its tensors need")


def _fits(packed: Packed) -> bool:
    if len(packed.shape) != len(packed.stride) or max(packed.shape, default=0) >= MAX_SIZE:
        return False
    elements = packed.place.nbytes // packed.dtype.nbytes
    numel = math.prod(packed.shape)
    last = packed.offset + sum((size - 1) * step for size, step in zip(packed.shape, packed.stride, strict=True))
    return numel == 0 or (numel <= elements and last < elements and max(packed.stride, default=0) < MAX_SIZE)


def _dtype(reference: Reference, rest: list[object]) -> Dtype:
    """Of the storage, or, where that is untyped, of the tensor: `rest` is requires_grad, hooks, the dtype then, and
    marks (a conjugate or negative view) that change what the elements mean, of which there must be none."""
    kind = reference.to[1]
    if kind == Global(UNTYPED) and len(rest) > 2 and isinstance(rest[2], Global):
        kind, marks = rest[2], rest[3:]
        dtype = dtype_named(kind.name)
    else:
        dtype, marks = STORAGES.get(kind.name), rest[2:]
    if dtype is None or any(marks):
        raise PickleProblem(
            f"holds a tensor of a type that is not read ({_shown(kind)}); was it written by a newer torch?"
        )
    return dtype


def _sizes(value: object) -> tuple[int, ...]:
    if isinstance(value, Call) and value.name == "torch.Size" and value.args:
        value = value.args[0]
    if isinstance(value, tuple) and len(value) <= MAX_DIMENSIONS and all(map(_is_size, value)):
        return value
    raise PickleProblem("holds a tensor whose shape is none")


def _is_size(value: Any) -> TypeGuard[int]:
    return type(value) is int and value >= 0


def _shown(kind: object) -> str:
    return ascii(kind.name[:100])[1:-1] if isinstance(kind, Global) else "without a name"
