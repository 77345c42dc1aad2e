"""From good runs of one recipe to a suite: bands that another good run leaves at a known rate."""

from geomcheck.calibration.calibration import Calibrated, Calibration, Omitted
from geomcheck.calibration.derive import calibrate, stable_trajectories
from geomcheck.calibration.moderated import Moderated
from geomcheck.calibration.noise import Noise
from geomcheck.calibration.profile import CalibratedProfile, calibrate_profile
from geomcheck.calibration.rules import BandRule, Range, Student
from geomcheck.calibration.statistics import PlacedBand, Spread
from geomcheck.calibration.trajectories import Trajectory
from geomcheck.calibration.update import Updated, add_runs

__all__ = [
    "BandRule",
    "Calibrated",
    "CalibratedProfile",
    "Calibration",
    "Moderated",
    "Noise",
    "Omitted",
    "PlacedBand",
    "Range",
    "Spread",
    "Student",
    "Trajectory",
    "Updated",
    "add_runs",
    "calibrate",
    "calibrate_profile",
    "stable_trajectories",
]
