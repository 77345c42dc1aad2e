"""The tensors of which nothing is measured: where one is not finite, the checkpoint is not what training left."""

from __future__ import annotations

import math
from collections.abc import Collection

from geomcheck.checkpoints import Stored
from geomcheck.checkpoints.canonical import is_fp8
from geomcheck.diagnostics.formats import FORMATS
from geomcheck.measurement.cache import Recall
from geomcheck.measurement.measured import W0, Place
from geomcheck.measurement.task import DigestWeight, Sources


def unselected(sources: Sources, recall: Recall, measured: Collection[str]) -> list[DigestWeight]:
    """What is to be read of W0 and of every checkpoint beside the `measured` weights, the largest first.

    What lies in files that have not changed since it was found to be finite is not read again.
    """
    where: dict[str, list[Place]] = {}
    for place, weights in sources.stored.items():
        for name, stored in weights.items() if place[0] != "reference" else ():
            lent = place != W0 and stored is sources.stored[W0].get(name)  # an adapter leaves it as it is in W0
            if name not in measured and _is_floating(stored) and not lent and not recall.knows(name, place):
                where.setdefault(name, []).append(place)
    sizes = {
        name: max(math.prod(sources.stored[place][name].shape) for place in places) for name, places in where.items()
    }
    tasks = [DigestWeight(name, sizes[name], tuple(places)) for name, places in where.items()]
    return sorted(tasks, key=lambda task: (-task.numel, task.name))


def _is_floating(stored: Stored) -> bool:
    return stored.dtype in FORMATS or is_fp8(stored)
