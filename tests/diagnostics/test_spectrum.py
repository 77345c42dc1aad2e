"""The top of an update's spectrum by its fast routes, against the SVD."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from geomcheck.diagnostics.linalg import Route, UpdateSpectrum
from geomcheck.diagnostics.linalg import spectrum as spectrum_module
from geomcheck.diagnostics.linalg.kernels import gram, leading_eigenpairs
from geomcheck.diagnostics.linalg.krylov import EPS32, GUARDS, RITZ_ROUNDING, Ritz, errors, verified
from geomcheck.diagnostics.linalg.scaling import scaled
from geomcheck.errors import Undefined
from tests.diagnostics import oracle
from tests.diagnostics.cases import Shape, with_values

SHAPES = [(300, 300), (300, 420), (420, 300)]


def spectra(size: int) -> dict[str, np.ndarray]:
    """Singular values as updates have them."""
    tail = np.arange(1.0, size + 1)
    return {
        "power law": tail**-0.7,
        "flat": np.linspace(1.0, 0.9, size),
        "spikes over noise": np.where(tail <= 20, 3 * tail**-0.5, 0.3 * (1 - tail / (2 * size))),
        "cluster": np.where(tail <= 16, 1.0 + 0.001 * (16 - tail), 0.8 * tail**-0.1),
        "nearly tied": np.where(tail <= 16, 1.0, 1.0 - 3e-4) * (1.0 - 0.002 * tail),
    }


def spectrum_of(matrix: np.ndarray) -> UpdateSpectrum:
    tensor = torch.tensor(matrix)
    return UpdateSpectrum(scaled(tensor), lambda: tensor)


@pytest.fixture(params=["with a Gram matrix", "without"])
def gram_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to go on where the iteration is slow, whatever the size."""
    if request.param == "without":
        monkeypatch.setattr(spectrum_module, "GRAM_SIZE", 0)
    return str(request.param)


@pytest.mark.parametrize("kind", spectra(300))
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_channels_match_the_svd(shape: Shape, kind: str, gram_size: str) -> None:
    matrix = with_values(shape, spectra(300)[kind], seed=3) * 1e-4
    expected, actual = oracle.spectrum(matrix), spectrum_of(matrix)
    np.testing.assert_allclose(actual.top_values(16), expected.s[:16], rtol=1e-5)
    assert float(actual.top_values(1)[0]) == pytest.approx(expected.s[0], rel=1e-5)
    for side, exact in (("right", expected.v), ("left", expected.u)):
        channel = actual.right(16) if side == "right" else actual.left(16)
        np.testing.assert_allclose(channel.T @ channel, np.eye(16), atol=1e-6)
        turned = np.radians(oracle.subspace_angles(exact[:, :16], channel.numpy())[-1])
        assert turned <= actual.routes["channel of D, k=16"].bound + 1e-7
    values = actual.routes["singular values of D, k=16"]
    relative = np.abs(actual.top_values(16).numpy() / expected.s[:16] - 1).max()
    assert relative <= values.bound + 1e-6


def test_the_routes_that_are_expected_answer() -> None:
    easy = spectrum_of(with_values((400, 300), spectra(300)["spikes over noise"], seed=1))
    easy.top_values(16)
    assert easy.routes["singular values of D, k=16"].route is Route.KRYLOV
    flat = spectrum_of(with_values((400, 300), spectra(300)["flat"], seed=1))
    flat.top_values(16)
    assert flat.routes["singular values of D, k=16"].route is Route.GRAM
    many = spectrum_of(with_values((400, 300), spectra(300)["flat"], seed=1))
    many.top_values(40)
    assert many.routes["singular values of D, k=40"].route is Route.DENSE


@pytest.mark.parametrize("rank", [1, 2, 8])
def test_updates_of_low_rank(rank: int, gram_size: str) -> None:
    values = np.linspace(2.0, 1.0, rank)
    actual = spectrum_of(with_values((320, 300), values, seed=rank))
    assert float(actual.top_values(1)[0]) == pytest.approx(2.0, rel=1e-6)
    assert float(actual.top_values(16)[rank:].max()) < 1e-12
    assert actual.right(rank).shape == (300, rank)
    with pytest.raises(Undefined, match="rank below"):
        actual.right(rank + 1)
    with pytest.raises(Undefined, match="rank below"):
        actual.left(16)


def test_a_tie_at_k_is_refused_as_the_dense_route_does(gram_size: str) -> None:
    values = spectra(300)["power law"]
    values[16] = values[15]
    actual = spectrum_of(with_values((300, 340), values, seed=2))
    np.testing.assert_allclose(actual.top_values(16), values[:16], rtol=1e-5)
    with pytest.raises(Undefined, match="tied"):
        actual.right(16)
    assert actual.right(15).shape == (340, 15)


def test_values_below_the_reach_of_float32_are_taken_from_the_dense_route(gram_size: str) -> None:
    values = np.geomspace(1.0, 1e-7, 300)
    values[:16] = np.geomspace(1.0, 1e-5, 16)
    values[16:] = 1e-8
    actual = spectrum_of(with_values((300, 300), values, seed=5))
    np.testing.assert_allclose(actual.top_values(16), values[:16], rtol=1e-6)
    assert actual.routes["singular values of D, k=16"].route is Route.DENSE


def test_a_new_direction_is_found_whatever_was_found_before() -> None:
    """The trap of warm starts: the second update has a leading direction that is orthogonal to the first's channel."""
    first = with_values((300, 300), spectra(300)["spikes over noise"], seed=7)
    before = spectrum_of(first)
    before.right(16)
    u, _, v = oracle.spectrum(first)
    second = first + 5.0 * np.outer(u[:, 250], v[:, 250])
    expected, after = oracle.spectrum(second), spectrum_of(second)
    np.testing.assert_allclose(after.top_values(16), expected.s[:16], rtol=1e-5)
    assert oracle.subspace_angles(expected.v[:, :16], after.right(16).numpy())[-1] < 0.02


def test_scale_is_a_power_of_two_and_nothing_else() -> None:
    matrix = with_values((300, 310), spectra(300)["power law"], seed=9)
    for exponent in (-400, -100, 100, 400):
        plain, other = spectrum_of(matrix), spectrum_of(matrix * 2.0**exponent)
        assert torch.equal(other.top_values(16), plain.top_values(16) * 2.0**exponent)
        assert torch.equal(other.right(16), plain.right(16))


@given(
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(1, 6),
    guards=st.integers(0, 6),
    gap=st.floats(1e-6, 0.1),
    noise=st.floats(1e-9, 1e-2),
)
def test_the_errors_of_a_perturbed_subspace_are_within_their_bounds(
    seed: int, k: int, guards: int, gap: float, noise: float
) -> None:
    """A^T A of 40 values, of which k and k + 1 are `gap` apart; Ritz vectors of a space that is off by `noise`."""
    rng, size, count = np.random.default_rng(seed), 40, k + guards + 1
    values = np.sort(rng.uniform(0.1, 1.0, size))[::-1]
    values[:k] += values[k] + gap - values[k - 1]
    values[count:] -= 0.05
    exact = np.linalg.qr(rng.normal(size=(size, size)))[0]
    square = (exact * values) @ exact.T
    space = np.linalg.qr(exact[:, :count] + noise * rng.normal(size=(size, count)))[0]
    ritz, turn = np.linalg.eigh(space.T @ square @ space)
    ritz, vectors = ritz[::-1].copy(), space @ turn[:, ::-1]
    residuals = square @ vectors - vectors * ritz
    value_error, angle_error = errors(torch.tensor(ritz), torch.tensor(residuals), k)
    assume(angle_error < 0.1)
    sines = np.linalg.svd(vectors[:, :k] - exact[:, :k] @ (exact[:, :k].T @ vectors[:, :k]), compute_uv=False)
    assert np.linalg.norm(sines) <= 1.05 * angle_error
    assert np.abs(np.sqrt(ritz[:k] / values[:k]) - 1).max() <= value_error + 1e-12


def test_bounds_of_ritz_values_follow_davis_and_kahan() -> None:
    residuals = torch.diag(torch.tensor([0.1, 0.2, 0.05]))
    value_error, angle_error = errors(torch.tensor([9.0, 4.0, 1.0]), residuals, 2)
    assert value_error == pytest.approx((0.1**2 / 7.95 + 0.2**2 / 2.95) / (2 * 4), rel=1e-6)
    assert angle_error == pytest.approx(math.hypot(0.1 / 7.95, 0.2 / 2.95), rel=1e-6)
    assert errors(torch.tensor([9.0, 4.0, 3.96]), residuals, 2) == (math.inf, math.inf)  # 3.96 may be 4.01
    assert errors(torch.tensor([9.0, 0.0, -1.0]), residuals, 2) == (math.inf, math.inf)


def test_guards_mix_with_what_is_certified_as_rounding_and_residuals_allow() -> None:
    squares = torch.tensor([9.0, 4.0, 3.9, 1.0], dtype=torch.float64)
    residuals = torch.diag(torch.tensor([0.01, 0.02, 0.03, 0.05], dtype=torch.float64))
    value_error, angle_error = errors(squares, residuals, 2)
    each, guard, far = np.array([0.01, 0.02]), 0.03, np.array([9.0, 4.0]) - 1.05
    near = np.array([9.0, 4.0]) - 3.9
    outside = each / (far - guard**2 / near)
    mixed = (outside * guard + EPS32 * RITZ_ROUNDING * 9.0) / near
    assert value_error == pytest.approx((each * (each + guard) / far).sum() / (2 * 4.0), rel=1e-12)
    assert angle_error == pytest.approx(math.hypot(*outside, *mixed), rel=1e-9)
    exact = errors(squares, torch.zeros(4, 4), 2)[1]
    assert exact == pytest.approx(EPS32 * RITZ_ROUNDING * 9.0 * math.hypot(1 / 5.1, 1 / 0.1), rel=1e-6)


def test_values_that_float32_cannot_hold_are_not_accepted_whatever_their_bounds() -> None:
    def ritz(smallest: float) -> Ritz:
        return Ritz(torch.tensor([1.0, smallest]), torch.eye(2), torch.eye(2), value_error=0.0, angle_error=0.0)

    assert spectrum_module._accepted(ritz(1.1e-3), subspace=True)
    assert not spectrum_module._accepted(ritz(0.9e-3), subspace=True)


@pytest.mark.parametrize("coordinates", [4, 8, 64, 260])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_bound_of_an_angle_holds_where_an_update_lies_in_few_rows_and_columns(k: int, coordinates: int) -> None:
    """Rounding to float32 averages out over many coordinates, and does not over few; below k is a near tie."""
    rng = np.random.default_rng(100 * k + coordinates)
    left, right = np.zeros((300, k + 1)), np.zeros((260, k + 1))
    for side in (left, right):
        side[:coordinates] = np.linalg.qr(rng.standard_normal((coordinates, k + 1)))[0]
    values = np.array([1.0 + 2e-3] * k + [1.0])
    noise = 1e-3 * rng.standard_normal((300, 260))
    delta = torch.tensor(((left * values) @ right.T + noise).astype(np.float32))
    found = verified(delta, leading_eigenpairs(gram(delta), k + 1 + GUARDS)[1], k)
    expected = np.linalg.svd(delta.double().numpy())[2][:k].T
    actual = found.right.numpy()
    sines = np.linalg.svd(actual - expected @ (expected.T @ actual), compute_uv=False)
    assert np.linalg.norm(np.arcsin(sines)) <= found.angle_error < 2e-3


@pytest.mark.parametrize("shape", SHAPES)
def test_nearly_tied_values_are_verified_in_float64_before_anything_is_factorized(shape: Shape) -> None:
    """The channel is accepted by what is there; factorizing the whole matrix would cost many times as much."""
    values = spectra(300)["power law"]
    values[16:] *= (values[15] - 2e-5) / values[16]
    matrix = with_values(shape, values, seed=11)
    actual, exact = spectrum_of(matrix), oracle.spectrum(matrix).v[:, :16]
    channel = actual.right(16).numpy()
    route = actual.routes["channel of D, k=16"]
    assert route.route is not Route.DENSE
    assert np.radians(oracle.subspace_angles(exact, channel)[-1]) <= route.bound + 1e-7
