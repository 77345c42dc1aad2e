"""A run and its W0 with their weights under the same canonical names."""

from __future__ import annotations

from dataclasses import replace

from geomcheck.checkpoints.adapted import Adapted
from geomcheck.checkpoints.formats.adapter import Adapter
from geomcheck.checkpoints.run import BaseModel, Run
from geomcheck.checkpoints.source import WeightSource


def comparable(run: Run, base: BaseModel) -> tuple[Run, BaseModel]:
    """`run` and `base` with canonical weights, so that a name means the same matrix in both; adapters over W0.

    Raises:
        RunError: a header or config cannot be read.
        UsageError: `base` is an adapter.
    """
    checkpoints = (replace(checkpoint, source=_over(base.source, checkpoint.source)) for checkpoint in run.checkpoints)
    return replace(run, checkpoints=tuple(checkpoints)), base


def _over(base: WeightSource, source: WeightSource) -> WeightSource:
    return Adapted(base, source.on(base)) if isinstance(source, Adapter) else source
