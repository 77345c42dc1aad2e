"""The tensors that are read although nothing is measured of them: each entry must be finite all the same."""

from __future__ import annotations

import math
from collections.abc import Collection

from geomcheck.checkpoints.canonical import is_fp8
from geomcheck.diagnostics.formats import FORMATS
from geomcheck.measurement.cache import Recall
from geomcheck.measurement.measured import W0, Snapshot
from geomcheck.measurement.task import DigestWeight, Sources


def unmeasured(sources: Sources, recall: Recall, measured: Collection[str]) -> list[DigestWeight]:
    """What is to be read of W0 and of every checkpoint beside the `measured` weights, the largest first.

    What lies in files that have not changed since it was found to be finite is not read again.
    """
    snapshots: dict[str, list[Snapshot]] = {}
    sizes: dict[str, int] = {}
    for snapshot, weights in sources.stored.items():
        for name, stored in weights.items() if snapshot[0] != "reference" else ():
            floating = stored.dtype in FORMATS or is_fp8(stored)
            lent = snapshot != W0 and stored is sources.stored[W0].get(name)  # an adapter leaves it as it is in W0
            if name not in measured and floating and not lent and not recall.knows(name, snapshot):
                snapshots.setdefault(name, []).append(snapshot)
                sizes[name] = max(math.prod(stored.shape), sizes.get(name, 0))
    tasks = [DigestWeight(name, sizes[name], tuple(held)) for name, held in snapshots.items()]
    return sorted(tasks, key=lambda task: (-task.numel, task.name))
