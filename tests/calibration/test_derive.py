"""From runs on disk to a suite that gates the next one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import geomcheck
from geomcheck.calibration import Calibration, Range, Student
from geomcheck.errors import UsageError
from geomcheck.record import Record
from geomcheck.suite import Suite
from geomcheck.suite.language.places import Place
from geomcheck.suite.language.selection import Selection
from tests.figures import edit
from tests.runs import base_weights, moved, repeats, write_run

FIVE = slice(0, 5)


def loaded(calibration: Calibration, directory: Path) -> Suite:
    path = directory / "mine.yaml"
    calibration.write(path)
    return geomcheck.load_suite(path)


def test_calibrated_runs_and_a_fresh_one_pass_and_a_rate_three_times_too_high_fails(
    good_runs: list[Path], tmp_path: Path
) -> None:
    suite = loaded(geomcheck.calibrate(good_runs[FIVE], name="mine"), tmp_path)
    for run in good_runs:
        assert {verdict.outcome for verdict in suite.evaluate(geomcheck.measure(run))} == {"passed"}
    (wrong,) = repeats(tmp_path, 1, scale=3e-2)
    outcomes = {v.id: v.outcome for v in suite.evaluate(geomcheck.measure(wrong))}
    assert outcomes["relative-update-norm"] == outcomes["update-support"] == "failed"


def test_each_band_says_where_it_comes_from(good_runs: list[Path]) -> None:
    text = geomcheck.calibrate(good_runs[FIVE]).to_yaml()
    assert text.startswith("# Calibrated by geomcheck")
    assert "on N = 5 runs: seed-0 (" in text
    assert "3 weights (linear)" in text
    assert "moderated by each other and by those of other recipes" in " ".join(text.replace("#", " ").split())
    bands = [line for line in text.splitlines() if "within:" in line and "step:" in line]
    assert len(bands) == 8
    form = re.compile(r" +- \{step: [12]0, within: \[.+\]\} +# mean \S+, sd \S+, N 5: \S+ to \S+")
    assert all(form.fullmatch(line) for line in bands)


def test_what_is_left_out_is_named_with_the_reason(good_runs: list[Path]) -> None:
    calibration = geomcheck.calibrate(good_runs[FIVE])
    reasons = {left.metric: left.reason for left in calibration.left_out}
    assert reasons["update_sparsity"] == "it is 1 - update_support"
    assert "k = 16 spans the whole of" in reasons["subspace_alignment"]
    chosen = {expectation.metric.name for expectation in calibration.expectations}
    assert not chosen & {name.split(" at ")[0] for name in reasons if " at " not in name}
    assert "#   update_sparsity: it is 1 - update_support" in calibration.to_yaml()


def test_a_metric_that_varies_is_left_out_unless_it_is_asked_for(good: list[Record]) -> None:
    for index, record in enumerate(good):
        _scale(record, "stable_rank", 1 + 0.5 * index)
    reasons = {left.metric: left.reason for left in geomcheck.calibrate(good).left_out}
    assert re.fullmatch(
        r"it is not stable across the runs: they vary by [\d.]+% of the mean .*", reasons["stable_rank"]
    )
    asked = geomcheck.calibrate(good, metrics=["stable_rank"], rule=Range(0.1))
    assert [expectation.metric.name for expectation in asked.expectations] == ["stable_rank"]


def test_a_metric_that_repeats_an_unstable_one_stands_in_for_it(good: list[Record]) -> None:
    for index, record in enumerate(good):
        _scale(record, "update_support", 0.2 + 0.1 * index)
    chosen = {expectation.metric.name for expectation in geomcheck.calibrate(good).expectations}
    assert "update_support" not in chosen
    assert "update_norm" not in chosen  # its leader is stable
    for record in good:
        _scale(record, "update_sparsity", 0.0)
    assert "update_sparsity" in {e.metric.name for e in geomcheck.calibrate(good).expectations}


def test_a_figure_that_never_varied_must_stay(good_runs: list[Path], tmp_path: Path) -> None:
    suite = loaded(geomcheck.calibrate(good_runs[FIVE]), tmp_path)
    (frozen,) = [e for e in suite.expectations if e.metric == "frozen_share"]
    assert frozen.condition.text == "0% <= value <= 0%"
    base = base_weights()
    steps = {step: moved(base, 1e-3 * step, seed=step) for step in (10, 20)}
    name = next(name for name in base if "q_proj" in name)
    run = write_run(tmp_path / "frozen", base, {step: {**w, name: base[name].float()} for step, w in steps.items()})
    (verdict,) = [v for v in suite.evaluate(geomcheck.measure(run)) if v.metric == "frozen_share"]
    assert verdict.outcome == "failed"


def test_a_run_with_other_checkpoints_is_an_error_not_a_pass(good_runs: list[Path], tmp_path: Path) -> None:
    suite = loaded(geomcheck.calibrate(good_runs[FIVE]), tmp_path)
    base = base_weights()
    run = write_run(tmp_path / "short", base, {10: moved(base, 1e-2, seed=9)})
    banded = [v for v in suite.evaluate(geomcheck.measure(run)) if v.metric not in ("frozen_share", "trains")]
    assert {verdict.outcome for verdict in banded} == {"error"}
    assert "no checkpoint at step 20" in banded[0].message


def test_a_run_in_another_storage_format_is_an_error_not_a_verdict(good_runs: list[Path], tmp_path: Path) -> None:
    suite = loaded(geomcheck.calibrate(good_runs[FIVE]), tmp_path)
    base = base_weights()
    steps = {step: moved(base, 1e-3 * step, seed=step, dtype=torch.bfloat16) for step in (10, 20)}
    verdicts = suite.evaluate(geomcheck.measure(write_run(tmp_path / "bf16", base, steps)))
    assert {verdict.outcome for verdict in verdicts if verdict.metric != "trains"} == {"error"}
    assert "is stored as bf16 (W0, run), and the suite is for `storage: [bf16, fp32]`" in verdicts[0].message


def test_no_band_that_cannot_fail_is_written(good_runs: list[Path]) -> None:
    with pytest.raises(UsageError, match="nothing can be calibrated from these 2 runs") as error:
        geomcheck.calibrate(good_runs[:2], metrics=["top_energy", "update_support"], rule=Student(1e-9))
    assert "could not fail" in str(error.value)


def test_a_band_that_covers_all_figures_once_it_is_rounded_is_not_written(good: list[Record], tmp_path: Path) -> None:
    for record, value in zip(good[:2], (44.6, 45.4), strict=True):
        for column in [column for key, column in record.columns.items() if key[0].metric == "principal_angle"]:
            edit(record, "principal_angle", {cell: f._replace(value=value) for cell, f in column.figures.items()})
    with pytest.raises(UsageError, match="could not fail"):
        loaded(geomcheck.calibrate(good[:2], metrics=["principal_angle"], rule=Student(0.019602)), tmp_path)


def test_a_metric_that_could_not_fail_at_the_end_is_left_out_at_every_checkpoint(good: list[Record]) -> None:
    """Else each further run would go on beyond its last band, which is an error."""
    ends = {10: (0.50, 0.51), 20: (0.10, 0.99)}
    for index, record in enumerate(good[:2]):
        for key, column in list(record.columns.items()):
            if key[0].metric == "update_support":
                cells = {cell: f._replace(value=ends[cell[0]][index]) for cell, f in column.figures.items()}
                edit(record, "update_support", cells)
    with pytest.raises(UsageError, match="update_support: its band would cover the whole range") as error:
        geomcheck.calibrate(good[:2], metrics=["update_support"], rule=Student())
    assert "at step" not in str(error.value)


@pytest.mark.parametrize("runs", [1, 2])
def test_few_runs_warn(good_runs: list[Path], runs: int) -> None:
    few = geomcheck.calibrate(good_runs[:runs])
    assert few.warnings
    assert few.warnings[0] in " ".join(few.to_yaml().replace("#", "").split())
    assert not geomcheck.calibrate(good_runs[:3]).warnings


def test_no_run_is_refused_and_one_by_the_rules_that_know_no_other_recipes(good_runs: list[Path]) -> None:
    for runs, rule in ((0, None), (1, Student()), (1, Range())):
        with pytest.raises(UsageError, match=f"two runs or more, best five; {runs} given"):
            geomcheck.calibrate(good_runs[:runs], rule=rule)


def test_bands_of_three_runs_are_wider_than_nothing_tells_and_narrower_than_student_s(good_runs: list[Path]) -> None:
    def width(runs: int, rule: Student | None = None) -> float:
        (size,) = geomcheck.calibrate(good_runs[:runs], metrics=["relative_update_norm"], rule=rule).expectations
        return (size.bands[-1].high - size.bands[-1].low) / size.bands[-1].spread.mean

    assert 0 < width(3) < width(1)
    assert width(3) < width(3, Student())


def test_records_and_runs_give_the_same(good_runs: list[Path], good: list[Record], tmp_path: Path) -> None:
    files = []
    for index, record in enumerate(good[:3]):
        geomcheck.write_record(record, tmp_path / f"{index}.parquet")
        files.append(tmp_path / f"{index}.parquet")
    texts = {geomcheck.calibrate(sources).to_yaml() for sources in (good_runs[:3], good[:3], files)}
    assert len(texts) == 1


def test_places_weights_and_metrics_can_be_chosen(good_runs: list[Path], tmp_path: Path) -> None:
    calibration = geomcheck.calibrate(
        good_runs[FIVE], metrics=["update_norm"], weights=Selection("attention"), at=[Place("last")], name="few"
    )
    suite = loaded(calibration, tmp_path)
    (expectation,) = suite.expectations
    assert expectation.metric == "update_norm"
    assert expectation.at.text == "last"
    assert suite.weights == Selection("attention")


@pytest.mark.parametrize(
    ("names", "message"),
    [(["stabel_rank"], "did you mean `stable_rank`"), (["mask_jaccard"], "compares with a reference run")],
)
def test_metrics_that_cannot_be_calibrated(good_runs: list[Path], names: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        geomcheck.calibrate(good_runs[FIVE], metrics=names)


def test_names_of_runs_cannot_write_yaml(good: list[Record], tmp_path: Path) -> None:
    renamed = [replace(record, run="x\nbase: /etc\n\u2028name: y") for record in good[:3]]
    suite = loaded(geomcheck.calibrate(renamed), tmp_path)
    assert suite.base is None


def _scale(record: Record, metric: str, factor: float) -> None:
    for request, stat in record.measured():
        if request.metric == metric:
            figures = record.figures(request, stat).items()
            scaled = {key: figure._replace(value=min(15.0, (figure.value or 0.0) * factor)) for key, figure in figures}
            edit(record, metric, scaled)


def test_adapters_are_not_calibrated_with_full_weights(good: list[Record]) -> None:
    with pytest.raises(UsageError, match="what they train.*whole model.*adapter"):
        geomcheck.calibrate([*good[:2], replace(good[2], layout="PEFT LoRA")])
