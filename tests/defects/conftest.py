from __future__ import annotations

from pathlib import Path

import pytest

import geomcheck
from geomcheck.suite import Suite
from tests.runs import age, simple_run

SUITE = """
geomcheck: 1
name: size
expect:
  - {{id: size, metric: relative_update_norm, at: last, within: [{low}, {high}]}}
  - {{id: moves, metric: frozen_share, at: all, per: weight, below: 50%}}
"""


def suite_within(directory: Path, low: float, high: float) -> Suite:
    """The last update is within these bounds, and no weight is frozen."""
    file = directory / "size.yaml"
    file.write_text(SUITE.format(low=low, high=high))
    return geomcheck.load_suite(file)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good run of three checkpoints, an hour old."""
    return age(simple_run(tmp_path_factory.mktemp("good") / "opd"))


@pytest.fixture(scope="session")
def suite(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """The last update is within 30.5% of that of the good run."""
    directory = tmp_path_factory.mktemp("suite")
    loose = suite_within(directory, 0.0, 1.0)
    size = loose.evaluate(geomcheck.measure(run, suites=[loose]))[0].observed[-1].value
    return suite_within(directory, 0.695 * size, 1.305 * size)
