"""Good runs in every layout that is read: the same weights in all, so that all have the same verdicts."""

from __future__ import annotations

import atexit
import json
import shutil
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

import geomcheck
from tests.checkpoints import test_one_model_in_every_layout as layouts
from tests.checkpoints.dcp_files import save_chunks
from tests.reliability.corpus.project import STEPS, SUITE, Project
from tests.runs import NORM, Tensors

RANK = 4
TINY = Path(__file__).parents[3] / "fixtures" / "tiny-opd"


def base() -> Tensors:
    """W0."""
    return layouts.model() | {NORM: torch.ones(16, dtype=torch.bfloat16)}


def trained(step: int) -> Tensors:
    """The weights at a step: the norm learns too."""
    return layouts.trained(step) | {NORM: torch.full((16,), 1 + 1e-3 * step)}


def halves(directory: Path, weights: Tensors) -> None:
    """A distributed checkpoint of two files, which hold the upper and the lower half of every tensor."""
    cuts = {
        name: (
            w,
            [
                ((0, *(0 for _ in w.shape[1:])), (len(w) // 2, *w.shape[1:])),
                ((len(w) // 2, *(0 for _ in w.shape[1:])), (len(w) - len(w) // 2, *w.shape[1:])),
            ],
        )
        for name, w in weights.items()
    }
    save_chunks(directory, cuts, files=2)


def two_ranks(directory: Path, weights: Tensors) -> None:
    """The DTensors of two ranks, as FSDP2 shards them."""
    directory.mkdir(parents=True)
    for rank in range(2):
        dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=2)
        mesh = init_device_mesh("cpu", (2,))
        own = {name: DTensor.from_local(w.chunk(2)[rank].clone(), mesh, [Shard(0)]) for name, w in weights.items()}
        torch.save(own, directory / f"model_world_size_2_rank_{rank}.pt")
        dist.destroy_process_group()


def legacy(directory: Path, weights: Tensors) -> None:
    """The format of torch before 1.6."""
    directory.mkdir(parents=True)
    torch.save(weights, directory / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def adapter(directory: Path, weights: Tensors) -> None:
    """A LoRA adapter of every linear map."""
    directory.mkdir(parents=True)
    step = int(directory.name.rsplit("-", maxsplit=1)[-1])
    generator = torch.Generator().manual_seed(step)
    factors = {}
    for name, weight in weights.items():
        if ".layers." in name and weight.ndim == 2:
            where = f"base_model.model.{name.removesuffix('.weight')}"
            factors[f"{where}.lora_A.weight"] = torch.randn(RANK, weight.shape[1], generator=generator)
            factors[f"{where}.lora_B.weight"] = 1e-3 * step * torch.randn(weight.shape[0], RANK, generator=generator)
    save_file(factors, directory / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": RANK,
        "bias": "none",
        "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    }
    (directory / "adapter_config.json").write_text(json.dumps(config))


Write = Callable[[Path, Tensors], None]

WRITERS: dict[str, tuple[str, Write]] = {
    "plain": ("checkpoint-{}", layouts.safetensors),
    "shards": ("checkpoint-{}", layouts.shards),
    "slices": ("epoch_0_step_{}/model", layouts.slices),
    "pickle": ("checkpoint-{}", layouts.pickled),
    "legacy": ("checkpoint-{}", legacy),
    "ranks": ("global_step_{}/actor", two_ranks),
    "dcp": ("step-{}", halves),
    "megatron": ("iter_{:07d}", layouts.megatron),
    "adapter": ("checkpoint-{}", adapter),
}

SEEDS = (*WRITERS, "record", "real")


def lay_out(seed: str, directory: Path) -> Project:
    """A fresh copy of a good project in `directory`, which must not exist."""
    return Project(Path(shutil.copytree(_made(seed), directory)), WRITERS[seed][0] if seed in WRITERS else STEP)


STEP = "checkpoint-{}"


@cache
def _made(seed: str) -> Path:
    """The good project, made once per process."""
    project = Project(Path(mkdtemp(prefix="geomcheck-corpus-")), WRITERS[seed][0] if seed in WRITERS else STEP)
    atexit.register(shutil.rmtree, project.root, ignore_errors=True)
    project.suite.parent.mkdir()
    project.suite.write_text(SUITE)
    (project.root / "pytest.ini").write_text("[pytest]\n")
    if seed == "record":
        made = _made("plain")
        suite = geomcheck.load_suite(made / "suites" / "mine.yaml")
        geomcheck.write_record(geomcheck.measure(made / "opd", suites=[suite]), project.record)
    elif seed == "real":
        for place in ("base", "checkpoint-30", "checkpoint-60", "checkpoint-90"):
            shutil.copytree(TINY / place, project.run / place)
    else:
        layouts.safetensors(project.base, base())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is no process group
            for step in STEPS:
                WRITERS[seed][1](project.at(step), _weights(seed, step))
        for step in STEPS if WRITERS[seed][0] == STEP else ():
            state = {"global_step": step, "max_steps": max(STEPS)}
            (project.at(step) / "trainer_state.json").write_text(json.dumps(state))
    return project.root


def _weights(seed: str, step: int) -> Tensors:
    weights = trained(step)
    return {name: w for name, w in weights.items() if name != NORM} if seed in ("megatron", "slices") else weights
