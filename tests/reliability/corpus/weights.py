"""Changes of the tensors of a safetensors checkpoint."""

from __future__ import annotations

from collections.abc import Callable

from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.reliability.corpus.project import Project
from tests.runs import Tensors

Change = Callable[[Tensors], object]


def rewritten(step: int, change: Change) -> Callable[[Project], object]:
    """Change the tensors of a checkpoint, or of W0 (step 0), in place."""

    def spoil(project: Project) -> None:
        path = project.weights(step)
        tensors = load_file(path)
        change(tensors)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)

    return spoil


def everywhere(change: Change, *, base: bool = True) -> Callable[[Project], object]:
    """Change the tensors of every checkpoint, and of W0."""

    def spoil(project: Project) -> None:
        for step in ([0] if base else []) + [10, 20, 30]:
            rewritten(step, change)(project)

    return spoil


def one(name: str, change: Callable[[Tensor], Tensor]) -> Change:
    """Put `change` of a tensor in its place."""
    return lambda tensors: tensors.update({name: change(tensors[name])})


def entry(name: str, value: float) -> Change:
    """Set the first entry of a tensor."""

    def change(tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        tensor.flatten()[0] = value
        return tensor

    return one(name, change)


def renamed(old: str, new: str) -> Change:
    """Give a tensor another name."""
    return lambda tensors: tensors.update({new: tensors.pop(old)})
