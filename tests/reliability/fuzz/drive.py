"""Fuzzing targets one after the other, in a process of its own, and what came of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path


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


def fuzz(targets: Sequence[str], seconds: float, out: Path) -> Iterator[Outcome]:
    """Fuzz `targets` for `seconds` each; findings and logs are kept in `out`, by target."""
    for target in targets:
        shutil.rmtree(out / target, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-W", "ignore", "-m", "tests.reliability.fuzz.session", *targets]
    command += ["--seconds", str(seconds), "--out", str(out)]
    left = list(targets)
    with (out / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            target, ended = json.loads(line)
            left.remove(target)
            yield _outcome(target, out / target, ended)
        process.wait()
    for target in left:  # the process itself did not get so far
        yield Outcome(target, 0.0, 0, 0, None, {"tried nothing": out / "log.txt"})


def _outcome(target: str, out: Path, ended: str) -> Outcome:
    facts = json.loads((out / "progress.json").read_text())
    findings = {kind: out / name for kind, name in facts["kinds"].items()}
    if not facts["executions"]:
        findings["tried nothing"] = out / "log.txt"
    elif ended:
        findings[ended] = out / "ended-the-process"
    counted = re.findall(r"cov: (\d+)", (out / "log.txt").read_text(errors="replace"))
    edges = int(counted[-1]) if counted else None
    return Outcome(target, facts["seconds"], facts["executions"], facts["read"], edges, findings)
