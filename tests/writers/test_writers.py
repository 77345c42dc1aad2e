"""What real frameworks write is read bit for bit, whatever they did to it on the way to the disk.

Each framework is in an environment of its own, ``nox -s writers``; where it is not installed its tests are skipped.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

import geomcheck
from geomcheck.checkpoints import BaseWeights, Run, comparable, find_base, open_base, open_run
from geomcheck.errors import GeomcheckError, RunError
from tests.writers.truth import STEPS, kept

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Case:
    """A run as a framework writes it, and how it should be recognised.

    Attributes:
        writer: the framework's driver.
        name: the directory that the driver writes it to.
        framework: who wrote it, as the run says.
        layout: how it is stored, as the run says.
        dtype: of the weights on disk.
        run: where in the case the run lies.
        base: where W0 lies; None where the run holds it.
        needs: a module that only some versions of the framework bring.
    """

    writer: str
    name: str
    framework: str
    layout: str
    dtype: torch.dtype
    run: str = "run"
    base: str | None = "base"
    needs: str = ""

    def __str__(self) -> str:
        return f"{self.writer}-{self.name}" + (f"-{self.run}" if self.run != "run" else "")


BF16, FP32 = torch.bfloat16, torch.float32
TORCH_DIST = "Megatron torch_dist"
MEGATRON_LM = "megatron.training"
RANKED = "per-rank DTensor shards (verl, SkyRL, accelerate)"
DCP = "torch distributed checkpoint (DCP)"
HUGGING_FACE = "Hugging Face Trainer (TRL, LLaMA-Factory, Axolotl, Unsloth)"

CASES = (
    Case("deepspeed", "zero-0", "DeepSpeed", "PyTorch pickle", BF16),
    Case("deepspeed", "zero-1", "DeepSpeed", "PyTorch pickle", BF16),
    Case("deepspeed", "zero-2", "DeepSpeed", "PyTorch pickle", BF16),
    Case("deepspeed", "zero-3", HUGGING_FACE, "safetensors", FP32, run="converted"),
    Case("torchtitan", "qwen3", "torchtitan", DCP, FP32, base=None),
    Case("torchtitan", "qwen3-export", "torchtitan", DCP, FP32),
    Case("torchtitan", "qwen3-moe", "torchtitan", DCP, FP32),
    Case("torchtitan", "llama3", "torchtitan", DCP, FP32),
    Case("megatron", "tensor", "Megatron-LM", TORCH_DIST, BF16),
    Case("megatron", "tied", "Megatron-LM", TORCH_DIST, BF16),
    Case("megatron", "pipeline", "Megatron-LM", TORCH_DIST, BF16),
    Case("megatron", "distributed-optimizer", "Megatron-LM", TORCH_DIST, BF16),
    Case("megatron", "experts", "Megatron-LM", TORCH_DIST, BF16),
    Case("megatron", "lm-torch_dist", "Megatron-LM", TORCH_DIST, BF16, needs=MEGATRON_LM),
    Case("verl", "fsdp1", "verl", RANKED, FP32),
    Case("verl", "fsdp2", "verl", RANKED, FP32),
    Case("verl", "fsdp2-tied", "verl", RANKED, FP32),
    Case("verl", "fsdp2", HUGGING_FACE, "safetensors", BF16, run="merged"),
)
ADAPTERS = (
    Case("verl", "lora", "verl", RANKED, FP32),
    Case("verl", "lora", HUGGING_FACE, "safetensors", FP32, run="merged"),
    Case("verl", "lora-only", "verl", RANKED, FP32),
)

EXPLAINED = (
    (Case("deepspeed", "zero-3", "DeepSpeed", "", FP32), r"ZeRO-3.*zero_to_fp32.py"),
    (Case("megatron", "lm-torch", "Megatron-LM", "", BF16, needs=MEGATRON_LM), "legacy torch format"),
)
"""What is not read, and a part of what is said."""

METRICS = ["update_support", "relative_update_norm"]
"""Figures of entries, of which the truth needs one line each."""


class Written:
    """The directories of the drivers, each written when first asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __call__(self, case: Case) -> Path:
        """Where the case lies."""
        for module in (case.writer, case.needs):
            if module and importlib.util.find_spec(module) is None:
                pytest.skip(f'{module} is not installed; nox -s "writers({case.writer})" has it')
        place = self._directory / case.writer
        if not place.exists():
            command = [sys.executable, "-m", f"tests.writers.write_{case.writer}", str(place)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-5000:]
        return place / case.name


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return Written(tmp_path_factory.mktemp("writers"))


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def opened(case: Case, place: Path) -> tuple[Run, BaseWeights]:
    """The run and its W0, as a gate opens them."""
    run = open_run(place / case.run)
    given = open_base(place / case.base, "--geom-base") if case.base else None
    return comparable(run, find_base(run, given=given))


def test_every_matrix_is_the_one_that_was_trained(case: Case, written: Written) -> None:
    place = written(case)
    run, base = opened(case, place)
    assert (run.framework, run.layout) == (case.framework, case.layout)
    assert [checkpoint.step for checkpoint in run.checkpoints] == list(STEPS)
    for step, source in [(0, base.source), *((checkpoint.step, checkpoint.source) for checkpoint in run.checkpoints)]:
        true = kept(place, step)
        assert {name for name, stored in source.weights.items() if len(stored.shape) == 2} == set(true)
        for name, matrix in true.items():
            read = source.read(name)
            assert isinstance(read, Tensor)
            assert step == 0 or read.dtype == case.dtype, name
            assert torch.equal(read.double(), matrix.to(read.dtype).double()), (step, name)


def test_figures_of_entries_are_those_of_the_truth(case: Case, written: Written) -> None:
    place = written(case)
    base = place / case.base if case.base else None
    record = geomcheck.measure(place / case.run, base=base, metrics=METRICS)
    before = kept(place, 0)
    rows = [row for row in record.rows() if row.request.metric in METRICS]
    figures = {(row.request.metric, row.step, row.weight): row.figure.value for row in rows}
    in_layers = [name for name in before if ".layers." in name]
    assert len(figures) == len(METRICS) * len(STEPS) * len(in_layers)
    for step in STEPS:
        after = kept(place, step)
        for name in in_layers:
            w0, wt = before[name], after[name].to(case.dtype).double()
            true = {
                "update_support": (wt.bfloat16() != w0.bfloat16()).double().mean().item(),
                "relative_update_norm": ((wt - w0).norm() / w0.norm()).item(),
            }
            for metric in METRICS:
                assert figures[metric, step, name] == pytest.approx(true[metric], rel=1e-6), (metric, step, name)


@pytest.mark.parametrize("case", ADAPTERS, ids=str)
def test_an_adapter_is_measured_right_or_refused(case: Case, written: Written) -> None:
    place = written(case)
    try:
        record = geomcheck.measure(place / case.run, base=place / "base", metrics=["relative_update_norm"])
    except GeomcheckError:
        return
    before, rows = kept(place, 0), [row for row in record.rows() if row.request.metric == "relative_update_norm"]
    assert len(rows) == len(STEPS) * sum(".layers." in name for name in before)
    for row in rows:
        w0, wt = before[row.weight], kept(place, row.step)[row.weight]
        assert row.figure.value == pytest.approx(((wt - w0).norm() / w0.norm()).item(), rel=1e-5)


@pytest.mark.parametrize(("case", "message"), EXPLAINED, ids=str)
def test_parts_that_are_not_read_are_explained(case: Case, message: str, written: Written) -> None:
    place = written(case)
    with pytest.raises(RunError, match=message):
        opened(case, place)
