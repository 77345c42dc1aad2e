"""From a pickle, read as data, to the tensors that it describes: where their elements lie, and how."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from geomcheck.checkpoints.formats.pickles import Made, Name, PickleProblem, Reference
from geomcheck.checkpoints.formats.torch_dtypes import STORAGES, UNTYPED, called, dtype_named, storage_dtype
from geomcheck.checkpoints.formats.torch_records import Place, storage_key
from geomcheck.checkpoints.source import Stored

_REBUILD = {
    Name("torch._utils", "_rebuild_tensor"),
    Name("torch._utils", "_rebuild_tensor_v2"),
    Name("torch._utils", "_rebuild_tensor_v3"),
}
_PARAMETER = {Name("torch._utils", "_rebuild_parameter"), Name("torch._utils", "_rebuild_parameter_with_state")}
_FROM_TYPE = Name("torch._tensor", "_rebuild_from_type_v2")
_WRAPPER = Name("torch._utils", "_rebuild_wrapper_subclass")
_PLAIN_TYPES = {Name("torch", "Tensor"), Name("torch._tensor", "Tensor"), Name("torch.nn.parameter", "Parameter")}
_HARMLESS = {
    *_REBUILD,
    *_PARAMETER,
    *_PLAIN_TYPES,
    *(_FROM_TYPE, _WRAPPER, UNTYPED),
    *(Name("torch", storage) for storage in STORAGES),
    *(Name("torch", "Size"), Name("torch", "device"), Name("torch.serialization", "_get_layout")),
    Name("collections", "OrderedDict"),
}
_DTENSOR_MODULES = ("torch.distributed.tensor", "torch.distributed._tensor", "torch.distributed.device_mesh")
_MESH_LAYOUT = "torch.distributed._mesh_layout"


@dataclass(frozen=True)
class Packed:
    """A tensor in a file: where its storage lies, and how its elements lie in it (counted in elements)."""

    place: Place
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def stored(self) -> Stored:
        """Its shape and format."""
        return Stored(self.shape, called(self.dtype))


@dataclass(frozen=True)
class Distributed:
    """A DTensor: one rank's part of a tensor of the given `shape`, and its sharding as the pickle describes it."""

    shape: tuple[int, ...]
    local: Packed
    spec: Mapping[str, object]


def is_harmless(name: Name) -> bool:
    """Whether a state dict of tensors may name this global."""
    return (
        name in _HARMLESS
        or dtype_named(name) is not None
        or name.module == _MESH_LAYOUT
        or any(name.module == module or name.module.startswith(f"{module}.") for module in _DTENSOR_MODULES)
    )


def element_bytes(reference: Reference) -> int:
    """Size of one element of the storage that is referred to. Raises PickleProblem."""
    match reference.to:
        case ("storage", kind, *_) if (dtype := storage_dtype(kind)) is not None:
            return dtype.itemsize
    raise PickleProblem("refers to a storage of an unknown type")


def tensor_of(value: object, storages: Mapping[str, Place]) -> Packed | Distributed | None:
    """The tensor that `value` describes; None if it is none.

    Raises:
        PickleProblem: it does not lie in its storage, or is of a class that is not read.
    """
    if not isinstance(value, Made):
        return None
    match value.args:
        case (data, *_) if value.by in _PARAMETER:
            return tensor_of(data, storages) if isinstance(data, Made) and data.by not in _PARAMETER else None
        case (Name() as function, kind, tuple(args), *_) if value.by == _FROM_TYPE and function in _REBUILD:
            if not isinstance(kind, Name) or kind not in _PLAIN_TYPES:
                raise PickleProblem(f"holds a tensor of the class {_shown(kind)}, which is not read")
            return _packed(args, storages)
        case (function, _, (kind, _, shape, *_), state) if value.by == _FROM_TYPE and function == _WRAPPER:
            return _distributed(kind, shape, state, storages)
        case args if value.by in _REBUILD:
            return _packed(args, storages)
    return None


def _distributed(kind: object, shape: object, state: object, storages: Mapping[str, Place]) -> Distributed:
    if not isinstance(kind, Name) or kind.name != "DTensor":
        raise PickleProblem(f"holds a tensor of the class {_shown(kind)}, which is not read")
    match state[1] if isinstance(state, tuple) and len(state) == 2 else state:  # (attributes, slots), or attributes
        case {"_local_tensor": Made() as data, "_spec": Made(state=dict(spec))}:
            local = tensor_of(data, storages)
            if isinstance(local, Packed):
                return Distributed(_sizes(shape), local, spec)
    raise PickleProblem("holds a DTensor in a form that is not known; was it written by a newer torch?")


def _packed(args: tuple[object, ...], storages: Mapping[str, Place]) -> Packed:
    """A plain tensor. Raises PickleProblem unless it lies in its storage, and its elements do not share bytes."""
    match args:
        case (Reference() as reference, int(offset), shape, stride, *rest):
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


def _place(reference: Reference, storages: Mapping[str, Place]) -> Place:
    """Where a storage lies. Raises PickleProblem unless it is there, as large as the pickle says."""
    key = storage_key(reference)
    match reference.to:
        case (_, _, _, _, int(count)) | (_, _, _, _, int(count), None) if key in storages:
            if count * element_bytes(reference) == storages[key].nbytes:
                return storages[key]
    raise PickleProblem(f"its storage {key[:100]!r} is missing, or not as large as its tensors need")


def _fits(packed: Packed) -> bool:
    if packed.offset < 0 or len(packed.shape) != len(packed.stride) or max(packed.shape, default=0) >= 2**48:
        return False
    elements = packed.place.nbytes // packed.dtype.itemsize
    numel = math.prod(packed.shape)
    last = packed.offset + sum((size - 1) * step for size, step in zip(packed.shape, packed.stride, strict=True))
    return numel == 0 or (numel <= elements and last < elements and max(packed.stride, default=0) < 2**48)


def _dtype(reference: Reference, rest: list[object]) -> torch.dtype:
    """Of the storage, or, where that is untyped, of the tensor: `rest` is requires_grad, hooks, the dtype then, and
    marks (a conjugate or negative view) that change what the elements mean, of which there must be none."""
    match reference.to:
        case (_, kind, *_) if kind == UNTYPED and len(rest) > 2 and isinstance(rest[2], Name):
            dtype, marks = dtype_named(rest[2]), rest[3:]
        case (_, kind, *_):
            dtype, marks = storage_dtype(kind), rest[2:]
    if dtype is None or any(marks):
        raise PickleProblem(
            f"holds a tensor of a type that is not read ({_shown(kind)}); was it written by a newer torch?"
        )
    return dtype


def _sizes(value: object) -> tuple[int, ...]:
    if isinstance(value, Made) and value.by == Name("torch", "Size") and value.args:
        value = value.args[0]
    if isinstance(value, tuple) and all(type(size) is int and size >= 0 for size in value) and len(value) <= 16:
        return value
    raise PickleProblem("holds a tensor whose shape is none")


def _shown(kind: object) -> str:
    return str(kind) if isinstance(kind, Name) else "without a name"
