"""Figures of the path of a weight against float64 brute force, and what each says of a run that went wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import geomcheck
from geomcheck.checkpoints.changes import Added
from geomcheck.diagnostics import Base, Metric, Update, load_metrics
from geomcheck.diagnostics import path as paths
from geomcheck.diagnostics.lowrank import LowRank
from geomcheck.diagnostics.trajectory import (
    decay_share,
    increment_cosine,
    increment_norm,
    linearity,
    path_efficiency,
    trajectory_rank,
    update_cosine,
)
from geomcheck.errors import RunError, Undefined
from geomcheck.measurement import trajectory
from geomcheck.measurement.trajectory import WeightFiles, measure_weight
from geomcheck.record import Point, Request
from geomcheck.record.sketches import Sketches
from tests.diagnostics import oracle
from tests.diagnostics.cases import SEEDS, numbers
from tests.runs import base_weights, moved, write_run

METRICS = load_metrics()
OF_PATH = [metric for metric in METRICS if metric.of_path]
DTYPES = st.sampled_from([torch.bfloat16, torch.float16, torch.float32])
STEPS = (3, 10, 20, 25, 60, 61, 90, 100)


def walk(shape: tuple[int, int], count: int, seed: int, dtype: torch.dtype, step: float) -> list[torch.Tensor]:
    """W0 and checkpoints that drift, turn, and now and then stay where they are."""
    rng = np.random.default_rng(seed)
    w0 = rng.standard_normal(shape)
    drift, now, states = rng.standard_normal(shape), w0, [w0]
    for _ in range(count):
        if rng.random() < 0.9:
            now = now + step * (drift + rng.standard_normal(shape))
        states.append(now)
    return [torch.tensor(state).to(dtype) for state in states]


def as_defined(updates: Sequence[np.ndarray], steps: Sequence[int], w0: np.ndarray) -> dict[str, float]:
    """What each function gives by its definition, where it has a figure."""
    path, between = list(updates), oracle.increments(list(updates))
    found = {
        "increment_norm": lambda: oracle.norm(between[-1]) / oracle.norm(w0),
        "increment_cosine": lambda: oracle.cosine(between[-1], between[-2]) if len(path) > 1 else math.nan,
        "path_efficiency": lambda: oracle.efficiency(path),
        "trajectory_rank": lambda: oracle.rank_one_share(path),
        "linearity": lambda: oracle.r_squared(path, tuple(steps)),
        "decay_share": lambda: oracle.cosine(path[-1], w0),
        "to_first": lambda: oracle.cosine(path[-1], path[0]),
    }
    with np.errstate(all="ignore"):
        return {
            name: figure() if path[-1].any() or name == "increment_norm" else math.nan for name, figure in found.items()
        }


def found_of(way: paths.Path, update: Update) -> dict[str, float]:
    """The same by the package; NaN where it says that there is none."""
    figures = {
        "increment_norm": lambda: increment_norm(way, update.base.norm),
        "increment_cosine": lambda: increment_cosine(way),
        "path_efficiency": lambda: path_efficiency(way),
        "trajectory_rank": lambda: trajectory_rank(way),
        "linearity": lambda: linearity(way),
        "decay_share": lambda: decay_share(update),
        "to_first": lambda: way.cosine(len(way.steps) - 1, 0),
    }
    found = {}
    for name, figure in figures.items():
        try:
            found[name] = figure() if not update.is_zero or name == "increment_norm" else math.nan
        except Undefined:
            found[name] = math.nan
    return found


@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.integers(1, 8), SEEDS, DTYPES, st.integers(4, 10))
def test_every_figure_is_that_of_the_definition(
    shape: tuple[int, int], count: int, seed: int, dtype: torch.dtype, at_once: int
) -> None:
    """However many checkpoints are in memory at once."""
    w0, *stored = walk(shape, count, seed, dtype, step=1e-2)
    way = paths.path_of(w0, STEPS[:count], stored.__getitem__, at_once=at_once)
    updates = [numbers(wt) - numbers(w0) for wt in stored]
    for index, wt in enumerate(stored):
        expected = as_defined(updates[: index + 1], STEPS[: index + 1], numbers(w0))
        assert found_of(way.until(index), Update(Base(w0), wt)) == pytest.approx(
            expected, rel=1e-9, abs=1e-12, nan_ok=True
        )


@given(st.integers(2, 30), st.integers(2, 30), st.integers(1, 4), st.integers(1, 8), SEEDS, st.integers(4, 10))
def test_factors_give_the_figures_of_the_matrix(
    out: int, in_: int, rank: int, count: int, seed: int, at_once: int
) -> None:
    rng = np.random.default_rng(seed)
    w0 = torch.tensor(rng.standard_normal((out, in_)))
    left, right = np.zeros((out, rank)), rng.standard_normal((rank, in_))
    stored = []
    for _ in range(count):
        if rng.random() < 0.9:
            left = left + 1e-2 * rng.standard_normal(left.shape)
            right = right + 1e-2 * rng.standard_normal(right.shape)
        stored.append(LowRank(torch.tensor(left), torch.tensor(right)))
    way = paths.path_of(w0, STEPS[:count], stored.__getitem__, at_once=at_once)
    updates = [(change.left @ change.right).numpy() for change in stored]
    for index, change in enumerate(stored):
        expected = as_defined(updates[: index + 1], STEPS[: index + 1], w0.numpy())
        assert found_of(way.until(index), Update(Base(w0), change)) == pytest.approx(
            expected, rel=1e-7, abs=1e-9, nan_ok=True
        )


def test_factors_are_never_multiplied_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LowRank, "matrix", property(lambda _: pytest.fail("D was formed")))
    change = [LowRank(torch.ones(6, 1).double() * size, torch.ones(1, 5).double()) for size in (1, 2, 3)]
    w0 = torch.eye(6, 5)
    way = paths.path_of(w0, (1, 2, 3), change.__getitem__)
    assert [linearity(way), trajectory_rank(way), path_efficiency(way)] == pytest.approx([1, 1, 1])
    one, other = (Update(Base(w0), each) for each in change[:2])
    assert update_cosine(one, other) == pytest.approx(1)
    assert decay_share(one) == pytest.approx(5 / math.sqrt(30 * 5))


def test_factors_and_matrices_in_one_run_are_compared() -> None:
    w0, change = torch.zeros(3, 2), LowRank(torch.ones(3, 1).double(), torch.ones(1, 2).double())
    way = paths.path_of(w0, (1, 2), [change, 2 * torch.ones(3, 2)].__getitem__)
    assert way.cosine(0, 1) == pytest.approx(1)
    assert way.lengths.tolist() == pytest.approx([math.sqrt(6), math.sqrt(6)])


def test_little_is_lost_of_increments_far_smaller_than_the_update() -> None:
    """As differences of G they would be noise: the square of one is 1e-16 of that of the update."""
    rng = np.random.default_rng(0)
    far, small = rng.standard_normal((60, 50)), [1e-8 * rng.standard_normal((60, 50)) for _ in range(2)]
    states = [torch.tensor(far), torch.tensor(far + small[0]), torch.tensor(far + small[0] + small[1])]
    way = paths.path_of(torch.zeros(60, 50).double(), (1, 2, 3), states.__getitem__)
    assert float(way.lengths[2]) == pytest.approx(oracle.norm(small[1]), rel=1e-6)
    assert increment_cosine(way) == pytest.approx(oracle.cosine(*small), abs=1e-6)


# ---- through the measurement


def figures(
    states: Sequence[torch.Tensor | Added], *requests: Request, reference: torch.Tensor | None = None
) -> dict[Request, list[float | str | None]]:
    """What is measured of W0 and its checkpoints at steps 10, 20, ..."""
    w0, *checkpoints = states
    count = len(checkpoints)
    points = [Point(f"checkpoint-{10 * i}", 10 * i, i / count) for i in range(1, count + 1)]
    files = WeightFiles(
        "w",
        base=lambda: w0,
        checkpoints=[lambda wt=wt: wt for wt in checkpoints],
        match=lambda _: 0,
        reference=lambda _: reference,
    )
    measured = measure_weight(files, points, [set(requests)] * count, METRICS)
    answers = {r: [measured.answers[index, r] for index in range(count)] for r in requests}
    return {r: [a if isinstance(a, str) else a["value"] for a in each] for r, each in answers.items()}


def request(name: str, **params: object) -> Request:
    return Request.of(METRICS[name], params)


COSINE, NORM, RANK, EFFICIENCY, LINEAR = map(
    request, ("increment_cosine", "increment_norm", "trajectory_rank", "path_efficiency", "linearity")
)
TO_REFERENCE = request("update_cosine", to="reference")


def straight(count: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """W0, and checkpoints on a way that is all but straight."""
    rng = np.random.default_rng(0)
    w0, drift = rng.standard_normal((48, 32)), rng.standard_normal((48, 32))
    noise = np.cumsum(0.2 * rng.standard_normal((count, 48, 32)), axis=0)
    return [
        torch.tensor(w0 + 1e-3 * part).to(dtype)
        for part in (0 * drift, *(drift * (i + 1) + noise[i] for i in range(count)))
    ]


def test_exchanged_checkpoints_go_back_and_forth() -> None:
    w0, *rest = straight(5)
    rest[1], rest[3] = rest[3], rest[1]
    found = figures([w0, *rest], COSINE)[COSINE]
    assert [round(value) for value in found[1:]] == [1, -1, 1, -1]
    assert all(value > 0.9 for value in figures(straight(5), COSINE)[COSINE][1:])


def test_the_sign_of_the_whole_run_shows_against_a_good_one() -> None:
    w0, *good = straight(3)
    bad = [2 * w0 - wt for wt in good]
    (wrong,) = figures([w0, bad[0]], TO_REFERENCE, reference=good[0]).values()
    (right,) = figures([w0, good[0]], TO_REFERENCE, reference=good[0]).values()
    assert [*wrong, *right] == pytest.approx([-1, 1], abs=1e-4)
    foreign = torch.randn(w0.shape, generator=torch.Generator().manual_seed(1))
    (other,) = figures([w0, bad[0]], TO_REFERENCE, reference=w0 + 3 * foreign).values()
    assert isinstance(other[0], str)  # another model, rather than a cosine of 0


def test_a_restart_from_the_base_turns_and_shortens_the_way() -> None:
    w0, *good = straight(5)
    restarted = [w0, *good[:3], *good[:2]]
    found = figures(restarted, COSINE, EFFICIENCY)
    assert found[COSINE][3] < -0.9
    assert found[EFFICIENCY][-1] < 0.5 < 0.9 < figures(straight(5), EFFICIENCY)[EFFICIENCY][-1]


def test_bf16_storage_does_what_the_declaration_says() -> None:
    exact, stored = (figures(straight(5, dtype), COSINE, NORM, RANK) for dtype in (torch.float32, torch.bfloat16))
    assert stored[COSINE][-1] < 0.5 < exact[COSINE][-1]
    assert stored[NORM][-1] > 1.2 * exact[NORM][-1]
    assert stored[RANK][-1] < exact[RANK][-1]


def test_a_weight_that_never_changes_has_increments_of_zero_and_no_direction() -> None:
    w0 = straight(1)[0]
    every = [Request.of(metric, {}) for metric in (*OF_PATH, METRICS["decay_share"])]
    found = figures([w0, w0.clone(), w0.clone()], *every)
    assert found.pop(NORM) == [0.0, 0.0]
    assert all(set(each) == {"W_t equals W0"} for each in found.values())


def test_a_stale_weight_has_an_increment_of_zero_and_the_reason_why_there_is_no_cosine() -> None:
    w0, first, second = straight(2)
    found = figures([w0, first, first.clone(), second], COSINE, NORM)
    assert found[NORM][1] == 0.0
    assert found[COSINE][1:] == ["W_t equals the checkpoint before it", "the weight did not move just before"]


def test_one_checkpoint_has_a_first_increment_and_nothing_to_compare(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", base_weights(), {10: moved(base_weights(), 1e-2)})
    record = geomcheck.measure(run, metrics=[metric.name for metric in OF_PATH])
    assert {row.request.metric for row in record.rows()} & {m.name for m in OF_PATH} == {"increment_norm"}
    relative, first = (
        [row.figure.value for row in record.rows() if row.request.metric == name]
        for name in ("relative_update_norm", "increment_norm")
    )
    assert first == pytest.approx(relative, rel=1e-12)


def test_nan_is_an_error() -> None:
    w0, first, second = straight(2)
    second[3, 4] = math.nan
    with pytest.raises(RunError, match=r"checkpoint-20: .*NaN"):
        figures([w0, first, second], COSINE)


def test_what_float64_cannot_square_has_no_figure() -> None:
    w0 = torch.ones(3, 2).double()
    found = figures([w0, w0 * 1e200, w0 * -1e200], request("update_cosine", to="first"), COSINE)
    assert all(each[1] == "it is beyond the range of float64" for each in found.values())


@pytest.mark.parametrize("held", [0, 48])
def test_each_checkpoint_is_read_once_where_memory_allows_and_figures_are_the_same(
    monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    states, reads = straight(7), []

    def read(index: int) -> torch.Tensor:
        reads.append(index)
        return states[index]

    points = [Point(f"checkpoint-{i}", i, i / 7) for i in range(1, 8)]
    files = WeightFiles(
        "w",
        base=lambda: states[0],
        checkpoints=[lambda i=i: read(i) for i in range(1, 8)],
        match=lambda _: 0,
        reference=lambda _: states[0],
    )
    monkeypatch.setattr(trajectory, "HELD", held)
    every = {COSINE, NORM, RANK, EFFICIENCY, LINEAR, request("update_cosine")}
    measured = measure_weight(files, points, [every] * 7, METRICS)
    assert (len(reads) == 7) is (held == 48)
    monkeypatch.undo()
    expected = figures(states, *every)
    for (index, asked), answer in measured.answers.items():
        wanted = expected[asked][index]
        assert answer == (wanted if isinstance(wanted, str) else {"value": pytest.approx(wanted, rel=1e-12)})


@pytest.mark.parametrize(("to", "index"), [("last", 3), ("first", 0), ("previous", 1), ({"step": 20}, 1)], ids=str)
def test_the_update_cosine_is_that_with_the_checkpoint_that_is_named(to: object, index: int) -> None:
    states = straight(4)
    updates = [numbers(wt) - numbers(states[0]) for wt in states[1:]]
    (found,) = figures(states, request("update_cosine", to=to)).values()
    assert found[2] == pytest.approx(oracle.cosine(updates[2], updates[index]), rel=1e-12)


# ---- in suites


SUITE = """
geomcheck: 1
name: path
weights: {{include: ["*q_proj*", "*k_proj*"]}}
expect:
  - {{id: it, {}}}
"""


def verdict(tmp_path: Path, expectation: str, reference: Path | None = None) -> geomcheck.Verdict:
    base = base_weights()
    drift = moved(base, 1e-2)
    weights = {10 * i: {n: w + i * (drift[n] - w) for n, w in base.items()} for i in (1, 2, 3)}
    run = write_run(tmp_path / "run", base, weights)
    (tmp_path / "mine.yaml").write_text(SUITE.format(expectation))
    suite = geomcheck.load_suite(tmp_path / "mine.yaml")
    record = geomcheck.measure(run, suites=[suite], reference=reference)
    (found,) = suite.evaluate(record)
    return found


def test_a_suite_judges_every_checkpoint_that_has_a_figure(tmp_path: Path) -> None:
    found = verdict(tmp_path, "metric: increment_cosine, above: 0.9")
    assert found.outcome == "passed"
    assert [observed.step for observed in found.observed] == [20, 30]


def test_a_suite_compares_with_a_reference_run(tmp_path: Path) -> None:
    base = base_weights()
    drift = moved(base, 1e-2)
    negated = {10 * i: {n: w - i * (drift[n] - w) for n, w in base.items()} for i in (1, 2, 3)}
    other = write_run(tmp_path / "other", base, negated)
    found = verdict(tmp_path, "metric: update_cosine, to: reference, above: 0.9", other)
    assert found.outcome == "failed"
    assert [observed.value for observed in found.observed] == pytest.approx([-1, -1, -1], abs=1e-3)
    alone = verdict(tmp_path, "metric: update_cosine, to: reference, above: 0.9")
    assert alone.outcome == "error"
    assert "no reference run with weights was given" in alone.message


TO_A_RECORD = "metric: update_cosine, to: reference, above: {}"


def held_against(tmp_path: Path, bound: float, reference: geomcheck.Record, **of_run: object) -> geomcheck.Verdict:
    """The verdict on the record of a run, and of a record in place of its reference."""
    (tmp_path / "mine.yaml").write_text(SUITE.format(TO_A_RECORD.format(bound)))
    suite = geomcheck.load_suite(tmp_path / "mine.yaml")
    record = geomcheck.measure(tmp_path / "run", suites=[suite])
    (found,) = suite.evaluate(replace(record, **of_run), reference)
    return found


@pytest.fixture
def three(tmp_path: Path) -> dict[str, geomcheck.Record]:
    """Records of a run, of one that is its negative and of one that is unrelated; and of one from another W0."""
    base = base_weights()
    drift, other = moved(base, 1e-2), moved(base, 1e-2, seed=5)
    updates = {
        "run": lambda w, n, i: w + i * (drift[n] - w),
        "negated": lambda w, n, i: w - i * (drift[n] - w),
        "unrelated": lambda w, n, i: w + i * (other[n] - w),
    }
    for name, update in updates.items():
        write_run(tmp_path / name, base, {10 * i: {n: update(w, n, i) for n, w in base.items()} for i in (1, 2, 3)})
    elsewhere = base_weights(seed=9)
    write_run(tmp_path / "elsewhere", elsewhere, {30: moved(elsewhere, 1e-2)})
    names = (*updates, "elsewhere")
    return {name: geomcheck.measure(tmp_path / name, metrics=["frozen_share"]) for name in names}


def test_a_suite_compares_with_the_record_of_a_run_by_sketches(
    three: dict[str, geomcheck.Record], tmp_path: Path
) -> None:
    found = held_against(tmp_path, 0.9, three["negated"])
    assert found.outcome == "failed"
    assert [observed.value for observed in found.observed] == pytest.approx([-1, -1, -1], abs=1e-3)
    assert found.warnings[0].startswith("update_cosine is told from sketches")
    same = held_against(tmp_path, 0.9, three["run"])
    assert same.outcome == "passed"
    unrelated = held_against(tmp_path, -0.5, three["unrelated"])
    assert [observed.value for observed in unrelated.observed] == pytest.approx([0, 0, 0], abs=4 * 0.125 / 2**0.5)
    assert "give or take 0.12 for a weight, and 0.087 for the mean of 2" in unrelated.warnings[0]


def test_a_record_is_held_against_a_record(three: dict[str, geomcheck.Record], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(SUITE.format(TO_A_RECORD.format(0.9)))
    suite = geomcheck.load_suite(tmp_path / "mine.yaml")
    (expectation,) = suite.expectations
    assert expectation.compares
    assert expectation.reference_requests(three["run"]) == {}
    files = {name: tmp_path / f"{name}.parquet" for name in ("run", "negated")}
    for name, file in files.items():
        geomcheck.write_record(three[name], file)
    run, negated = (geomcheck.read_record(file) for file in files.values())
    assert [verdict.outcome for verdict in suite.evaluate(run, run)] == ["passed"]
    assert [verdict.outcome for verdict in suite.evaluate(run, negated)] == ["failed"]
    (alone,) = suite.evaluate(run)
    assert alone.outcome == "error"
    assert "needs the record of the reference run too" in alone.message


def test_a_record_that_sketches_cannot_answer_says_why(three: dict[str, geomcheck.Record], tmp_path: Path) -> None:
    elsewhere = held_against(tmp_path, -0.5, three["elsewhere"])
    assert elsewhere.outcome == "error"
    assert "their W0 (in " in elsewhere.message
    old = replace(three["run"], sketches=Sketches())
    assert "no reference run with weights was given" in held_against(tmp_path, -0.5, old).message
    assert "holds no sketches" in held_against(tmp_path, -0.5, three["run"], sketches=Sketches()).message
    few = replace(three["run"], points=three["run"].points[-1:])
    assert "the reference has no checkpoint near 33% of training" in held_against(tmp_path, -0.5, few).message


@pytest.mark.parametrize(
    ("expectation", "said"),
    [
        ("metric: linearity, above: 0.9, at: first", "says nothing, as it is a figure of 2 checkpoints or more"),
        ("metric: update_cosine, to: referense, above: 0.9", "did you mean `reference`?"),
        ("metric: update_cosine, above: 0.9, at: last", "compares a checkpoint with itself"),
        ("metric: update_cosine, above: -1.5", "-1"),
        ("metric: subspace_alignment, to: reference, above: 50%", "`reference` is not a checkpoint"),
    ],
)
def test_a_suite_that_could_not_fail_is_refused(tmp_path: Path, expectation: str, said: str) -> None:
    (tmp_path / "mine.yaml").write_text(SUITE.format(expectation))
    with pytest.raises(geomcheck.SuiteError, match=".*") as raised:
        geomcheck.load_suite(tmp_path / "mine.yaml")
    assert said in str(raised.value)


def test_calibration_leaves_the_path_to_those_who_name_it(tmp_path: Path) -> None:
    base = base_weights()
    runs = [
        write_run(tmp_path / f"seed-{seed}", base, {10 * i: moved(base, 1e-2 * i, seed=seed) for i in (1, 2, 3)})
        for seed in range(3)
    ]
    by_default = geomcheck.calibrate(runs)
    judged = {each.metric.name for each in by_default.expectations}
    assert judged
    assert not judged & {metric.name for metric in OF_PATH}
    named = geomcheck.calibrate(runs, metrics=["trajectory_rank", "increment_norm"])
    assert {each.metric.name for each in named.expectations} == {"trajectory_rank", "increment_norm"}


@pytest.mark.parametrize("metric", OF_PATH, ids=lambda metric: metric.name)
def test_a_training_says_that_it_keeps_no_weights_for_it(metric: Metric) -> None:
    from geomcheck.live.loop.plan import Wanted

    with pytest.raises(geomcheck.UsageError, match="check the saved checkpoints for it"):
        Wanted.of(None, [metric.name], None)
