"""One file of torch.save: its tensors from headers alone, and one of them on request. Nothing in it is executed."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from geomcheck.checkpoints.formats.torch_save.elements import read_elements
from geomcheck.checkpoints.formats.torch_save.legacy import read_legacy_records
from geomcheck.checkpoints.formats.torch_save.pickle_data import Call, ForbiddenName, PickleProblem, read_pickle
from geomcheck.checkpoints.formats.torch_save.records import ZIP, Place, Records, read_records
from geomcheck.checkpoints.formats.torch_save.tensors import Distributed, Packed, is_of_state_dicts, tensor_of
from geomcheck.checkpoints.inside import identity, require_regular
from geomcheck.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

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
        self._resolved = require_regular(path, root)
        self._identity = identity(self._resolved)

    @cached_property
    def tensors(self) -> Mapping[str, Packed | Distributed]:
        """The state dict: the mapping at the top, or the one mapping of tensors under a usual name. Raises RunError."""
        try:
            records = self._records()
            return _state_dict(read_pickle(io.BytesIO(records.pickle), is_of_state_dicts).content, records.storages)
        except ForbiddenName as problem:
            raise self._forbidden(problem.name) from problem
        except PickleProblem as problem:
            raise self._refuse(str(problem)) from problem

    def read(self, packed: Packed, at: tuple[int, ...] = ()) -> Tensor:
        """A tensor, or one slice of it. Raises RunError."""
        self._require_unchanged()
        try:
            tensor = read_elements(self._resolved, packed.at(at))
        except (OSError, ValueError, RuntimeError) as error:
            raise RunError(f"{self.path}: cannot be read: {error}") from error
        self._require_unchanged()
        return tensor

    def _require_unchanged(self) -> None:
        if identity(self.path) != self._identity:
            raise RunError(f"{self.path}: changed or removed since it was opened; is the run still being written?")

    def _records(self) -> Records:
        try:
            with self._resolved.open("rb") as file:
                nbytes = self._resolved.stat().st_size
                if file.read(len(ZIP)) == ZIP:
                    return read_records(file, Place(0, nbytes))
                return read_legacy_records(file, nbytes, is_of_state_dicts)
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


def _state_dict(top: object, storages: Mapping[str, Place]) -> Mapping[str, Packed | Distributed]:
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


def _tensors_in(mapping: Mapping[object, object], storages: Mapping[str, Place]) -> dict[str, Packed | Distributed]:
    read = {name: tensor_of(value, storages) for name, value in mapping.items()}
    return {name: tensor for name, tensor in read.items() if tensor is not None and isinstance(name, str)}


def _kind(value: object) -> str:
    return value.name if isinstance(value, Call) else type(value).__name__
