"""What a run that a real framework writes should be read as, kept beside it by the processes that trained.

A driver, `write_FRAMEWORK.py`, leaves a directory per case: ``run/`` as the framework wrote it, ``base/`` with W0, and
``truth/STEP.safetensors`` with every parameter in float64 under Hugging Face names, gathered from the model in memory.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from torch import Tensor

STEPS = (2, 3, 5)
"""Steps after which a driver saves; step 0 of the truth is W0."""

RANKS = 2
VOCABULARY = 96
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
"""Of the model that is trained, as a Hugging Face config has them."""

Train = Callable[[int, Path], None]


def on_every_rank(train: Train) -> None:
    """Run ``train(rank, directory)`` in `RANKS` processes joined by gloo; the directory is the command line's."""
    mp.spawn(_rank, (train, Path(sys.argv[1]).resolve()), nprocs=RANKS)


def _rank(rank: int, train: Train, directory: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(RANKS), "LOCAL_WORLD_SIZE": str(RANKS)}
    os.environ |= {"MASTER_ADDR": "localhost"}
    torch.set_num_threads(1)
    directory.mkdir(parents=True, exist_ok=True)
    dist.init_process_group("gloo", init_method=f"file://{directory}/rendezvous", rank=rank, world_size=RANKS)
    train(rank, directory)
    dist.barrier()
    dist.destroy_process_group()


def language_model(dtype: torch.dtype = torch.float32, **config: Any) -> Any:
    """The same small Qwen3 on every rank."""
    import transformers

    torch.manual_seed(0)
    sizes = {**SIZES, "tie_word_embeddings": False, "attn_implementation": "eager", **config}
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**sizes)).to(dtype)


def tokens(seed: int, count: int = 2) -> Tensor:
    """Random text, of shape (count, 16)."""
    return torch.randint(VOCABULARY, (count, 16), generator=torch.Generator().manual_seed(seed))


def write_base(case: Path, parameters: Mapping[str, Tensor], **config: Any) -> None:
    """Write W0 as a Hugging Face model, of the family and sizes that `config` adds, and keep it as step 0."""
    (case / "base").mkdir(parents=True)
    weights = {name: tensor.detach().contiguous() for name, tensor in parameters.items()}
    save_file(weights, case / "base" / "model.safetensors")
    family = "qwen3_moe" if "num_experts" in config else "qwen3"
    told = {"model_type": family, "tie_word_embeddings": False, **SIZES, **config}
    (case / "base" / "config.json").write_text(json.dumps(told))
    keep(case, 0, parameters)


def keep(case: Path, step: int, parameters: Mapping[str, Tensor]) -> None:
    """Keep what is true of `case` after `step`."""
    (case / "truth").mkdir(parents=True, exist_ok=True)
    exact = {name: tensor.detach().double().clone() for name, tensor in parameters.items()}
    save_file(exact, case / "truth" / f"{step}.safetensors")


def kept(case: Path, step: int) -> dict[str, Tensor]:
    """The matrices that `keep` kept."""
    return {name: t for name, t in load_file(case / "truth" / f"{step}.safetensors").items() if t.ndim == 2}
