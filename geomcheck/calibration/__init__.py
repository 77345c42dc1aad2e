"""From good runs of one recipe to a suite: bands that another good run leaves at a known rate."""

from geomcheck.calibration.calibration import Calibrated, Calibration, Omitted, PlacedBand
from geomcheck.calibration.derive import calibrate
from geomcheck.calibration.profile import CalibratedProfile, calibrate_profile
from geomcheck.calibration.statistics import BandRule, Range, Repeatability, Spread
from geomcheck.calibration.update import Updated, add_runs

__all__ = [
    "BandRule",
    "Calibrated",
    "CalibratedProfile",
    "Calibration",
    "Omitted",
    "PlacedBand",
    "Range",
    "Repeatability",
    "Spread",
    "Updated",
    "add_runs",
    "calibrate",
    "calibrate_profile",
]
