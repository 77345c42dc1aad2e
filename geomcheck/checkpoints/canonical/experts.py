"""Give every expert matrices of its own, whether the checkpoint stacks experts or not.

transformers 5 keeps the experts of a layer stacked in memory, and writes some of them stacked to disk and
some one by one: two checkpoints of one run may differ in nothing but this.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from geomcheck.checkpoints.canonical.numbers import Numbers, Unsplittable, model_types, section
from geomcheck.checkpoints.canonical.parts import Part, Pieces, RowLayout, taken_apart, transpose
from geomcheck.checkpoints.source import Stored, WeightSource

MAX_EXPERTS = 4096

_STACK = re.compile(r"(?P<module>.*\bexperts)\.(?P<projection>gate_up_proj|down_proj)(?P<bias>_bias)?")
_MIXTRAL_EXPERT = re.compile(r"(.*)\bblock_sparse_moe\.experts\.([0-9]+)\.(w[123])\.weight")
_MIXTRAL_NAMES = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}

_INTERLEAVED = frozenset({"gpt_oss", "openai_privacy_filter"})
_INPUT_MAJOR_HALVES = frozenset({"llama4", "llama4_text", "qwen3_vl_moe", "qwen3_vl_moe_text", "aria", "aria_text"})


@dataclass(frozen=True)
class Stack:
    """How the experts of one layer are stacked.

    Attributes:
        experts: how many.
        inner: rows of one gate projection.
        input_major: whether each is stored as (in, out).
        interleaved: whether rows of gate and up alternate; they are two halves otherwise.
    """

    experts: int
    inner: int
    input_major: bool
    interleaved: bool

    @property
    def gate_up(self) -> RowLayout:
        """The rows of one expert's ``gate_up_proj``."""
        groups, rows = (self.inner, 1) if self.interleaved else (1, self.inner)
        return RowLayout(groups, (("gate_proj", rows), ("up_proj", rows)))


def single_experts(source: WeightSource, config: Mapping[str, Any]) -> WeightSource:
    """`source` with every expert's projections as matrices ``experts.E.gate_proj.weight``, read one expert at a time.

    A stack that does not fit what the model type says stays whole, and is marked. Raises RunError as `parts_of`.
    """
    like_mixtral = any(_MIXTRAL_EXPERT.fullmatch(name) for name in source.weights)

    def single(name: str, stored: Stored) -> Pieces | None:
        if match := _STACK.fullmatch(name):
            try:
                stack = _stack(source.weights, match["module"], config)
                return list(_split(name, stored, stack, match))
            except Unsplittable as reason:
                return [(name, Part(name, replace(stored, fused=str(reason))))]
        if match := _MIXTRAL_EXPERT.fullmatch(name):
            prefix, expert, projection = match.groups()
            return [(f"{prefix}mlp.experts.{expert}.{_MIXTRAL_NAMES[projection]}.weight", Part(name, stored))]
        return [(name.replace(".block_sparse_moe.", ".mlp."), Part(name, stored))] if like_mixtral else None

    return taken_apart(source, single)


def _stack(weights: Mapping[str, Stored], module: str, config: Mapping[str, Any]) -> Stack:
    """How experts are stacked, from the shapes of both stacks; only one order can fit both. Of an adapter that trains
    one of them alone, the hidden size tells what the other is. Raises Unsplittable."""
    types = model_types(config)
    gate_up, down = (weights.get(f"{module}.{name}") for name in ("gate_up_proj", "down_proj"))
    shapes = [stored.shape for stored in (gate_up, down) if stored is not None]
    if any(len(shape) != 3 for shape in shapes) or len({shape[:1] for shape in shapes}) > 1:
        raise Unsplittable(f"shapes {' and '.join(map(str, shapes))} are not those of stacked experts")
    if gate_up is None or down is None:
        gate_up, down = _both(gate_up, down, config)
    experts, a, b = gate_up.shape
    _, c, d = down.shape
    output_major, input_major = (a, b) == (2 * d, c), (a, b) == (d, 2 * c)
    if not 1 <= experts <= MAX_EXPERTS or min(a, b, c, d) < 1 or not (output_major or input_major):
        raise Unsplittable(f"shapes {gate_up.shape} and {down.shape} are not those of stacked experts")
    if not types or (input_major and not types & (_INTERLEAVED | _INPUT_MAJOR_HALVES)):
        known = " ".join(sorted(types)) or "a checkpoint without config.json"
        raise Unsplittable(f"how {known} stacks experts of shape {gate_up.shape} is not known")
    return Stack(experts, c if input_major else d, input_major, bool(types & _INTERLEAVED))


def _both(gate_up: Stored | None, down: Stored | None, config: Mapping[str, Any]) -> tuple[Stored, Stored]:
    """Both stacks, where one of them is there: the other has the shape that fits the hidden size, as (out, in) or as
    (in, out). Raises Unsplittable where none fits, or both do and the model type does not tell."""
    lacking = "gate_up_proj and down_proj of these experts are not both there"
    stack = gate_up or down
    if stack is None:
        raise Unsplittable(lacking)
    try:
        hidden = Numbers(section(config, "")).hidden
    except Unsplittable as reason:
        raise Unsplittable(f"{lacking}, and {reason}") from reason
    experts, rows, columns = stack.shape
    if stack is gate_up:
        orders = ((columns, (experts, hidden, rows // 2)), (rows, (experts, columns // 2, hidden)))
    else:
        orders = ((rows, (experts, 2 * columns, hidden)), (columns, (experts, hidden, 2 * rows)))
    fitting = [shape for outer, shape in orders if outer == hidden]
    if not fitting or (len(fitting) > 1 and model_types(config) & (_INTERLEAVED | _INPUT_MAJOR_HALVES)):
        raise Unsplittable(lacking)
    other = replace(stack, shape=fitting[0])
    return (stack, other) if stack is gate_up else (other, stack)


def _split(name: str, stored: Stored, stack: Stack, match: re.Match[str]) -> Iterator[tuple[str, Part]]:
    bias = bool(match["bias"])
    leaf = "bias" if bias else "weight"
    turned = stack.input_major and not bias
    shape = stored.shape[1:][::-1] if turned else stored.shape[1:]
    gated = match["projection"] == "gate_up_proj"
    if stored.shape[0] != stack.experts or len(shape) != (1 if bias else 2) or (gated and shape[0] != 2 * stack.inner):
        raise Unsplittable(f"shape {stored.shape} does not fit {stack.experts} experts of {stack.inner} rows")
    for expert in range(stack.experts):
        if not gated:
            take = transpose if turned else None
            part = Part(name, replace(stored, shape=shape), at=(expert,), take=take)
            yield f"{match['module']}.{expert}.down_proj.{leaf}", part
            continue
        for projection, rows, select in stack.gate_up.split(transposed=turned):
            part = Part(name, replace(stored, shape=(rows, *shape[1:])), at=(expert,), take=select)
            yield f"{match['module']}.{expert}.{projection}.{leaf}", part
