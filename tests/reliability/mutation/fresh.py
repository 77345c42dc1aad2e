"""A mutant that acts while its module is imported: the tests on a copy of the sources, imported anew.

In a fork of this process, which imports torch and what else is slow, and nothing of geomcheck.
"""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

COPIED = ("geomcheck", "docs", "tests", "suites", "pyproject.toml", "README.md", "action.yml")
LINKED = ("fixtures",)
SLOW = ("torch", "numpy", "scipy.sparse.linalg", "pyarrow.parquet", "pydantic", "safetensors.torch", "jinja2", "rich")
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
    for name in SLOW:
        importlib.import_module(name)
    path = copy / module
    original = path.read_text(encoding="utf-8")
    path.write_text(mutated, encoding="utf-8")
    try:
        child = os.fork()
        if child == 0:
            _test(copy, tests)
        return _wait(child) == 0
    finally:
        path.write_text(original, encoding="utf-8")


def _wait(child: int) -> int:
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 1


def _test(copy: Path, tests: Sequence[str]) -> NoReturn:
    status = 1
    try:
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "geomcheck")]:
            del sys.modules[name]
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        os.environ["PYTHONPATH"] = str(copy)
        sys.dont_write_bytecode = True
        status = int(importlib.import_module("pytest").main(["-x", "-q", "-p", "no:cacheprovider", *tests]))
    finally:
        os._exit(status)
