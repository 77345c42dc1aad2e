"""geomcheck: regression tests for the geometry of training.

Importing this package imports nothing heavy; torch is loaded when a name below is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geomcheck._version import VERSION

if TYPE_CHECKING:
    from geomcheck.api import measure, open_run
    from geomcheck.calibration import BandRule, Calibration, calibrate
    from geomcheck.checkpoints import BaseWeights, Checkpoint, Run, open_base
    from geomcheck.comparison import Comparison, compare
    from geomcheck.defects.power import power
    from geomcheck.defects.result import Power
    from geomcheck.diagnosis import Finding
    from geomcheck.diagnosis.ask import diagnose
    from geomcheck.diagnostics import Metric, Parameter, Unit, load_metrics
    from geomcheck.errors import GeomcheckError, RecordError, RunError, SuiteError, UsageError
    from geomcheck.record import Figure, Point, Record, Request, read_record, write_record
    from geomcheck.suite import Expectation, Observed, Suite, Verdict, Verdicts, Worst, load_suite
    from geomcheck.suite.language.selection import Selection

__version__ = VERSION

_HOMES = {
    "geomcheck.api": ("measure", "open_run"),
    "geomcheck.calibration": ("Calibration", "BandRule", "calibrate"),
    "geomcheck.checkpoints": ("BaseWeights", "Checkpoint", "Run", "open_base"),
    "geomcheck.comparison": ("Comparison", "compare"),
    "geomcheck.defects.power": ("power",),
    "geomcheck.defects.result": ("Power",),
    "geomcheck.diagnosis": ("Finding",),
    "geomcheck.diagnosis.ask": ("diagnose",),
    "geomcheck.diagnostics": ("Metric", "Parameter", "Unit", "load_metrics"),
    "geomcheck.errors": ("GeomcheckError", "RecordError", "RunError", "SuiteError", "UsageError"),
    "geomcheck.record": ("Figure", "Point", "Record", "Request", "read_record", "write_record"),
    "geomcheck.suite": ("Expectation", "Observed", "Suite", "Verdict", "Verdicts", "Worst", "load_suite"),
    "geomcheck.suite.language.selection": ("Selection",),
}

__all__ = [
    "BandRule",
    "BaseWeights",
    "Calibration",
    "Checkpoint",
    "Comparison",
    "Expectation",
    "Figure",
    "Finding",
    "GeomcheckError",
    "Metric",
    "Observed",
    "Parameter",
    "Point",
    "Power",
    "Record",
    "RecordError",
    "Request",
    "Run",
    "RunError",
    "Selection",
    "Suite",
    "SuiteError",
    "Unit",
    "UsageError",
    "Verdict",
    "Verdicts",
    "Worst",
    "calibrate",
    "compare",
    "diagnose",
    "load_metrics",
    "load_suite",
    "measure",
    "open_base",
    "open_run",
    "power",
    "read_record",
    "write_record",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'geomcheck' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
