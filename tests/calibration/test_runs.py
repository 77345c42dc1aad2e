"""Runs that cannot be calibrated together are refused, and both sides are named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import geomcheck
from geomcheck.calibration.runs import common_pattern, common_places
from geomcheck.errors import UsageError
from geomcheck.record import Point, Record
from geomcheck.suite.language.places import Place
from tests.runs import Q, base_weights, moved, repeats, write_run

Change = Callable[[Record], Record]


def _definition(record: Record) -> Record:
    return replace(record, versions={**record.versions, "stable_rank": 7})


def _shape(record: Record) -> Record:
    return replace(record, weights={**record.weights, Q: replace(record.weights[Q], shape=(24, 32))})


def _fewer(record: Record) -> Record:
    return replace(record, weights={name: w for name, w in record.weights.items() if name != Q})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_definition, "the definitions of stable_rank differ: version 1 against version 7"),
        (_shape, r"the shapes of .*q_proj.weight differ: \(24, 16\) against \(24, 32\)"),
        (_fewer, r"their weights differ: has .*q_proj.weight against no .*q_proj.weight"),
    ],
)
def test_records_that_differ(good: list[Record], change: Change, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        geomcheck.calibrate([*good[:2], change(good[2])])
    assert good[0].path in str(error.value)
    assert good[2].path in str(error.value)


def test_another_w0(good_runs: list[Path], tmp_path: Path) -> None:
    (other,) = repeats(tmp_path, 1, base_seed=5)
    with pytest.raises(
        UsageError, match=r"their W0 \(in .*\) differ: .*/base \(content blake3:\w+\) against .*/base \(content blake3:"
    ):
        geomcheck.calibrate([*good_runs[:2], other])
    allowed = geomcheck.calibrate([*good_runs[:2], other], across_bases=True)
    assert "They started from different W0 (--across-bases)." in " ".join(allowed.to_yaml().replace("#", "").split())


def test_another_storage_format(good_runs: list[Path], tmp_path: Path) -> None:
    base = base_weights()
    steps = {step: moved(base, 1e-3 * step, seed=step, dtype=torch.bfloat16) for step in (10, 20)}
    other = write_run(tmp_path / "bf16", base, steps)
    with pytest.raises(UsageError, match="storage formats of .* differ: bf16, fp32 against bf16"):
        geomcheck.calibrate([*good_runs[:2], other])


def test_one_run_twice(good_runs: list[Path]) -> None:
    with pytest.raises(UsageError, match="are one run, and say nothing about how runs differ"):
        geomcheck.calibrate([*good_runs[:2], good_runs[0]])


def test_other_checkpoints(good_runs: list[Path], tmp_path: Path) -> None:
    base = base_weights()
    other = write_run(tmp_path / "other", base, {s: moved(base, 1e-3 * s, seed=s) for s in (5, 12, 20)})
    with pytest.raises(UsageError, match="other checkpoints: steps 10 20 against 5 12 20.*--at"):
        geomcheck.calibrate([*good_runs[:2], other])
    last = geomcheck.calibrate([*good_runs[:2], other], at=[Place("last")], metrics=["update_norm"])
    assert [band.place for band in last.expectations[0].bands] == [Place("last")]
    with pytest.raises(UsageError, match="no checkpoint at step 7; it has 10, 20"):
        geomcheck.calibrate(good_runs[:2], at=[Place(step=7)])


def test_equal_progress_at_other_steps_is_matched_by_progress(good: list[Record]) -> None:
    points = (Point("a", 100, 0.5), Point("b", 200, 1.0))
    places = common_places([good[0], replace(good[1], points=points)])
    assert places.text == "progress 50%, progress 100%"


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (["opd-8b-seed1", "opd-8b-seed2"], "*opd*"),
        (["2024-05-01-opd", "2024-05-02-opd"], "*opd*"),
        (["clean_sft_1", "clean_sft_2"], "*sft*"),
        (["qwen3-good-1", "qwen3-good-2", "qwen3-ref"], "*qwen3*"),
        (["good-1", "good-2"], ""),
        (["seed-1", "seed-2"], ""),
        (["checkpoint", "checkpoints-2"], ""),
        (["opd", "opd"], ""),
        (["a", "b"], ""),
        (["opd[1]-a", "opd[1]-b"], ""),
    ],
)
def test_a_pattern_comes_from_what_names_have_in_common(names: list[str], pattern: str) -> None:
    assert common_pattern(names) == ((pattern,) if pattern else ())
