"""One file of torch.save: its tensors from headers alone, and one of them on request. Nothing in it is executed."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from geomcheck.checkpoints.formats.pickles import Made, Name, PickleProblem
from geomcheck.checkpoints.formats.torch_records import Place, Records, read_records
from geomcheck.checkpoints.formats.torch_tensors import Distributed, Packed, element_bytes, is_harmless, tensor_of
from geomcheck.checkpoints.inside import identity, require_regular
from geomcheck.errors import RunError

_WRAPPERS = ("state_dict", "model", "module", "model_state_dict")


class TorchFile:
    """A file of torch.save.

    Its pickle is read as data, so that no code in it can run, and whatever version of torch wrote it need not be
    installed. Storages are mapped, not loaded.

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
        top = self._records.pickle.content
        if not isinstance(top, dict):
            raise self._refuse(f"it holds a {_kind(top)}, not a state dict")
        try:
            return self._state_dict(top)
        except PickleProblem as problem:
            raise self._refuse(str(problem)) from problem

    def _state_dict(self, top: dict[object, object]) -> Mapping[str, Packed | Distributed]:
        inner = {key: value for key in _WRAPPERS if isinstance(value := top.get(key), dict)}
        states = {"the top level": top, **inner}
        tensors = {place: found for place, state in states.items() if (found := self._tensors_in(state))}
        if not tensors:
            raise PickleProblem(f"no tensors, neither at the top nor under one of {', '.join(_WRAPPERS)}")
        if len(tensors) > 1:
            raise PickleProblem(f"tensors under {' and '.join(tensors)}: which of them are the model's is not clear")
        ((place, found),) = tensors.items()
        for name, value in states[place].items():
            if name not in found and not isinstance(value, bool | int | float | str | None):
                raise PickleProblem(f"its entry {str(name)[:100]!r} is a {_kind(value)}, no tensor and no plain value")
        return found

    def _tensors_in(self, mapping: Mapping[object, object]) -> dict[str, Packed | Distributed]:
        read = {name: tensor_of(value, self._records.storages) for name, value in mapping.items()}
        return {name: tensor for name, tensor in read.items() if tensor is not None and isinstance(name, str)}

    def read(self, packed: Packed) -> Tensor:
        """A tensor, memory-mapped. Raises RunError."""
        if identity(self.path) != self._identity:
            raise RunError(f"{self.path}: changed or removed since it was opened; is the run still being written?")
        if 0 in packed.shape:
            return torch.empty(packed.shape, dtype=packed.dtype)
        elements = packed.place.nbytes // packed.dtype.itemsize
        storage = self._map(packed.place)[: elements * packed.dtype.itemsize]
        if packed.place.offset % packed.dtype.itemsize:  # the legacy format aligns nothing
            storage = storage.clone()
        return storage.view(packed.dtype)[packed.offset :].as_strided(packed.shape, packed.stride)

    def _map(self, place: Place) -> Tensor:
        """The bytes of one storage, mapped for as long as the tensor lives."""
        start = place.offset - place.offset % mmap.ALLOCATIONGRANULARITY
        end = place.offset + place.nbytes
        try:
            with self._resolved.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), end - start, access=mmap.ACCESS_COPY, offset=start)
        except (OSError, ValueError) as error:
            raise RunError(f"{self.path}: cannot be mapped: {error}") from error
        return torch.frombuffer(mapped, dtype=torch.uint8, count=place.nbytes, offset=place.offset - start)

    @cached_property
    def _records(self) -> Records:
        try:
            records = read_records(self._resolved, element_bytes)
        except PickleProblem as problem:
            raise self._refuse(str(problem)) from problem
        strange = sorted(str(name) for name in records.pickle.names if not is_harmless(name))
        if any(name.startswith("torch.distributed._shard") for name in strange):
            raise RunError(
                f"{self.path}: holds ShardedTensors (FSDP1 without a device mesh), which only the training framework "
                "can put together; merge the ranks there first (verl: python -m verl.model_merger merge "
                "--backend fsdp --local_dir ACTOR_DIR --target_dir OUT)"
            )
        if strange:
            shown = ", ".join(strange[:3]) + (", ..." if len(strange) > 3 else "")
            raise self._refuse(f"it names {shown}, which no state dict needs; save the model's state_dict alone")
        return records

    def _refuse(self, why: str) -> RunError:
        return RunError(f"{self.path}: not read: {why}. Nothing in the file was executed")


def _kind(value: object) -> str:
    return str(value.by) if isinstance(value, Made) and isinstance(value.by, Name) else type(value).__name__
