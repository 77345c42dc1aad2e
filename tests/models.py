"""A small model whose weights have the names of a Hugging Face one, and its training."""

from __future__ import annotations

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

UP = "model.layers.0.mlp.up_proj.weight"
DOWN = "model.layers.0.mlp.down_proj.weight"


class Tiny(nn.Module):
    """Two linear maps with names as in checkpoints, a norm between them and a head."""

    def __init__(self, width: int = 12, hidden: int = 9, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        torch.manual_seed(seed)
        layer = nn.Module()
        layer.mlp = nn.Module()
        layer.mlp.up_proj = nn.Linear(width, hidden, bias=False)
        layer.mlp.down_proj = nn.Linear(hidden, width, bias=False)
        layer.input_layernorm = nn.LayerNorm(width)
        self.model = nn.Module()
        self.model.layers = nn.ModuleList([layer])
        self.lm_head = nn.Linear(width, 3, bias=False)
        self.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        layer = self.model.layers[0]
        x = x + layer.mlp.down_proj(torch.tanh(layer.mlp.up_proj(layer.input_layernorm(x))))
        return self.lm_head(x)


def batch(step: int, *, width: int = 12, size: int = 8, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Inputs and targets that depend on the step alone."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(size, width, generator=generator, dtype=dtype)
    return x, torch.randn(size, 3, generator=generator, dtype=dtype)


def loss(model: nn.Module, step: int, *, part: slice = slice(None)) -> Tensor:
    """Squared error on (a part of) the batch of a step."""
    weight = next(model.parameters())
    x, y = batch(step, dtype=weight.dtype)
    return (model(x[part]) - y[part]).square().mean()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    """Plain training."""
    for step in steps:
        optimizer.zero_grad()
        loss(model, step).backward()
        optimizer.step()


def copies(model: nn.Module) -> dict[str, Tensor]:
    """The weights as they are now."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def save(model: nn.Module, directory, name: str = "model.safetensors") -> None:
    """Write the weights as a checkpoint."""
    directory.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in copies(model).items()}, directory / name)
