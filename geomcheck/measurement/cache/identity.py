"""What a cached figure depends on besides the weights: the files that hold them, and the code that measured them."""

from __future__ import annotations

import hashlib
import json
import os
from functools import cache
from importlib.metadata import version
from pathlib import Path

from geomcheck._version import VERSION
from geomcheck.checkpoints import WeightSource
from geomcheck.checkpoints.remote import remote_file
from geomcheck.errors import RunError
from geomcheck.urls import named

SETTLED_NS = 2_000_000_000
"""Files younger than this may change again within one tick of their clock, so their identity proves nothing yet."""

DECISIVE = ("checkpoints", "diagnostics", "measurement", "record")
"""The rooms whose code decides a figure: all that lie below `suite`."""


@cache
def code() -> str:
    """Identity of everything installed that decides a figure: the code of geomcheck, and the libraries' versions."""
    libraries = (VERSION, *map(version, ("torch", "numpy", "scipy")))
    content = hashlib.blake2b(repr(libraries).encode(), digest_size=16)
    package = Path(__file__).parents[2]
    for path in sorted(path for part in DECISIVE for path in (package / part).rglob("*.py")):
        content.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes())
    return content.hexdigest()


def identity(source: WeightSource, *, settled_at: int) -> str | None:
    """A digest that changes whenever a weight of `source` may have: of size, inode, times of each of its files, and its
    config; at a URL, of sizes and etags. None where no file decides what it holds, or one is gone, has no etag at its
    URL, or changed less than `SETTLED_NS` before `settled_at`, in ns of the epoch."""
    if not source.files:
        return None
    content = hashlib.blake2b(digest_size=16)
    try:
        content.update(json.dumps(source.config, sort_keys=True, default=str).encode())
        for path in source.files:
            if (file := remote_file(path)) is not None:
                found = file.properties()
                if not found.lasts:
                    return None
                content.update(repr((named(path), found)).encode())
                continue
            stat = os.stat(path)
            if stat.st_mtime_ns > settled_at - SETTLED_NS:
                return None
            known = (path.name, stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            content.update(repr(known).encode())
    except (OSError, RunError):
        return None
    return content.hexdigest()
