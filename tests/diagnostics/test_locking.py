"""Alignment between checkpoints and energy in an early channel."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from geomcheck.diagnostics import Base, Update
from geomcheck.diagnostics.locking import REFERENCE_ALIGNMENT, alignment, subspace_energy, top_channel
from geomcheck.errors import Undefined
from tests.diagnostics import oracle
from tests.diagnostics.cases import DTYPES, SEEDS, gap, make, orthonormal, shapes, update_of, with_values


@given(shapes(3), st.sampled_from(DTYPES), SEEDS, st.sampled_from(["right", "left"]), st.data())
def test_alignment_and_energy_match_the_oracle(
    shape: tuple[int, int], dtype: torch.dtype, seed: int, side: str, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, min(shape) - 1) | st.sampled_from([1, min(shape) - 1]))
    early, late = make(shape, dtype, seed, step=0.05), make(shape, dtype, seed, step=0.2)
    late_delta = late.delta + 0.1 * with_values(shape, np.linspace(1, 0.2, min(shape)), seed + 40)
    assume(gap(early.delta, k) > 1e-6 and gap(late_delta, k) > 1e-6)
    first, last = early.update, update_of(early.before, early.before + late_delta)
    delta = last.matrix.numpy()
    channel, other = top_channel(first, k, side), top_channel(last, k, side)
    expected = oracle.alignment(early.delta, delta, k, left=side == "left")
    assert alignment(channel, other) == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert alignment(other, channel) == pytest.approx(expected, rel=1e-6, abs=1e-12)
    energy = subspace_energy(last, top_channel(first, k, "right"))
    assert energy == pytest.approx(oracle.channel_energy(delta, early.delta, k), rel=1e-6, abs=1e-12)
    assert 0 <= alignment(channel, other) <= 1
    assert 0 <= energy <= 1


@given(shapes(4), SEEDS, st.floats(0, 90), st.data())
def test_alignment_of_channels_at_a_known_angle(
    shape: tuple[int, int], seed: int, angle: float, data: st.DataObject
) -> None:
    """All K angles equal to phi: Sim_K = cos^2 phi."""
    k = data.draw(st.integers(1, min(shape) // 2))
    u, v = orthonormal(shape[0], k, seed), orthonormal(shape[1], 2 * k, seed + 1)
    phi, values = np.radians(angle), np.linspace(2, 1, k)
    turned = v[:, :k] * np.cos(phi) + v[:, k:] * np.sin(phi)
    w0 = np.zeros(shape)
    start, end = update_of(w0, (u * values) @ v[:, :k].T), update_of(w0, (u * values) @ turned.T)
    sim = alignment(top_channel(start, k, "right"), top_channel(end, k, "right"))
    assert sim == pytest.approx(np.cos(phi) ** 2, abs=1e-12)
    assert subspace_energy(end, top_channel(start, k, "right")) == pytest.approx(np.cos(phi) ** 2, abs=1e-12)
    assert alignment(top_channel(start, k, "left"), top_channel(end, k, "left")) == pytest.approx(1, abs=1e-12)


@given(shapes(3), SEEDS, st.data())
def test_alignment_ignores_orthogonal_maps_scale_and_basis(
    shape: tuple[int, int], seed: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, min(shape) - 1))
    deltas = [with_values(shape, np.linspace(2, 0.5, min(shape)), seed + 10 * i) for i in range(2)]
    p, q = orthonormal(shape[0], shape[0], seed + 5), orthonormal(shape[1], shape[1], seed + 6)
    w0 = np.zeros(shape)
    plain = [update_of(w0, delta) for delta in deltas]
    mapped = [update_of(w0, scale * p @ delta @ q) for delta, scale in zip(deltas, (1e3, -1e-3), strict=True)]
    channels = [top_channel(update, k, "right") for update in plain]
    sim = alignment(*channels)
    assert alignment(*(top_channel(update, k, "right") for update in mapped)) == pytest.approx(sim, abs=1e-10)
    rebased = channels[1] @ torch.tensor(orthonormal(k, k, seed + 7))
    assert alignment(channels[0], rebased) == pytest.approx(sim, abs=1e-12)
    energy = subspace_energy(plain[1], channels[0])
    assert subspace_energy(mapped[1], torch.tensor(q).T @ channels[0]) == pytest.approx(energy, abs=1e-10)


def test_a_checkpoint_is_aligned_with_itself_and_holds_its_top_energy() -> None:
    update = make((30, 20), torch.float32, seed=1).update
    for k in (1, 16, 19):
        channel = top_channel(update, k, "right")
        assert alignment(channel, channel) == pytest.approx(1.0, abs=1e-12)
        assert subspace_energy(update, channel) == pytest.approx(oracle.top_energy(update.matrix.numpy(), k), rel=1e-9)


def test_random_channels_align_by_chance() -> None:
    sims = [
        alignment(torch.tensor(orthonormal(48, 8, 2 * seed)), torch.tensor(orthonormal(48, 8, 2 * seed + 1)))
        for seed in range(100)
    ]
    assert np.mean(sims) == pytest.approx(8 / 48, rel=0.05)


@pytest.mark.parametrize("side", ["right", "left"])
def test_channels_that_do_not_exist(side: str) -> None:
    zero = np.zeros((12, 10))
    tied = update_of(zero, with_values((12, 10), np.array([3.0, 2.0, 2.0, 1.0]), seed=0))
    for k, reason in [(2, "tied"), (5, "rank below"), (11, "rank below")]:
        with pytest.raises(Undefined, match=reason):
            top_channel(tied, k, side)
    with pytest.raises(Undefined, match="zero"):
        top_channel(update_of(zero, zero), 1, side)
    w0 = torch.ones(12, 10)
    with pytest.raises(Undefined):
        subspace_energy(Update(Base(w0), w0), torch.eye(10, 3, dtype=torch.float64))


@pytest.mark.parametrize("side", ["right", "left"])
def test_alignment_with_a_reference_matches_the_oracle(side: str) -> None:
    ours, theirs = (make((30, 20), torch.float32, seed=1, step=step) for step in (0.05, 0.2))
    run = SimpleNamespace(reference=lambda: theirs.update)
    figures = REFERENCE_ALIGNMENT.compute(ours.update, {"k": 4, "side": side}, run)
    expected = oracle.alignment(ours.update.matrix.numpy(), theirs.update.matrix.numpy(), 4, left=side == "left")
    assert figures == {"value": pytest.approx(expected, rel=1e-6)}
