"""Groups of weights, as on a GPU: the figures are those of each alone, memory is kept to, and errors stay where they
belong. All of this runs on the CPU; what needs a GPU is skipped without one."""

from __future__ import annotations

import math
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from geomcheck.checkpoints import find_base, open_run
from geomcheck.diagnostics import load_metrics
from geomcheck.diagnostics.linalg import kernels
from geomcheck.diagnostics.linalg.lockstep import stackable
from geomcheck.errors import RunError
from geomcheck.measurement import Resources, measure_record, survey
from geomcheck.measurement.device import free_memory, prepared
from geomcheck.measurement.executors import execute
from geomcheck.measurement.executors.batches import LARGEST, Batch, Memory, batches_of, run_in_batches
from geomcheck.measurement.measured import Measured
from geomcheck.measurement.task import MeasureWeight, NotEnoughMemory, Outcome, Sources
from geomcheck.record import Record, Request
from tests.diagnostics.cases import with_values
from tests.runs import simple_run, write_run

PLENTY = Memory(device=1 << 40, host=1 << 40)

TALL, WIDE, SMALL = (300, 280), (264, 320), (40, 24)
SHAPES = {"q_proj": TALL, "k_proj": WIDE, "v_proj": SMALL}
STEPS = {
    "slow": 1e-4,
    "fast": 1e-2,
    "elsewhere": 0.5,
    "one direction": 1e-3,
    "frozen": 0.0,
    "steady": 2e-3,
    "tied": 1e-3,
}
"""Sizes of the updates, relative to W0, by what happens to the weights of a layer."""


def weight_name(layer: int, module: str) -> str:
    return f"model.layers.{layer}.self_attn.{module}.weight"


def base_of(shape: tuple[int, int], seed: int, *, tied: bool) -> Tensor:
    size = min(shape)
    values = np.ones(size) if tied else 10 / np.arange(1.0, size + 1) ** 0.7
    return torch.tensor(with_values(shape, values, seed)).float()


def update_of(w0: Tensor, kind: str, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(w0.shape, generator=generator)
    if kind == "one direction":
        direction = torch.outer(direction[:, 0], direction[0])
    return STEPS[kind] * float(w0.norm()) * direction / direction.norm()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of seven layers, each of which has another fate, and a reference run."""
    weights = [(layer, kind, module) for layer, kind in enumerate(STEPS) for module in SHAPES]
    base = {weight_name(i, m): base_of(SHAPES[m], 2 * i, tied=kind == "tied") for i, kind, m in weights}
    directory, written = tmp_path_factory.mktemp("grouped"), []
    for seed in (1, 2):
        checkpoints = {}
        for step in (4, 20):
            after = {}
            for layer, kind, module in weights:
                w0 = base[weight_name(layer, module)]
                moved = w0 + step / 20 * update_of(w0, kind, seed) + (step / 20) ** 2 * update_of(w0, kind, seed + 7)
                after[weight_name(layer, module)] = moved
            checkpoints[step] = after
        written.append(write_run(directory / f"run-{seed}", base, checkpoints))
    return written[0], written[1]


class InGroups(Resources):
    """Measures as with a GPU, on the CPU."""

    def execute(self, tasks: Sequence[Any], sources: Sources) -> Iterator[tuple[Any, Outcome]]:
        return run_in_batches(tasks, sources, memory=PLENTY)


def measured(runs: tuple[Path, Path], resources: Resources) -> Record:
    """Every metric with its default parameters, on every weight that is larger than its k."""
    run, reference = (open_run(path) for path in runs)
    base, metrics = find_base(run), load_metrics()
    record = survey(run, base)
    asked = [Request.of(metric, {"lr": 1e-5}) for metric in metrics]
    plan = {
        weight.name: {r for r in asked if not metrics[r.metric].spanned(r.parameters(), weight.shape)}
        for weight in record.weights.values()
    }
    measure_record(record, run, base, plan, reference=reference, resources=resources)
    return record


def require_agreement(found: Record, expected: Record, tolerance: float, floors: dict[str, float]) -> set[str]:
    """Fails where a figure differs; the metrics that were compared."""
    assert found.skipped == expected.skipped
    pairs = list(zip(found.rows(), expected.rows(), strict=True))
    for row, other in pairs:
        assert (row.step, row.weight, row.request, row.stat) == (other.step, other.weight, other.request, other.stat)
        assert (row.figure.value is None) == (other.figure.value is None), (row, other)
        if row.figure.value is not None and other.figure.value is not None:
            floor = floors.get(row.request.metric, 1e-9)
            error = abs(row.figure.value - other.figure.value) / max(abs(other.figure.value), floor)
            assert error <= tolerance, (row, other)
    return {row.request.metric for row, _ in pairs if row.figure.value is not None}


def counts(record: Record) -> dict[tuple[str, str], int]:
    """How often each algorithm answered for each quantity."""
    return {(what, how): tally.count for what, by in record.routes.items() for how, tally in by.items()}


@pytest.fixture(params=["this processor's", "torch alone"])
def libraries(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With "torch alone" everything goes the way of a GPU."""
    if request.param == "torch alone":
        monkeypatch.setattr(kernels, "NUMPY_ON_CPU", False)
        monkeypatch.setattr(kernels, "ONEDNN_ON_CPU", False)
    return request.param


@pytest.mark.usefixtures("libraries")
def test_figures_are_those_of_each_weight_alone(runs: tuple[Path, Path]) -> None:
    alone, together = measured(runs, Resources(workers=1)), measured(runs, InGroups())
    assert require_agreement(together, alone, 1e-6, {}) == {metric.name for metric in load_metrics()}
    assert counts(together) == counts(alone)
    assert len({route for _, route in counts(together)}) >= 5


def test_a_damaged_weight_among_others_is_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    broken = shutil.copytree(runs[0], tmp_path / "broken")
    file = broken / "checkpoint-20" / "model.safetensors"
    weights = load_file(file)
    weights[weight_name(2, "k_proj")][3, 5] = torch.nan
    save_file(weights, file)
    with pytest.raises(
        RunError, match=rf"layers.2.*k_proj.weight cannot be measured: checkpoint-20: 1 of {264 * 320} "
    ):
        measured((broken, runs[1]), InGroups())


def test_factorizations_of_alike_weights_are_done_together(
    runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "NUMPY_ON_CPU", False)
    shapes: Counter[tuple[int, ...]] = Counter()

    def counted(function: Callable[..., Any], matrix: Tensor, *rest: Any, **options: Any) -> Any:
        shapes[tuple(matrix.shape)] += 1
        return function(matrix, *rest, **options)

    for function in ("eigh", "eigvalsh", "cholesky", "qr", "solve_triangular"):
        monkeypatch.setattr(torch.linalg, function, partial(counted, getattr(torch.linalg, function)))
    measured(runs, InGroups())
    together = shapes.copy()
    shapes.clear()
    measured(runs, Resources(workers=1))
    for size in (min(TALL), min(WIDE)):  # Gram matrices; smaller stacks may be the windows of one matrix
        assert max(shape[0] for shape in together if len(shape) == 3 and shape[1:] == (size, size)) >= 5
        assert not any(len(shape) == 3 and shape[1:] == (size, size) for shape in shapes)
    assert together.total() < shapes.total() / 2.5
    assert in_all(together) == in_all(shapes)


def in_all(shapes: Counter[tuple[int, ...]]) -> int:
    """How many matrices were factorized."""
    return sum(count * math.prod(shape[:-2]) for shape, count in shapes.items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_every_figure_that_the_cpu_gives(runs: tuple[Path, Path]) -> None:
    on_cpu, on_gpu = measured(runs, Resources(device="cpu")), measured(runs, Resources(device="cuda"))
    assert on_gpu.device == "cuda"
    floors = {"principal_angle": 0.01}
    assert require_agreement(on_gpu, on_cpu, 1e-3, floors) == {metric.name for metric in load_metrics()}


# ---- the executor, with tasks that say what they do


@dataclass
class Watch:
    """Who is at work, and the most that were."""

    bytes_now: int = 0
    most_bytes: int = 0
    at_work: Counter[str] = field(default_factory=Counter)
    batches: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class Weight:
    """A task that makes a few calls that can be stacked.

    Attributes:
        fits: the most members that a batch of such tasks may have for the device's memory to suffice.
        error: raised in the end.
    """

    name: str
    shape: tuple[int, ...]
    watch: Watch
    bytes: int = 1
    host_bytes: int = 1
    numel: int = 1
    device: str = "cpu"
    fits: int = LARGEST
    error: Exception | None = None

    def __call__(self, sources: Sources) -> Measured:
        with self.watch.lock:
            self.watch.bytes_now += self.bytes
            self.watch.most_bytes = max(self.watch.most_bytes, self.watch.bytes_now)
            self.watch.at_work[self.name] += 1
        try:
            together = int(counted(torch.zeros(1, 1)))
            if together > self.fits:
                raise NotEnoughMemory(f"{together} at once")
            if self.error is not None:
                raise self.error
            return Measured(digests={("base", 0): self.name, ("run", 0): str(together)})
        finally:
            with self.watch.lock:
                self.watch.bytes_now -= self.bytes


@stackable(cost=1)
def counted(one: Tensor) -> Tensor:
    """How many such matrices there are, for each of them."""
    return torch.full_like(one, one.shape[:-2].numel())


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    run = open_run(simple_run(tmp_path / "run"))
    return Sources(run, find_base(run))


def outcomes(tasks: list[Any], sources: Sources, **options: Any) -> dict[str, Outcome]:
    """By name; fails where a task is yielded twice."""
    found = [(task.name, outcome) for task, outcome in run_in_batches(tasks, sources, **({"memory": PLENTY} | options))]
    assert len(dict(found)) == len(found)
    return dict(found)


def sizes(found: dict[str, Outcome]) -> dict[str, int]:
    return {name: int(out.digests["run", 0]) for name, out in found.items() if isinstance(out, Measured)}


def test_each_task_is_done_once_among_its_like(sources: Sources) -> None:
    watch = Watch()
    tasks = [Weight(f"{size}-{i}", (size, size), watch) for size in (9, 5, 2) for i in range(size)]
    found = outcomes(tasks, sources)
    assert sizes(found) == {task.name: task.shape[0] for task in tasks}
    assert watch.at_work == Counter({task.name: 1 for task in tasks})
    assert all(isinstance(out, Measured) and out.digests["base", 0] == name for name, out in found.items())


def test_a_weight_without_entries_needs_no_memory(sources: Sources) -> None:
    assert sizes(outcomes([Weight("empty", (0, 4), Watch(), bytes=0, host_bytes=0)], sources)) == {"empty": 1}


def test_without_tasks_nothing_happens(sources: Sources) -> None:
    assert outcomes([], sources) == {}


def test_an_error_of_one_weight_is_its_outcome(sources: Sources) -> None:
    watch = Watch()
    tasks = [Weight(str(i), (2, 2), watch, error=RunError("NaN") if i == 1 else None) for i in range(4)]
    found = outcomes(tasks, sources)
    assert str(found["1"]) == "NaN"
    assert sizes(found).keys() == {"0", "2", "3"}


@pytest.mark.parametrize("error", [ZeroDivisionError(), RuntimeError("a bug")])
def test_a_bug_is_not_swallowed_and_ends_the_others(sources: Sources, error: Exception) -> None:
    watch = Watch()
    tasks = [Weight(str(i), (2, 2), watch, error=error if i == 1 else None) for i in range(4)]
    with pytest.raises(type(error)):
        outcomes(tasks, sources)
    assert watch.bytes_now == 0


def test_whoever_stops_listening_ends_the_work(sources: Sources) -> None:
    """As Ctrl-C does: those who wait for others are told, and no thread stays."""
    watch = Watch()
    before = threading.active_count()
    tasks: list[Any] = [Weight(str(i), (2, 2) if i < 2 else (3, 3), watch, bytes=10) for i in range(6)]
    working = run_in_batches(tasks, sources, in_flight=1, memory=PLENTY)
    next(working)
    working.close()
    assert threading.active_count() == before
    assert watch.bytes_now == 0


def test_work_that_is_given_up_ends_at_its_next_step(sources: Sources) -> None:
    steps: list[int] = []

    @dataclass(frozen=True)
    class Endless(Weight):
        def __call__(self, sources: Sources) -> Measured:
            for step in range(100_000):
                counted(torch.zeros(1, 1))
                steps.append(step)
            return Measured()

    tasks: list[Any] = [Weight("short", (3, 3), Watch()), *(Endless(str(i), (2, 2), Watch()) for i in range(3))]
    working = run_in_batches(tasks, sources, memory=PLENTY)
    assert next(working)[0].name == "short"
    working.close()
    assert len(steps) < 3 * 100_000


def test_what_lacks_memory_is_tried_again_in_groups_of_half_the_size(sources: Sources) -> None:
    watch = Watch()
    tasks = [Weight(str(i), (2, 2), watch, fits=4) for i in range(8)]
    assert set(sizes(outcomes(tasks, sources)).values()) == {4}
    assert set(watch.at_work.values()) == {2}


def test_what_still_lacks_memory_is_left_out(sources: Sources) -> None:
    watch = Watch()
    tasks = [Weight("huge", (2, 2), watch, fits=0), *(Weight(str(i), (2, 2), watch) for i in range(3))]
    found = outcomes(tasks, sources)
    assert isinstance(found["huge"], NotEnoughMemory)
    assert watch.at_work["huge"] == 2
    assert sizes(found) == {"0": 4, "1": 4, "2": 4}


TASKS = st.lists(st.tuples(st.sampled_from([(8, 8), (4, 8), (2, 2)]), st.integers(1, 40)), max_size=90)


@given(TASKS, st.integers(0, 1000), st.integers(0, 1000), st.integers(1, 3))
def test_groups_are_alike_and_fit_into_memory(
    drawn: list[tuple[tuple[int, int], int]], device: int, host: int, in_flight: int
) -> None:
    watch, needs = Watch(), dict(drawn)
    tasks = [Weight(str(i), s, watch, bytes=needs[s], host_bytes=needs[s] // 2 + 1) for i, (s, _) in enumerate(drawn)]
    batches: list[Batch[Any]] = batches_of(tasks, Memory(device, host), in_flight)  # type: ignore[type-var]
    assert Counter(task.name for batch in batches for task in batch.tasks) == Counter(task.name for task in tasks)
    by_shape: dict[Any, list[int]] = {}
    for batch in batches:
        assert len({task.shape for task in batch.tasks}) == 1
        assert batch.bytes == sum(task.bytes for task in batch.tasks)
        assert 1 <= len(batch.tasks) <= LARGEST
        if len(batch.tasks) > 1:
            assert batch.bytes * in_flight <= device
            assert sum(task.host_bytes for task in batch.tasks) * in_flight <= host
        by_shape.setdefault(batch.tasks[0].shape, []).append(len(batch.tasks))
    assert all(max(counts) - min(counts) <= 1 for counts in by_shape.values())


@pytest.mark.parametrize(("device", "host", "size"), [(1000, 1000, 5), (1000, 320, 4), (320, 1000, 2), (10, 10, 1)])
def test_what_is_scarcer_decides_how_large_groups_are(device: int, host: int, size: int) -> None:
    tasks = [Weight(str(i), (2, 2), Watch(), bytes=80, host_bytes=40) for i in range(20)]
    batches: list[Batch[Any]] = batches_of(tasks, Memory(device, host), 2)  # type: ignore[type-var]
    assert {len(batch.tasks) for batch in batches} == {size}


def test_groups_at_work_fit_into_memory_and_the_largest_is_alone(sources: Sources) -> None:
    watch = Watch()
    tasks = [
        Weight("huge", (50, 50), watch, bytes=500),
        *(Weight(f"{size}-{i}", (size, size), watch, bytes=size) for size in (40, 20, 10) for i in range(8)),
    ]
    found = outcomes(tasks, sources, memory=Memory(200, 1000), in_flight=2)
    assert sizes(found) == {"huge": 1} | {f"{s}-{i}": n for s, n in ((40, 2), (20, 4), (10, 8)) for i in range(8)}
    assert watch.most_bytes == 500
    watch.most_bytes = 0
    outcomes(tasks[1:], sources, memory=Memory(200, 1000), in_flight=2)
    assert watch.most_bytes <= 200


def test_two_groups_are_at_work_at_a_time(sources: Sources) -> None:
    """One batch waits for the other, which can only come if both are at work."""
    meeting = threading.Barrier(2)

    @dataclass(frozen=True)
    class Meets(Weight):
        def __call__(self, sources: Sources) -> Measured:
            meeting.wait(timeout=20)
            return super().__call__(sources)

    tasks = [Meets(str(size), (size, size), Watch()) for size in (3, 2)]
    assert len(outcomes(tasks, sources)) == 2


def test_tasks_for_a_gpu_are_done_in_groups(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    """`execute` sends them there; without a GPU, to the error that there is none."""
    from geomcheck.errors import UsageError

    task = MeasureWeight("w", (2, 2), (), (), device="cuda:99")
    with pytest.raises(UsageError, match="device cuda:99"):
        list(execute([task], sources, workers=None))


def test_products_are_exact_while_groups_are_at_work() -> None:
    """A training may have allowed TF32, which has 11 bits."""
    torch.set_float32_matmul_precision("high")
    try:
        with prepared(torch.device("cpu")):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="a torch that has no precision by backend")
@pytest.mark.parametrize(("backend", "allowed"), [("cuda", "tf32"), ("mkldnn", "bf16")])
def test_products_are_exact_where_a_training_set_the_precision_by_backend(backend: str, allowed: str) -> None:
    """As Transformers does for ``tf32=True``: torch then refuses to tell the precision under its one old name."""
    both = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    before = [one.fp32_precision for one in both]
    getattr(torch.backends, backend).matmul.fp32_precision = allowed
    try:
        with pytest.raises(RuntimeError, match="mix of the legacy and new"):
            torch.get_float32_matmul_precision()
        during = [one.fp32_precision for one in both]
        with prepared(torch.device("cpu")):
            assert [one.fp32_precision for one in both] == ["ieee", "ieee"]
        assert [one.fp32_precision for one in both] == during
        assert allowed in during
    finally:
        for one, precision in zip(both, before, strict=True):
            one.fp32_precision = precision


def test_memory_that_is_free() -> None:
    free = free_memory(torch.device("cpu"))
    assert free > 2**20
    assert Memory.free(torch.device("cpu")).device < free * 1.1
