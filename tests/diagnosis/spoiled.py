"""Copies of a clean run with one thing wrong each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

FIXTURES = Path(__file__).parents[2] / "fixtures"
STEPS = (0, 30, 60, 90, 120, 150)

States = dict[int, dict[str, Tensor]]
"""Weights by step; those of W0 at 0."""

Edit = Callable[[States], None]


def place(step: int) -> str:
    """The directory of a checkpoint."""
    return f"checkpoint-{step}" if step else "base"


@cache
def _clean() -> States:
    return {step: load_file(FIXTURES / "tiny-opd" / place(step) / "model.safetensors") for step in STEPS}


def spoiled(directory: Path, edit: Edit) -> Path:
    """A copy of the distilled run after `edit`."""
    states = {step: {name: tensor.clone() for name, tensor in held.items()} for step, held in _clean().items()}
    edit(states)
    for step, held in states.items():
        there = directory / place(step)
        shutil.copytree(FIXTURES / "tiny-opd" / place(step), there, ignore=shutil.ignore_patterns("*.safetensors"))
        save_file({name: tensor.contiguous() for name, tensor in held.items()}, there / "model.safetensors")
    return directory


def names(states: States, *parts: str) -> list[str]:
    """The weights whose names hold one of these parts."""
    return [name for name in states[0] if any(part in name for part in parts)]


def replaced(steps: tuple[int, ...], parts: tuple[str, ...], make: Callable[[States, int, str], Tensor]) -> Edit:
    """Weights whose names hold one of `parts`, at these steps, are what `make` gives."""

    def edit(states: States) -> None:
        made = {(step, name): make(states, step, name).clone() for step in steps for name in names(states, *parts)}
        for (step, name), tensor in made.items():
            states[step][name] = tensor

    return edit


def from_step(origin: int) -> Callable[[States, int, str], Tensor]:
    """The weight at another step, in the format of this one."""
    return lambda states, step, name: states[origin][name].to(states[step][name].dtype)


def of(change: Callable[[Tensor], Tensor]) -> Callable[[States, int, str], Tensor]:
    """The weight itself, changed."""
    return lambda states, step, name: change(states[step][name])


def moved_names(states: States, step: int, move: Callable[[str], str]) -> None:
    """Every weight at a step gets the values of the one that `move` names."""
    held = dict(states[step])
    for name in held:
        states[step][name] = held[move(name)]


def exchanged(one: str, other: str) -> Callable[[str], str]:
    """A name with two parts exchanged."""
    return lambda name: name.replace(one, "\0").replace(other, one).replace("\0", other)


LATE = (90, 120, 150)
ALL = (30, 60, 90, 120, 150)
LAYER = ("layers.1.",)
EVERY = ("",)


def exchanged_steps(states: States) -> None:
    states[60], states[90] = states[90], states[60]


def in_order(*steps: int) -> Edit:
    """The checkpoints of these steps, under the names of all in turn."""

    def edit(states: States) -> None:
        states |= {step: states[origin] for step, origin in zip(ALL, steps, strict=True)}

    return edit


def restarted(states: States) -> None:
    """From step 90 on the run begins anew at W0, with its own first steps and another seed's noise."""
    generator = torch.Generator().manual_seed(0)
    for step, origin in ((150, 90), (120, 60), (90, 30)):
        noise = {n: torch.randn(t.shape, generator=generator) for n, t in states[0].items()}
        states[step] = {n: t + 0.1 * (t - states[0][n]).std() * noise[n] for n, t in states[origin].items()}


def resumed(at: int, origin: int) -> Edit:
    """From step `at` on the run goes on from `origin` instead of the step before, which leads it the same way."""

    def edit(states: States) -> None:
        before = states[STEPS[STEPS.index(at) - 1]]
        lost = {name: tensor.float() - states[origin][name].float() for name, tensor in before.items()}
        for step in STEPS[STEPS.index(at) :]:
            states[step] = {name: tensor - lost[name] for name, tensor in states[step].items()}

    return edit


def mapped(move: Callable[[str], str], steps: tuple[int, ...] = ALL) -> Edit:
    """Weights under each other's names."""

    def edit(states: States) -> None:
        for step in steps:
            moved_names(states, step, move)

    return edit


def halves(tensor: Tensor) -> Tensor:
    one, other = tensor.chunk(2)
    return torch.cat([other, one])


def shuffled(tensor: Tensor) -> Tensor:
    return tensor[torch.randperm(len(tensor), generator=torch.Generator().manual_seed(1))]


def interleaved(tensor: Tensor) -> Tensor:
    """The rows of each head of 16 in the other layout of rotary embeddings."""
    return tensor.reshape(-1, 2, 8, tensor.shape[1]).transpose(1, 2).reshape(tensor.shape)


def fresh(tensor: Tensor) -> Tensor:
    """Values that depend on the old ones, so that no two weights get the same."""
    seed = int(tensor.float().abs().sum() * 1e4)
    return 0.02 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(seed))


def int8(tensor: Tensor) -> Tensor:
    if tensor.ndim < 2:
        return tensor
    scale = tensor.abs().amax(1, keepdim=True) / 127
    return (tensor / scale.clamp_min(1e-30)).round() * scale


def decayed(states: States, step: int, name: str) -> Tensor:
    return states[0][name].float() * (1 - 1e-5 * step)


def half_frozen(states: States, step: int, name: str) -> Tensor:
    tensor = states[step][name].clone()
    tensor[: len(tensor) // 2] = states[0][name][: len(tensor) // 2]
    return tensor
