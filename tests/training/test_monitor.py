from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

import geomcheck
from geomcheck.training import Monitor
from tests.runs import simple_run


def test_x(tmp_path: Path) -> None:
    run = simple_run(tmp_path / "opd")
    metrics = [
        "stable_rank",
        "update_sparsity",
        geomcheck.measurement.Request("subspace_alignment", '{"k":2,"side":"right","to":"last"}'),
    ]
    monitor = Monitor(run / "base", metrics=metrics, total_steps=30, run=run, record=tmp_path / "opd.parquet")
    for step in (10, 20, 30):
        o = monitor.observe(
            step, load_file(run / f"checkpoint-{step}" / "model.safetensors"), name=f"checkpoint-{step}"
        )
        print(o)
    after = geomcheck.measure(run, metrics=metrics)
    assert list(after.rows()) == list(monitor.record.rows())
    assert after.fingerprints == monitor.record.fingerprints
    print(after.measured())
