"""Runs on disk: checkpoints in order, which list their weights from headers and read one on request."""

from geomcheck.checkpoints.canonical import tied_apart
from geomcheck.checkpoints.comparable import comparable
from geomcheck.checkpoints.discovery import Incomplete, at_hand, find_base, open_account, open_base, open_run
from geomcheck.checkpoints.log import Log, read_log
from geomcheck.checkpoints.run import BaseWeights, Checkpoint, Run
from geomcheck.checkpoints.scores import Account
from geomcheck.checkpoints.source import Change, Stored, WeightSource
from geomcheck.checkpoints.weights import Weight

__all__ = [
    "Account",
    "BaseWeights",
    "Change",
    "Checkpoint",
    "Incomplete",
    "Log",
    "Run",
    "Stored",
    "Weight",
    "WeightSource",
    "at_hand",
    "comparable",
    "find_base",
    "open_account",
    "open_base",
    "open_run",
    "read_log",
    "tied_apart",
]
