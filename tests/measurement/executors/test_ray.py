"""A Ray cluster gives what local workers give, and survives the loss of a worker."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import pytest

import geomcheck
from geomcheck.checkpoints import find_base, open_run
from geomcheck.errors import RunError, UsageError
from geomcheck.measurement.executors.opening import Opening, opened
from geomcheck.measurement.executors.ray import run_on_ray
from geomcheck.measurement.measured import Measured
from geomcheck.measurement.task import Sources
from geomcheck.record import write_record
from tests.runs import Q, base_weights, moved, simple_run, write_run

ray = pytest.importorskip("ray")

pytestmark = pytest.mark.filterwarnings("ignore:.*RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO:FutureWarning")


@pytest.fixture(scope="module")
def cluster() -> Iterator[ModuleType]:
    """A local cluster of two processors."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


def sources_of(path: Path) -> Sources:
    run = open_run(path)
    return Sources(run, find_base(run))


@pytest.mark.usefixtures("cluster")
def test_the_record_is_that_of_local_workers(tmp_path: Path) -> None:
    run = simple_run(tmp_path / "opd")
    reference = write_run(tmp_path / "ref", base_weights(), {30: moved(base_weights(), 1e-2, seed=9)})
    metrics = ["stable_rank", "principal_angle", "mask_jaccard", "update_support"]
    files = []
    for workers in (1, "ray"):
        record = geomcheck.measure(run, metrics=metrics, reference=reference, workers=workers)
        files.append(tmp_path / f"{workers}.parquet")
        write_record(record, files[-1])
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.usefixtures("cluster")
def test_a_damaged_weight_is_refused_there_too(tmp_path: Path) -> None:
    broken = moved(base_weights(), 1e-2)
    broken[Q][0, 0] = float("nan")
    run = write_run(tmp_path / "opd", base_weights(), {10: broken})
    with pytest.raises(RunError, match=f"{Q} cannot be measured: checkpoint-10: 1 of 384 values are NaN"):
        geomcheck.measure(run, metrics=["stable_rank"], workers="ray")


@dataclass(frozen=True)
class Fragile:
    """A task that ends its worker at the first attempt, or at each."""

    mark: Path
    always: bool = False
    name: str = "fragile"
    numel: int = 1
    bytes: int = 1
    device: str = "cpu"

    def __call__(self, sources: Sources) -> Measured:
        if self.always or not self.mark.exists():
            self.mark.touch()
            os._exit(1)
        return Measured(digests={("base", 0): sources.base.how})


@pytest.mark.usefixtures("cluster")
def test_a_lost_worker_is_replaced(tmp_path: Path) -> None:
    sources = sources_of(simple_run(tmp_path / "opd"))
    ((_, outcome),) = run_on_ray([Fragile(tmp_path / "mark")], sources)
    assert outcome == Measured(digests={("base", 0): "base/ in the run"})
    assert (tmp_path / "mark").exists()


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_is_always_lost_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geomcheck.measurement.executors.ray.RETRIES", 1)
    with pytest.raises(RunError, match="fragile: its Ray worker was lost 2 times"):
        list(run_on_ray([Fragile(tmp_path / "mark", always=True)], sources_of(simple_run(tmp_path / "opd"))))


@pytest.mark.usefixtures("cluster")
def test_files_that_a_worker_does_not_see_are_an_error(tmp_path: Path) -> None:
    sources = sources_of(simple_run(tmp_path / "opd"))
    tasks = [Fragile(tmp_path / "opd" / "base" / "config.json")]
    assert len(list(run_on_ray(tasks, sources))) == 1
    shutil.move(tmp_path / "opd", tmp_path / "elsewhere")
    lost = replace(Opening.of(sources_of(tmp_path / "elsewhere")), run=str(tmp_path / "opd"))
    with pytest.raises(RunError, match=r"cannot open the files: the run .*opd does not exist. All nodes must see"):
        opened(lost)


def test_other_files_at_the_same_path_are_an_error(tmp_path: Path) -> None:
    run = simple_run(tmp_path / "opd")
    opening = Opening.of(sources_of(run))
    assert opened(opening).run.name == "opd"
    opened.cache_clear()
    write_run(run, base_weights(), {10: moved(base_weights(), 1e-2)})
    with pytest.raises(RunError, match="sees other files below .*opd: all nodes must share one file system"):
        opened(opening)
    with pytest.raises(RunError, match="has another version of geomcheck, torch, numpy or scipy"):
        opened(replace(opening, code="older"))


def test_a_file_that_vanishes_before_the_work_is_handed_out_is_an_error(tmp_path: Path) -> None:
    sources = sources_of(simple_run(tmp_path / "opd"))
    lost = tmp_path / "opd" / "checkpoint-20" / "model.safetensors"
    lost.unlink()
    with pytest.raises(RunError, match=rf"{lost}: cannot be opened: No such file .*; .* measure again when that is"):
        Opening.of(sources)


def test_a_checkpoint_that_appears_meanwhile_is_not_looked_at(tmp_path: Path) -> None:
    run = simple_run(tmp_path / "opd")
    opening = Opening.of(sources_of(run))
    shutil.copytree(run / "checkpoint-30", run / "checkpoint-40")
    assert [checkpoint.step for checkpoint in opened(opening).run.checkpoints] == [10, 20, 30]


def test_without_ray_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"Ray is not installed: pip install 'geomcheck\[ray\]'"):
        geomcheck.measure(simple_run(tmp_path / "opd"), workers="ray")
