"""One tensor that ``torch.save`` wrote, read in place: which bytes it is, and any slice of it.

`torch.load` would read the whole of it for one slice, and its ``weights_only`` mode still allocates what a
pickle asks for. Here the pickle is only looked at, and the bytes that it describes are all that is read.
"""

from __future__ import annotations

import io
import struct
import zipfile
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, BinaryIO

from geomcheck.checkpoints.formats.inert import PERSISTENT, Call, Global, read_pickle

if TYPE_CHECKING:
    from torch import Tensor

DTYPES = {
    "bfloat16": ("bf16", 2),
    "float16": ("fp16", 2),
    "float32": ("fp32", 4),
    "float64": ("fp64", 8),
    "float8_e4m3fn": ("F8_E4M3", 1),
    "float8_e5m2": ("F8_E5M2", 1),
    "float8_e8m0fnu": ("F8_E8M0", 1),
    "int8": ("I8", 1),
    "uint8": ("U8", 1),
    "int16": ("I16", 2),
    "int32": ("I32", 4),
    "int64": ("I64", 8),
    "bool": ("BOOL", 1),
}
"""Storage format and bytes per element, by torch's name."""

MAX_TENSOR_PICKLE_BYTES = 64 * 2**10
MAX_READ_BYTES = 16 * 2**20
"""Of anything but elements: no more than this is read at once, whatever the file says of its parts."""

_STORAGES = {
    "torch.BFloat16Storage": "bfloat16",
    "torch.HalfStorage": "float16",
    "torch.FloatStorage": "float32",
    "torch.DoubleStorage": "float64",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.ShortStorage": "int16",
    "torch.IntStorage": "int32",
    "torch.LongStorage": "int64",
    "torch.BoolStorage": "bool",
}
_TENSOR = "torch._utils._rebuild_tensor_v2"
_TENSOR_OF_BYTES = "torch._utils._rebuild_tensor_v3"
_OF_TENSORS = {
    _TENSOR,
    _TENSOR_OF_BYTES,
    "torch.storage.UntypedStorage",
    "collections.OrderedDict",
    *_STORAGES,
    *(f"torch.{name}" for name in DTYPES),
}


@dataclass(frozen=True)
class TensorInFile:
    """Where a tensor's elements are.

    Attributes:
        shape: its dimensions.
        strides: distance of neighbours along each dimension, in elements.
        dtype: torch's name of its type (``bfloat16``).
        start: byte of the file where its storage starts.
        first: element of the storage that comes first.
        elements: length of the storage, in elements.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    start: int
    first: int
    elements: int

    def read(self, file: BinaryIO, at: tuple[int, ...] = ()) -> Tensor:
        """``tensor[at]``, and no more bytes than that where the tensor is contiguous.

        Raises:
            ValueError: the file ends before.
        """
        if not self._is_contiguous:
            storage = self._elements(file, 0, self.elements)
            return storage.as_strided(self.shape, self.strides, self.first)[at]
        shape = self.shape[len(at) :]
        first = self.first + sum(index * stride for index, stride in zip(at, self.strides, strict=False))
        return self._elements(file, first, prod(shape)).view(shape)

    @property
    def _is_contiguous(self) -> bool:
        """Whether the elements follow one another, the last dimension fastest."""
        follow = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size > 1 and stride != follow:
                return False
            follow *= size
        return True

    def _elements(self, file: BinaryIO, first: int, count: int) -> Tensor:
        import torch

        dtype = getattr(torch, self.dtype)
        if count == 0:
            return torch.empty(0, dtype=dtype)
        width = DTYPES[self.dtype][1]
        content = bytearray(count * width)
        file.seek(self.start + first * width)
        if file.readinto(content) != len(content):  # type: ignore[attr-defined]
            raise ValueError("the file ends within a tensor")
        return torch.frombuffer(content, dtype=dtype)


def find_tensor(file: BinaryIO, start: int, length: int) -> TensorInFile:
    """The tensor in these bytes of `file`.

    Raises:
        ValueError: they are not what ``torch.save`` writes for one plain tensor.
    """
    archive = _Archive(file, start, length)
    tensor = read_pickle(archive.pickled(MAX_TENSOR_PICKLE_BYTES), _OF_TENSORS.__contains__)
    if not isinstance(tensor, Call) or tensor.name not in (_TENSOR, _TENSOR_OF_BYTES) or len(tensor.args) < 6:
        raise ValueError("holds something else than one plain tensor")
    storage, first, shape, strides, *_ = tensor.args
    key, elements, dtype = _storage(storage, tensor)
    if archive.byteorder() != b"little":
        raise ValueError("was written by a big-endian machine")
    if not (_are_sizes(shape) and _are_sizes(strides) and _are_sizes((first,)) and len(shape) == len(strides)):
        raise ValueError("holds a tensor with a shape that is none")
    last = first + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if prod(shape) and last >= elements:
        raise ValueError("holds a tensor that reaches beyond its storage")
    position, size = archive.member(f"data/{key}")
    if size != elements * DTYPES[dtype][1]:
        raise ValueError(f"holds a storage of {size} bytes where {elements} elements of {dtype} are announced")
    return TensorInFile(shape, strides, dtype, start + position, first, elements)


def read_object_pickle(file: BinaryIO, start: int, length: int, *, max_bytes: int) -> bytes:
    """The pickle of any object that ``torch.save`` wrote to these bytes of `file`, unread. Raises ValueError."""
    return _Archive(file, start, length).pickled(max_bytes)


def _storage(storage: Any, tensor: Call) -> tuple[str, int, str]:
    """Key of the storage, number of elements, torch's name of their type."""
    pid = storage.args[0] if isinstance(storage, Call) and storage.what is PERSISTENT else None
    if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage" or not isinstance(pid[1], Global):
        raise ValueError("holds a tensor without a storage")
    _, kind, key, _, count = pid
    if not isinstance(key, str) or not key.isdigit() or not _are_sizes((count,)):
        raise ValueError("holds a tensor whose storage has no number or size")
    if tensor.name == _TENSOR:
        dtype = _STORAGES.get(kind.name)
    else:
        last = tensor.args[6] if len(tensor.args) > 6 else None
        dtype = last.name.removeprefix("torch.") if isinstance(last, Global) else None
    if dtype not in DTYPES:
        raise ValueError(f"holds a tensor of an unknown type ({kind.name})")
    return key, count if tensor.name == _TENSOR else count // DTYPES[dtype][1], dtype


def _are_sizes(values: Any) -> bool:
    return isinstance(values, tuple) and len(values) <= 64 and all(type(n) is int and 0 <= n < 2**62 for n in values)


class _Archive:
    """The zip file that ``torch.save`` writes, at some bytes of another file: nothing in it is compressed."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self._window = _Window(file, start, length)
        try:
            with zipfile.ZipFile(self._window) as archive:
                members = archive.infolist()
        except (zipfile.BadZipFile, struct.error, NotImplementedError, OSError, EOFError) as error:
            raise ValueError(f"is not what torch.save writes ({error})") from error
        self._members = {member.filename.partition("/")[2]: member for member in members}
        if len(self._members) != len(members) or any(member.compress_type for member in members):
            raise ValueError("is not what torch.save writes (compressed, or two members of one name)")

    def member(self, name: str) -> tuple[int, int]:
        """Start and length of a member's content, in bytes of the window."""
        member = self._members.get(name)
        if member is None:
            raise ValueError(f"is not what torch.save writes (no {name[:50]})")
        self._window.seek(member.header_offset)
        header = self._window.read(30)
        if len(header) != 30 or not header.startswith(b"PK\3\4"):
            raise ValueError(f"is not what torch.save writes (no {name[:50]} where its directory says)")
        position = member.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))
        if position + member.file_size > self._window.length:
            raise ValueError(f"is not what torch.save writes ({name[:50]} is cut off)")
        return position, member.file_size

    def pickled(self, max_bytes: int) -> bytes:
        return self._content("data.pkl", max_bytes)

    def byteorder(self) -> bytes:
        return self._content("byteorder", 16) if "byteorder" in self._members else b"little"

    def _content(self, name: str, max_bytes: int) -> bytes:
        position, size = self.member(name)
        if size > max_bytes:
            raise ValueError(f"has a {name} of {size} bytes, more than the {max_bytes} that it can need")
        self._window.seek(position)
        return self._window.read(size)


class _Window(io.RawIOBase):
    """Some bytes of a file, as a file of their own."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        super().__init__()
        self._file = file
        self._start = start
        self._position = 0
        self.length = length

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.length}[whence]
        if origin + offset < 0:
            raise OSError("before the start")
        self._position = origin + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        left = max(0, self.length - self._position)
        count = left if size is None or size < 0 else min(size, left)
        if count == 0:
            return b""
        if count > MAX_READ_BYTES:
            raise ValueError(f"is not what torch.save writes (a directory of {count} bytes)")
        self._file.seek(self._start + self._position)
        content = self._file.read(count)
        self._position += len(content)
        return content
