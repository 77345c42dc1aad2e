"""Describe a weight from headers alone: its name, shape, storage, and place in the network."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

from geomcheck._text import plural
from geomcheck.checkpoints.layers import names_of, place_of
from geomcheck.checkpoints.roles import LINEAR, Role, role_of

_INTEGER = re.compile(r"(?:U?I|u?int)\d+$|BOOL$|bool$")

FINE = frozenset({"fp32", "fp64"})
"""Formats in which a vector shows any step of training."""

OUTSIDE = "outside layers"
"""Where a weight lies that is in no layer: embeddings, heads, projectors."""


@dataclass(frozen=True)
class Weight:
    """One named tensor of a run.

    Attributes:
        name: canonical name, as the Hugging Face model calls it.
        shape: as stored, (out, in) for matrices.
        stack: path of the list of layers that it lies in (``model.layers``), empty outside layers.
        layer: its number in the stack, None outside layers.
        module: last component of the module path (``q_proj``), with the one before where it is a number (``mlp.0``).
        role: in the network.
        dtypes: storage formats seen, the base's first, then the run's (``bf16``, ``fp32``).
        fused: why several projections lie unsplit in this one matrix; empty where it is one projection.
        lent: whether the run leaves it to W0 at every checkpoint, as an adapter does with what it is not for.
        new: whether W0 lacks it: a head that this training added.
    """

    name: str
    shape: tuple[int, ...]
    stack: str
    layer: int | None
    module: str
    role: Role
    dtypes: tuple[str, ...] = ()
    fused: str = ""
    lent: bool = False
    new: bool = False

    @property
    def numel(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @cached_property
    def is_matrix(self) -> bool:
        """Whether the diagnostics apply: two dimensions, both above 1, and no stack of biases."""
        return len(self.shape) == 2 and min(self.shape) > 1 and not self.name.endswith("bias")

    @cached_property
    def is_floating(self) -> bool:
        """Whether it holds floating-point numbers, as far as that is known."""
        return not any(_INTEGER.match(dtype) for dtype in self.dtypes)

    @cached_property
    def is_linear(self) -> bool:
        """Whether this is a matrix of a linear map inside the network: no embedding, head or norm."""
        return self.is_matrix and self.role in LINEAR

    @property
    def shows_steps(self) -> bool:
        """Whether the run's tensor shows that it trained: some entry of a matrix does, and a vector in a fine format.
        One near 1, as norms are, moves in bf16 by 1/256 or not at all, whatever the master weights did."""
        return self.is_matrix or not self.dtypes or self.dtypes[-1] in FINE

    @property
    def is_bulky(self) -> bool:
        """Whether this is part of attention or an MLP, and not a vector, but no matrix either: fused experts."""
        return self.role in ("attention", "mlp") and len(self.shape) >= 2 and not self.is_matrix


@lru_cache(maxsize=1 << 17)
def describe(
    name: str,
    shape: tuple[int, ...],
    dtypes: tuple[str, ...] = (),
    *,
    fused: str = "",
    lent: bool = False,
    new: bool = False,
) -> Weight:
    """Place a canonical weight name in the network; see `Weight`. A run and its record have the same ones mostly."""
    place, role = place_of(name), role_of(name, len(shape))
    return Weight(name, shape, place.stack, place.number, _module(name), role, dtypes, fused, lent, new)


def by_role(weights: Iterable[Weight]) -> str:
    """How many weights there are of which role, in words: ``9 norms, 1 embedding``."""
    alone = ("norm", "head", "embedding", "router")
    counts = Counter(weight.role if weight.role in alone else f"{weight.role} weight" for weight in weights)
    return ", ".join(plural(count, kind) for kind, count in counts.most_common())


def is_weight(weight: Weight) -> bool:
    """Whether a tensor may be trained: a matrix in whatever format, or another tensor with floating-point numbers."""
    return weight.is_matrix or (weight.role != "buffer" and weight.is_floating and weight.numel > 0)


class Layers:
    """What to call the layers of one model: by number, and by stack and number where it has several stacks.

    Attributes:
        stacks: short names of the stacks in which its matrices lie, by path.
    """

    def __init__(self, weights: Iterable[Weight]) -> None:
        self.stacks = names_of({weight.stack for weight in weights if weight.is_matrix})

    def label(self, weight: Weight) -> str:
        """``layer 3`` or ``decoder layer 3``, and ``outside layers``."""
        return f"{self._stack(weight)}layer {weight.layer}" if weight.layer is not None else OUTSIDE

    def number(self, weight: Weight) -> str:
        """``3`` or ``decoder 3``, and ``outside layers``."""
        return f"{self._stack(weight)}{weight.layer}" if weight.layer is not None else OUTSIDE

    def _stack(self, weight: Weight) -> str:
        return f"{self.stacks.get(weight.stack, weight.stack)} " if len(self.stacks) > 1 else ""


def in_network(weight: Weight) -> tuple[bool, str, int, str]:
    """A key that sorts weights by stack and layer, those outside layers last."""
    return weight.layer is None, weight.stack, weight.layer or 0, weight.name


def _module(name: str) -> str:
    *above, module = name.removesuffix(".weight").split(".")
    return f"{above[-1]}.{module}" if above and module.isdigit() else module
