"""Distributed checkpoints in safetensors: each file holds slices of tensors and their offsets."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from geomcheck.checkpoints.formats.directory import ModelDirectory
from geomcheck.checkpoints.formats.safetensors_file import SafetensorsFile
from geomcheck.checkpoints.formats.sharding import assembled
from geomcheck.checkpoints.source import Stored
from geomcheck.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

OFFSETS = "DCP_SHARDING_INFO"

_SLICES = re.compile(r"shard-([0-9]{5})-model-([0-9]{5})-of-([0-9]{5})\.safetensors")


def holds_sliced(directory: Path) -> bool:
    """Whether `directory` holds files that are named as slices are."""
    return any(_SLICES.fullmatch(entry.name) for entry in directory.iterdir())


@dataclass(frozen=True)
class _Slice:
    """A box of a tensor: where it begins, its shape, and the file that holds it."""

    begin: tuple[int, ...]
    stored: Stored
    file: SafetensorsFile

    @property
    def end(self) -> tuple[int, ...]:
        return tuple(a + n for a, n in zip(self.begin, self.stored.shape, strict=True))

    def meets(self, other: _Slice) -> bool:
        """Whether they share an entry."""
        sides = zip(self.begin, self.end, other.begin, other.end, strict=True)
        return all(max(a, c) < min(b, d) for a, b, c, d in sides)


class SlicedSafetensors(ModelDirectory):
    """The weights of a distributed checkpoint in safetensors, each put together from its slices.

    Written by ``save_pretrained(distributed_checkpoint=True)``, NeMo Automodel and torchtitan. How many ranks wrote
    them is not recorded: where the files of the last rank are missing, only shapes that differ from W0's show it.
    """

    layout = "safetensors slices (distributed checkpoint)"

    @cached_property
    def weights(self) -> Mapping[str, Stored]:
        """Every tensor by name, with the shape that its slices add up to. Raises RunError."""
        return {name: Stored(_extent(slices), slices[0].stored.dtype) for name, slices in self._slices.items()}

    @property
    def files(self) -> tuple[Path, ...]:
        """The files with slices."""
        return tuple(file.path for file in self._files)

    def read(self, name: str, at: tuple[int, ...] = ()) -> Tensor:
        """One tensor, from the slices that hold it, in its storage dtype. Raises RunError."""
        blocks = ((piece.begin, piece.stored.shape, partial(piece.file.read, name)) for piece in self._slices[name])
        return assembled(name, self.weights[name].shape, at, blocks)

    @cached_property
    def _slices(self) -> Mapping[str, Sequence[_Slice]]:
        """The slices of each tensor, which tile it. Raises RunError."""
        slices: dict[str, list[_Slice]] = {}
        for file in self._files:
            begins = _begins(file)
            for name, stored in file.weights.items():
                begin = begins.get(name)
                if begin is None or len(begin) != len(stored.shape):
                    raise RunError(f"{file.path}: {OFFSETS} does not say where the slice of {name} begins")
                slices.setdefault(name, []).append(_Slice(begin, stored, file))
        for name, pieces in slices.items():
            self._require_tiling(name, pieces)
        return dict(sorted(slices.items()))

    def _require_tiling(self, name: str, pieces: list[_Slice]) -> None:
        if len({(piece.stored.dtype, len(piece.begin)) for piece in pieces}) > 1:
            raise RunError(f"{self.path}: the slices of {name} differ in dtype or dimensions; save them again")
        if (twice := _overlap(pieces)) is not None:
            raise RunError(
                f"{self.path}: two slices of {name} overlap ({twice[0].file.path.name} and {twice[1].file.path.name}): "
                "files of two saves are mixed; save the checkpoint again"
            )
        shape, held = _extent(pieces), sum(math.prod(piece.stored.shape) for piece in pieces)
        if held != math.prod(shape):
            raise RunError(
                f"{self.path}: the slices of {name} hold {held} of the {math.prod(shape)} entries of shape {shape}; "
                "copy the files of every rank"
            )

    @cached_property
    def _files(self) -> tuple[SafetensorsFile, ...]:
        """All files of the set: of every rank up to the last. Raises RunError."""
        found = {entry.name: match for entry in self.path.iterdir() if (match := _SLICES.fullmatch(entry.name))}
        totals = {match[3] for match in found.values()}
        if len(totals) != 1:
            raise RunError(
                f"{self.path}: files of {len(totals)} sets of slices, where there must be one; remove the rest"
            )
        ranks = {int(match[1]) for match in found.values()}
        parts = {int(match[2]) for match in found.values()}
        for what, present, last in (("shard", ranks, max(ranks)), ("model", parts, int(max(totals)))):
            if missing := sorted(set(range(1, last + 1)) - present):
                raise RunError(
                    f"{self.path}: {what}-{missing[0]:05d} of {last} is missing among the slices "
                    f"({len(missing)} missing); copy the files of every rank"
                )
        return tuple(SafetensorsFile(self.path / name, root=self._root) for name in sorted(found))


def _begins(file: SafetensorsFile) -> dict[str, tuple[int, ...]]:
    """Where the slices of a file begin, by tensor. Raises RunError."""
    try:
        info = json.loads(file.metadata[OFFSETS])
        begins = {name: tuple(entry["saved_offsets"]) for name, entry in info.items()}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(f"{file.path}: named as slices are, but its header has no readable {OFFSETS}") from error
    if any(type(offset) is not int or offset < 0 for begin in begins.values() for offset in begin):
        raise RunError(f"{file.path}: {OFFSETS} has an offset that is no index")
    return begins


def _extent(pieces: Sequence[_Slice]) -> tuple[int, ...]:
    return tuple(max(ends) for ends in zip(*(piece.end for piece in pieces), strict=True))


def _overlap(pieces: Sequence[_Slice]) -> tuple[_Slice, _Slice] | None:
    """Two slices that share entries, if any. Sorted, a slice can only meet those that begin before it ends."""
    ordered = sorted(pieces, key=lambda piece: piece.begin)
    for index, piece in enumerate(ordered):
        for other in ordered[index + 1 :]:
            if piece.begin and other.begin[0] >= piece.end[0]:
                break
            if piece.meets(other):
                return piece, other
    return None
