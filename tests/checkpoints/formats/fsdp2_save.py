"""One of two processes that save a sharded model with FSDP2: ``python fsdp2_save.py RANK DIRECTORY``."""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.fsdp import fully_shard


def main(rank: int, directory: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{directory}/rendezvous", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(65, 16), nn.Linear(16, 24), nn.Linear(24, 7), nn.Linear(7, 1)).bfloat16()
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(torch.arange(8)).sum().backward()
    optimizer.step()
    whole = {name: shards.full_tensor() for name, shards in model.state_dict().items()}
    if rank == 0:
        torch.save(whole, directory / "whole.pt")
    state = {
        "model": {**model.state_dict(), "counter": torch.arange(3)},
        "optimizer": optimizer.state_dict(),
        "rng_state": torch.get_rng_state(),
        "step": 7,
    }
    dcp.save(state, checkpoint_id=directory / "checkpoint")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
    os._exit(0)  # torch aborts now and then where its threads are still there when Python ends
