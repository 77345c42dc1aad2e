"""A process that has imported everything and forks one pytest per request: a session in a third of a second.

It reads one JSON request per line, and answers each with one JSON line:
``{"start": {...}}`` forks a session and gives its pid, ``{"wait": pid, "seconds": S}`` gives its exit status, negative
for a signal, or null where it had to be killed because it hung.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
import time
import traceback
from contextlib import suppress
from typing import Any

import pytest

import geomcheck.gate.hooks
import geomcheck.report.html  # noqa: F401  (a session finds it imported)
import tests.preloaded  # noqa: F401
from geomcheck.measurement.cache import recall, store
from tests.reliability.faults.library import Fault, arm, obey_permissions


def serve() -> None:
    """Answer requests until there are no more."""
    with suppress(ImportError):
        import pandas  # noqa: F401  (pyarrow imports it where it is installed)
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        answer = _start(**request["start"]) if "start" in request else _waited(request["wait"], request["seconds"])
        print(json.dumps(answer), flush=True)


def _start(**session: Any) -> int:
    """Fork a session; returns its pid."""
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            status = _session(**session)
        except KeyboardInterrupt:
            status = 130
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return pid


def _session(
    arguments: list[str],
    directory: str,
    output: str,
    fault: list[Any] | None = None,
    state: str = "",
    eager: bool = False,
    unprivileged: bool = False,
    largest_file: int | None = None,
) -> int:
    """In the child: one pytest, its output in a file."""
    sink = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(directory)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if eager:
        store.FLUSH_SECONDS = recall.REMEMBER_SECONDS = 0.0
    if unprivileged:
        obey_permissions()
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    if fault is not None:
        arm(Fault(*fault), state=state, log=f"{state}.log")
    return int(pytest.main(arguments))


def _waited(pid: int, seconds: float) -> int | None:
    """The exit status of a session; None for one that had to be killed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


if __name__ == "__main__":
    serve()
