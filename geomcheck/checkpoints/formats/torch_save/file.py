"""Files of torch.save: tensors listed from headers alone, and read on request. Nothing in a file is executed."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from geomcheck.checkpoints.formats.torch_save.archive import MAX_PICKLE_BYTES, ZIP, Archive, ByteRange, read_archive
from geomcheck.checkpoints.formats.torch_save.pickle_data import Call, ForbiddenName, PickleProblem, read_pickle
from geomcheck.checkpoints.formats.torch_save.tensors import (
    Distributed,
    Packed,
    element_bytes,
    is_of_state_dicts,
    is_of_tensors,
    storage_key,
    tensor_of,
)
from geomcheck.checkpoints.inside import OpenedFile
from geomcheck.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

MAX_TENSOR_PICKLE_BYTES = 64 * 2**10
_WRAPPERS = ("state_dict", "model", "module", "model_state_dict")

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_COUNT = struct.Struct("<q")


class TorchFile:
    """A file of torch.save.

    Its pickle is read as data, so that no code in it can run, and whatever version of torch wrote it need not be
    installed. Storages are read when they are asked for. Nothing outside `root` is opened, whatever links say.
    """

    def __init__(self, path: Path, *, root: Path) -> None:
        self.path = path
        self._file = OpenedFile(path, root)

    @cached_property
    def tensors(self) -> Mapping[str, Packed | Distributed]:
        """The state dict: the mapping at the top, or the one mapping of tensors under a usual name. Raises RunError."""
        try:
            archive = self._archive()
            return _state_dict(read_pickle(io.BytesIO(archive.pickle), is_of_state_dicts).content, archive.storages)
        except ForbiddenName as problem:
            raise self._forbidden(problem.name) from problem
        except PickleProblem as problem:
            raise self._refuse(str(problem)) from problem

    def read(self, packed: Packed, at: tuple[int, ...] = ()) -> Tensor:
        """``tensor[at]``, of shape ``packed.shape[len(at):]``. Raises RunError."""
        self._file.require_unchanged()
        try:
            tensor = packed.at(at).read(self._file.resolved)
        except (OSError, ValueError, RuntimeError) as error:
            raise RunError(f"{self.path}: cannot be read: {error}") from error
        self._file.require_unchanged()
        return tensor

    def _archive(self) -> Archive:
        try:
            with self._file.resolved.open("rb") as file:
                nbytes = self._file.resolved.stat().st_size
                if file.read(len(ZIP)) == ZIP:
                    return read_archive(file, ByteRange(0, nbytes))
                return _read_legacy_archive(file, nbytes, is_of_state_dicts)
        except OSError as error:
            raise PickleProblem(f"cannot be read ({error})") from error

    def _forbidden(self, name: str) -> RunError:
        if not name.startswith("torch.distributed._shard"):
            return self._refuse(f"it names {name}, which no state dict needs; save the model's state_dict alone")
        return RunError(
            f"{self.path}: holds ShardedTensors (FSDP1 without a device mesh), which only the training framework "
            "can put together; merge the ranks there first (verl: python -m verl.model_merger merge "
            "--backend fsdp --local_dir ACTOR_DIR --target_dir OUT)"
        )

    def _refuse(self, why: str) -> RunError:
        return RunError(f"{self.path}: not read: {why}. Nothing in the file was executed")


def find_tensor(file: BinaryIO, within: ByteRange) -> Packed:
    """The one tensor at a place in `file`. Raises PickleProblem if there is something else."""
    archive = read_archive(file, within, max_pickle_bytes=MAX_TENSOR_PICKLE_BYTES)
    tensor = tensor_of(read_pickle(io.BytesIO(archive.pickle), is_of_tensors).content, archive.storages)
    if not isinstance(tensor, Packed):
        raise PickleProblem("holds something else than one plain tensor")
    return tensor


def read_object_pickle(file: BinaryIO, within: ByteRange, *, max_bytes: int) -> bytes:
    """The pickle of the object at a place in `file`, unread. Raises PickleProblem."""
    return read_archive(file, within, max_pickle_bytes=max_bytes).pickle


def _read_legacy_archive(file: BinaryIO, nbytes: int, allowed: Callable[[str], bool]) -> Archive:
    """The records of a file of `nbytes` from before torch 1.6; no storage is read.

    The pickles are a magic number, the protocol, the system, the content and the storages' keys. For each key, a count
    of elements and the elements follow. Raises PickleProblem where it is truncated, contradicts itself, or was not
    written by torch.save.
    """
    file.seek(0)
    head = io.BytesIO(file.read(MAX_PICKLE_BYTES))
    magic, protocol, system = (read_pickle(head, allowed).content for _ in range(3))
    if magic != _MAGIC or protocol != _PROTOCOL:
        raise PickleProblem("not written by torch.save, or by a torch before 0.4")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise PickleProblem("was written on a big-endian machine")
    start = head.tell()
    references = read_pickle(head, allowed).references
    pickle = head.getvalue()[start : head.tell()]
    sizes = {storage_key(reference): element_bytes(reference) for reference in references}
    keys = read_pickle(head, allowed).content
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or sorted(keys) != sorted(sizes):
        raise PickleProblem("its list of storages does not fit its tensors")
    storages: dict[str, ByteRange] = {}
    offset = head.tell()
    for key in keys:
        file.seek(offset)
        count = file.read(_COUNT.size)
        length = _COUNT.unpack(count)[0] * sizes[key] if len(count) == _COUNT.size else -1
        storages[key] = ByteRange(offset + _COUNT.size, length)
        offset += _COUNT.size + length
        if length < 0 or offset > nbytes:
            raise PickleProblem("truncated: its last storages are missing")
    return Archive(pickle, storages)


def _state_dict(top: object, storages: Mapping[str, ByteRange]) -> Mapping[str, Packed | Distributed]:
    if not isinstance(top, dict):
        raise PickleProblem(f"it holds a {_kind(top)}, not a state dict")
    inner = {key: value for key in _WRAPPERS if isinstance(value := top.get(key), dict)}
    states = {"the top level": top, **inner}
    tensors = {place: found for place, state in states.items() if (found := _tensors_in(state, storages))}
    if not tensors:
        raise PickleProblem(f"no tensors, neither at the top nor under one of {', '.join(_WRAPPERS)}")
    if len(tensors) > 1:
        raise PickleProblem(f"tensors under {' and '.join(tensors)}: which of them are the model's is not clear")
    ((place, found),) = tensors.items()
    for name, value in states[place].items():
        if not isinstance(name, str | int | float | None):
            raise PickleProblem(f"a mapping with a {type(name).__name__} as a key, which no state dict needs")
        if name not in found and not isinstance(value, bool | int | float | str | None):
            raise PickleProblem(f"its entry {str(name)[:100]!r} is a {_kind(value)}, no tensor and no plain value")
    return found


def _tensors_in(mapping: Mapping[object, object], storages: Mapping[str, ByteRange]) -> dict[str, Packed | Distributed]:
    read = {name: tensor_of(value, storages) for name, value in mapping.items()}
    return {name: tensor for name, tensor in read.items() if tensor is not None and isinstance(name, str)}


def _kind(value: object) -> str:
    return value.name if isinstance(value, Call) else type(value).__name__
