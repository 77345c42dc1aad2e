"""Weights that are no matrices: scalars, nothing at all, one row, one column, stacks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import geomcheck
from geomcheck.errors import GeomcheckError
from geomcheck.record import Request
from tests.runs import DOWN, K, Q, base_weights, moved, write_run

ODD = {"scalar": (), "nothing": (0, 4), "no_columns": (4, 0), "row": (1, 16), "column": (16, 1), "stack": (2, 3, 4)}

SUITE = """
geomcheck: 1
name: odd
weights: {{include: ["*{name}*"]}}
expect:
  - {{id: support, metric: {metric}, below: 99%}}
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    base = base_weights() | {f"model.{name}.weight": torch.ones(shape).bfloat16() for name, shape in ODD.items()}
    return write_run(tmp_path / "run", base, {10: moved(base, 1e-3), 20: moved(base, 2e-3, seed=2)})


def test_they_have_no_geometry(run: Path) -> None:
    record = geomcheck.measure(run)
    with_rank = record.column(Request("stable_rank"), "value").weights()
    assert with_rank == {Q, K, DOWN}
    assert record.measured_weights() >= {f"model.{name}.weight" for name, shape in ODD.items() if 0 not in shape}
    assert record.skipped == {}


def verdicts(run: Path, tmp_path: Path, name: str, metric: str) -> list[str]:
    """The outcome of a bound on the figure of one weight; the reason alone where the run is refused."""
    file = tmp_path / "odd.yaml"
    file.write_text(SUITE.format(name=name, metric=metric))
    suite = geomcheck.load_suite(file)
    try:
        return [verdict.outcome for verdict in suite.evaluate(geomcheck.measure(run, suites=[suite]))]
    except GeomcheckError:
        return ["refused"]


@pytest.mark.parametrize("name", [name for name, shape in ODD.items() if 0 not in shape])
def test_figures_of_entries_are_of_any_shape_and_others_of_matrices(run: Path, tmp_path: Path, name: str) -> None:
    assert verdicts(run, tmp_path, name, "update_support") == ["passed"]
    assert verdicts(run, tmp_path, name, "top_energy") == ["error"]


@pytest.mark.parametrize("name", [name for name, shape in ODD.items() if 0 in shape])
def test_what_holds_no_number_does_not_pass(run: Path, tmp_path: Path, name: str) -> None:
    assert verdicts(run, tmp_path, name, "update_support") in (["error"], ["refused"])
