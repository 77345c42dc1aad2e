"""What bf16 can move, and which numbers a narrower format holds, against the rounding of formats itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from geomcheck.diagnostics import Base, Update, load_metrics
from geomcheck.diagnostics.lowrank import LowRank
from geomcheck.diagnostics.precision import representable_share, unmovable_share
from geomcheck.errors import Undefined
from tests.diagnostics import oracle
from tests.diagnostics.cases import DTYPES, SEEDS, numbers

RATES = st.sampled_from([0.0, 1e-45, 2.0**-134, 2.0**-133, 1e-38, 1e-6, 2.0**-9, 2.0**-8, 1.0, 1e3]) | st.floats(0, 1)
EVERY_BF16 = torch.arange(0, 0x7F80, dtype=torch.int16).view(torch.bfloat16)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Of one to three dimensions, of every scale that the format has."""
    shape = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple))
    rng = np.random.default_rng(draw(SEEDS))
    scale = 10.0 ** draw(st.integers(-44, 38)) if draw(st.booleans()) else 1.0
    values = rng.standard_normal(shape) * scale
    values[rng.random(shape) < 0.2] = draw(st.sampled_from([0.0, 1.0, -0.5]))
    stored = torch.tensor(values).to(draw(st.sampled_from(DTYPES)))
    return torch.where(stored.isfinite(), stored, 1.0)


@given(tensors(), RATES)
@example(EVERY_BF16[:4096], 2.0**-134)
@example(torch.tensor([1.0]), 2.0**-9)
@example(torch.tensor([1.0]), 2.0**-9 - 2.0**-40)
def test_what_a_step_cannot_move_is_nearer_to_itself_than_to_its_neighbours(w0: Tensor, lr: float) -> None:
    if w0.bfloat16().isfinite().all():
        assert unmovable_share(w0, lr) == pytest.approx(oracle.unmovable(numbers(w0), lr), abs=1e-15)


@pytest.mark.parametrize("lr", [1e-7, 1e-6, 3e-5, 1e-3, 0.11, 7.0])
def test_no_step_moves_it_and_a_larger_one_does(lr: float) -> None:
    """By adding the step and rounding, of every bf16 number: steps that are no tie."""
    ordinary = EVERY_BF16[(EVERY_BF16 > 1e-20) & (EVERY_BF16 < 1e20)].double()
    stays = [torch.tensor(oracle.to_bf16((ordinary + sign * lr).numpy())) == ordinary for sign in (1, -1)]
    assert unmovable_share(ordinary, lr) == float((stays[0] & stays[1]).double().mean())


def test_ones_cannot_move_below_2_to_minus_9() -> None:
    """Norms that were exactly 1.0 throughout a training in bf16."""
    assert [unmovable_share(torch.ones(4), lr) for lr in (1e-5, 1.9e-3, 2e-3)] == [1.0, 1.0, 0.0]


def test_zero_moves_by_any_step_that_bf16_has() -> None:
    zeros = torch.zeros(2, 3)
    assert [unmovable_share(zeros, lr) for lr in (0.0, 2.0**-135, 2.0**-134, 1e-6)] == [1.0, 1.0, 0.0, 0.0]


def test_the_larger_the_step_the_less_is_frozen() -> None:
    w0 = torch.randn(500, generator=torch.Generator().manual_seed(0))
    shares = [unmovable_share(w0, lr) for lr in np.geomspace(1e-9, 1, 60)]
    assert shares == sorted(shares, reverse=True)
    assert (shares[0], shares[-1]) == (1.0, 0.0)


@given(tensors(), st.sampled_from(["bf16", "fp16"]))
def test_numbers_of_a_narrower_format(w: Tensor, narrow: str) -> None:
    assert representable_share(w, narrow) == pytest.approx(oracle.representable(numbers(w), narrow), abs=1e-15)


@given(tensors())
def test_a_cast_and_back_leaves_numbers_of_the_format(w: Tensor) -> None:
    assert representable_share(w.bfloat16().double(), "bf16") == 1.0
    small = w.float().clamp(-6e4, 6e4)
    assert representable_share(small.half().float(), "fp16") == 1.0


def test_what_an_adapter_leaves_is_stored_in_no_format() -> None:
    change = LowRank(torch.ones(3, 1).double(), torch.ones(1, 2).double())
    metric = load_metrics()["representable_share"]
    with pytest.raises(Undefined, match="an adapter stores D_t"):
        metric.compute(Update(Base(torch.zeros(3, 2)), change), {"format": "bf16"}, None)


def test_the_metrics_look_at_w0_and_at_w_t() -> None:
    w0 = torch.tensor([1.0, 1e-6])
    update = Update(Base(w0), w0 + 2.0**-20)
    metrics = load_metrics()
    assert metrics["frozen_by_precision"].compute(update, {"lr": 1e-4}, None) == {"value": 0.5}
    assert metrics["representable_share"].compute(update, {"format": "bf16"}, None) == {"value": 0.0}
    assert metrics["representable_share"].compute(Update(Base(w0), w0.bfloat16()), {"format": "bf16"}, None)["value"]
