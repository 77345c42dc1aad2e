"""Read the ``.metadata`` of a torch distributed checkpoint: tensors, their chunks, and where each chunk lies."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, TypeGuard

from geomcheck._gc import lasting
from geomcheck.checkpoints.formats.dtypes import DTYPES, Dtype, dtype_named
from geomcheck.checkpoints.formats.torch_save.archive import ByteRange
from geomcheck.checkpoints.formats.torch_save.pickle_data import Call, Global, read_pickle

MAX_DIMENSIONS = 6
MAX_OVERHEAD_BYTES = 2**20

_ALLOWED = re.compile(
    r"torch\.distributed\.checkpoint\.(?:(?:metadata|planner|default_planner)\.\w+|filesystem\._Storage(?:Info|Prefix))"
    r"|torch\.distributed\._shard\.sharded_tensor\.metadata\.(?:TensorProperties|MEM_FORMAT_ENCODING)"
    r"|torch\.(?:Size|bool|u?int\d+|float\d+(?:_\w+)?|bfloat16|complex\d+)"
    r"|torch\.serialization\._get_layout"
    r"|pathlib\.(?:_local\.)?(?:Pure)?(?:Posix|Windows)?Path"
    r"|collections\.OrderedDict"
    r"|megatron\.[\w.]+"
)
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@ -]*")
_MAX_NAME = 1000


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes of a file in the checkpoint's directory."""

    file: str
    within: ByteRange


_Places = dict[tuple[str, tuple[int, ...] | None], Extent]
"""Where each chunk lies, by tensor and offset, and each object that is no tensor, by name and None."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A block of a tensor: its offset and shape within the tensor, and where it lies."""

    offsets: tuple[int, ...]
    shape: tuple[int, ...]
    place: Extent


@dataclass(frozen=True)
class Entry:
    """One tensor: chunks that tile it exactly.

    Attributes:
        shape: its dimensions.
        dtype: its element type.
        chunks: non-empty ones only, in the order of the metadata.
    """

    shape: tuple[int, ...]
    dtype: Dtype
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True)
class Metadata:
    """What is needed of a ``.metadata`` file.

    Attributes:
        tensors: those that were wanted.
        objects: where the objects lie that are no tensors.
        ends: length that each file of the checkpoint must have.
    """

    tensors: Mapping[str, Entry]
    objects: Mapping[str, Extent]
    ends: Mapping[str, int]


def read_metadata(content: bytes, *, wanted: Callable[[str], bool]) -> Metadata:
    """Read a ``.metadata`` file, running nothing of it.

    Args:
        content: the file.
        wanted: which tensors to list, by name; their chunks must tile them.

    Raises:
        ValueError: it is damaged, would run code, is none, or contradicts itself.
    """
    with lasting():
        metadata = read_pickle(io.BytesIO(content), lambda name: _ALLOWED.fullmatch(name) is not None).content
        return _metadata(metadata, wanted)


def _metadata(metadata: Any, wanted: Callable[[str], bool]) -> Metadata:
    if not isinstance(metadata, Call):
        raise ValueError("holds no metadata of a checkpoint")
    stored = _mapping(metadata, "state_dict_metadata")
    places = _places(_mapping(metadata, "storage_data"))
    tensors = [(_name(name), tensor) for name, tensor in stored.items() if _kind(tensor) == "TensorStorageMetadata"]
    placed = Counter(name for name, _ in places)
    ends: dict[str, int] = {}
    for place in places.values():
        ends[place.file] = max(ends.get(place.file, 0), place.within.offset + place.within.nbytes)
    return Metadata(
        tensors={
            name: _entry(name, tensor.attributes, places, placed[name]) for name, tensor in tensors if wanted(name)
        },
        objects={name: place for (name, offset), place in places.items() if offset is None},
        ends=ends,
    )


def _entry(name: str, state: Mapping[Any, Any], places: _Places, placed: int) -> Entry:
    """One tensor, whose chunks must tile it; as many as are `placed`, so that no list is gone through in vain."""
    shape, dtype = _sizes(state.get("size"), name), _dtype(state.get("properties"), name)
    chunks = state.get("chunks")
    if not isinstance(chunks, list):
        raise ValueError(f"{name} has no list of chunks")
    if len(chunks) > placed:
        raise ValueError(f"{name} has {len(chunks)} chunks, of which {len(chunks) - placed} lie in no file")
    found = [_chunk(name, chunk, dtype, places) for chunk in chunks]
    if not _tile(shape, found):
        raise ValueError(
            f"the {len(found)} chunks of {name} do not tile {list(shape)} exactly: there is a gap or an overlap"
        )
    return Entry(shape, dtype, tuple(chunk for chunk in found if prod(chunk.shape)))


def _chunk(name: str, chunk: Any, dtype: Dtype, places: _Places) -> Chunk:
    state = chunk.attributes if isinstance(chunk, Call) else {}
    offsets, shape = _sizes(state.get("offsets"), name), _sizes(state.get("sizes"), name)
    place = places.get((name, offsets))
    if place is None:
        raise ValueError(f"{name} has a chunk at {list(offsets)} that lies in no file")
    content = prod(shape) * dtype.nbytes
    if not content <= place.within.nbytes <= content + MAX_OVERHEAD_BYTES:
        raise ValueError(
            f"gives {place.within.nbytes} bytes to the chunk of {name} at {list(offsets)}, which has {list(shape)} "
            f"elements of {dtype}"
        )
    return Chunk(offsets, shape, place)


def _places(storage: Mapping[Any, Any]) -> _Places:
    """Where everything lies."""
    places: _Places = {}
    for index, info in storage.items():
        if _kind(index) != "MetadataIndex" or _kind(info) != "_StorageInfo":
            raise ValueError("places something that is no chunk")
        name = _name(index.attributes.get("fqn"))
        offset = index.attributes.get("offset")
        key = (name, None if offset is None else _sizes(offset, name))
        if key in places:
            raise ValueError(f"places a chunk of {name} twice")
        places[key] = _extent(info.attributes, name)
    return places


def _extent(state: Mapping[Any, Any], name: str) -> Extent:
    file, start, length = (state.get(field) for field in ("relative_path", "offset", "length"))
    if not isinstance(file, str) or not _FILE_NAME.fullmatch(file[:256]) or len(file) > 255:
        raise ValueError(
            f"places {name} in {str(file)[:100]!r}; chunks must be in files with plain names in the same directory"
        )
    if not (_is_size(start) and _is_size(length)):
        raise ValueError(f"places {name} at an offset or with a length that is none")
    if state.get("transform_descriptors"):
        raise ValueError(
            f"{name} is compressed or otherwise transformed; load the checkpoint with torch and save it again "
            "without extensions"
        )
    return Extent(file, ByteRange(start, length))


def _tile(shape: tuple[int, ...], chunks: list[Chunk]) -> bool:
    """Whether the chunks cover every element of a tensor once, and nothing else.

    The sum of the chunks' indicator functions is the tensor's if and only if their mixed differences are equal, and
    that of a box is +1 or -1 at its corners.
    """
    if any(len(chunk.offsets) != len(shape) or len(chunk.shape) != len(shape) for chunk in chunks):
        return False
    difference: Counter[tuple[int, ...]] = Counter()
    difference.update(dict(_corners((0,) * len(shape), shape)))
    for chunk in chunks:
        for corner, sign in _corners(chunk.offsets, chunk.shape):
            difference[corner] -= sign
    return not any(difference.values())


def _corners(offsets: tuple[int, ...], shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], int]]:
    """The corners of a box, with the sign that each has in the mixed difference of its indicator; none if empty."""
    if not all(shape):
        return
    for upper in product((0, 1), repeat=len(shape)):
        corner = tuple(o + u * s for o, u, s in zip(offsets, upper, shape, strict=True))
        yield corner, (-1) ** sum(upper)


def _kind(value: Any) -> str:
    return value.what.leaf if isinstance(value, Call) else ""


def _mapping(metadata: Call, name: str) -> Mapping[Any, Any]:
    value = metadata.attributes.get(name)
    if not isinstance(value, dict):
        raise ValueError(f"holds no metadata of a checkpoint (no {name})")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_NAME or not value.isprintable():
        raise ValueError("names a tensor with something that is no name")
    return value


def _dtype(properties: Any, name: str) -> Dtype:
    """The element type: the first field, whether the state is a tuple or goes by name."""
    state = properties.state if isinstance(properties, Call) else None
    dtype = state.get("dtype") if isinstance(state, dict) else state[0] if isinstance(state, tuple) and state else None
    known = dtype_named(dtype.name) if isinstance(dtype, Global) else None
    if known is None:
        shown = dtype.name.removeprefix("torch.") if isinstance(dtype, Global) else "none"
        raise ValueError(f"{name} has the type {shown}, which is not among {', '.join(DTYPES)}")
    return known


def _sizes(value: Any, name: str) -> tuple[int, ...]:
    """The entries of a ``torch.Size``."""
    if isinstance(value, Call) and value.name == "torch.Size" and len(value.args) == 1:
        value = value.args[0]
    if not isinstance(value, tuple) or len(value) > MAX_DIMENSIONS or not all(_is_size(size) for size in value):
        raise ValueError(f"{name} has a size or offset that is none")
    return value


def _is_size(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < 2**62
