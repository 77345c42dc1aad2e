"""Norms and biases: they have no geometry, but where one is not finite, the checkpoint cannot be what training left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geomcheck.checkpoints import Stored
from geomcheck.diagnostics.formats import FORMATS
from geomcheck.errors import RunError
from geomcheck.imports import late
from geomcheck.measurement.cache import Recall
from geomcheck.measurement.content import digest
from geomcheck.measurement.measured import W0, Measured
from geomcheck.measurement.task import Sources

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = late("torch")


def require_finite_vectors(sources: Sources, recall: Recall) -> None:
    """Refuse a run, or a W0, in which a norm or a bias holds NaN or infinity.

    Those of files that have not changed since they were found to be finite are not read again.

    Raises:
        RunError: one does, or cannot be read.
    """
    names = {W0: "W0"} | {("run", index): c.name for index, c in enumerate(sources.run.checkpoints)}
    found = sources.places()
    for place, where in names.items():
        for name, stored in sources.stored[place].items():
            if _is_vector(name, stored) and not recall.knows(name, place):
                vector = found[place].read(name)
                if isinstance(vector, torch.Tensor):
                    _require_finite(vector, name, where)
                recall.learn(name, Measured(digests={place: digest(vector)}))


def _is_vector(name: str, stored: Stored) -> bool:
    return len(stored.shape) == 1 and stored.dtype in FORMATS and name.endswith(("weight", "bias"))


def _require_finite(vector: Tensor, name: str, where: str) -> None:
    if bad := vector.numel() - int(torch.isfinite(vector).sum()):
        raise RunError(
            f"{where}: {bad} of {vector.numel()} values of {name} are NaN or infinite: no model runs with these, so "
            "the checkpoint is damaged, or training had diverged"
        )
