"""The page's figures are the gate's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import geomcheck
from geomcheck.checkpoints.weights import describe
from geomcheck.diagnostics import FOLDS, Fold, load_metrics
from geomcheck.record import Figure, Record, Request
from geomcheck.record.column import Column
from geomcheck.report.figures import Figures, Statistic
from geomcheck.report.html.heatmap import payload
from tests.report.records import record_of

NAMES = [f"model.layers.0.mlp.experts.{expert}.up_proj.weight" for expert in range(8)]
SUITE = "geomcheck: 1\nname: s\nexpect: [{id: e, metric: update_support, above: 0.001%}]\n"


@pytest.mark.parametrize("fold", FOLDS)
def test_a_page_folds_as_the_gate_does(fold: Fold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the metric declares, which may be another package's."""
    metric = replace(load_metrics()["update_support"], fold=fold)
    monkeypatch.setitem(load_metrics()._metrics, metric.name, metric)
    record = record_of(NAMES)
    record.weights[NAMES[3]] = describe(NAMES[3], (64, 640), ("bf16",))
    (tmp_path / "s.yaml").write_text(SUITE)
    (verdict,) = geomcheck.load_suite(tmp_path / "s.yaml").evaluate(record)
    judged = [observed.value for observed in verdict.observed]
    assert Figures(record).folded(Statistic(Request.of(metric, {}), "value")) == judged
    (drawn,) = [f for f in payload("run", Figures(record), 1)["figures"] if f["metric"] == metric.name]
    assert [value for (value,) in drawn["values"]] == pytest.approx(judged, rel=1e-3)


STACKS = [f"{stack}.{n}.mlp.up_proj.weight" for stack in ("model.layers", "mtp.layers") for n in (0, 1)]


def test_the_map_has_a_row_for_each_layer_of_each_stack() -> None:
    drawn = payload("run", Figures(record_of([*STACKS, "model.connector.proj.weight"])), 1)
    assert drawn["layers"] == ["model 0", "model 1", "mtp 0", "mtp 1", "outside layers"]
    assert [cell["name"] is not None for cell in drawn["cells"]] == [True] * 5
    assert payload("run", Figures(record_of(STACKS[:2])), 1)["layers"] == ["0", "1"]


def test_rows_of_many_layers_say_from_which_to_which() -> None:
    names = [f"{stack}.layers.{n}.mlp.up_proj.weight" for stack in ("decoder", "encoder") for n in range(100)]
    layers = payload("run", Figures(record_of(names, steps=(10, 20))), 1)["layers"]
    assert len(layers) == len(set(layers)) == 100
    assert (layers[0], layers[-1]) == ("decoder 0–1", "encoder 98–99")
    odd = payload("run", Figures(record_of(names[1:], steps=(10, 20))), 1)["layers"]
    assert odd[49] == "decoder 99–encoder 0"


def test_the_map_shows_which_share_of_the_update_lies_where() -> None:
    """Two experts of a layer, one of another, which moves later, and a weight without a norm."""
    names = [f"model.layers.{n}.mlp.experts.{e}.up_proj.weight" for n, e in ((0, 0), (0, 1), (1, 0), (2, 0))]
    record = record_of(names, steps=(10, 20))
    norms = {(10, 0): 3.0, (10, 1): 4.0, (10, 2): 0.0, (20, 0): 1.0, (20, 1): 1.0, (20, 2): 2.0}
    assert energy(record) == []
    column = Column.of({(step, names[place]): Figure(value=size) for (step, place), size in norms.items()})
    record.columns[Request.of(load_metrics()["update_norm"], {}), "value"] = column
    (drawn,) = energy(record)
    assert drawn["values"] == [[1.0, 0.0, None], [0.3333, 0.6667, None]]
    assert drawn["extremes"][0][1::2] == [0.1667, 0.1667]


def energy(record: Record) -> list[dict[str, Any]]:
    return [figure for figure in payload("run", Figures(record), 1)["figures"] if figure["metric"] == "energy share"]
