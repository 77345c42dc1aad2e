"""Whole command lines, as users type them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runs import simple_run

HEALTHY = """
geomcheck: 1
name: healthy
applies_to: ["opd*"]
expect:
  - id: support
    metric: update_support
    above: 50%
    at: last
  - id: rank
    metric: stable_rank
    within: [1.5, 16]
    why: A direction collapsed.
"""

STRICT = """
geomcheck: 1
name: strict
applies_to: ["opd*"]
expect:
  - id: support
    metric: update_support
    below: 5%
    at: last
    why: The learning rate is ten times too high.
  - id: norm
    metric: relative_update_norm
    below: 1
"""


@pytest.fixture
def write_suite(pytester: pytest.Pytester) -> Callable[..., Path]:
    """Write ``suites/NAME.yaml`` in the project."""

    def write(text: str, name: str = "mine") -> Path:
        path = pytester.path / "suites" / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write


@pytest.fixture
def opd_run(pytester: pytest.Pytester) -> Path:
    """A healthy run in ``ckpts/opd``."""
    return simple_run(pytester.path / "ckpts" / "opd")


@pytest.fixture
def geom(pytester: pytest.Pytester, opd_run: Path) -> Callable[..., pytest.RunResult]:
    """``pytest --geom-run=ckpts/opd ...``"""

    def run(*arguments: str, path: str = "ckpts/opd") -> pytest.RunResult:
        return pytester.runpytest_inprocess(f"--geom-run={path}", "-p", "no:cacheprovider", *arguments)

    return run
