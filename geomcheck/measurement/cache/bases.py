"""Factorizations of W0 on disk, by the digest of the weight that they belong to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from geomcheck._lazy import late
from geomcheck.measurement.cache.identity import code
from geomcheck.measurement.cache.shelf import Shelf
from geomcheck.measurement.content import digest

if TYPE_CHECKING:
    from safetensors import torch as files
    from torch import Tensor
else:
    files = late("safetensors.torch")


class Bases:
    """Tensors by name, for one W0 each.

    One safetensors file per weight: its name holds the identity of the code that made it, and its header a digest
    of the tensors. A file that does not match is removed. Threads may share this.

    Args:
        shelf: where the files lie.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def load(self, weight: str) -> dict[str, Tensor] | None:
        """The tensors stored for the W0 with the digest `weight`, on the CPU; None where there are none."""
        path = self._shelf.find(_name(weight))
        if path is None:
            return None
        try:
            with safe_open(path, framework="pt") as file:
                state = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
                complete = (file.metadata() or {}).get("content") == _content(state)
        except (SafetensorError, OSError, RuntimeError, TypeError):
            complete = False
        if not complete:
            self._shelf.discard(path)
            return None
        return state

    def keep(self, weight: str, state: Mapping[str, Tensor]) -> None:
        """Keep `state` for the W0 with the digest `weight`, if there is room."""
        tensors = {name: tensor.contiguous().cpu() for name, tensor in state.items()}
        self._shelf.keep(
            _name(weight),
            lambda path: _write(tensors, path),
            size=sum(tensor.nbytes for tensor in tensors.values()),
        )


def _write(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write `tensors` to `path`. Raises OSError."""
    try:
        files.save_file(dict(tensors), path, metadata={"content": _content(tensors)})
    except SafetensorError as error:  # what safetensors makes of a full disk
        raise OSError(str(error)) from error


def _name(weight: str) -> str:
    return f"{weight}-{code()}.safetensors"


def _content(state: Mapping[str, Tensor]) -> str:
    parts = "".join(f"{name}={digest(state[name])}\n" for name in sorted(state))
    return hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()
