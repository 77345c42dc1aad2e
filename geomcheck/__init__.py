"""geomcheck: regression tests for the geometry of training.

Importing this package imports nothing heavy; torch is loaded when a name below is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geomcheck.api import measure, open_run
    from geomcheck.calibration import Calibration, calibrate
    from geomcheck.measurement import Record, read_record, write_record
    from geomcheck.suite import Suite, Verdict, load_suite

__version__ = "0.1.0"

_HOMES = {
    "Calibration": "geomcheck.calibration",
    "Record": "geomcheck.measurement",
    "Suite": "geomcheck.suite",
    "Verdict": "geomcheck.suite",
    "calibrate": "geomcheck.calibration",
    "load_suite": "geomcheck.suite",
    "measure": "geomcheck.api",
    "open_run": "geomcheck.api",
    "read_record": "geomcheck.measurement",
    "write_record": "geomcheck.measurement",
}

__all__ = [
    "Calibration",
    "Record",
    "Suite",
    "Verdict",
    "calibrate",
    "load_suite",
    "measure",
    "open_run",
    "read_record",
    "write_record",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'geomcheck' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
