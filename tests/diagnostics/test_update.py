"""Large updates through the routes that answer them, against the dense route and brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geomcheck.diagnostics import Base, Metric, Update, load_metrics
from geomcheck.diagnostics import update as update_module
from geomcheck.diagnostics.drift import spectral_shift
from geomcheck.diagnostics.linalg import ACCURACY, Route, kernels
from geomcheck.diagnostics.linalg import spectrum as spectrum_module
from geomcheck.diagnostics.linalg.angles import principal_angles
from geomcheck.diagnostics.rotation import rotation_angles
from geomcheck.errors import RunError, Undefined
from tests.bench.weights import KINDS, trajectory
from tests.diagnostics import oracle
from tests.diagnostics.cases import Case, Shape, make, numbers, with_values

SHAPES = [(256, 256), (256, 640), (640, 256)]
K = 32
LOCAL = [metric for metric in load_metrics() if not metric.across and not metric.against_reference]


def realistic(shape: Shape, kind: str, seed: int = 0) -> Case:
    """An update as training makes it, or one that is hard."""
    if kind in KINDS:
        w0, path = trajectory(shape, KINDS[kind], 1, seed)
        return Case(w0, path[-1])
    w0 = trajectory(shape, KINDS["opd"], 1, seed)[0]
    rng = np.random.default_rng(seed)
    if kind == "flat":
        step = 1e-4 * rng.standard_normal(shape)
    elif kind == "rank one":
        step = 1e-4 * np.outer(rng.standard_normal(shape[0]), rng.standard_normal(shape[1]))
    elif kind == "as large as W0":
        step = 0.03 * rng.standard_normal(shape)
    else:
        step = np.zeros(shape)
        step[3, 5] = 0.1
    return Case(w0.float(), w0.float() + torch.tensor(step).float())


def figures(metric: Metric, update: Update) -> dict[str, float] | str:
    """What `metric` gives with its defaults, or why it gives nothing."""
    try:
        return dict(metric.compute(update, {p.name: p.usual for p in metric.measured_parameters}, None))
    except Undefined as reason:
        return str(reason)


HARD = ["flat", "rank one", "as large as W0", "one entry"]


def assert_as_dense(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every figure agrees with that of the dense route, or is undefined for the same reason."""
    fast = {metric.name: figures(metric, case.update) for metric in LOCAL}
    for module in (update_module, spectrum_module):
        monkeypatch.setattr(module, "SMALL", 10**6)
    for metric in LOCAL:
        expected = figures(metric, case.update)
        if isinstance(expected, str):
            assert fast[metric.name] == expected
        else:
            floor = 0.01 if metric.name == "principal_angle" else 0.0
            assert fast[metric.name] == pytest.approx(expected, rel=ACCURACY, abs=ACCURACY * floor), metric.name


@pytest.mark.parametrize("kind", [*KINDS, *HARD])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_figure_is_that_of_the_dense_route(shape: Shape, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_as_dense(realistic(shape, kind), monkeypatch)


def degenerate() -> dict[str, tuple[oracle.Array, oracle.Array]]:
    """W0 and D where singular values vanish, coincide, or are of very different sizes."""
    rng = np.random.default_rng(0)
    tall, square = (320, 280), (280, 280)
    plain = with_values(tall, np.linspace(3, 0.01, 280), 1)
    half = with_values((160, 140), np.linspace(2, 0.5, 140), 2)
    low_rank = with_values(tall, np.linspace(2, 1, 100), 1)
    return {
        "rank-deficient, tall": (low_rank, 1e-4 * rng.standard_normal(tall)),
        "rank-deficient, square": (with_values(square, np.linspace(2, 1, 100), 1), 1e-4 * rng.standard_normal(square)),
        "rank-deficient on both sides": (low_rank, 0.01 * low_rank @ with_values(square, np.linspace(1, 0.1, 280), 4)),
        "ill conditioned": (with_values(square, np.geomspace(1, 1e-9, 280), 1), 1e-6 * rng.standard_normal(square)),
        "zero columns": (np.where(np.arange(280) < 200, plain, 0), 1e-4 * rng.standard_normal(tall)),
        "shrunk": (plain, -0.999 * plain),
        "rescaled": (plain, 1e-3 * plain),
        "a tiny update": (plain, 1e-6 * rng.standard_normal(tall)),
        "a huge update": (1e-6 * plain, rng.standard_normal(tall)),
        "the identity": (np.eye(280), 1e-3 * rng.standard_normal(square)),
        "one row": (plain, np.outer(np.eye(320)[5], 1e-2 * rng.standard_normal(280))),
        "every value twice": (np.kron(np.eye(2), half), 1e-4 * rng.standard_normal(tall)),
        "rows of all sizes": (plain * np.exp(4 * rng.standard_normal((320, 1))), 1e-4 * rng.standard_normal(tall)),
        "nothing before": (np.zeros(tall), 1e-4 * rng.standard_normal(tall)),
    }


@pytest.mark.parametrize("name", degenerate())
def test_degenerate_weights_are_answered_as_the_dense_route_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    w0, delta = degenerate()[name]
    assert_as_dense(Case(torch.tensor(w0).float(), torch.tensor(w0 + delta).float()), monkeypatch)


@pytest.mark.parametrize("kind", KINDS)
def test_what_training_does_is_answered_by_the_fast_routes(kind: str) -> None:
    update = realistic((640, 300), kind).update
    for metric in LOCAL:
        if metric.name != "effective_rank":  # it takes the whole spectrum, which no fast route gives
            figures(metric, update)
    answered = {what.split(",")[0]: certificate for what, certificate in update.routes.items()}
    assert answered.keys() == {"principal angles", "spectral shift", "singular values of D"}
    assert answered["principal angles"].route in (Route.RICCATI, Route.BASIS_EIGEN)
    assert answered["spectral shift"].route in (Route.WINDOWS, Route.BASIS_EIGENVALUES)
    assert answered["singular values of D"].route in (Route.KRYLOV, Route.GRAM)
    assert all(certificate.met for certificate in answered.values())


@pytest.mark.parametrize("kind", [*KINDS, "flat", "rank one"])
def test_angles_and_shift_are_within_their_certificates_of_brute_force(kind: str) -> None:
    case = realistic((300, 280), kind, seed=5)
    update = case.update
    exact = oracle.angles(case.before, case.after, K)
    for angles, expected in zip(update.angles(K), exact, strict=True):
        error = np.abs(angles.rad2deg().numpy() - expected) / np.maximum(expected, 0.01)
        assert error.max() <= update.routes[f"principal angles, k={K}"].bound
    error = abs(spectral_shift(update) / oracle.nss(case.before, case.after) - 1)
    assert error <= update.routes["spectral shift"].bound


def test_an_update_as_large_as_the_weight_falls_back() -> None:
    update = realistic((280, 280), "as large as W0").update
    spectral_shift(update)
    update.angles(K)
    assert update.routes["spectral shift"].route is not Route.WINDOWS
    assert update.routes[f"principal angles, k={K}"].route in (Route.BASIS_EIGEN, Route.DENSE)


@pytest.mark.parametrize("of", ["W0", "W_t"])
def test_a_tie_at_the_cut_is_undefined_as_the_dense_route_says(of: str) -> None:
    values = np.linspace(3, 1, 256)
    values[K] = values[K - 1]
    tied = torch.tensor(with_values((256, 300), values, seed=1))
    free = tied + torch.tensor(with_values((256, 300), np.linspace(1, 0.1, 256), seed=9)) * 1e-3
    update = Update(Base(tied), free) if of == "W0" else Update(Base(free), tied)
    with pytest.raises(Undefined, match="tied"):
        rotation_angles(update, K)
    assert f"principal angles, k={K}" not in update.routes
    assert rotation_angles(update, K - 1)["both"].shape == (2 * K - 2,)


def test_a_rank_below_k_is_undefined() -> None:
    case = make((300, 280), torch.float32, seed=2, base_rank=20, step=1e-3)
    exact = Case(torch.tensor(with_values((300, 280), np.linspace(2, 1, 20), seed=2)), case.wt.double())
    with pytest.raises(Undefined, match="rank below"):
        rotation_angles(exact.update, 30)
    assert spectral_shift(exact.update) == pytest.approx(oracle.nss(exact.before, exact.after), rel=ACCURACY)


def test_a_checkpoint_of_rank_below_k_is_undefined() -> None:
    w0 = torch.tensor(with_values((300, 280), np.linspace(2, 1, 280), seed=2)).float()
    low = torch.tensor(with_values((300, 280), np.linspace(2, 1, 20), seed=3))
    with pytest.raises(Undefined, match="rank below"):
        rotation_angles(Update(Base(w0), low), 30)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("shape", SHAPES)
def test_scale_changes_nothing(shape: Shape, scale: float) -> None:
    power = 2.0 ** round(np.log2(scale))
    case = realistic(shape, "opd")
    plain, other = case.update, Case(case.w0 * power, case.wt * power).update
    for metric in LOCAL:
        if metric.name not in ("update_norm", "frozen_by_precision"):  # both are in units of the weights
            assert figures(metric, other) == figures(metric, plain), metric.name


@pytest.mark.parametrize("k", [1, 2, 40, 150, 254, 255])
def test_cuts_near_the_ends_of_the_spectrum(k: int) -> None:
    case = realistic((256, 300), "opd", seed=3)
    for angles, expected in zip(case.update.angles(k), oracle.angles(case.before, case.after, k), strict=True):
        np.testing.assert_allclose(angles.rad2deg(), expected, rtol=ACCURACY, atol=ACCURACY * 0.01)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_update(shape: Shape) -> None:
    w0 = realistic(shape, "opd").w0
    still = Update(Base(w0), w0.clone())
    assert max(float(side.max()) for side in still.angles(K)) < 1e-10
    assert spectral_shift(still) < 1e-12
    assert still.is_zero


@pytest.mark.parametrize("shape", SHAPES)
def test_without_numpy_scipy_and_onednn_the_figures_are_the_same(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs on other devices: torch alone."""
    case = realistic(shape, "opd", seed=8)
    here = {metric.name: figures(metric, case.update) for metric in LOCAL}
    monkeypatch.setattr(kernels, "NUMPY_ON_CPU", False)
    monkeypatch.setattr(kernels, "ONEDNN_ON_CPU", False)
    there = case.update
    for metric in LOCAL:
        assert figures(metric, there) == pytest.approx(here[metric.name], rel=1e-4), metric.name
    np.testing.assert_allclose(there.spectrum.right(8).T @ case.update.spectrum.right(8), np.eye(8), atol=2)


def test_figures_of_entries_form_no_difference_and_those_of_the_update_no_basis() -> None:
    update = realistic((300, 280), "opd").update
    for name in ("update_sparsity", "low_magnitude_overlap", "frozen_share", "rounding_share", "relative_update_norm"):
        figures(load_metrics()[name], update)
    assert not update.__dict__.keys() & {"delta", "matrix", "spectrum", "perturbation", "factorization"}
    for name in ("stable_rank", "hill_exponent", "top_energy"):
        figures(load_metrics()[name], update)
    assert not update.__dict__.keys() & {"matrix", "perturbation", "factorization", "current"}
    assert not update.base.__dict__.keys() & {"matrix", "basis", "factorization"}


def test_a_base_is_restored_with_its_factorization_and_gives_identical_figures() -> None:
    case = realistic((300, 280), "opd")
    first = case.update
    expected = {metric.name: figures(metric, first) for metric in LOCAL}
    base = Base.from_state(case.w0, first.base.state())
    assert base.__dict__.keys() >= {"basis"}
    again = Update(base, case.wt)
    assert {metric.name: figures(metric, again) for metric in LOCAL} == expected
    assert Base(case.w0).state() == {}
    with pytest.raises(RunError, match="does not fit"):
        Base.from_state(case.w0[:200], first.base.state())


def test_principal_subspaces_are_those_of_the_dense_route() -> None:
    for shape in SHAPES:
        base = Base(realistic(shape, "opd").w0)
        left, right = (basis.double() for basis in base.principal(K))
        exact = oracle.spectrum(numbers(base.w0))
        assert float(principal_angles(left, torch.tensor(exact.u[:, :K])).max()) < 1e-5
        assert float(principal_angles(right, torch.tensor(exact.v[:, :K])).max()) < 1e-5
