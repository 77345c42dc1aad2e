"""Following a run while it trains: each checkpoint measured once it is complete, the suites judged as they fall due."""

from geomcheck.live.directory.follow import Code, End, Pace, follow
from geomcheck.live.directory.look import Look, Watcher

__all__ = ["Code", "End", "Look", "Pace", "Watcher", "follow"]
