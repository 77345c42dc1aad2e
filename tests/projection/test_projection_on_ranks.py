"""Two processes: averaged gradients are projected gradients, and sharded rows are projected where they lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from geomcheck.projection.channel import Channel
from geomcheck.projection.parameters import shapes_of
from geomcheck.projection.projection import constrain_updates
from tests.models import Tiny, copies, loss, save

RANKS = 2


def trained(model: nn.Module, optimizer: torch.optim.Optimizer, *, rank: int | None) -> None:
    """Three steps of two accumulated micro-batches; a rank takes its half of each."""
    for step in range(3):
        optimizer.zero_grad()
        for micro in range(2):
            start = 4 * micro
            part = slice(start, start + 4) if rank is None else slice(start + 2 * rank, start + 2 * rank + 2)
            (loss(model, step, part=part) / 2).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()


def made(how: str, wrap) -> tuple[nn.Module, torch.optim.Optimizer, Channel]:
    model = Tiny()
    held = Channel.random(shapes_of(model), 3, 0)
    wrapped = wrap(model)
    optimizer = torch.optim.AdamW(wrapped.parameters(), lr=0.01, weight_decay=0.1)
    constrain_updates(wrapped, held, how=how, unselected="frozen", optimizer=optimizer)
    return wrapped, optimizer, held


def sharded(model: nn.Module) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    return fully_shard(model, mesh=init_device_mesh("cpu", (RANKS,)))


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS)
    for name, wrap in (("ddp", DistributedDataParallel), ("fsdp", sharded)):
        for how in ("gradient", "step"):
            model, optimizer, _ = made(how, wrap)
            trained(model, optimizer, rank=rank)
            whole = {n: p.full_tensor() if hasattr(p, "full_tensor") else p for n, p in model.named_parameters()}
            if rank == 0:
                torch.save({n.removeprefix("module."): p.detach() for n, p in whole.items()}, f"{folder}/{name}-{how}")
    model = sharded(Tiny())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.01)
            parameter.to_local()[:, ...].add_(0.001 * torch.arange(parameter.to_local().shape[-1]))
    try:
        Channel.of_live(model.named_parameters(), f"{folder}/base", 1).save(f"{folder}/live-{rank}")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("ranks")
    save(Tiny(), place / "base")
    for rank in range(RANKS):
        (place / f"live-{rank}").mkdir()
    mp.spawn(work, (str(place),), RANKS)
    return place


@pytest.mark.parametrize("how", ["gradient", "step"])
@pytest.mark.parametrize("wrapped", ["ddp", "fsdp"])
def test_two_ranks_train_as_one_process_does(folder, wrapped, how):
    model, optimizer, held = made(how, lambda model: model)
    before = copies(model)
    trained(model, optimizer, rank=None)
    there = torch.load(folder / f"{wrapped}-{how}")
    for name, weight in copies(model).items():
        torch.testing.assert_close(there[name], weight, rtol=0, atol=1e-9)
        assert torch.equal(weight, before[name]) == (name not in held.vectors)


@pytest.mark.parametrize("wrapped", ["ddp", "fsdp"])
def test_projected_steps_of_two_ranks_stay_in_the_channel(folder, wrapped):
    before, there = copies(Tiny()), torch.load(folder / f"{wrapped}-step")
    for name, v in Channel.random(shapes_of(Tiny()), 3, 0).vectors.items():
        d = (there[name] - before[name]).numpy()
        q = np.linalg.qr(v.double().numpy())[0]
        assert np.linalg.norm(d - d @ q @ q.T) < 1e-6 * np.linalg.norm(d)


def test_a_channel_of_sharded_parameters_is_that_of_the_whole_on_every_rank(folder):
    first, second = (Channel.load(folder / f"live-{rank}") for rank in range(RANKS))
    assert first.vectors.keys() == second.vectors.keys() == shapes_of(Tiny()).keys()
    for name, weight in copies(Tiny()).items():
        if name in first.vectors:
            d = 0.01 * weight + 0.001 * torch.arange(weight.shape[1])
            v = np.linalg.svd(d.numpy())[2][:1].T
            assert abs(float(v[:, 0] @ first.vectors[name].double().numpy()[:, 0])) == pytest.approx(1, abs=1e-6)
        assert name not in first.vectors or torch.equal(first.vectors[name], second.vectors[name])
