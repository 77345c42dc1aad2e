"""Following a run in its directory: each checkpoint is measured once it is complete, and judged as it falls due."""

from geomcheck.live.directory.follow import Code, End, Pace, follow
from geomcheck.live.directory.run import FollowedRun

__all__ = ["Code", "End", "FollowedRun", "Pace", "follow"]
