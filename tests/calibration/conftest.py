from __future__ import annotations

from pathlib import Path

import pytest

import geomcheck
from geomcheck.record import Record
from tests.runs import repeats


@pytest.fixture(scope="session")
def good_runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six runs of one recipe."""
    return repeats(tmp_path_factory.mktemp("good"), 6)


@pytest.fixture
def good(good_runs: list[Path]) -> list[Record]:
    """Their records, each fresh: tests may change them."""
    return [geomcheck.measure(run) for run in good_runs]
