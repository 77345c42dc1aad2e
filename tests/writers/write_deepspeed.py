"""DeepSpeed trains a Qwen3 at every ZeRO stage and saves it: ``python -m tests.writers.write_deepspeed DIRECTORY``."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

os.environ |= {"DS_ACCELERATOR": "cpu", "DS_SKIP_CUDA_CHECK": "1"}

import deepspeed
import torch

from tests.writers.truth import STEPS, keep, language_model, on_every_rank, tokens


def train(rank: int, directory: Path) -> None:
    """A case per stage; ZeRO-3 in fp32, since what its parts are put together to is fp32."""
    for stage in (0, 1, 2, 3):
        _train(rank, directory / f"zero-{stage}", stage, torch.float32 if stage == 3 else torch.bfloat16)


def _train(rank: int, case: Path, stage: int, dtype: torch.dtype) -> None:
    model = language_model(dtype)
    if rank == 0:
        model.save_pretrained(case / "base")
        keep(case, 0, dict(model.named_parameters()))
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), lr=1e-3),
        config={
            "train_micro_batch_size_per_gpu": 2,
            "zero_allow_untested_optimizer": True,
            "zero_optimization": {"stage": stage},
            "bf16": {"enabled": dtype == torch.bfloat16},
        },
    )
    for step in range(1, STEPS[-1] + 1):
        batch = tokens(10 * step + rank)
        engine.backward(engine(input_ids=batch, labels=batch).loss)
        engine.step()
        if step in STEPS:
            engine.save_checkpoint(str(case / "run"))
            _keep(rank, case, step, engine.module, gathered=stage == 3)
    if stage == 3 and rank == 0:
        _put_together(case)


def _keep(rank: int, case: Path, step: int, model: Any, *, gathered: bool) -> None:
    whole = deepspeed.zero.GatheredParameters(list(model.parameters())) if gathered else nullcontext()
    with whole:
        if rank == 0:
            keep(case, step, dict(model.named_parameters()))


def _put_together(case: Path) -> None:
    """Each checkpoint as whole weights, by the command that DeepSpeed leaves beside them."""
    for step in STEPS:
        place = case / "converted" / f"checkpoint-{step}"
        command = [sys.executable, "zero_to_fp32.py", ".", str(place), "-t", f"global_step{step}"]
        subprocess.run([*command, "--safe_serialization"], cwd=case / "run", check=True)


if __name__ == "__main__":
    on_every_rank(train)
