"""The list of slow tests names tests that there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.slow import SLOW, WEEKLY, marks

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("entry", SLOW)
def test_what_is_listed_is_there(entry: str) -> None:
    path, _, test = entry.partition("::")
    assert (ROOT / path).exists()
    assert not test or f"def {test}(" in (ROOT / path).read_text()


def test_what_runs_weekly_is_slow() -> None:
    assert set(WEEKLY) <= set(SLOW)


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("tests/stories/test_gate.py::test_x", ["slow"]),
        ("tests/live/loop/test_distributed.py::test_x[ddp]", ["slow", "weekly"]),
        ("tests/suite/test_due.py::test_what_is_settled_stays[band]", ["slow"]),
        ("tests/suite/test_due.py::test_what_is_settled_stays_so", []),
        ("tests/benchmarks/test_x.py::test_y", []),
        ("suites/tiny-opd.yaml::support", []),
    ],
)
def test_marks(test: str, expected: list[str]) -> None:
    assert list(marks(test)) == expected
