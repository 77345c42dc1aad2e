"""Files of torch.save: tensors listed from headers alone, and read on request. Nothing in a file is executed."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from geomcheck.checkpoints.formats.torch_save.archive import ZIP, Archive, ByteRange, read_archive
from geomcheck.checkpoints.formats.torch_save.legacy import read_legacy_archive
from geomcheck.checkpoints.formats.torch_save.pickle_data import Call, ForbiddenName, PickleProblem, read_pickle
from geomcheck.checkpoints.formats.torch_save.tensors import (
    Distributed,
    Packed,
    is_of_state_dicts,
    is_of_tensors,
    tensor_of,
)
from geomcheck.checkpoints.inside import OpenedFile
from geomcheck.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

MAX_TENSOR_PICKLE_BYTES = 64 * 2**10
_WRAPPERS = ("state_dict", "model", "module", "model_state_dict")


class TorchFile:
    """A file of torch.save.

    Its pickle is read as data, so that no code in it can run, and whatever version of torch wrote it need not be
    installed. Storages are read when they are asked for.

    Args:
        path: the file.
        root: nothing outside this directory is opened, whatever links say.
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
                return read_legacy_archive(file, nbytes, is_of_state_dicts)
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
