"""Two real runs side by side."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

import geomcheck
from geomcheck.comparison import Comparison, Pair, compare
from geomcheck.errors import UsageError
from geomcheck.record import Record
from geomcheck.suite.language.selection import Selection, parse_selection
from geomcheck.suite.likeness import differences
from tests.diagnostics import oracle
from tests.runs import base_weights, moved, write_run

FIXTURES = Path(__file__).parents[2] / "fixtures"
OPD, RLVR, SFT = (FIXTURES / f"tiny-{name}" for name in ("opd", "rlvr", "sft"))


@pytest.fixture(scope="module")
def found() -> Comparison:
    return compare(OPD, RLVR)


def weights(run: Path, checkpoint: str) -> dict[str, np.ndarray]:
    tensors = load_file(run / checkpoint / "model.safetensors")
    return {name: w.double().numpy() for name, w in tensors.items() if name.endswith("_proj.weight")}


def test_figures_are_those_of_the_two_records(found: Comparison) -> None:
    ours, theirs = (geomcheck.measure(run, metrics=["update_norm"]) for run in (OPD, RLVR))
    (row,) = [row for row in found.rows if row.metric.name == "update_norm"]
    assert [(pair.step, pair.other_step) for pair in row.pairs] == [(s, s) for s in (30, 60, 90, 120, 150)]
    for record, value in ((ours, row.pairs[-1].ours), (theirs, row.pairs[-1].theirs)):
        figures = [r.figure.value for r in record.rows() if r.request.metric == "update_norm" and r.step == 150]
        assert value == pytest.approx(np.mean(figures))
    assert row.pairs[-1].relative == pytest.approx(row.pairs[-1].theirs / row.pairs[-1].ours - 1)


def test_what_the_updates_share_is_what_brute_force_finds(found: Comparison) -> None:
    before, ours, theirs = weights(OPD, "base"), weights(OPD, "checkpoint-150"), weights(RLVR, "checkpoint-150")
    jaccard, alignment, cosine, chances = [], [], [], []
    for name, w0 in before.items():
        masks = [oracle.changed(w0, after[name]) for after in (ours, theirs)]
        p, q = (mask.mean() for mask in masks)
        chances.append(p * q / (p + q - p * q))
        jaccard.append((masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum())
        alignment.append(oracle.alignment(ours[name] - w0, theirs[name] - w0, 16))
        cosine.append(oracle.cosine(ours[name] - w0, theirs[name] - w0))
    values = {shared.metric.name: shared.value for shared in found.shared}
    assert values == {
        "mask_jaccard": pytest.approx(np.mean(jaccard)),
        "reference_alignment": pytest.approx(np.mean(alignment), rel=1e-6),
        "update_cosine": pytest.approx(np.mean(cosine)),
    }
    chance = {shared.metric.name: shared.chance for shared in found.shared}
    assert chance["reference_alignment"] == pytest.approx(np.mean([16 / w.shape[1] for w in before.values()]))
    assert chance["mask_jaccard"] == pytest.approx(np.mean(chances))  # folded over weights as the figure is


def test_layers_are_ordered_by_how_differently_they_moved(tmp_path: Path) -> None:
    base = {name.replace("layers.0", f"layers.{i}"): w for i in range(3) for name, w in base_weights(i).items()}
    steady = {step: moved(base, 1e-3 * step, seed=step) for step in (10, 20)}
    wild = {n: w + 0.3 * (w - base[n].float()) for n, w in moved(base, 2e-2, seed=20).items()}
    other = {n: (w if "layers.1" in n else steady[20][n]) for n, w in wild.items()}
    one = write_run(tmp_path / "a", base, steady)
    two = write_run(tmp_path / "b", base, {10: moved(base, 1e-2, seed=3), 20: other})
    layers = compare(one, two).layers
    assert layers[0].layer == "layer 1"
    assert layers[0].ratio == pytest.approx(1.3, rel=1e-2)
    assert {pair.ratio for pair in layers[1:]} == {1.0}


def test_layers_of_two_stacks_are_compared_each_with_its_own(tmp_path: Path) -> None:
    one_stack = base_weights(0)
    base = one_stack | {name.replace("model.layers", "mtp.layers"): w.clone() for name, w in one_stack.items()}
    steady = {10: moved(base, 1e-2, seed=1), 20: moved(base, 2e-2, seed=2)}
    further = {n: (base[n].float() + 3 * (w - base[n].float()) if "mtp" in n else w) for n, w in steady[20].items()}
    one = write_run(tmp_path / "a", base, steady)
    two = write_run(tmp_path / "b", base, {10: moved(base, 1e-2, seed=3), 20: further})
    pairs = {pair.layer: pair.ratio for pair in compare(one, two).layers}
    assert pairs == {"mtp layer 0": pytest.approx(3, rel=0.05), "model layer 0": 1.0}


def test_a_layer_that_one_run_froze_differs_most_and_one_that_both_froze_least(tmp_path: Path) -> None:
    base = {name.replace("layers.0", f"layers.{i}"): w for i in range(3) for name, w in base_weights(i).items()}
    both = moved(base, 1e-2, seed=1) | {name: base[name].float() for name in base if "layers.0" in name}
    one = both | {name: base[name].float() for name in base if "layers.2" in name}
    runs = [write_run(tmp_path / name, base, {10: after}) for name, after in (("a", both), ("b", one))]
    layers = compare(*runs).layers
    assert [pair.layer for pair in layers] == ["layer 2", "layer 0", "layer 1"]
    assert [pair.ratio for pair in layers] == [0.0, 1.0, 1.0]


def test_records_say_what_they_cannot_answer(tmp_path: Path) -> None:
    geomcheck.write_record(geomcheck.measure(OPD), tmp_path / "opd.parquet")
    found = compare(tmp_path / "opd.parquet", RLVR)
    unanswered = dict(found.unanswered)
    for name in ("mask_jaccard", "reference_alignment"):
        assert unanswered[name] == "needs the weights of both runs, and a record holds none; give run directories"
    assert "update_cosine" not in unanswered


def test_records_tell_the_cosine_of_their_updates_from_sketches(tmp_path: Path) -> None:
    geomcheck.write_record(geomcheck.measure(OPD), tmp_path / "opd.parquet")
    (told,) = compare(tmp_path / "opd.parquet", RLVR).shared
    exact = {shared.metric.name: shared.value for shared in compare(OPD, RLVR).shared}
    assert (told.metric.name, told.chance) == ("update_cosine", 0.0)
    assert told.error is not None
    assert 0 < told.error < 0.04
    assert abs(told.value - exact["update_cosine"]) < 3 * told.error
    (itself,) = compare(tmp_path / "opd.parquet", OPD).shared
    assert (itself.value, itself.error) == pytest.approx((1, 0), abs=1e-6)


def test_another_w0_keeps_updates_from_being_compared() -> None:
    found = compare(OPD, SFT)
    assert found.shared == ()
    assert re.match(r"their W0 \(in model\..*\) differ: ", dict(found.unanswered)["mask_jaccard"])
    (note,) = found.notes
    assert note == dict(found.unanswered)["mask_jaccard"] + ": sizes can be compared, what they changed cannot"
    assert found.to_dict()["notes"] == [note]
    assert compare(OPD, RLVR).notes == ()
    assert [(p.step, p.other_step) for p in found.rows[0].pairs] == [(30 * i, 240 * i) for i in range(1, 6)]


@pytest.fixture
def records() -> tuple[Record, Record]:
    one, other = (geomcheck.measure(run, metrics=["stable_rank"]) for run in (OPD, RLVR))
    return one, other


def test_other_definitions_and_storage_are_refused_with_both(records: tuple[Record, Record]) -> None:
    one, other = records
    with pytest.raises(UsageError, match="definitions of stable_rank differ: version 1 against version 2"):
        compare(one, replace(other, versions={**other.versions, "stable_rank": 2}))
    bf16 = {name: replace(weight, dtypes=("bf16",)) for name, weight in other.weights.items()}
    with pytest.raises(UsageError, match="storage formats of .* differ: bf16, fp32 against bf16"):
        compare(one, replace(other, weights=bf16))


def test_weights_that_only_one_side_measured_are_told(records: tuple[Record, Record]) -> None:
    one, _ = records
    fewer = geomcheck.measure(OPD, metrics=["stable_rank"], weights=parse_selection("attention"))
    found = [str(difference) for difference in differences(one, fewer, Selection())]
    names = sorted(name for name in one.measured_weights() if ".mlp." in name)
    assert names
    assert found == [f"the measured weights differ: {n} measured against {n} not measured" for n in names]
    back = [str(difference) for difference in differences(fewer, one, Selection())]
    assert back == [f"the measured weights differ: {n} not measured against {n} measured" for n in names]
    with pytest.raises(UsageError, match="the measured weights differ"):
        compare(one, fewer)


def test_runs_without_matching_progress(records: tuple[Record, Record]) -> None:
    one, other = records
    early = replace(other, points=tuple(replace(point, progress=point.progress / 100) for point in other.points))
    with pytest.raises(UsageError, match="match in progress: 20% 40% 60% 80% 100% against 0% 0% 1% 1% 1%"):
        compare(one, early)


def test_the_result_is_json(found: Comparison) -> None:
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["format"] == 1
    assert {"step", "other_step", "progress", "a", "b", "difference", "relative"} == set(
        document["metrics"][0]["pairs"][0]
    )


def test_a_difference_from_zero_has_no_share() -> None:
    assert Pair(1, 1, 1.0, 0.0, 2.0).to_dict()["relative"] is None
    assert Pair(1, 1, 1.0, 0.0, 0.0).relative == 0.0
