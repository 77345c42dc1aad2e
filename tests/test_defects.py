"""The judge of the defect study; its training is a command of its own (fixtures/defects)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

import geomcheck
from fixtures.defects.detection import calibrated, judge
from fixtures.defects.power import compared
from geomcheck.record import Record
from tests.runs import base_weights, moved, write_run

STEPS = (10, 20, 30)


def record(folder: Path, seed: int, scales: Sequence[float]) -> Record:
    base = base_weights()
    checkpoints = {step: moved(base, scale, seed=seed) for step, scale in zip(STEPS, scales, strict=True)}
    return geomcheck.measure(write_run(folder / f"run-{seed}", base, checkpoints), metrics=["relative_update_norm"])


@pytest.fixture
def clean(tmp_path: Path) -> list[Record]:
    return [record(tmp_path, seed, (1e-3, 2e-3, 3e-3)) for seed in range(1, 7)]


def test_a_clean_run_is_within_its_bands(clean: list[Record]) -> None:
    finding = judge(calibrated(clean[:5], "clean"), clean[5])
    assert finding.failed == ()
    assert finding.distance < 1
    assert finding.checkpoint is None


def test_a_defect_is_dated_by_the_first_checkpoint_outside(clean: list[Record], tmp_path: Path) -> None:
    spoiled = record(tmp_path, 9, (1e-3, 2e-2, 3e-2))
    finding = judge(calibrated(clean[:5], "clean"), spoiled)
    assert set(finding.failed) == {"relative-update-norm", "each-weight"}
    assert finding.checkpoint == 2
    assert finding.distance > 1
    assert not finding.refusal


def test_a_run_in_another_storage_format_is_refused(clean: list[Record], tmp_path: Path) -> None:
    base = base_weights()
    checkpoints = {step: moved(base, 0.01 * step, seed=3, dtype=torch.bfloat16) for step in STEPS}
    other = geomcheck.measure(write_run(tmp_path / "bf16", base, checkpoints), metrics=["relative_update_norm"])
    finding = judge(calibrated(clean[:5], "clean"), other)
    assert math.isinf(finding.distance)
    assert "bf16" in finding.refusal


def test_the_power_of_the_shipped_suite_is_that_of_a_gate(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    found = compared(geomcheck.load_suite(root / "suites" / "tiny-opd.yaml"), root / "fixtures" / "tiny-opd", tmp_path)
    assert len(found) > 25
    assert [one for one in found if not one.agrees] == []
