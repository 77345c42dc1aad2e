from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import geomcheck
from geomcheck.checkpoints import find_base, open_run
from geomcheck.checkpoints.changes import Added, Rescaled
from geomcheck.diagnostics import load_metrics
from geomcheck.errors import RunError
from geomcheck.measurement import Resources, measure_record, survey, trajectory
from geomcheck.measurement.task import MeasureWeight, NotEnoughMemory, Sources
from geomcheck.measurement.trajectory import WeightFiles, measure_weight
from geomcheck.record import Figure, Point, Record, Request
from tests.runs import DOWN, NORM, K, Q, base_weights, moved, simple_run, write_run

METRICS = load_metrics()
STABLE_RANK = Request.of(METRICS["stable_rank"], {})
ALIGNMENT = Request.of(METRICS["subspace_alignment"], {"k": 2})
ENERGY = Request.of(METRICS["subspace_energy"], {"k": 2})
FROZEN = Request.of(METRICS["frozen_share"], {})
ROUNDING = Request.of(METRICS["rounding_share"], {})
SUPPORT = Request.of(METRICS["update_support"], {})


def measured(path: Path, *requests: Request, names: tuple[str, ...] = (Q, K, DOWN), workers: int = 1) -> Record:
    run = open_run(path)
    base = find_base(run)
    record = survey(run, base)
    measure_record(record, run, base, {name: set(requests) for name in names}, resources=Resources(workers=workers))
    return record


def column(record: Record, request: Request, weight: str) -> list[Figure | None]:
    figures = record.figures(request, "value")
    return [figures.get((point.step, weight)) for point in record.points]


def test_figures_are_those_of_the_definition(tmp_path: Path) -> None:
    base = base_weights()
    after = moved(base, 1e-2)
    record = measured(write_run(tmp_path / "run", base, {10: after}), STABLE_RANK)
    delta = after[Q].double() - base[Q].double()
    expected = delta.norm().item() ** 2 / torch.linalg.matrix_norm(delta, 2).item() ** 2
    (figure,) = column(record, STABLE_RANK, Q)
    assert figure is not None
    assert figure.value == pytest.approx(expected, rel=1e-9)


def test_figures_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    run = simple_run(tmp_path / "run")
    given = {"k": 2, "rank": 4, "lr": 1e-5}
    requests = [Request.of(metric, given) for metric in METRICS if not metric.against_reference]
    one, four = measured(run, *requests), measured(run, *requests, workers=4)
    assert list(one.rows()) == list(four.rows())
    assert one.fingerprints == four.fingerprints


@pytest.mark.parametrize("workers", [1, 2])
def test_no_tensor_outlives_the_measurement_of_its_weight(tmp_path: Path, workers: int) -> None:
    """Nor waits for the garbage collector, which counts objects, not their bytes: memory would grow with the run."""
    base = {name: torch.randn(264, 272, generator=torch.Generator().manual_seed(3)).bfloat16() for name in (Q, K)}
    rank_one = {name: w.float() + 0.25 for name, w in base.items()}
    run = write_run(tmp_path / "run", base, {10: moved(base, 1e-2), 20: moved(base, 2e-2), 30: rank_one})
    given = {"k": 2, "rank": 4, "lr": 1e-5}
    requests = [Request.of(metric, given) for metric in METRICS]
    gc.collect()
    gc.disable()
    try:
        before = {id(each) for each in gc.get_objects() if type(each) is torch.Tensor}
        record = measured(run, *requests, names=(Q, K), workers=workers)
        left = [each.shape for each in gc.get_objects() if type(each) is torch.Tensor and id(each) not in before]
    finally:
        gc.enable()
    assert any(row.figure.undefined for row in record.rows())  # reasons have tracebacks
    assert left == []


def test_a_checkpoint_is_not_compared_with_itself(tmp_path: Path) -> None:
    figures = column(measured(simple_run(tmp_path / "run"), ALIGNMENT), ALIGNMENT, Q)
    assert figures[-1] is None
    assert all(figure is not None and 0 <= figure.value <= 1 for figure in figures[:-1])


def test_the_previous_checkpoint_of_the_first_is_none(tmp_path: Path) -> None:
    previous = Request.of(METRICS["subspace_alignment"], {"k": 2, "to": "previous"})
    figures = column(measured(simple_run(tmp_path / "run"), previous), previous, Q)
    assert [figure is None for figure in figures] == [True, False, False]


def test_the_early_channel_is_that_of_the_checkpoint_nearest_20_percent(tmp_path: Path) -> None:
    base = base_weights()
    weights = {step: moved(base, 1e-2, seed=step) for step in (10, 20, 100)}
    record = measured(write_run(tmp_path / "run", base, weights), ENERGY)
    delta = {step: weights[step][Q].double() - base[Q].double() for step in weights}
    channel = torch.linalg.svd(delta[20]).Vh[:2].T
    expected = [(delta[s] @ channel).norm().item() ** 2 / delta[s].norm().item() ** 2 for s in weights]
    assert [f.value for f in column(record, ENERGY, Q) if f] == pytest.approx(expected, rel=1e-9)


def test_figures_that_wait_for_a_later_checkpoint_are_there(tmp_path: Path) -> None:
    """The first checkpoint is visited before the last, with which its channel is compared."""
    base = base_weights()
    weights = {step: moved(base, 1e-2, seed=step) for step in (20, 60, 100)}
    record = measured(write_run(tmp_path / "run", base, weights), ALIGNMENT, ENERGY)
    delta = {step: weights[step][Q].double() - base[Q].double() for step in weights}
    channel = {step: torch.linalg.svd(delta[step]).Vh[:2] for step in weights}
    aligned = [(channel[step] @ channel[100].T).norm().item() ** 2 / 2 for step in (20, 60)]
    energy = [(delta[step] @ channel[20].T).norm().item() ** 2 / delta[step].norm().item() ** 2 for step in weights]
    assert [f.value for f in column(record, ALIGNMENT, Q) if f] == pytest.approx(aligned, rel=1e-9)
    assert [f.value for f in column(record, ENERGY, Q) if f] == pytest.approx(energy, rel=1e-9)


def test_unchanged_weights_are_marked_and_have_no_rank(tmp_path: Path) -> None:
    base = base_weights()
    first = moved(base, 1e-2) | {Q: base[Q].float()}
    record = measured(write_run(tmp_path / "run", base, {10: first, 20: moved(base, 2e-2)}), STABLE_RANK)
    assert [f.value for f in column(record, FROZEN, Q) if f] == [1.0, 0.0]
    first_rank, second_rank = column(record, STABLE_RANK, Q)
    assert first_rank == Figure(undefined="W_t equals W0")
    assert second_rank is not None
    assert second_rank.value is not None


def test_a_comparison_with_a_later_checkpoint_says_that_the_weight_had_not_changed(tmp_path: Path) -> None:
    base = base_weights()
    weights = {20: moved(base, 1e-2) | {Q: base[Q].float()}, 100: moved(base, 2e-2, seed=1)}
    record = measured(write_run(tmp_path / "run", base, weights), ALIGNMENT)
    assert column(record, ALIGNMENT, Q) == [Figure(undefined="W_t equals W0"), None]


def test_a_change_that_has_no_finite_result_is_an_error() -> None:
    """A row of W0 that is zero cannot be brought to a length, as DoRA wants it."""
    w0 = torch.ones(4, 3)
    w0[2] = 0
    change = Rescaled(Added(torch.zeros(4, 1).double(), torch.zeros(1, 3).double()), torch.ones(4).double(), 0)
    files = WeightFiles("w", lambda: w0, [lambda: change], match=lambda progress: 0, reference=lambda index: w0)
    with pytest.raises(RunError, match="checkpoint-10: 3 of 12 values are NaN or infinite"):
        measure_weight(files, [Point("checkpoint-10", 10, 1.0)], [{FROZEN}], METRICS)


def test_the_rounding_share_tells_bf16_from_fp32(tmp_path: Path) -> None:
    base = base_weights()
    for dtype, low, high in ((torch.float32, 0.0, 1e-6), (torch.bfloat16, 0.1, 1.0)):
        run = write_run(tmp_path / str(dtype), base, {10: moved(base, 2e-3, dtype=dtype)})
        (figure,) = column(measured(run, ROUNDING), ROUNDING, Q)
        assert figure is not None
        assert low <= figure.value <= high


def test_the_rounding_share_is_measured_of_weights_of_which_a_figure_is_asked_that_rounding_inflates(
    tmp_path: Path,
) -> None:
    run = simple_run(tmp_path / "run")
    assert ROUNDING not in {request for request, _ in measured(run, SUPPORT).measured()}
    record = measured(run, STABLE_RANK, SUPPORT)
    assert record.column(ROUNDING, "value").weights() == record.column(STABLE_RANK, "value").weights()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_run_with_nan_in_a_weight_is_refused(tmp_path: Path, bad: float) -> None:
    base = base_weights()
    broken = moved(base, 2e-2)
    broken[Q][3, 5] = bad
    run = write_run(tmp_path / "run", base, {10: moved(base, 1e-2), 20: broken})
    with pytest.raises(RunError, match=f"{Q} cannot be measured: checkpoint-20: 1 of 384 values are NaN or infinite"):
        measured(run, STABLE_RANK)


def test_a_run_with_a_zero_filled_weight_is_refused(tmp_path: Path) -> None:
    base = base_weights()
    zeroed = moved(base, 1e-2) | {K: torch.zeros(16, 16)}
    with pytest.raises(RunError, match=f"{K} cannot be measured: checkpoint-10: all zeros, though W0 is not; the file"):
        measured(write_run(tmp_path / "run", base, {10: zeroed}), STABLE_RANK)


def test_a_base_of_the_same_shape_but_another_model_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", base_weights(seed=0), {10: moved(base_weights(seed=7), 1e-2)})
    with pytest.raises(RunError, match=r"checkpoint-10 are different models: half of the weights differ by 1\.\d+"):
        measured(run, STABLE_RANK)


def test_fingerprints_follow_content(tmp_path: Path) -> None:
    base = base_weights()
    one = measured(write_run(tmp_path / "a", base, {10: moved(base, 1e-2), 20: moved(base, 2e-2)}))
    two = measured(write_run(tmp_path / "b", base, {10: moved(base, 1e-2), 20: moved(base, 3e-2)}))
    assert one.fingerprints["W0"] == two.fingerprints["W0"]
    assert one.fingerprints["checkpoint-10"] == two.fingerprints["checkpoint-10"]
    assert one.fingerprints["checkpoint-20"] != two.fingerprints["checkpoint-20"]


def test_torchs_threads_are_left_as_they_were(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    measured(simple_run(tmp_path / "run"), STABLE_RANK, workers=2)
    assert torch.get_num_threads() == threads


def test_nothing_is_written_to_the_run(tmp_path: Path) -> None:
    run = simple_run(tmp_path / "run")

    def state() -> dict[str, tuple[int, int]]:
        return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in run.rglob("*")}

    before = state()
    measured(run, STABLE_RANK, ALIGNMENT)
    assert state() == before


def test_a_later_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    base = base_weights()
    run = write_run(tmp_path / "run", base, {10: moved(base, 1e-2), 20: moved(base_weights(seed=7), 1e-2)})
    with pytest.raises(RunError, match="checkpoint-20 are different models"):
        measured(run, STABLE_RANK)


def test_a_copied_checkpoint_is_refused(tmp_path: Path) -> None:
    base = base_weights()
    run = write_run(tmp_path / "run", base, {10: moved(base, 1e-2), 20: moved(base, 2e-2), 30: moved(base, 1e-2)})
    with pytest.raises(RunError, match="checkpoint-10 and checkpoint-30 hold the same weights"):
        measured(run, STABLE_RANK)


def test_a_zero_filled_base_is_noticed(tmp_path: Path) -> None:
    base = base_weights()
    run = write_run(tmp_path / "run", base | {K: torch.zeros(16, 16).bfloat16()}, {10: moved(base, 1e-2)})
    with pytest.raises(RunError, match=f"{K} cannot be measured: W0: all zeros, though the checkpoints are not; the"):
        measured(run, STABLE_RANK)


@pytest.mark.parametrize("where", ["W0", "checkpoint-10"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_norm_that_is_not_finite_is_an_error(where: str, bad: float, tmp_path: Path) -> None:
    base, after = base_weights(), moved(base_weights(), 1e-2)
    broken = base if where == "W0" else after
    broken[NORM][3] = bad
    run = write_run(tmp_path / "run", base, {10: after})
    with pytest.raises(RunError, match=f"{where}: 1 of 16 values of {NORM} are NaN or infinite"):
        measured(run, STABLE_RANK)


def test_weights_beyond_the_range_of_float64_have_no_figure(tmp_path: Path) -> None:
    huge = {name: w.double() * 1e200 for name, w in base_weights().items()}
    run = write_run(tmp_path / "run", huge, {10: {name: w * 1.5 for name, w in huge.items()}})
    for request in (STABLE_RANK, ENERGY):
        (figure,) = column(measured(run, request), request, Q)
        assert figure is not None
        assert figure.undefined


def test_weights_that_equal_w0_again_are_a_wrong_file(tmp_path: Path) -> None:
    base = base_weights()
    half = {name: base[name].float() if name == Q else w for name, w in moved(base, 3e-3, seed=3).items()}
    run = write_run(tmp_path / "run", base, {10: moved(base, 1e-3), 20: moved(base, 2e-3, seed=2), 30: half})
    with pytest.raises(RunError, match=r"checkpoint-30: 1 of 3 weights equal W0 again, .*self_attn.q_proj"):
        geomcheck.measure(run, metrics=["stable_rank"])


def test_a_weight_that_starts_to_move_later_is_no_error(tmp_path: Path) -> None:
    base = base_weights()
    early = {name: base[name].float() if name == Q else w for name, w in moved(base, 1e-3).items()}
    run = write_run(tmp_path / "run", base, {10: early, 20: moved(base, 2e-3, seed=2)})
    assert Q in geomcheck.measure(run, metrics=["stable_rank"]).measured_weights()


def test_a_file_that_is_overwritten_under_a_measurement_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new content might reach figures that are kept under the digest of the old."""
    run = simple_run(tmp_path / "run")
    file = run / "checkpoint-20" / "model.safetensors"
    digest = trajectory.digest

    def digested(stored: torch.Tensor) -> str:
        found = digest(stored)
        content = file.read_bytes()
        with file.open("r+b") as handle:
            handle.write(content[:-2] + bytes(2))
        return found

    monkeypatch.setattr(trajectory, "digest", digested)
    with pytest.raises(RunError, match="checkpoint-20/model.safetensors: changed"):
        measured(run, STABLE_RANK)


@pytest.mark.parametrize("allocate", [torch.empty, np.empty], ids=["torch", "numpy"])
def test_a_weight_that_memory_does_not_suffice_for_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allocate: Callable[[int], object]
) -> None:
    digest = trajectory.digest
    monkeypatch.setattr(trajectory, "digest", lambda stored: allocate(1 << 56) if len(stored) == 24 else digest(stored))
    record = measured(simple_run(tmp_path / "run"), STABLE_RANK)
    assert record.skipped == {Q: "not enough memory to measure shape (24, 16); try --geom-workers=1"}
    assert record.measured_weights() == {K, DOWN}


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED"),
    ],
)
def test_a_gpu_that_lacks_memory_is_told_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(stored: torch.Tensor) -> str:
        raise error

    run = open_run(simple_run(tmp_path / "run"))
    sources = Sources(run, find_base(run))
    monkeypatch.setattr("geomcheck.measurement.device.parse_device", lambda name: torch.device("cpu"))
    monkeypatch.setattr(trajectory, "digest", fail)
    with pytest.raises(NotEnoughMemory, match=r"measure shape \(24, 16\); end other programs on cuda:1, or try"):
        MeasureWeight(Q, (24, 16), (), (), device="cuda:1")(sources)


def test_without_resources_it_is_measured_here_and_nothing_is_kept(tmp_path: Path) -> None:
    run = open_run(simple_run(tmp_path / "opd"))
    base = find_base(run)
    record, known = survey(run, base), []
    measure_record(record, run, base, {Q: {STABLE_RANK}}, progress=lambda done, total: known.append((done, total)))
    assert [figure.value for figure in column(record, STABLE_RANK, Q) if figure] == [
        figure.value for figure in column(measured(tmp_path / "opd", STABLE_RANK, names=(Q,)), STABLE_RANK, Q) if figure
    ]
    assert known
    assert known[-1][0] == known[-1][1] > 0


@pytest.mark.parametrize(
    ("requests", "first"), [({SUPPORT}, 384 / 1552), ({STABLE_RANK}, 19 / 1050), ({SUPPORT, STABLE_RANK}, 19 / 1050)]
)
def test_progress_goes_by_what_takes_the_time(tmp_path: Path, requests: set[Request], first: float) -> None:
    run = open_run(simple_run(tmp_path / "opd"))
    base = find_base(run)
    record, known = survey(run, base), list[tuple[int, int]]()
    weights = {Q: requests, K: requests, DOWN: requests}
    measure_record(record, run, base, weights, progress=lambda done, total: known.append((done, total)))
    shares = [done / total for done, total in known]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == 1
    assert min(shares[1:]) == pytest.approx(first, rel=0.02)
