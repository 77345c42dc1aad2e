"""The formats in which checkpoints are stored, one module and one `WeightSource` each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from geomcheck.checkpoints.formats.adapter import holds_adapter, holds_factors, open_adapter
from geomcheck.checkpoints.formats.dcp import DistributedCheckpoint, holds_dcp
from geomcheck.checkpoints.formats.megatron import MegatronCheckpoint, holds_megatron
from geomcheck.checkpoints.formats.pickled import PickledDirectory, holds_pickled
from geomcheck.checkpoints.formats.ranked import RankedShards, holds_ranked
from geomcheck.checkpoints.formats.safetensors import SafetensorsDirectory, holds_safetensors
from geomcheck.checkpoints.formats.sliced import SlicedSafetensors, holds_sliced
from geomcheck.checkpoints.formats.unread import explain
from geomcheck.checkpoints.source import WeightSource
from geomcheck.errors import RunError


class Format(NamedTuple):
    """A format: whether a directory holds it, by the names in it alone, and its reader: ``open(path, root=root)``."""

    holds: Callable[[Path], bool]
    open: Callable[..., WeightSource]


FORMATS: tuple[Format, ...] = (
    Format(holds_safetensors, SafetensorsDirectory),
    Format(holds_sliced, SlicedSafetensors),
    Format(holds_factors, open_adapter),
    Format(holds_megatron, MegatronCheckpoint),
    Format(holds_dcp, DistributedCheckpoint),
    Format(holds_ranked, RankedShards),
    Format(holds_pickled, PickledDirectory),
    Format(holds_adapter, open_adapter),
)
"""Best first, where a checkpoint holds its weights twice: the whole model before shards, safetensors before
pickles. An adapter goes after a full safetensors model, and before what a trainer keeps beside it; the config of
one alone may be that of a wrapped model's state."""


ADAPTERS = ("lora_adapter", "adapter_checkpoint")
"""Where verl and SkyRL leave the adapter, below a model into which it is not merged."""


def held(places: Sequence[Path]) -> tuple[Path, Format] | None:
    """The best format that one of `places` holds, in the first place that holds it."""
    there = [place for place in places if place.is_dir()]
    return next(((place, form) for form in FORMATS for place in there if form.holds(place)), None)


def open_weights(directory: Path, *, root: Path | None = None, places: Sequence[Path] = ()) -> WeightSource:
    """The weights of one checkpoint.

    Args:
        directory: the checkpoint.
        root: no file outside this directory is ever opened; by default `directory`.
        places: where in the checkpoint weights may lie, best first; by default in `directory` itself.

    Raises:
        RunError: no reader knows what is there; the message says what it is and what to run.
    """
    found = held(places or (directory,))
    if found is None:
        raise RunError(f"{directory}: {explain(directory, places or (directory,))}")
    place, form = found
    return form.open(place, root=root) if form.open is open_adapter else _whole(place, form, places, root)


def _whole(place: Path, form: Format, places: Sequence[Path], root: Path | None) -> WeightSource:
    """The model in `place`, or the adapter that was trained on it and lies below: the model is the untouched base then,
    as verl saves and merges. Raises RunError where that is not known of such an adapter."""
    known = [there / name for there in (place, *places) for name in ADAPTERS]
    adapter = next((there for there in (*known, *places) if there.name in ADAPTERS and holds_adapter(there)), None)
    if adapter is not None:
        return open_adapter(adapter, root=root or place)
    others = [entry for entry in sorted(place.iterdir()) if _is_named_adapter(entry)]
    if others:
        raise RunError(
            f"{others[0]}: an adapter below a whole model, {place}. If it is what was trained, point at a directory "
            "without the model, which may be the untouched base; if it is merged into the model, move it elsewhere"
        )
    return form.open(place, root=root)


def _is_named_adapter(entry: Path) -> bool:
    """Whether a directory is an adapter's, but no checkpoint of a training from here, and no initial one."""
    stem = entry.name.lower()
    return not stem[-1:].isdigit() and not stem.startswith("pissa") and entry.is_dir() and holds_adapter(entry)
