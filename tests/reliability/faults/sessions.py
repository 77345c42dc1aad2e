"""Sessions of the gate, each a process of its own that can be made to fail."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.reliability.faults.library import Fault, build

ROOT = Path(__file__).resolve().parents[3]
HANG_SECONDS = 120.0
"""How long a session may take before it counts as hung; it takes half a second."""


@dataclass(frozen=True)
class Ended:
    """How a session ended.

    Attributes:
        status: exit status; negative for a signal; None where it hung.
        output: what it printed.
        calls: how many calls its fault counted.
        injected: whether the fault happened.
        log: the calls in order, ``number name path``.
    """

    status: int | None
    output: str
    calls: int = 0
    injected: bool = False
    log: Sequence[str] = ()


class Sessions:
    """A server of sessions (see `server`), ended with the context.

    Args:
        directory: for the library and the outputs of sessions.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.faults.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ
            | {"LD_PRELOAD": str(build(directory)), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
            | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
        )
        self._count = 0

    def __enter__(self) -> Sessions:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.terminate()
        self._server.communicate()

    def start(
        self, arguments: Sequence[str], directory: Path, *, fault: Fault | None = None, **how: Any
    ) -> tuple[int, Path]:
        """Start ``pytest arguments`` in `directory`; returns its pid and the stem of its files."""
        self._count += 1
        stem = self.directory / f"session-{self._count}"
        stem.write_bytes(bytes(16))
        session: dict[str, Any] = {"arguments": list(arguments), "directory": str(directory), "output": f"{stem}.out"}
        if fault is not None:
            session |= {"fault": astuple(fault), "state": str(stem)}
        return self._ask({"start": session | how}), stem

    def wait(self, started: tuple[int, Path]) -> Ended:
        """How a session ends that was started."""
        pid, stem = started
        status = self._ask({"wait": pid, "seconds": HANG_SECONDS})
        calls, injected = struct.unpack("qq", stem.read_bytes())
        log, output = Path(f"{stem}.log"), Path(f"{stem}.out")
        ended = Ended(
            status,
            output.read_text(errors="replace") if output.exists() else "",
            calls,
            bool(injected),
            log.read_text(errors="replace").splitlines() if log.exists() else (),
        )
        for file in (stem, log, output):
            file.unlink(missing_ok=True)
        return ended

    def stopped(self, started: tuple[int, Path]) -> bool:
        """Wait until a session stands still, as `Kind.STOP` lets it; False where it ended before."""
        for _ in range(int(HANG_SECONDS * 100)):
            state = Path(f"/proc/{started[0]}/stat").read_text().rpartition(")")[2].split()[0]
            if state in "TZX":
                return state == "T"
            time.sleep(0.01)
        return False

    def run(self, arguments: Sequence[str], directory: Path, *, fault: Fault | None = None, **how: Any) -> Ended:
        """Start a session and wait for it."""
        return self.wait(self.start(arguments, directory, fault=fault, **how))

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())
