from __future__ import annotations

import pytest

from geomcheck.report.sparkline import ASCII, BLOCKS, sparkline


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], BLOCKS),
        ([1, 1, 1], "▁▁▁"),
        ([5], "▁"),
        ([0, None, 7], "▁ █"),
        ([None, None], "  "),
        ([], ""),
        ([-1, 1], "▁█"),
    ],
)
def test_values_are_spread_from_lowest_to_highest(values: list[float | None], expected: str) -> None:
    assert sparkline(values, levels=BLOCKS) == expected


def test_ascii_where_blocks_cannot_be_shown() -> None:
    assert sparkline([0, 7], levels=ASCII) == "_#"
