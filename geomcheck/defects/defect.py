"""A defect: what is wrong with a run, as operations on its weights; and what it may look at to choose them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from geomcheck.checkpoints import Weight
from geomcheck.checkpoints.weights import Layers
from geomcheck.defects.operations import Operation

T = TypeVar("T")

_EXPERT = re.compile(r"\.experts\.[0-9]+\.")


class NotApplicable(Exception):
    """A run has nothing that the defect could be in. The message says what it lacks, as a clause."""


@dataclass(frozen=True)
class Spoiling:
    """What a defect does to one run.

    Attributes:
        operations: by the weight that they are done to, at the checkpoints.
        to_w0: the same, in W0.
        where: which part of the run it is, in words; empty where it is all of it.
    """

    operations: Mapping[str, Operation] = field(default_factory=dict)
    to_w0: Mapping[str, Operation] = field(default_factory=dict)
    where: str = ""

    @property
    def names(self) -> frozenset[str]:
        """The weights that are touched."""
        return frozenset({*self.operations, *self.to_w0})


@dataclass(frozen=True)
class Defect:
    """A defect of training, saving or converting that operations on the weights of a good run show.

    Attributes:
        name: slug: lower-case letters, digits, ``.`` and hyphens.
        about: what is wrong, in a few words.
        spoil: what is done to a run. Raises NotApplicable.
    """

    name: str
    about: str
    spoil: Callable[[Subject], Spoiling] = field(repr=False)


@dataclass(frozen=True)
class Subject:
    """What a defect may look at of a run.

    Attributes:
        weights: those that moved, in name order.
        count: of checkpoints.
        config: of the model, under the keys of a Hugging Face ``config.json``.
        adapter: whether the run holds factors of an adapter.
    """

    weights: Sequence[Weight]
    count: int
    config: Mapping[str, Any]
    adapter: bool = False

    @property
    def middle(self) -> int:
        """Index of the checkpoint in the middle. Raises NotApplicable where there is none before it."""
        if self.count < 2:
            raise NotApplicable("the run has one checkpoint")
        return self.count // 2

    @property
    def last(self) -> int:
        """Index of the last checkpoint."""
        return self.count - 1

    @cached_property
    def matrices(self) -> list[Weight]:
        """Matrices of linear maps, in an order that is arbitrary and always the same. Raises NotApplicable."""
        found = [weight for weight in self.weights if weight.is_linear]
        return some(sorted(found, key=lambda weight: _arbitrary(weight.name)), "no matrices in layers")

    @cached_property
    def layers(self) -> dict[int, list[Weight]]:
        """The weights of each layer, by number, of the stack with most weights. Raises NotApplicable."""
        stacks: dict[str, dict[int, list[Weight]]] = {}
        for weight in self.weights:
            if weight.layer is not None:
                stacks.setdefault(weight.stack, {}).setdefault(weight.layer, []).append(weight)
        if not stacks:
            raise NotApplicable("no layers")
        return dict(
            sorted(max(stacks.items(), key=lambda stack: (sum(map(len, stack[1].values())), stack[0]))[1].items())
        )

    @property
    def layer(self) -> list[Weight]:
        """The weights of a layer in the middle. Raises NotApplicable."""
        numbers = list(self.layers)
        return self.layers[numbers[len(numbers) // 2]]

    @property
    def module(self) -> list[Weight]:
        """The matrices of one kind of module in every layer, of the kind with most entries. Raises NotApplicable."""
        kinds: dict[str, list[Weight]] = {}
        for weight in self.matrices:
            kinds.setdefault(weight.module, []).append(weight)
        return max(kinds.values(), key=lambda those: (sum(w.numel for w in those), those[0].module))

    @property
    def expert(self) -> list[Weight]:
        """The weights of one expert in the middle. Raises NotApplicable."""
        experts: dict[str, list[Weight]] = {}
        for weight in self.weights:
            if found := _EXPERT.search(weight.name):
                experts.setdefault(weight.name[: found.end()], []).append(weight)
        return experts[some(sorted(experts), "no experts")[len(experts) // 2]]

    def of_role(self, role: str, called: str) -> list[Weight]:
        """The weights of one role. Raises NotApplicable."""
        return some([weight for weight in self.weights if weight.role == role], f"no {called} that moved")

    def pairs(self, one: str, other: str) -> dict[str, str]:
        """For the names of the matrices of two kinds of modules, each the name of its twin of the same shape. Raises
        NotApplicable."""
        held = {weight.name: weight for weight in self.weights}
        found: dict[str, str] = {}
        for name, weight in held.items():
            twin = held.get(name.replace(f".{one}.", f".{other}."))
            if weight.module == one and twin is not None and twin.shape == weight.shape:
                found |= {name: twin.name, twin.name: name}
        if not found:
            raise NotApplicable(f"no {one} and {other} of one shape")
        return found

    def label(self, weight: Weight) -> str:
        """The layer of a weight, in words."""
        return Layers(self.weights).label(weight)


def some(found: list[T], otherwise: str) -> list[T]:
    """What was found. Raises NotApplicable where that is nothing."""
    if not found:
        raise NotApplicable(otherwise)
    return found


def names_of(weights: Iterable[Weight]) -> list[str]:
    """The names of weights."""
    return [weight.name for weight in weights]


def _arbitrary(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()
