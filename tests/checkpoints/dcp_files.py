"""Distributed checkpoints for tests: what torch writes, cut into any chunks, and what a hand may change in it."""

from __future__ import annotations

import io
import pickle
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

Box = tuple[tuple[int, ...], tuple[int, ...]]
"""Offsets and sizes of a chunk."""


def save(directory: Path, content: Mapping[str, object]) -> Path:
    """What ``torch.distributed.checkpoint.save`` writes from one process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no process group
        dcp.save(dict(content), checkpoint_id=directory, no_dist=True)
    return directory


def whole(tensor: Tensor) -> list[Box]:
    return [((0,) * tensor.ndim, tuple(tensor.shape))]


def by_layer(tensor: Tensor) -> list[Box]:
    """One chunk for each index of the leading dimension, as Megatron writes a stack."""
    inner = tuple(tensor.shape[1:])
    return [((layer, *(0 for _ in inner)), (1, *inner)) for layer in range(tensor.shape[0])]


def cut(offsets: Sequence[int], sizes: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(o, o + n) for o, n in zip(offsets, sizes, strict=True))


def save_chunks(
    directory: Path,
    tensors: Mapping[str, tuple[Tensor, list[Box]]],
    files: int = 1,
    objects: Mapping[str, object] | None = None,
) -> Path:
    """A checkpoint whose tensors are cut into the given chunks, dealt out to `files` files, with other `objects`."""
    directory.mkdir(parents=True, exist_ok=True)
    contents = [io.BytesIO() for _ in range(files)]
    metadata = Metadata(state_dict_metadata={}, storage_data={})
    for name, (tensor, boxes) in tensors.items():
        chunks = [ChunkStorageMetadata(torch.Size(o), torch.Size(n)) for o, n in boxes]
        metadata.state_dict_metadata[name] = TensorStorageMetadata(
            TensorProperties.create_from_tensor(tensor), tensor.size(), chunks
        )
        for number, (offsets, sizes) in enumerate(boxes):
            place = _add(contents, number % files, tensor[cut(offsets, sizes)].clone())
            metadata.storage_data[MetadataIndex(name, offsets)] = place
    for name, content in (objects or {}).items():
        metadata.state_dict_metadata[name] = BytesStorageMetadata()
        metadata.storage_data[MetadataIndex(name)] = _add(contents, 0, content)
    for number, file in enumerate(contents):
        (directory / f"__{number}_0.distcp").write_bytes(file.getvalue())
    (directory / ".metadata").write_bytes(pickle.dumps(metadata))
    return directory


def _add(contents: list[io.BytesIO], number: int, content: object) -> _StorageInfo:
    saved = io.BytesIO()
    torch.save(content, saved)
    start = contents[number].tell()
    contents[number].write(saved.getvalue())
    return _StorageInfo(f"__{number}_0.distcp", start, len(saved.getvalue()))


def rewrite(directory: Path, change: Callable[[Metadata], object]) -> Path:
    """Change the metadata in place."""
    path = directory / ".metadata"
    metadata = pickle.loads(path.read_bytes())
    change(metadata)
    path.write_bytes(pickle.dumps(metadata))
    return directory


def chunk_places(metadata: Metadata, name: str) -> list[MetadataIndex]:
    return [index for index in metadata.storage_data if index.fqn == name]


@contextmanager
def foreign_classes(*names: str) -> Iterator[list[type]]:
    """Classes of modules that are not installed where the checkpoint is read."""
    made = []
    before = dict(sys.modules)
    try:
        for name in names:
            module, _, leaf = name.rpartition(".")
            for depth in range(1, module.count(".") + 2):
                package = ".".join(module.split(".")[:depth])
                sys.modules.setdefault(package, types.ModuleType(package))
            cls = type(leaf, (), {"__module__": module})
            setattr(sys.modules[module], leaf, cls)
            made.append(cls)
        yield made
    finally:
        for module in set(sys.modules) - set(before):
            if module.startswith(("megatron", "slime")):
                del sys.modules[module]


def as_megatron_metadata(directory: Path) -> Path:
    """Let the metadata be of Megatron's own class, with a plan of Megatron's in it, as its core up to 0.15 does."""
    names = (
        "megatron.core.dist_checkpointing.strategies.torch.MCoreMetadata",
        "megatron.core.dist_checkpointing.strategies.torch.MCoreSavePlan",
    )
    path = directory / ".metadata"
    metadata = pickle.loads(path.read_bytes())
    with foreign_classes(*names) as (cls, plan_cls):
        own = cls()
        own.__dict__.update(vars(metadata))
        own.planner_data = {"plan": plan_cls()}
        own.mcore_data = {"decoder": {"nd_reformulated_orig_global_shape": (2, 3)}}
        path.write_bytes(pickle.dumps(own))
    return directory


class Runs:
    """A pickle of it runs `code` where it is loaded without care."""

    def __init__(self, function: Callable[..., object], *args: object) -> None:
        self._reduced = function, args

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self._reduced
