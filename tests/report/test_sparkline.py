from __future__ import annotations

import pytest

from geomcheck.report.text.sparkline import ASCII, BLOCKS, LONGEST, levels_for, sparkline


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


@pytest.mark.parametrize(
    ("encoding", "levels"),
    [("utf-8", BLOCKS), ("UTF8", BLOCKS), ("gb18030", BLOCKS), ("ascii", ASCII), ("latin-1", ASCII), ("cp437", ASCII)],
)
def test_blocks_where_the_encoding_has_them(encoding: str, levels: str) -> None:
    assert levels_for(encoding) == levels


@pytest.mark.parametrize("encoding", [None, "", "no-such-encoding"])
def test_ascii_where_the_encoding_is_unknown(encoding: str | None) -> None:
    assert levels_for(encoding) == ASCII


def test_a_long_trajectory_is_shortened_and_keeps_its_spike() -> None:
    values: list[float | None] = [1.0] * 500
    values[321] = 9.0
    drawn = sparkline(values, levels=BLOCKS)
    assert len(drawn) == LONGEST
    assert drawn.count("█") == 1
