"""What the ranks of a training write, made by torch itself: ``write_ranks.py RANK WORLD DIRECTORY``, once per rank.

The ranks of two gloo processes write FSDP2 and FSDP1 state dicts and a distributed checkpoint; rank 0 then plays
every rank of further meshes, one after the other, since sharding a model needs no communication.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint import HuggingFaceStorageWriter, save
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, StateDictType, fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.distributed.tensor.placement_types import _StridedShard
from torch.testing._internal.distributed.fake_pg import FakeStore


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(16, 24, bias=False)
        self.gate = nn.Linear(16, 1, bias=False)  # one row: most ranks hold nothing of it


class Model(nn.Module):
    """An uneven embedding, a replicated matrix of a buffer, and two dtypes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed_tokens = nn.Embedding(65, 16)
        self.layers = nn.ModuleList([Block(), Block()])
        self.norm = nn.LayerNorm(16)
        self.register_buffer("rope", torch.randn(4, 8))
        self.register_buffer("count", torch.tensor(7))
        self.layers[1].to(torch.bfloat16)


def sharded(mesh: DeviceMesh, *, columns: bool = False) -> nn.Module:
    model = Model()
    place = (lambda weight: Shard(weight.dim() - 1)) if columns else None
    for layer in model.layers:
        fully_shard(layer, mesh=mesh, shard_placement_fn=place)
    return fully_shard(model, mesh=mesh, shard_placement_fn=place)


def together(rank: int, world: int, directory: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{directory}/rendezvous", rank=rank, world_size=world)
    name = f"model_world_size_{world}_rank_{rank}.pt"
    model = sharded(init_device_mesh("cpu", (world,), mesh_dim_names=("fsdp",)))
    put(model.state_dict(), directory / "fsdp2" / name)
    put(model.state_dict(), directory / "accelerate" / f"pytorch_model_fsdp_0_rank{rank}.bin")
    parts = dict.fromkeys(model.state_dict(), 1)
    writer = HuggingFaceStorageWriter(str(directory / "slices"), fqn_to_index_mapping=parts, save_distributed=True)
    save(model.state_dict(), storage_writer=writer)
    old = FullyShardedDataParallel(Model().float(), device_id=torch.device("cpu"))
    with FullyShardedDataParallel.state_dict_type(old, StateDictType.SHARDED_STATE_DICT):
        put(old.state_dict(), directory / "fsdp1" / name)
    dist.destroy_process_group()


def alone(world: int, directory: Path, state: Callable[[], dict[str, torch.Tensor]]) -> None:
    def play(rank: int) -> None:
        dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=world)
        put(state(), directory / f"model_world_size_{world}_rank_{rank}.pt")

    for rank in range(world):
        process = multiprocessing.get_context("fork").Process(target=play, args=(rank,))
        process.start()
        process.join()
        assert process.exitcode == 0


def put(state: dict[str, torch.Tensor], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    torch.save(state, path)


def flat(world: int) -> DeviceMesh:
    return init_device_mesh("cpu", (world,))


def grid() -> DeviceMesh:
    return init_device_mesh("cpu", (2, 2), mesh_dim_names=("ddp", "fsdp"))


def main(rank: int, world: int, directory: Path) -> None:
    together(rank, world, directory)
    if rank:
        return
    ones = torch.ones(4, 4)
    put(Model().state_dict(), directory / "full.pt")
    alone(4, directory / "hsdp", lambda: sharded(grid()).state_dict())
    alone(3, directory / "three", lambda: sharded(flat(3)).state_dict())
    alone(2, directory / "columns", lambda: sharded(flat(2), columns=True).state_dict())
    alone(1, directory / "one", lambda: sharded(flat(1)).state_dict())
    alone(2, directory / "partial", lambda: {"w": DTensor.from_local(ones, flat(2), [Partial()])})
    strided = [_StridedShard(0, split_factor=2), Replicate()]
    alone(4, directory / "strided", lambda: {"w": DTensor.from_local(ones, grid(), strided)})
    alone(4, directory / "two_dims", lambda: {"w": DTensor.from_local(ones, grid(), [Shard(0), Shard(1)])})


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    os._exit(0)  # torch aborts now and then where its threads are still there when Python ends
