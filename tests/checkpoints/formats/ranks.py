"""The state dicts of `write_ranks`, written once per test session."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

WORLD = 2
_SCRIPT = Path(__file__).with_name("write_ranks.py")


def written_by_ranks(factory: pytest.TempPathFactory) -> Path:
    """A directory with what the ranks wrote; the workers of one pytest-xdist session share it."""
    shared = factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else factory.getbasetemp()
    directory = shared / "ranks"
    with (shared / "ranks.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            _write(directory.with_suffix(".part"))
            directory.with_suffix(".part").rename(directory)
    return directory


def _write(directory: Path) -> None:
    directory.mkdir()
    command = [sys.executable, "-W", "ignore", str(_SCRIPT)]
    ranks = [
        subprocess.Popen([*command, str(rank), str(WORLD), str(directory)], stderr=subprocess.PIPE)
        for rank in range(WORLD)
    ]
    try:
        errors = [rank.communicate(timeout=240)[1].decode() for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0] * WORLD, "\n".join(errors)
