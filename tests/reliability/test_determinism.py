"""The same verdicts to the last byte, whoever measures, in whatever order, with whatever in the cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reliability.faults.bench import SUITE, weights
from tests.runs import age, moved, write_run

ROOT = Path(__file__).resolve().parents[2]


def project(directory: Path, *, backwards: bool = False) -> Path:
    """A project with a run; `backwards` makes its files, and the tensors in them, in the opposite order."""
    base = weights()
    steps = {step: moved(base, 1e-3 * step, seed=step) for step in (10, 20, 30)}
    run = directory / "ckpts" / "opd"
    if backwards:
        for step in sorted(steps, reverse=True):
            write_run(run, dict(reversed(base.items())), {step: dict(reversed(steps[step].items()))}, max_steps=30)
    else:
        write_run(run, base, steps)
    age(run)
    (directory / "suites").mkdir()
    (directory / "suites" / "steady.yaml").write_text(SUITE)
    (directory / "pytest.ini").write_text("[pytest]\n")
    return directory


def verdicts(directory: Path, seed: str, *arguments: str) -> bytes:
    """The JSON of ``pytest --geom-run=ckpts/opd ...`` with this seed of Python's hashes."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "pytest", "--geom-run=ckpts/opd", "--geom-json=v.json", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *arguments],
        cwd=directory,
        env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return (directory / "v.json").read_bytes()


def test_the_verdicts_are_the_same_to_the_last_byte(tmp_path: Path) -> None:
    pytest.importorskip("xdist")
    forwards, backwards = project(tmp_path / "a"), project(tmp_path / "b", backwards=True)
    cache = f"--geom-cache={tmp_path / 'cache'}"
    expected = verdicts(forwards, "0", "--geom-workers=1", "--geom-cache=off")
    assert b'"outcome": "passed"' in expected
    verdicts(backwards, "1", "--geom-workers=2", cache, "-k", "support or rank")
    shutil.rmtree(tmp_path / "cache" / "records")
    partly_warm = verdicts(backwards, "2", "--geom-workers=3", cache)
    assert partly_warm == expected
    assert verdicts(forwards, "3", "-n2", cache) == expected
