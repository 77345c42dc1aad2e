"""Factorizations of W0 on disk, by the digest of the weight that they belong to.

One safetensors file per weight: its name holds the identity of the code that made it, and its header a digest of the
tensors. A file that does not match is removed. Threads may share a shelf.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from geomcheck._lazy import late
from geomcheck.measurement.cache.identity import code
from geomcheck.measurement.cache.shelf import Shelf
from geomcheck.measurement.content import digest, fingerprint

if TYPE_CHECKING:
    from safetensors import torch as files
    from torch import Tensor
else:
    files = late("safetensors.torch")


NAMES = r"(?:[0-9a-z]+-)?[0-9a-f]{32}-[0-9a-f]{32}\.safetensors"
HEADER_BYTES = 4096
"""More than the header of such a file takes."""


def load(shelf: Shelf, weight: str, *, max_bytes: int) -> dict[str, Tensor] | None:
    """The tensors stored for the W0 with the digest `weight`, by name on the CPU; None where there are none, or they
    take more than `max_bytes`."""
    path = shelf.find(_name(weight), max_bytes=max_bytes + HEADER_BYTES)
    if path is None:
        return None
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            complete = (file.metadata() or {}).get("content") == _content(state)
    except (SafetensorError, OSError, RuntimeError, TypeError):
        complete = False
    if not complete:
        shelf.discard(path.name)
        return None
    return state


def keep(shelf: Shelf, weight: str, state: Mapping[str, Tensor]) -> None:
    """Store `state`, tensors by name, for the W0 with the digest `weight`, if there is room."""
    tensors = {name: tensor.contiguous().cpu() for name, tensor in state.items()}
    size = sum(tensor.nbytes for tensor in tensors.values())
    shelf.keep(_name(weight), lambda path: _write(tensors, path), size=size)


def _write(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write `tensors` to `path`. Raises OSError."""
    try:
        files.save_file(dict(tensors), path, metadata={"content": _content(tensors)})
    except SafetensorError as error:  # what safetensors makes of a full disk
        raise OSError(str(error)) from error


def _name(weight: str) -> str:
    return f"{weight.replace(':', '-')}-{code()}.safetensors"  # no file on Windows has a colon in its name


def _content(state: Mapping[str, Tensor]) -> str:
    return fingerprint({name: digest(tensor) for name, tensor in state.items()})
