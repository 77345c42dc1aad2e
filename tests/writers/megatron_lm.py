"""Save as Megatron-LM's training loop does, with the arguments that its parser gives."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from megatron.training.arguments import parse_args
from megatron.training.checkpointing import save_checkpoint
from megatron.training.global_vars import set_args

from tests.writers.megatron_model import PADDED
from tests.writers.truth import SIZES

FLAGS = {
    "num-layers": SIZES["num_hidden_layers"],
    "hidden-size": SIZES["hidden_size"],
    "ffn-hidden-size": SIZES["intermediate_size"],
    "num-attention-heads": SIZES["num_attention_heads"],
    "num-query-groups": SIZES["num_key_value_heads"],
    "kv-channels": SIZES["head_dim"],
    "micro-batch-size": 1,
    "max-position-embeddings": 64,
    "seq-length": 64,
}


def save(run: Path, step: int, model: Any, optimizer: Any, *, form: str) -> None:
    """Save `model` in one of Megatron-LM's formats: ``torch_dist``, or ``torch``, its older one."""
    torch.cuda.get_rng_state = torch.get_rng_state
    sys.argv[1:] = [word for flag, value in FLAGS.items() for word in (f"--{flag}", str(value))]
    sys.argv += ["--group-query-attention", "--untie-embeddings-and-output-weights", "--swiglu", "--bf16"]
    sys.argv += ["--save", str(run), "--ckpt-format", form]
    arguments = parse_args()
    arguments.use_dist_ckpt = form != "torch"
    arguments.padded_vocab_size = PADDED
    set_args(arguments)
    save_checkpoint(step, [model], optimizer, None, 0)
