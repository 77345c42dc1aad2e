"""Every figure of weights made to mislead the fast routes is within what is promised, or there is none."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings

from geomcheck.diagnostics import Base, Update
from geomcheck.diagnostics.linalg import ACCURACY, Route, perturbation
from geomcheck.diagnostics.linalg import spectrum as spectrum_module
from geomcheck.diagnostics.linalg.lockstep import Lockstep
from tests.diagnostics import oracle
from tests.diagnostics.adversaries import ANY, SHIFTS, SPECTRA, STORAGES, UPDATES, Adversary, Table, judged, sampled
from tests.diagnostics.cases import with_values

SAMPLE = [adversary for adversary in sampled(60) if adversary.is_sound]


@pytest.mark.parametrize("adversary", SAMPLE, ids=str)
def test_figures_of_a_sample(adversary: Adversary) -> None:
    assert [str(one) for one in judged(adversary) if not one.is_kept] == []


@settings(max_examples=max(25, settings().max_examples // 2))
@given(ANY)
@example(Adversary("power law 2", "noise 1e-12", (320, 288), "adapter", seed=2311))  # eigenvalues are rounded, too
def test_figures_of_any(adversary: Adversary) -> None:
    assert [str(one) for one in judged(adversary) if not one.is_kept] == []


@pytest.mark.parametrize("adversary", [*SAMPLE[::5], *(a for a in SAMPLE if a.update == "noise 1e-12")], ids=str)
def test_shifts_where_all_eigenvalues_are_sooner_than_windows(
    adversary: Adversary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perturbation, "WINDOWS_FROM", 1280)
    for other in (adversary, replace(adversary, update="noise 1e-12"), replace(adversary, update="one entry")):
        assert [str(one) for one in judged(other, SHIFTS) if not one.is_kept] == []


def test_the_sample_has_every_spectrum_update_and_storage() -> None:
    assert {adversary.spectrum for adversary in sampled(60)} == SPECTRA.keys()
    assert {adversary.update for adversary in sampled(60)} == UPDATES.keys()
    assert {adversary.storage for adversary in sampled(60)} == set(STORAGES)


def test_the_table_counts_by_route_and_names_what_is_beyond_the_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Adversary("Gaussian", "noise 1e-04", (256, 256), "fp32")
    kept = Table.of([one])
    assert (kept.count, kept.broken) == (1, [])
    assert kept.tallies["spectral_shift", Route.WINDOWS.value].figures == 2
    assert str(kept).startswith("1 adversaries\n")
    assert str(kept).endswith("beyond the promise: 0")
    right = Update.shift_norm.__get__
    monkeypatch.setattr(Update, "shift_norm", property(lambda update: 1.01 * right(update, Update)))
    broken = Table.of([one])
    assert [found.metric.name for found in broken.broken] == ["spectral_shift", "spectral_share"] * 2
    assert "beyond the promise: 4\nGaussian; noise 1e-04; 256x256 fp32, spectral_shift" in str(broken)


# ---- the smallest ones that were certified, and wrong by up to a hundred times


def test_a_tripled_singular_value_of_a_gaussian_matrix() -> None:
    w0 = np.random.default_rng(0).standard_normal((256, 256))
    u, s, v = oracle.spectrum(w0)
    for factor in (1.0, 2.0):
        wt = w0 + factor * s[60] * np.outer(u[:, 60], v[:, 60])
        update = Update(Base(torch.tensor(w0)), torch.tensor(wt))
        assert update.shift_norm == pytest.approx(oracle.shift(w0, wt), rel=1e-5)


@pytest.mark.parametrize("share", [0.03, 0.1, 0.3])
def test_singular_values_scaled_by_noise(share: float) -> None:
    rng = np.random.default_rng(1)
    w0 = rng.standard_normal((512, 512))
    u, s, v = oracle.spectrum(w0)
    wt = (u * (s * (1 + share * rng.standard_normal(512)))) @ v.T
    update = Update(Base(torch.tensor(w0)), torch.tensor(wt))
    assert update.shift_norm == pytest.approx(oracle.shift(w0, wt), rel=1e-5)


@pytest.mark.parametrize("name", ["permuted diagonal", "outlier x 100", "outlier x 1000", "zero rows"])
@pytest.mark.parametrize("update", ["one entry", "top two x .1", "u_p v_p, p at 24.0%, x 2", "rank 1", "rank 16"])
@pytest.mark.parametrize("storage", ["fp32", "bf16", "adapter"])
def test_spectral_shifts_that_were_wrong(name: str, update: str, storage: str) -> None:
    adversary = Adversary(name, update, (256, 256), storage)
    weight = adversary.weight
    expected = oracle.shift(weight.w0, weight.wt)
    noise = oracle.RESOLUTIONS["spectral_shift"](weight, 1) * oracle.norm(weight.w0)
    assert abs(adversary.run.this.shift_norm - expected) <= 1e-4 * expected + noise


# ---- certificates


@pytest.mark.parametrize("adversary", [a for a in SAMPLE if min(a.shape) >= 256], ids=str)
def test_certificates_bound_the_errors(adversary: Adversary) -> None:
    """Of angles and spectral shifts, whatever route answers."""
    weight, update = adversary.weight, adversary.run.this
    noise = oracle.RESOLUTIONS["spectral_shift"](weight, 1) * oracle.norm(weight.w0)
    off = max(0.0, abs(update.shift_norm - oracle.shift(weight.w0, weight.wt)) - noise)
    assert off <= update.routes["spectral shift"].bound * update.shift_norm
    for k in (16, 32):
        separation = min(oracle.separation(weight.w0, k), oracle.separation(weight.wt, k))
        if separation < 1e-8:
            continue
        expected, found = oracle.angles(weight.w0, weight.wt, k), update.angles(k)
        bound = update.routes[f"principal angles, k={k}"].bound
        for mine, theirs in zip(found, expected, strict=True):
            beyond = np.abs(mine.rad2deg().numpy() - theirs) - np.degrees(2e-15 / separation)
            assert float((beyond / np.maximum(theirs, 0.01)).max()) <= bound


def test_fast_routes_answer_what_is_benign_and_not_what_is_hopeless() -> None:
    """Certificates are not met by refusing everything, nor by accepting everything."""
    routes = Counter[str]()
    for adversary in (a for a in SAMPLE if min(a.shape) >= 256):
        update = adversary.run.this
        assert update.shift_norm >= 0
        routes[update.routes["spectral shift"].route.name] += 1
    assert routes.keys() == {"WINDOWS", "BASIS_EIGENVALUES", "DENSE"}
    assert min(routes.values()) >= 3


# ---- the other ways in which the same figures are computed


@pytest.mark.parametrize("update", ["u_p v_p, p at 24.0%, x 2", "noise 1e-02", "cut by 20 deg", "rank 16"])
def test_weights_in_lockstep(update: str) -> None:
    """One misleading weight among harmless ones: each has the figures that it has alone, within the promise."""
    group = [Adversary(name, update, (256, 256), "fp32") for name in ("Gaussian", "outlier x 100", "ties of 1e-5")]
    lockstep = Lockstep(len(group))

    def measured(index: int) -> Update:
        with lockstep.member(index):
            found = group[index].run.this
            assert found.shift_norm >= 0
            assert len(found.angles(16)) == 2
            assert len(found.spectrum.top_values(16)) == 16
            return found

    with ThreadPoolExecutor(len(group)) as pool:
        together = list(pool.map(measured, range(len(group))))
    for adversary, found in zip(group, together, strict=True):
        weight = adversary.weight
        expected = oracle.shift(weight.w0, weight.wt)
        noise = oracle.RESOLUTIONS["spectral_shift"](weight, 1) * oracle.norm(weight.w0)
        assert abs(found.shift_norm - expected) <= ACCURACY * expected + noise
        for mine, theirs in zip(found.angles(16), oracle.angles(weight.w0, weight.wt, 16), strict=True):
            assert float((np.abs(mine.rad2deg().numpy() - theirs) / np.maximum(theirs, 0.01)).max()) <= ACCURACY
        top = oracle.spectrum(weight.d).s[:16]
        np.testing.assert_allclose(found.spectrum.top_values(16), top, rtol=ACCURACY, atol=1e-12 * top[0])


@pytest.mark.parametrize("name", ["power", "cluster", "near tie", "spikes", "low rank"])
def test_the_top_of_an_update_where_no_gram_matrix_is_formed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """As of matrices larger than `GRAM_SIZE`: by the iteration, or in float64."""
    monkeypatch.setattr(spectrum_module, "GRAM_SIZE", 0)
    tail = np.arange(1.0, 289)
    values = {
        "power": tail**-0.5,
        "cluster": np.where(tail <= 40, 1.0, 0.5 * tail**-0.2),
        "near tie": np.where(tail == 17, 1 - 1e-7, np.minimum(1.0, 17 / tail)) * tail**-0.3,
        "spikes": np.where(tail <= 4, 50.0, 1 - tail / 1000),
        "low rank": np.where(tail <= 5, 1.0 / tail, 1e-9),
    }[name]
    delta = with_values((320, 288), values, seed=1)
    update = Update(Base(torch.zeros(320, 288, dtype=torch.float64)), torch.tensor(delta))
    exact = oracle.spectrum(delta)
    np.testing.assert_allclose(update.spectrum.top_values(16), exact.s[:16], rtol=1e-5)
    if oracle.separation(delta, 16) > 1e-8:
        assert oracle.subspace_angles(exact.v[:, :16], update.spectrum.right(16).numpy())[-1] < 0.02
