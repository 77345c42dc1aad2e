"""A mutant that acts while its module is imported: the tests, in a new process, on a copy of the sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

COPIED = ("geomcheck", "tests", "suites", "pyproject.toml", "README.md", "action.yml")
LINKED = ("fixtures",)
SECONDS = 300.0


@contextmanager
def copy_of(root: Path) -> Iterator[Path]:
    """A copy of what the tests need, in a temporary directory."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        copy = Path(name)
        for entry in COPIED:
            source = root / entry
            if source.is_dir():
                shutil.copytree(source, copy / entry, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / entry)
        for entry in LINKED:
            (copy / entry).symlink_to(root / entry)
        yield copy


def survives(copy: Path, module: str, mutated: str, tests: Sequence[str]) -> bool:
    """Whether the tests pass on the mutated module; a hang is no pass."""
    path = copy / module
    original = path.read_text(encoding="utf-8")
    path.write_text(mutated, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
            cwd=copy,
            env=environment,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
        return done.returncode == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        path.write_text(original, encoding="utf-8")
