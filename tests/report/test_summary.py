from __future__ import annotations

from pathlib import Path

import pytest

from geomcheck.report.causes import Causes
from geomcheck.report.session import Session
from geomcheck.report.text.bar import bar
from geomcheck.report.text.grid import grid
from geomcheck.report.text.screen import Screen
from geomcheck.report.text.sparkline import ASCII, BLOCKS
from geomcheck.report.text.summary import table, tables
from geomcheck.report.text.verdicts import brief, failure

from .verdicts import facts

BESIDE_OUTCOME = len("  PASSED ")


@pytest.mark.parametrize(
    ("value", "bounds", "drawn"),
    [
        (-9, (-1, 1), "◂·····▏"),
        (-1.5, (-1, 1), "●·····▏"),
        (-1, (-1, 1), "▕●····▏"),
        (0, (-1, 1), "▕··●··▏"),
        (1, (-1, 1), "▕····●▏"),
        (1.5, (-1, 1), "▕·····●"),
        (float("inf"), (-1, 1), "▕·····▸"),
        (0, (0, 0), "▕··●··▏"),
        (0.5, (0, 0), "▕·····▸"),
        (0.1, (0.5, None), "●····· "),
        (0.9, (0.5, None), "▕····● "),
        (0.65, (0.5, None), "▕·●··· "),
        (9, (0.5, None), "▕····● "),
        (0.1, (None, 0.5), " ·●···▏"),
        (0, (None, 0.25), " ●····▏"),
        (0.6, (None, 0.5), " ·····●"),
        (1.6, (None, 0.5), " ·····▸"),
        (1, (0, None), "▕··●·· "),
        (8e307, (-8e307, 9e307), "▕····●▏"),
        (None, (0, 1), ""),
        (1, (None, None), ""),
        (1, None, ""),
    ],
)
def test_a_bar_shows_where_in_its_band_a_figure_lies(value, bounds, drawn: str) -> None:
    assert bar(value, bounds, ascii=False) == drawn
    assert bar(value, bounds, ascii=True).isascii()


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
    assert all(figure in text for figure in ("below 0.001", "0.1% to 12.5%", "1.5 to 15"))


def test_names_of_metrics_go_first(tmp_path: Path) -> None:
    verdicts = facts(tmp_path)
    wide, narrow = (table(verdicts, Screen(width=width)) for width in (200, 60))
    assert "stable_rank" in wide[1][0]
    assert set(wide[1][0]) & set(BLOCKS)
    assert "stable_rank" not in narrow[1][0]
    assert "1.5 to 15" in narrow[1][0]


def test_a_figure_stands_before_its_own_band_and_how_far_it_is_off(tmp_path: Path) -> None:
    verdict = facts(tmp_path, bound="0.1")[0]
    entry = {"step": 40, "group": None, "value": 0.2951, "holds": False, "low": 0.3, "high": 0.31}
    verdict |= {"decisive": entry, "observed": [entry], "bounds": None, "side": "below"}
    ((line,),) = table([verdict], Screen(width=80))
    assert line == "norms  update_norm  0.2951  0.3 to 0.31 at step 40  ●·····▏  1.0 below"
    ((line,),) = table([verdict | {"id": "n" * 30}], Screen(width=80, levels=ASCII))
    assert line == "nnnnnnnnnn...nnnnnnnnnnn 0.2951 0.3 to 0.31 at 40 o.....| 1.0"
    assert brief(verdict) == "0.2951, 0.3 to 0.31 at step 40: 1.0 half widths below"
    entry["value"] = 0.2999999
    assert brief(verdict).startswith("0.2999999, 0.3 to 0.31 at step 40: <0.1 half")


def test_what_fails_comes_first_and_the_furthest_of_that(tmp_path: Path) -> None:
    verdicts = [{**one, "run": "run", "suite": "many", "path": "s.yaml"} for one in facts(tmp_path)]
    lines = tables(Session(()), verdicts, Causes.of(verdicts), Screen(width=120))
    assert lines[0].text == "run against many: 2 failed, 1 passed"
    assert [line.text.split()[0] for line in lines[1:4]] == ["norms", "support", "rank"]
    assert [line.before.strip() for line in lines[1:4]] == ["FAILED", "FAILED", "PASSED"]
    several = [*verdicts, *({**one, "run": "other", "outcome": "passed"} for one in verdicts)]
    folded = tables(Session(()), several, Causes.of(several), Screen(width=120))
    assert [line.text for line in folded if " against " in line.text] == [
        "run against many: 2 failed, 1 passed (-v lists them)",
        "other against many: 3 passed",
    ]
    assert sum(bool(line.before) for line in folded) == 2
    assert sum(bool(line.before) for line in tables(Session(()), several, Causes.of(several), Screen(verbosity=1))) == 6


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
