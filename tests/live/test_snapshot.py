"""A snapshot says what is settled, what is violated for good, and what is still open."""

from __future__ import annotations

from pathlib import Path

import pytest

import geomcheck
from geomcheck.live.snapshot import Snapshot
from geomcheck.record import Record
from geomcheck.suite import Suite
from tests.runs import simple_run

SUITE = """
geomcheck: 1
expect:
  - {id: holds, metric: relative_update_norm, below: 90%}
  - {id: broken, metric: relative_update_norm, below: 0.1%}
  - {id: first, metric: relative_update_norm, below: 90%, at: first}
  - {id: in-the-end, metric: relative_update_norm, below: 90%, at: last}
"""


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    (tmp_path / "suite.yaml").write_text(SUITE)
    return geomcheck.load_suite(tmp_path / "suite.yaml")


@pytest.fixture
def record(tmp_path: Path, suite: Suite) -> Record:
    return geomcheck.measure(simple_run(tmp_path / "run", (10, 20)), suites=[suite], workers=1)


def ids(entries: object) -> list[str]:
    return [entry.due.expectation.id for entry in entries]  # type: ignore[attr-defined]


def test_while_checkpoints_may_follow(suite: Suite, record: Record) -> None:
    seen = Snapshot.take([suite], record, finished=False, planned=50)
    assert ids(seen.entries) == ["holds", "broken", "first", "in-the-end"]
    assert ids(seen.violated) == ["broken"]
    assert ids(seen.settled("passed")) == ["first"]
    assert ids(seen.open) == ["holds", "in-the-end"]
    assert seen.checks_anything


def test_in_the_end_nothing_is_open(suite: Suite, record: Record) -> None:
    seen = Snapshot.take([suite], record, finished=True, planned=20)
    assert (seen.open, ids(seen.violated)) == ([], ["broken"])


def test_a_verdict_that_is_doubted_is_an_error(suite: Suite, record: Record) -> None:
    seen = Snapshot.take([suite], record, finished=True, planned=20, doubt=lambda entry: "it is gone")
    assert ids(seen.settled("error")) == ids(seen.violated) == ids(seen.entries)
    assert all(entry.verdict is not None and "it is gone" in entry.verdict.message for entry in seen.entries)
    assert not seen.checks_anything
