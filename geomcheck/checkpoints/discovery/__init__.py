"""Find a run below a path: which directories are checkpoints, in which order, and where W0 is."""

from geomcheck.checkpoints.discovery.base import at_hand, find_base, open_base
from geomcheck.checkpoints.discovery.opening import Incomplete, open_account, open_run

__all__ = ["Incomplete", "at_hand", "find_base", "open_account", "open_base", "open_run"]
