"""Figures as cells, as a column and as a table are the same figures."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from geomcheck.record import Figure, Origin, Record, Request, Row
from geomcheck.record.column import Cells, Column
from geomcheck.record.table import Table

STEPS, NAMES = [10, 20, 30, 40], ["a", "b", "c", "d", "e"]


def some_cells(seed: int) -> Cells:
    """Figures at some places, in no order; a few are undefined."""
    dice = random.Random(seed)
    places = [place for place in itertools.product(STEPS, NAMES) if dice.random() < 0.7]
    dice.shuffle(places)
    return {place: Figure(dice.random()) if dice.random() < 0.8 else Figure(None, f"why {place}") for place in places}


@pytest.mark.parametrize("seed", range(5))
def test_a_column_holds_the_cells_it_is_made_of(seed: int) -> None:
    cells = some_cells(seed)
    assert Column.of(cells).cells() == cells
    assert Column.of(cells).weights() == {name for _, name in cells}


def test_no_cells_make_an_empty_column() -> None:
    assert Column.of({}).cells() == {}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("steps", "names"), [(STEPS, NAMES), ([20, 40], ["e", "b"]), ([25, 30], ["x", "a"])])
def test_a_table_has_a_row_per_checkpoint_and_a_column_per_weight(
    seed: int, steps: list[int], names: list[str]
) -> None:
    cells = some_cells(seed)
    table = Table.of(Column.of(cells), steps, names)
    for (row, step), (place, name) in itertools.product(enumerate(steps), enumerate(names)):
        figure = cells.get((step, name))
        assert table.there[row, place] == (figure is not None)
        assert table.reasons.get((row, place)) == (figure.undefined if figure else None)
        value = math.nan if figure is None or figure.value is None else figure.value
        assert table.values[row, place] == pytest.approx(value, rel=0, abs=0, nan_ok=True)


def test_figures_that_come_later_are_in_the_arrays_too() -> None:
    record = Record("run", "run", "safetensors", (), Origin("base", "given"), {})
    request = Request("update_norm")
    assert record.add(Row(10, "a", request, "value", Figure(1.0)))
    assert record.column(request, "value").values.tolist() == [1.0]
    assert record.add(Row(10, "b", request, "value", Figure(2.0)))
    assert not record.add(Row(10, "a", request, "value", Figure(3.0)))
    assert record.column(request, "value").values.tolist() == [1.0, 2.0]
    assert record.measured_weights() == {"a", "b"}
