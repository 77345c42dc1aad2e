"""Where a session spends its time: ``python -m tests.bench.whole.stages FILE ...`` is ``python -m pytest ...`` with
timers, and writes the CPU seconds of each stage into FILE. A stage is counted without those that it calls."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

from geomcheck._compat import cached_property

STAGES = {
    "reading": ("checkpoints.formats.safetensors_file:SafetensorsFile.read",),
    "finiteness": ("measurement.trajectory:require_finite", "measurement.task:require_finite"),
    "digests": ("measurement.trajectory:digest", "measurement.task:digest"),
    "factorization of W0": ("diagnostics.linalg.basis:Basis.of", "diagnostics.linalg.basis:Basis.images"),
    "products with D": (
        "diagnostics.update:Update.delta",
        "diagnostics.linalg.perturbation:Perturbation.moved",
        "diagnostics.linalg.perturbation:Perturbation._half",
        "diagnostics.linalg.perturbation:Perturbation.change",
    ),
    "principal angles": ("diagnostics.update:Update.angles",),
    "spectral shift": ("diagnostics.update:Update.shift_norm",),
    "spectrum of D": (
        "diagnostics.linalg.spectrum:UpdateSpectrum.top_values",
        "diagnostics.linalg.spectrum:UpdateSpectrum.right",
        "diagnostics.linalg.spectrum:UpdateSpectrum.left",
    ),
    "energies in subspaces": ("diagnostics.update:Update.energy",),
    "sketches and norms": ("diagnostics.update:Update.sketch", "diagnostics.update:Update.norm"),
    "other figures": ("measurement.trajectory:_answer",),
    "factorizations kept": ("measurement.trajectory:Trajectory.remember",),
}
"""Functions of the package by stage. Of a metric, what is none of these is `other figures`: masks, entries."""

REST = "all else"
"""Imports, collection, verdicts, outputs, the cache, and what of workers has no timer."""


class Timers:
    """Exclusive CPU seconds by stage, over all threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._lock = threading.Lock()
        self._here = threading.local()

    def install(self) -> None:
        """Time every function of `STAGES`."""
        for stage, places in STAGES.items():
            for place in places:
                module, _, path = place.partition(":")
                *owners, name = path.split(".")
                owner: Any = import_module(f"geomcheck.{module}")
                for part in owners:
                    owner = getattr(owner, part)
                self._replace(owner, name, stage)

    def _replace(self, owner: Any, name: str, stage: str) -> None:
        found = vars(owner)[name]
        if isinstance(found, cached_property):
            timed = cached_property(self._timed(getattr(found, "compute", None) or found.func, stage))
            timed.__set_name__(owner, name)
            setattr(owner, name, timed)
        elif isinstance(found, classmethod):
            setattr(owner, name, classmethod(self._timed(found.__func__, stage)))
        else:
            setattr(owner, name, self._timed(found, stage))

    def _timed(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        @wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            outer, self._here.inside = getattr(self._here, "inside", 0.0), 0.0
            start = time.thread_time()
            try:
                return function(*args, **options)
            finally:
                spent = time.thread_time() - start
                with self._lock:
                    self.seconds[stage] += spent - self._here.inside
                self._here.inside = outer + spent

        return timed


def main() -> None:
    """Run pytest. Exits as it does."""
    import pytest

    timers = Timers()
    timers.install()
    code = pytest.main(sys.argv[2:])
    rest = time.process_time() - sum(timers.seconds.values())
    Path(sys.argv[1]).write_text(json.dumps({**timers.seconds, REST: rest}))
    sys.exit(code)


if __name__ == "__main__":
    main()
