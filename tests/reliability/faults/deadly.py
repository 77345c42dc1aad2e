"""A pytest plugin: the first worker of pytest-xdist dies in its first test."""

from __future__ import annotations

import os
import signal


def pytest_runtest_call() -> None:
    if os.environ.get("PYTEST_XDIST_WORKER") == "gw0":
        os.kill(os.getpid(), signal.SIGKILL)
