"""What each process of a distributed test does."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn

from geomcheck.errors import GeomcheckError
from geomcheck.live.loop.parameters import parameters_of
from geomcheck.training import Monitor

KINDS = ("fsdp2", "ddp", "fsdp1")
TRAINER = "trainer"
STEPS = (1, 2, 3)
WIDTH = 24


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.ModuleDict(
            {"up_proj": nn.Linear(WIDTH, 2 * WIDTH, bias=False), "down_proj": nn.Linear(2 * WIDTH, WIDTH, bias=False)}
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp["down_proj"](torch.tanh(self.mlp["up_proj"](x)))


class Model(nn.Module):
    """A residual network whose parameters are called as those of a language model."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.ModuleDict({"layers": nn.ModuleList([Block(), Block()])})

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.model["layers"]:
            x = layer(x)
        return x


def train_all(rank: int, directory: Path) -> None:
    """Every kind in turn, in a directory of its own."""
    dist.init_process_group("gloo", init_method=f"file://{directory}/rendezvous", rank=rank, world_size=2)
    for kind in KINDS:
        _train(rank, kind, directory / kind)
        dist.barrier()
    if (directory / TRAINER).is_dir():
        _train_with_the_callback(rank, directory / TRAINER)
        dist.barrier()
    dist.destroy_process_group()


def _train_with_the_callback(rank: int, directory: Path) -> None:
    """A transformers Trainer under DDP, which its suite stops."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}
    from geomcheck.training import GeometryCallback
    from tests.live.loop.test_callback import load, logged, trainer

    callback = GeometryCallback(directory / "suite.yaml", on_violation="stop")
    trained = trainer(load(directory / "anchor"), directory / "run", callback, ddp_backend="gloo")
    trained.train()
    facts = {"step": trained.state.global_step, "logged": logged(trained), "record": callback.record is not None}
    (directory / f"rank-{rank}.json").write_text(json.dumps(facts))


def _train(rank: int, kind: str, directory: Path) -> None:
    """Train a model as `kind` distributes it, watch it, and save it by other means than those of the watch."""
    model, whole = _distributed(kind)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    record = directory / f"record-of-rank-{rank}.parquet"
    monitor = Monitor(directory / "base", total_steps=len(STEPS), run=directory / "run", record=record)
    seen = []
    for step in STEPS:
        torch.manual_seed(step)
        model(torch.randn(8, WIDTH)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(monitor.observe(step, parameters_of(model).tensors, name=f"checkpoint-{step}"))
        saved = whole()
        if rank == 0:
            folder = directory / "run" / f"checkpoint-{step}"
            folder.mkdir(parents=True)
            save_file({name: tensor.contiguous() for name, tensor in saved.items()}, folder / "model.safetensors")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(torch.nan)
    try:
        monitor.observe(STEPS[-1] + 1, parameters_of(model).tensors)
        failure = ""
    except GeomcheckError as error:
        failure = str(error)
    facts = {"figures": [dict(one.figures) for one in seen], "failure": failure, "record": monitor.record is not None}
    (directory / f"rank-{rank}.json").write_text(json.dumps(facts))


def _distributed(kind: str):
    """The model, and what gathers all of it."""
    model = Model()
    if kind == "ddp":
        ddp = nn.parallel.DistributedDataParallel(model)
        return ddp, lambda: {name: p.detach().clone() for name, p in model.named_parameters()}
    if kind == "fsdp2":
        from torch.distributed.fsdp import fully_shard

        for layer in model.model["layers"]:
            fully_shard(layer)
        fully_shard(model)
        return model, lambda: {name: p.full_tensor().detach() for name, p in model.named_parameters()}
    from torch.distributed.fsdp import FullyShardedDataParallel as Fsdp
    from torch.distributed.fsdp import ShardingStrategy
    from torch.distributed.fsdp.wrap import ModuleWrapPolicy

    wrapped = Fsdp(
        model,
        auto_wrap_policy=ModuleWrapPolicy({Block}),
        sharding_strategy=ShardingStrategy.FULL_SHARD,
        use_orig_params=True,
        device_id=torch.device("cpu"),
    )
    return wrapped, lambda: {name: tensor.clone() for name, tensor in wrapped.state_dict().items()}
