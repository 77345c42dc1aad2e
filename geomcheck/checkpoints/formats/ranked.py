"""State dicts of each rank, with parts of DTensors: verl, SkyRL, accelerate without DCP."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomcheck._lazy import torch
from geomcheck.checkpoints.formats.directory import ModelDirectory, read_config
from geomcheck.checkpoints.formats.sharding import ShardingProblem, Whole, mesh_ranks, whole
from geomcheck.checkpoints.formats.torch_save.file import TorchFile
from geomcheck.checkpoints.formats.torch_save.tensors import Distributed
from geomcheck.checkpoints.inside import read_json
from geomcheck.checkpoints.source import Stored
from geomcheck.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

_CONFIG = "fsdp_config.json"
_MAX_CONFIG_BYTES = 2**20
_VERL = re.compile(r"(model_world_size_([1-9][0-9]{0,5}))_rank_(0|[1-9][0-9]{0,5})\.pt")
_ACCELERATE = re.compile(r"(pytorch_model_fsdp(?:_[0-9]{1,3})?)_rank()(0|[1-9][0-9]{0,5})\.bin")
_MERGE = (
    "merge the ranks first (verl: python -m verl.model_merger merge --backend fsdp --local_dir ACTOR_DIR "
    "--target_dir OUT), or save the full state dict"
)


def holds_ranked(directory: Path) -> bool:
    """Whether `directory` holds state dicts by rank."""
    return any(_VERL.fullmatch(entry.name) or _ACCELERATE.fullmatch(entry.name) for entry in directory.iterdir())


class RankedShards(ModelDirectory):
    """The weights of one model, put together from the state dicts of all ranks, one weight at a time.

    DTensors sharded along one dimension over one dimension of the device mesh, and replicated over the others;
    plain tensors beside them are replicated buffers.
    """

    layout = "per-rank DTensor shards (verl, SkyRL, accelerate)"

    @cached_property
    def weights(self) -> Mapping[str, Stored]:
        """Every tensor by name, with the shape of the whole. Raises RunError."""
        return {name: found.stored for name, found in self._wholes.items()}

    @property
    def files(self) -> tuple[Path, ...]:
        """The ranks' files, and what chose between two sets of them."""
        config = [self.path / _CONFIG] if len(self._families) > 1 else []
        return tuple(sorted([*(file.path for file in self._ranks), *config]))

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """``config.json``, from ``huggingface/`` where verl puts it, or beside the weights. Raises RunError."""
        return read_config(self.path / "huggingface", self._root) or read_config(self.path, self._root)

    def read(self, name: str, at: tuple[int, ...] = ()) -> Tensor:
        """One tensor, from the parts that hold it, in its storage dtype. Raises RunError."""
        found = self._wholes[name]
        if found.dim is None:
            return self._plain(name, found)[at]
        if found.dim >= len(at):
            parts = [self._ranks[rank].read(part, at) for rank, part in found.parts]
            return torch.cat(parts, dim=found.dim - len(at))
        index = at[found.dim]
        for rank, part in found.parts:
            if index < part.shape[found.dim]:
                return self._ranks[rank].read(part, (*at[: found.dim], index, *at[found.dim + 1 :]))
            index -= part.shape[found.dim]
        raise IndexError(f"{name}: {at} lies outside {found.stored.shape}")

    def _plain(self, name: str, found: Whole) -> Tensor:
        """The tensor of rank 0. A matrix must be the same on every rank, or it could be a part."""
        ((rank, packed),) = found.parts
        tensor = self._ranks[rank].read(packed)
        for other, copy in found.copies if tensor.dim() > 1 else ():
            if not torch.equal(_bytes(self._ranks[other].read(copy)), _bytes(tensor)):
                raise RunError(
                    f"{self._ranks[other].path}: {name} is no DTensor, and differs from the one of rank 0: parts of a "
                    f"weight (expert or tensor parallelism) cannot be told from copies; {_MERGE}"
                )
        return tensor

    @cached_property
    def _wholes(self) -> Mapping[str, Whole]:
        ranks = [file.tensors for file in self._ranks]
        for file, tensors in zip(self._ranks, ranks, strict=True):
            if differ := sorted(tensors.keys() ^ ranks[0].keys()):
                raise RunError(f"{file.path}: {differ[0]} is on this rank or on rank 0, but not on both; {_MERGE}")
        if len(ranks) > 1 and not any(isinstance(tensor, Distributed) for tensor in ranks[0].values()):
            raise RunError(
                f"{self._ranks[0].path}: holds no DTensors, so what the {len(ranks)} ranks hold may be copies or parts "
                f"(FSDP1 without a device mesh, tensor parallelism); {_MERGE}"
            )
        wholes = {}
        for name in sorted(ranks[0]):
            try:
                wholes[name] = whole([tensors[name] for tensors in ranks])
            except ShardingProblem as problem:
                raise RunError(f"{self.path}: {name}: {problem}; {_MERGE}") from problem
        return wholes

    @cached_property
    def _ranks(self) -> tuple[TorchFile, ...]:
        """The files of ranks 0, 1, ..., all of them. Raises RunError."""
        family = self._family()
        world, files = self._families[family]
        opened = {rank: TorchFile(self.path / file, root=self._root) for rank, file in sorted(files.items())}
        meshes = _mesh_sizes(opened.values())
        if len(meshes) > 1 or (world is not None and meshes - {world}):
            raise RunError(
                f"{self.path}: the weights of {family} were written by {sorted(meshes)} ranks, not by those of the "
                "file names: files of two runs are mixed, or renamed; save the checkpoint again"
            )
        expected = world or max(meshes, default=max(opened) + 1)
        if missing := list(islice((rank for rank in range(expected) if rank not in opened), 8)):
            raise RunError(
                f"{self.path}: rank {', '.join(map(str, missing))} of {expected} missing ({family}); "
                "copy the files of every rank, or remove the checkpoint"
            )
        if len(opened) > expected:
            raise RunError(f"{self.path}: {len(opened)} ranks in {family}, where there can be {expected}")
        return tuple(opened.values())

    def _family(self) -> str:
        """Which set of files to read, where the directory holds several. Raises RunError."""
        if len(self._families) == 1:
            return next(iter(self._families))
        path = self.path / _CONFIG
        settings = read_json(path, self._root, max_bytes=_MAX_CONFIG_BYTES) if path.exists() else {}
        family = f"model_world_size_{settings.get('world_size')}"
        if family not in self._families:
            raise RunError(
                f"{self.path}: files of several sets of ranks ({', '.join(sorted(self._families))}), and no {_CONFIG} "
                "that says which is current; remove the old ones"
            )
        return family

    @cached_property
    def _families(self) -> Mapping[str, tuple[int | None, dict[int, str]]]:
        """By their common name: how many ranks the names promise, and the file of each."""
        families: dict[str, tuple[int | None, dict[int, str]]] = {}
        for entry in sorted(self.path.iterdir()):
            if match := _VERL.fullmatch(entry.name) or _ACCELERATE.fullmatch(entry.name):
                family, world, rank = match.groups()
                families.setdefault(family, (int(world) if world else None, {}))[1][int(rank)] = entry.name
        if not families:
            raise RunError(f"{self.path}: holds no files by rank")
        return families


def _mesh_sizes(files: Iterable[TorchFile]) -> set[int]:
    """How many ranks the device meshes in `files` have, by one DTensor of each file."""
    first = [next((t for t in file.tensors.values() if isinstance(t, Distributed)), None) for file in files]
    try:
        sizes = {mesh_ranks(tensor) for tensor in first if tensor is not None}
    except ShardingProblem:  # reported with the name of the weight, when it is put together
        return set()
    return {size for size in sizes if size is not None}


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)
