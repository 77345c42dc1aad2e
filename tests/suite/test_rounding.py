"""What rounding explains of an update, where it was measured and where it was not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import geomcheck
from geomcheck.checkpoints.formats import adapter
from geomcheck.suite.rounding import rounding_shares
from tests.runs import write_run

NAMES = [f"model.layers.{layer}.self_attn.q_proj.weight" for layer in range(3)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_estimate_is_near_what_is_measured(tmp_path: Path, dtype: torch.dtype) -> None:
    chance = torch.Generator().manual_seed(0)
    base = {name: (torch.randn(64, 48, generator=chance) / 20).to(dtype) for name in NAMES}
    moved = {name: (w0 + 1e-3 * torch.randn(64, 48, generator=chance)).to(dtype) for name, w0 in base.items()}
    moved[NAMES[2]] = base[NAMES[2]]
    record = geomcheck.measure(write_run(tmp_path / "run", base, {10: moved}), metrics=["stable_rank"], workers=1)
    measured, estimated = rounding_shares(record, [10], NAMES)
    assert not estimated.any()
    without = {key: column for key, column in record.columns.items() if key[0].metric != "rounding_share"}
    shares, estimated = rounding_shares(replace(record, columns=without), [10], NAMES)
    assert estimated.tolist() == [[True, True, False]]  # of no update nothing is known
    np.testing.assert_allclose(shares, measured, rtol=0.1)


def test_nothing_is_estimated_of_an_adapter(make_record) -> None:
    record = make_record(
        {("relative_update_norm", "value"): 1e-3, ("rounding_share", "value"): lambda step, name: None}
    )
    name, weight = next(iter(record.weights.items()))
    record = replace(record, weights={**record.weights, name: replace(weight, dtypes=("bf16",))})
    step = record.points[0].step
    assert np.isfinite(rounding_shares(record, [step], [name])[0]).all()
    adapted = replace(record, layout=adapter.LAYOUT)
    assert np.isnan(rounding_shares(adapted, [step], [name])[0]).all()
