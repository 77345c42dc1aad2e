"""Figures one by one, as a column and as a table are the same figures."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from geomcheck.record import Figure, Origin, Record, Request, Row, columns_of
from geomcheck.record.column import Column, Table

STEPS, NAMES = [10, 20, 30, 40], ["a", "b", "c", "d", "e"]


def some_figures(seed: int) -> dict[tuple[int, str], Figure]:
    """Figures at some places, in no order; a few are undefined."""
    dice = random.Random(seed)
    places = [place for place in itertools.product(STEPS, NAMES) if dice.random() < 0.7]
    dice.shuffle(places)
    return {place: Figure(dice.random()) if dice.random() < 0.8 else Figure(None, f"why {place}") for place in places}


@pytest.mark.parametrize("seed", range(5))
def test_a_column_holds_the_figures_it_is_made_of(seed: int) -> None:
    figures = some_figures(seed)
    assert Column.of(figures).figures == figures
    assert Column.of(figures).weights() == {name for _, name in figures}


def test_no_figures_make_an_empty_column() -> None:
    assert Column.of({}).figures == {}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("steps", "names"), [(STEPS, NAMES), ([20, 40], ["e", "b"]), ([25, 30], ["x", "a"])])
def test_a_table_has_a_row_per_checkpoint_and_a_column_per_weight(
    seed: int, steps: list[int], names: list[str]
) -> None:
    figures = some_figures(seed)
    table = Table.of(Column.of(figures), steps, names)
    for (row, step), (place, name) in itertools.product(enumerate(steps), enumerate(names)):
        figure = figures.get((step, name))
        assert table.there[row, place] == (figure is not None)
        assert table.reasons.get((row, place)) == (figure.undefined if figure else None)
        value = math.nan if figure is None or figure.value is None else figure.value
        assert table.values[row, place] == pytest.approx(value, rel=0, abs=0, nan_ok=True)


def test_figures_are_collected_by_request_and_the_first_of_two_counts() -> None:
    norm, rank = Request("update_norm"), Request("stable_rank")
    rows = [
        Row(10, "a", norm, "value", Figure(1.0)),
        Row(10, "b", norm, "value", Figure(2.0)),
        Row(10, "a", rank, "value", Figure(undefined="zero")),
        Row(10, "a", norm, "value", Figure(3.0)),
    ]
    record = Record("run", "run", "safetensors", (), Origin("base", "given"), {}, columns=columns_of(rows))
    assert record.column(norm, "value").values.tolist() == [1.0, 2.0]
    assert record.figures(rank, "value") == {(10, "a"): Figure(undefined="zero")}
    assert record.measured_weights() == {"a", "b"}
    assert list(record.rows()) == [rows[2], rows[0], rows[1]]
