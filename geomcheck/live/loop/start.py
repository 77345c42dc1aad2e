"""W0 of a training: what the model was loaded from, or its weights as they are at the start."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from geomcheck.checkpoints import BaseWeights, WeightSource, open_base
from geomcheck.checkpoints.changes import whole
from geomcheck.checkpoints.discovery.steps import is_step
from geomcheck.checkpoints.formats import open_weights
from geomcheck.checkpoints.hub import cached, is_hub_id
from geomcheck.errors import RunError, UsageError
from geomcheck.files import replacing
from geomcheck.live.loop.live_weights import LiveWeights
from geomcheck.own import require_own

SHARD_BYTES = 2**30
"""Tensors are gathered and written in files of about this size, so that no more is in memory at once."""

_STEP_0 = re.compile(r"(?<![0-9])0+$")

SAMPLE = 3
"""Weights that are compared with W0 at the start of a training."""

INDEX = "model.safetensors.index.json"


def named_base(name: str | None, revision: str | None = None) -> BaseWeights:
    """W0 by the directory or Hub id that the model was loaded from; nothing is downloaded.

    Raises UsageError where it is not on this machine.
    """
    how = "what the model was loaded from"
    if name and Path(name).is_dir():
        return open_base(name, how)
    if name and is_hub_id(name):
        snapshot = cached(f"{name}@{revision}" if revision else name)
        if snapshot is not None:
            return BaseWeights(open_weights(snapshot), f"{how}: {name} of the Hugging Face Hub's cache")
    where = "neither a directory here nor whole in the local Hugging Face cache"
    what = f"{name!r}, which is {where}" if name else "nothing that is known"
    raise UsageError(
        f"no W0 to compare with: the model was loaded from {what}. Give base=PATH, or base='start' to write "
        "down the weights as they are at the start"
    )


def write_start(live: LiveWeights, directory: Path) -> BaseWeights:
    """Write the weights as they are now to `directory`, as a model in safetensors. On rank 0. Raises UsageError."""
    require_own(directory)
    shards = _shards(live)
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        with replacing(directory / file) as partial:
            save_file({name: live.read(name).contiguous() for name in names}, partial)
        weight_map |= dict.fromkeys(names, file)
    _write_json(directory / "config.json", live.config)
    _write_json(directory / INDEX, {"metadata": {}, "weight_map": weight_map})  # last: without it there is no model
    return start_base(directory)


def start_base(directory: Path) -> BaseWeights:
    """What `write_start` wrote. Raises UsageError where it did not."""
    if not (directory / INDEX).is_file():
        raise UsageError(
            f"{directory}: the weights of the start of this training are not there, and it is past its start; give "
            "base=PATH"
        )
    return BaseWeights(open_weights(directory), "the weights at the start of the training")


def require_untrained(base: BaseWeights, run: Path) -> None:
    """Refuse a checkpoint of the run itself as W0: a model that is resumed is often loaded from there."""
    where = base.source.path.resolve()
    if where.is_relative_to(run.resolve()) and is_step(where) and not _STEP_0.search(where.name):
        raise UsageError(
            f"W0 ({base.source.path}, {base.how}) is a checkpoint of the training that is watched; give base=PATH, the "
            "weights that it started from"
        )


def departures(current: WeightSource, base: WeightSource, names: list[str]) -> Iterator[str]:
    """Which of a few weights are not those of W0, before any training, up to the storage format."""
    for name in names[:SAMPLE]:
        try:
            before, after = whole(base.read(name)), current.read(name)
        except RunError as error:
            yield f"{name} ({error})"
            continue
        if isinstance(after, Tensor) and not _equal(before, after):
            off = torch.linalg.vector_norm(after.double() - before.double()) / torch.linalg.vector_norm(before.double())
            yield f"{name} (off by {float(off):.2g} of its norm)"


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal in the coarser of their formats."""
    coarser = max(one.dtype, other.dtype, key=lambda dtype: torch.finfo(dtype).eps)
    return torch.equal(one.to(coarser), other.to(coarser))


def _shards(live: LiveWeights) -> list[list[str]]:
    """The names of the tensors by file."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, stored in live.weights.items():
        size += (own := 8 * math.prod(stored.shape))
        if shards[-1] and size > SHARD_BYTES:
            shards.append([])
            size = own
        shards[-1].append(name)
    return shards


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    with replacing(file) as partial:
        partial.write_text(json.dumps(content, default=str, indent=1))
