"""Fuzzing one target after the other, each in a process that may hang or die."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

GRACE_SECONDS = 60.0
"""For a process to start and to end."""

MEMORY = "/dev/shm"


@dataclass(frozen=True)
class Outcome:
    """What fuzzing a target came to.

    Attributes:
        target: its name.
        seconds: time spent on inputs.
        executions: inputs tried.
        read: of these, how many were not refused.
        edges: branches of the package that some input took; None where nobody counted.
        findings: the file with an input, by what was wrong with it.
    """

    target: str
    seconds: float
    executions: int
    read: int
    edges: int | None
    findings: Mapping[str, Path]

    def line(self) -> str:
        """All of it in a line."""
        edges = "blind" if self.edges is None else f"{self.edges} edges"
        found = ", ".join(f"{kind} ({path})" for kind, path in self.findings.items()) or "nothing found"
        return f"{self.target:20} {self.seconds:7.0f} s {self.executions:9} inputs, {self.read} read, {edges}: {found}"


def coverage_guided() -> bool:
    """Whether atheris is here."""
    return find_spec("atheris") is not None


def fuzz(target: str, seconds: float, out: Path) -> Outcome:
    """Fuzz `target`; its findings are kept in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "progress.json").unlink(missing_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="geomcheck-fuzz-", dir=MEMORY if Path(MEMORY).is_dir() else None))
    command = [sys.executable, "-W", "ignore", "-m", "tests.reliability.fuzz.session", target]
    command += ["--seconds", str(seconds), "--out", str(out), "--scratch", str(scratch)]
    log = out / "log.txt"
    try:
        with log.open("wb") as stream:
            died = _run(command, seconds + GRACE_SECONDS, stream)
        if died == "hangs" and re.search(rb"^Done \d+ runs", log.read_bytes(), re.MULTILINE):
            died = ""  # it was through, and some library's thread kept the process alive
        progress = out / "progress.json"
        started = json.loads(progress.read_text()) if progress.exists() else {}
        facts = {"seconds": 0.0, "executions": 0, "read": 0, "kinds": {}} | started
        findings = {kind: out / name for kind, name in facts["kinds"].items()}
        if not facts["executions"]:
            findings["tried nothing"] = log
        elif died:
            shutil.copy(scratch / "current", out / "ended-the-process")
            findings[died] = out / "ended-the-process"
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    counted = re.findall(r"cov: (\d+)", log.read_text(errors="replace"))
    edges = int(counted[-1]) if counted else None
    return Outcome(target, facts["seconds"], facts["executions"], facts["read"], edges, findings)


def _run(command: list[str], limit: float, stream: object) -> str:
    """Run `command`; what ended it, where it did not end by itself."""
    try:
        code = subprocess.run(command, stdout=stream, stderr=stream, timeout=limit, check=False).returncode  # type: ignore[call-overload]
    except subprocess.TimeoutExpired:
        return "hangs"
    return f"exit {code}" if code else ""
