"""Which checkpoint a name means."""

from __future__ import annotations

from typing import Any

import pytest

from geomcheck.record import Point
from geomcheck.record.points import fraction, is_awaited, locate, matches

POINTS = [Point(f"checkpoint-{step}", step, step / 100) for step in (10, 20, 35)]


@pytest.mark.parametrize(
    ("at", "index"),
    [
        ("first", 0),
        ("last", 2),
        ("previous", 1),
        ({"step": 20}, 1),
        ({"step": 21}, None),
        ({"progress": "15%"}, 0),  # of two that are equally near, the earlier
        ({"progress": "25%"}, 1),
        ({"progress": "28%"}, None),
        ({"progress": "40%"}, 2),
        ({"progress": "41%"}, None),
    ],
)
def test_located(at: Any, index: int | None) -> None:
    assert locate(POINTS, at, 2) == index


@pytest.mark.parametrize(
    ("at", "awaited"),
    [
        ("last", True),
        ("first", False),
        ("previous", False),
        ({"step": 35}, False),
        ({"step": 36}, True),
        ({"step": 15}, False),
        ({"progress": "35%"}, False),
        ({"progress": "38%"}, True),
        ({"progress": "15%"}, False),
    ],
)
def test_awaited(at: Any, awaited: bool) -> None:
    assert is_awaited(POINTS, at) is awaited


def test_five_points_are_near_enough_whatever_rounding_does() -> None:
    assert matches(Point("x", 1, 0.35), 0.4)
    assert matches(Point("x", 1, 0.1), 0.15)
    assert not matches(Point("x", 1, 0.1), 0.1501)


def test_a_share_is_the_float_of_its_decimal():
    assert [k for k in range(1001) if fraction(f"{k / 10:g}%") != k / 1000] == []
