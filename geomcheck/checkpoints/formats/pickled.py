"""Whole state dicts as torch.save writes them: ``pytorch_model.bin``, its shards, or one plain ``.pt``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from geomcheck.checkpoints.formats.directory import ModelDirectory, read_index
from geomcheck.checkpoints.formats.torch_save.file import TorchFile
from geomcheck.checkpoints.formats.torch_save.tensors import Packed
from geomcheck.checkpoints.formats.unread import zero_to_fp32
from geomcheck.checkpoints.source import Stored
from geomcheck.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

SINGLE = "pytorch_model.bin"
INDEX = "pytorch_model.bin.index.json"

_ZERO = "mp_rank_00_model_states.pt"
_PLAIN = re.compile(
    r"pytorch_model_fsdp\.bin"
    r"|(?:pytorch_model|model|model_states?|model_state_dict|state_dict|weights|checkpoint|consolidated)\.(?:pt|pth)"
    r"|consolidated\.[0-9]{2}\.pth"
)
_ZERO_PART = re.compile(r"(?:zero_pp_rank_[0-9]+_)?mp_rank_[0-9]+_model_states\.pt|layer_[0-9_a-z]+_model_states\.pt")


def holds_pickled(directory: Path) -> bool:
    """Whether `directory` holds a state dict under one of the names that mean a model: never an optimizer's, a
    scheduler's or a random state."""
    return any((directory / name).exists() for name in (SINGLE, INDEX)) or bool(_candidates(directory))


def _candidates(directory: Path) -> list[str]:
    names = sorted(entry.name for entry in directory.iterdir())
    return [name for name in names if _PLAIN.fullmatch(name) or _ZERO_PART.fullmatch(name)]


class PickledDirectory(ModelDirectory):
    """The weights of one state dict of torch.save.

    ``pytorch_model.bin`` goes before its index, and both before a plain ``.pt`` or ``.pth``, of which there must
    be one. A file called `single` goes before all others.
    """

    layout = "PyTorch pickle"

    def __init__(self, path: Path, *, root: Path | None = None, single: str = SINGLE) -> None:
        super().__init__(path, root=root)
        self._single = single
        self._opened: dict[str, TorchFile] = {}

    @cached_property
    def weights(self) -> Mapping[str, Stored]:
        """Every tensor by name, from the pickles alone. Raises RunError."""
        return {name: self._packed(name).stored for name in self._files}

    @property
    def files(self) -> tuple[Path, ...]:
        """The pickles, and what names them."""
        index = [INDEX] if self._indexed else []
        return tuple(self.path / name for name in sorted({*self._files.values(), *index}))

    def read(self, name: str, at: tuple[int, ...] = ()) -> Tensor:
        """One tensor, in its storage dtype. Raises RunError."""
        return self._open(self._files[name]).read(self._packed(name), at)

    @property
    def _indexed(self) -> bool:
        return not (self.path / self._single).exists() and (self.path / INDEX).exists()

    @cached_property
    def _files(self) -> Mapping[str, str]:
        """File name by tensor name."""
        if not self._indexed:
            file = self._single if (self.path / self._single).exists() else self._plain()
            tensors = self._open(file).tensors
            if _ZERO_PART.fullmatch(file) and any(0 in tensor.shape for tensor in tensors.values()):
                raise self._partitioned(file)
            return dict.fromkeys(sorted(tensors), file)
        return read_index(self.path / INDEX, self._root, lambda file: self._open(file).tensors)

    def _plain(self) -> str:
        """The one file that is the model. Raises RunError."""
        found = _candidates(self.path)
        if (parts := [name for name in found if _ZERO_PART.fullmatch(name)]) and parts != [_ZERO]:
            raise self._partitioned(parts[0])
        if len(found) != 1:
            raise RunError(
                f"{self.path}: {', '.join(found) or 'no file'} could be the model's state dict; keep exactly one of "
                f"them here (parts of one model must be merged first), or name it {SINGLE}"
            )
        return found[0]

    def _partitioned(self, file: str) -> RunError:
        return RunError(
            f"{self.path / file}: a part of a DeepSpeed checkpoint (ZeRO-3, or split over ranks), not whole weights; "
            f"{zero_to_fp32(self.path.name)}"
        )

    def _packed(self, name: str) -> Packed:
        file = self._open(self._files[name])
        tensor = file.tensors[name]
        if not isinstance(tensor, Packed):
            raise RunError(
                f"{file.path}: {name} is a DTensor, one rank's part of a weight, in a file that should hold whole "
                "ones; save the full state dict, or one file per rank (model_world_size_W_rank_R.pt)"
            )
        return tensor

    def _open(self, file: str) -> TorchFile:
        if file not in self._opened:
            self._opened[file] = TorchFile(self.path / file, root=self._root)
        return self._opened[file]
