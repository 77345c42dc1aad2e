"""From good runs of one recipe to a suite: bands that another good run leaves at a known rate."""

from geomcheck.calibration.calibration import Calibrated, Calibration, LeftOut, PlacedBand
from geomcheck.calibration.derive import calibrate
from geomcheck.calibration.statistics import Range, Repeatability, Rule, Spread

__all__ = [
    "Calibrated",
    "Calibration",
    "LeftOut",
    "PlacedBand",
    "Range",
    "Repeatability",
    "Rule",
    "Spread",
    "calibrate",
]
