from __future__ import annotations

from pathlib import Path

import pytest

from geomcheck.report.text.grid import grid
from geomcheck.report.text.screen import Screen
from geomcheck.report.text.sparkline import BLOCKS
from geomcheck.report.text.summary import table
from geomcheck.report.text.verdicts import failure

from .verdicts import facts

BESIDE_OUTCOME = len("  PASSED ")


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
@pytest.mark.parametrize("per", ["run", "weight"])
def test_no_line_is_wider_than_the_screen(tmp_path: Path, width: int, per: str) -> None:
    verdicts = facts(tmp_path, per=per, steps=range(10, 410, 10))
    screen = Screen(width=width)
    for first, *rest in table(verdicts, screen):
        assert BESIDE_OUTCOME + len(first) <= width
        assert all(len(line) <= width for line in rest)
    for verdict in verdicts:
        _, *lines = failure(verdict, screen).splitlines()
        assert all(len(line) <= width for line in lines[:-1])


def test_figures_survive_on_a_narrow_screen(tmp_path: Path) -> None:
    lines = table(facts(tmp_path), Screen(width=40))
    assert len(lines) == 3
    text = " ".join(word for group in lines for line in group for word in line.split())
    assert all(figure in text for figure in ("value < 0.001", "0.1% <= value <= 12.5%", "1.5 <= value <= 15"))


def test_names_of_metrics_go_first(tmp_path: Path) -> None:
    verdicts = facts(tmp_path)
    wide, narrow = (table(verdicts, Screen(width=width)) for width in (200, 60))
    assert "stable_rank" in wide[1][0]
    assert set(wide[1][0]) & set(BLOCKS)
    assert "stable_rank" not in narrow[1][0]
    assert narrow[1][0].endswith("1.5 <= value <= 15")


def test_every_checkpoint_is_shown_with_vv(tmp_path: Path) -> None:
    steps = range(10, 410, 10)
    verdict = facts(tmp_path, steps=steps)[1]
    usual, whole = (grid(verdict, Screen(width=80, verbosity=verbosity), margin=13) for verbosity in (0, 2))
    printed = [word for line in whole if line.startswith("step") for word in line.split()[1:]]
    assert printed == [str(step) for step in steps]
    assert len(usual) == 2
    assert "..." in usual[0]
    assert len(max(whole, key=len)) <= 80 - 13


def test_what_a_figure_is_compared_with_is_beside_it(tmp_path: Path) -> None:
    verdict = facts(tmp_path)[1]
    for entry in verdict["observed"]:
        entry |= {"reference": 7.5, "low": 0.25}
    lines = grid(verdict, Screen(), margin=13)
    assert [line.split()[0] for line in lines] == ["step", "value", "reference", "low"]
    assert lines[2].split()[1:] == ["7.5"] * 3
