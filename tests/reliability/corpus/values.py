"""What weights may hold: NaN, infinities, zeros, denormal and huge numbers, another weight, W0."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tests.reliability.corpus import seeds
from tests.reliability.corpus.case import Case, Kit, Outcome
from tests.reliability.corpus.weights import entry, everywhere, one, rewritten
from tests.runs import DOWN, EMBED, NORM, Q, Tensors

kit = Kit("values", "plain")

MEASURED = f"{Q} cannot be measured: "
NAN, INF = float("nan"), float("inf")


def _all(tensors: Tensors, value: float) -> None:
    tensors.update({name: torch.full_like(tensor, value) for name, tensor in tensors.items()})


def _scaled(factor: float) -> object:
    return lambda tensor: (tensor.double() * factor).to(tensor.dtype)


def _shuffled(tensor: Tensor) -> Tensor:
    order = torch.randperm(tensor.numel(), generator=torch.Generator().manual_seed(3))
    return tensor.flatten()[order].view_as(tensor)


def _tail_zeroed(tensor: Tensor) -> Tensor:
    tensor = tensor.clone()
    tensor[len(tensor) // 2 :] = 0
    return tensor


def cases() -> Iterator[Case]:
    """Every case."""
    for name, value in {"nan": NAN, "inf": INF, "minus-inf": -INF}.items():
        found = "1 of 512 values are NaN or infinite"
        yield kit(
            f"{name}-in-a-weight", rewritten(20, entry(Q, value)), Outcome.ERROR, f"{MEASURED}checkpoint-20: {found}"
        )
        yield kit(f"{name}-in-w0", rewritten(0, entry(Q, value)), Outcome.ERROR, f"{MEASURED}W0: {found}")
        yield kit(f"{name}-in-the-last", rewritten(30, entry(Q, value)), Outcome.ERROR, f"checkpoint-30: {found}")
        yield kit(
            f"{name}-in-an-unselected-matrix", rewritten(20, entry(EMBED, value)), Outcome.ERROR, "checkpoint-20", EMBED
        )
        yield kit(f"{name}-in-a-norm", rewritten(20, entry(NORM, value)), Outcome.ERROR, "checkpoint-20", NORM)
        yield kit(f"{name}-in-a-norm-of-w0", rewritten(0, entry(NORM, value)), Outcome.ERROR, "W0", NORM)
    yield kit("nan-everywhere", rewritten(20, lambda w: _all(w, NAN)), Outcome.ERROR, "checkpoint-20", "NaN")
    zeros, down = one(DOWN, torch.zeros_like), f"{DOWN} cannot be measured: "
    yield kit("a-zero-weight", rewritten(20, zeros), Outcome.ERROR, f"{down}checkpoint-20: all zeros, though W0 is not")
    yield kit("a-zero-weight-in-w0", rewritten(0, zeros), Outcome.ERROR, f"{down}W0: all zeros, though the checkpoints")
    yield kit("zeros-everywhere", rewritten(20, lambda w: _all(w, 0)), Outcome.ERROR, "checkpoint-20: all zeros")
    yield kit("zeros-in-all-of-them", everywhere(zeros), Outcome.PART, DOWN, "never changed")
    yield kit("a-zeroed-tail", rewritten(20, one(DOWN, _tail_zeroed)), Outcome.FAILED, DOWN)
    yield kit(
        "one-value-everywhere", rewritten(20, lambda w: _all(w, 1.0)), Outcome.ERROR, "checkpoint-20", "different"
    )
    yield kit("a-denormal-entry", rewritten(20, entry(Q, 1e-42)), Outcome.OTHER)
    yield kit("denormal-weights", rewritten(20, one(Q, lambda w: torch.full_like(w, 1e-42))), Outcome.ERROR, Q)
    yield kit("denormal-w0", rewritten(0, one(Q, lambda w: torch.full_like(w, 1e-40))), Outcome.ERROR, Q)
    yield kit("a-huge-entry", rewritten(20, entry(Q, 3e38)), Outcome.ERROR, Q)
    yield kit("huge-weights", rewritten(20, one(Q, lambda w: torch.full_like(w, 3e38))), Outcome.ERROR, Q)
    yield kit("huge-w0", rewritten(0, one(Q, lambda w: torch.full_like(w, 3e38))), Outcome.ERROR, Q)
    huge = everywhere(one(Q, lambda w: (w.double() * 1e37).to(w.dtype)))
    yield kit("huge-in-all-of-them", huge, Outcome.OTHER)
    tiny = everywhere(one(Q, lambda w: (w.double() * 1e-37).to(w.dtype)))
    yield kit("tiny-in-all-of-them", tiny, Outcome.OTHER)
    yield kit("twice-as-large", rewritten(20, one(Q, lambda w: 2 * w)), Outcome.ERROR, Q)
    yield kit("the-sign-turned", rewritten(20, one(Q, lambda w: -w)), Outcome.ERROR, Q)
    yield kit("entries-shuffled", rewritten(20, one(Q, _shuffled)), Outcome.ERROR, Q)
    yield kit("rows-shuffled", rewritten(20, one(Q, lambda w: w.flip(0))), Outcome.ERROR, Q)
    w0 = seeds.base()
    back = one(Q, lambda w: w0[Q].to(w.dtype))
    yield kit(
        "a-weight-back-at-w0", rewritten(20, back), Outcome.ERROR, "checkpoint-20: 1 of 7 weights equal W0 again", Q
    )
    yield kit("a-weight-frozen-at-w0", everywhere(back, base=False), Outcome.OTHER)
    same = rewritten(20, lambda w: w.update({name: w0[name].to(w[name].dtype) for name in w}))
    yield kit("a-checkpoint-back-at-w0", same, Outcome.ERROR, "checkpoint-20", "equal W0 again")
    nothing = everywhere(lambda w: w.update({name: w0[name].to(w[name].dtype) for name in w}), base=False)
    yield kit("nothing-was-trained", nothing, Outcome.ERROR, "checkpoint-10 and checkpoint-20 hold the same weights")
    twin = seeds.trained(10)
    yield kit(
        "two-checkpoints-alike",
        rewritten(20, lambda w: w.update(twin)),
        Outcome.ERROR,
        "checkpoint-10 and checkpoint-20 hold the same weights",
    )
    other = seeds.layouts.model(seed=5)
    yield kit(
        "w0-of-another-model", rewritten(0, lambda w: w.update(other)), Outcome.ERROR, "opd/base", "different models"
    )
    yield kit(
        "a-checkpoint-of-another-model",
        rewritten(20, lambda w: w.update({n: t.float() for n, t in other.items()})),
        Outcome.ERROR,
        "checkpoint-20 are different models",
    )
    yield kit("another-w0-for-one-weight", rewritten(0, lambda w: w.update({Q: other[Q]})), Outcome.ERROR, Q)
