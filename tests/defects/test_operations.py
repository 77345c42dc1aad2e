"""What operations make of a weight."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from geomcheck.checkpoints import Change
from geomcheck.checkpoints.changes import Added
from geomcheck.defects import Operation
from geomcheck.defects.catalogue import DEFECTS
from geomcheck.defects.operations import (
    W0,
    Copied,
    Noisy,
    Quantized,
    Rounded,
    Scaled,
    Taken,
    heads_interleaved,
    noise_for,
    scaled,
)


class Held:
    """Weights in memory."""

    def __init__(self, held: Mapping[tuple[str, int], Tensor | Change]) -> None:
        self._held = held

    def read(self, name: str, index: int) -> Tensor | Change:
        return self._held[name, index]


START = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.bfloat16)
STEP = torch.tensor([[0.5, -0.25], [0.125, 1.0]])
RUN = Held({("q", W0): START, **{("q", i): START.float() + (i + 1) * STEP for i in range(3)}, ("k", 1): 7 * STEP})


@pytest.mark.parametrize(
    ("operation", "index", "expected"),
    [
        (Scaled(0.5), 1, START.float() + STEP),
        (Scaled(0.5, since=2), 1, START.float() + 2 * STEP),
        (Taken((0, 0, 2)), 1, START.float() + STEP),
        (Taken((W0, 1, 2)), 0, START.float()),
        (Taken((W0, 1, 2)), 2, START.float() + 3 * STEP),
        (Copied("k"), 1, 7 * STEP),
        (Rounded("bfloat16"), 1, (START.float() + 2 * STEP).bfloat16().float()),
    ],
)
def test_a_weight_is_changed_in_its_own_format(operation: Operation, index: int, expected: Tensor) -> None:
    made = operation(RUN, "q", index)
    assert isinstance(made, Tensor)
    torch.testing.assert_close(made, expected, rtol=0, atol=0)


def test_noise_has_its_share_of_the_update_and_is_the_same_again() -> None:
    made, again = (Noisy(0.25)(RUN, "q", 2) for _ in range(2))
    clean = RUN.read("q", 2)
    assert isinstance(made, Tensor)
    assert isinstance(clean, Tensor)
    assert torch.equal(made, again)
    torch.testing.assert_close((made - clean).norm(), 0.25 * (3 * STEP).norm())
    assert not torch.equal(noise_for("q", 1, (2, 2)), noise_for("q", 2, (2, 2)))


def test_noise_in_w0_has_its_share_of_the_last_update_in_the_format_of_w0() -> None:
    made = Noisy(10.0, last=2)(RUN, "q", W0)
    assert made.dtype == torch.bfloat16
    torch.testing.assert_close((made.float() - START.float()).norm(), 10 * (3 * STEP).norm(), rtol=0.01, atol=0)


@pytest.mark.parametrize("operation", [Scaled(-1.0), Scaled(0.5), Taken((1, W0)), Taken((1, 0))])
def test_factors_become_those_of_the_weight_that_would_be_made(operation: Operation) -> None:
    w0 = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    adapters = {
        ("q", index): Added(torch.full((4, 1), index + 1.0).double(), torch.arange(3.0).double().reshape(1, 3))
        for index in range(2)
    }
    dense = {key: (w0.double() + change.left @ change.right).float() for key, change in adapters.items()}
    for index in range(2):
        change = operation(Held({("q", W0): w0, **adapters}), "q", index)
        weight = operation(Held({("q", W0): w0, **dense}), "q", index)
        assert isinstance(change, Added)
        assert isinstance(weight, Tensor)
        torch.testing.assert_close((w0.double() + change.left @ change.right).float(), weight)


def test_a_row_of_zeros_survives_integers() -> None:
    made = Quantized(127)(Held({("q", 0): torch.tensor([[0.0, 0.0], [1.0, 0.3]])}), "q", 0)
    torch.testing.assert_close(made, torch.tensor([[0.0, 0.0], [1.0, 38 / 127]]))


def test_twice_the_other_layout_of_heads_of_two_pairs_is_none() -> None:
    rows = torch.arange(8.0).reshape(8, 1).expand(8, 2)
    assert heads_interleaved(rows, 4)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert torch.equal(heads_interleaved(heads_interleaved(rows, 4), 4), rows)


def test_what_is_equal_does_the_same() -> None:
    assert Scaled(1.1) == Scaled(1 + 10 / 100)
    assert len({Scaled(0.5), Scaled(0.5), Scaled(0.5, since=1)}) == 2


def test_fp64_stays_fp64() -> None:
    assert scaled(START, START.double(), 0.5).dtype == torch.float64


def test_names_of_defects_are_distinct_slugs() -> None:
    names = [defect.name for defect in DEFECTS]
    assert len(set(names)) == len(names)
    assert all(name == name.lower() and "," not in name and " " not in name for name in names)
