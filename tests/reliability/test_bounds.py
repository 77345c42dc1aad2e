"""The worst of the corpus as users meet it: a process of its own, with bounds on time and memory."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.reliability.corpus import cases
from tests.reliability.corpus.case import Case
from tests.reliability.corpus.gate import CODES, FORBIDDEN
from tests.reliability.corpus.seeds import lay_out

CPU_SECONDS = 30
"""The system ends a process that works longer. Half of what these take is the import of PyTorch."""

PATIENCE_SECONDS = 300
"""What waits for something that never comes takes no processor time at all."""

PEAK_MIB = 600
"""What the process holds at most; 435 MiB of it are PyTorch, before anything is measured."""

ADDRESS_SPACE = 8 * 2**30

WORST = (
    "safetensors/length-all-ones",
    "places/a-sparse-terabyte-for-the-weights",
    "places/a-pipe-for-the-weights",
    "dcp/metadata-size-huge",
    "config/deep",
    "record/footer-length-huge",
)


def _limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))


@pytest.mark.parametrize("case", [case for case in cases() if case.id in WORST], ids=lambda case: case.id)
def test_time_and_memory_are_bounded(case: Case, tmp_path: Path) -> None:
    project = lay_out(case.seed, tmp_path / "project")
    case.spoil(project)
    run = "opd.parquet" if case.seed == "record" else case.run
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--geom-run={run}", *case.arguments]
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(
            command, cwd=project.root, stdout=output, stderr=subprocess.STDOUT, preexec_fn=_limited
        )  # fmt: skip
        status, peak = _waited(process)
    text = (tmp_path / "output").read_text(errors="replace")
    assert os.waitstatus_to_exitcode(status) in CODES[case.outcome], text
    assert all(said in text for said in case.says), text
    assert not any(said in text for said in FORBIDDEN), text
    assert peak / 2**20 < PEAK_MIB


def _waited(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """Status and peak memory, in bytes, of a process, which is killed where it takes too long."""
    deadline, peak = time.monotonic() + PATIENCE_SECONDS, 0
    while time.monotonic() < deadline:
        peak = max(peak, _peak_so_far(process.pid))
        pid, status = os.waitpid(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return status, peak
        time.sleep(0.02)
    process.kill()
    process.wait()
    raise AssertionError(f"still at work after {PATIENCE_SECONDS} s")


def _peak_so_far(pid: int) -> int:
    """As the kernel counts since the program began; what `wait4` tells counts its parent's memory before that too."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def test_the_worst_are_in_the_corpus() -> None:
    assert {case.id for case in cases()} >= set(WORST)
