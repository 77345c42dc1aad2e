"""The permutation null."""

import numpy as np
import pytest
import torch
from hypothesis import given

from geomcheck.diagnostics import Base, Metric, Update, load_metrics
from geomcheck.diagnostics.localization import low_magnitude_overlap, principal_overlap
from geomcheck.diagnostics.null import SHUFFLES, equally_visible, shuffled, with_null
from geomcheck.diagnostics.rotation import principal_energy
from geomcheck.errors import Undefined
from tests.diagnostics import oracle
from tests.diagnostics.cases import SEEDS, Case, cases, make, orthonormal, update_of, with_values

WITH_NULL = [metric for metric in load_metrics() if metric.parameter("excess_over")]


def params(metric: Metric, **own: object) -> dict[str, object]:
    return {p.name: own.get(p.name, p.usual) for p in metric.measured_parameters}


@given(cases(), SEEDS)
def test_shuffling_is_deterministic(case: Case, seed: int) -> None:
    for null in (shuffled, equally_visible):
        assert torch.equal(null(case.update, seed).wt, null(case.update, seed).wt)


def test_seeds_differ_and_global_random_state_is_left_alone() -> None:
    update = make((20, 20), torch.float32, seed=0).update
    before = torch.get_rng_state()
    first, second = shuffled(update, 0), shuffled(update, 1)
    assert not torch.equal(first.wt, second.wt)
    assert torch.equal(torch.get_rng_state(), before)


@given(cases())
def test_shuffling_permutes_the_entries_of_the_update(case: Case) -> None:
    permuted = np.sort(shuffled(case.update, 3).matrix.numpy(), axis=None)
    rounding = 4 * np.finfo(float).eps * max(np.abs(case.before).max(), np.abs(case.after).max())
    np.testing.assert_allclose(permuted, np.sort(case.delta, axis=None), rtol=0, atol=rounding)


def structureless(dtype: torch.dtype, step: float) -> Update:
    rng = np.random.default_rng(0)
    w0 = torch.tensor(rng.standard_normal((128, 128))).to(dtype)
    return Update(Base(w0), (w0.double() + step * torch.tensor(rng.standard_normal((128, 128)))).to(dtype))


@pytest.mark.parametrize("step", [0.001, 0.003, 0.01, 0.1])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_density_and_low_overlap_of_a_structureless_update_survive(dtype: torch.dtype, step: float) -> None:
    update = structureless(dtype, step)
    null = equally_visible(update, 0)
    assert null.density == pytest.approx(update.density, abs=0.02)
    assert low_magnitude_overlap(null) == pytest.approx(low_magnitude_overlap(update), abs=0.04)


@given(cases(dtypes=(torch.bfloat16,)))
def test_the_null_of_a_bf16_checkpoint_changes_exactly_as_many_entries(case: Case) -> None:
    null = equally_visible(case.update, 1)
    assert np.count_nonzero(null.changed) == np.count_nonzero(case.update.changed)


def test_permuting_a_bf16_update_would_bias_the_overlap() -> None:
    """Why bf16 checkpoints need another null: rounded twice, a structureless update loses its changes."""
    update = structureless(torch.bfloat16, 0.003)
    assert shuffled(update, 0).density < update.density - 0.05


def test_the_null_has_no_geometry() -> None:
    """All energy of an update inside the principal subspaces, of its null only what chance gives."""
    w0 = with_values((40, 30), np.linspace(3, 1, 30), seed=0)
    u, _, v = oracle.spectrum(w0)
    update = update_of(w0, w0 + 0.1 * u[:, :6] @ orthonormal(6, 6, 5) @ v[:, :6].T)
    assert principal_energy(update, 6) == pytest.approx(1.0)
    assert np.mean([principal_energy(shuffled(update, s), 6) for s in range(20)]) == pytest.approx(0.03, abs=0.015)


@pytest.mark.parametrize("metric", WITH_NULL, ids=lambda metric: metric.name)
def test_excess_is_the_figure_minus_the_mean_of_the_shuffles(metric: Metric) -> None:
    update = make((24, 20), torch.bfloat16, seed=7, step=0.1).update
    own = params(metric, rank=4)
    plain = metric.compute(update, own, None)
    null_of = equally_visible if "overlap" in metric.name else shuffled
    shuffles = [metric.compute(null_of(update, seed), own, None) for seed in range(SHUFFLES)]
    excess = metric.compute(update, {**own, "excess_over": "shuffled"}, None)
    assert SHUFFLES >= 2
    for stat, value in plain.items():
        null = np.mean([shuffle[stat] for shuffle in shuffles])
        assert excess[f"observed.{stat}"] == value
        assert excess[f"null.{stat}"] == pytest.approx(null, rel=1e-12)
        assert excess[stat] == pytest.approx(value - null, rel=1e-12, abs=1e-15)
        assert excess[stat] != 0


def test_targeted_changes_exceed_their_null() -> None:
    """Multiplying 15% of the entries, the smallest: all on the low mask, which sizes alone do not explain."""
    rng = np.random.default_rng(2)
    w0 = rng.standard_normal((40, 40))
    wt = w0.copy()
    wt.flat[np.argsort(np.abs(w0), axis=None)[:240]] *= 4
    metric = load_metrics()["low_magnitude_overlap"]
    figures = metric.compute(update_of(w0, wt, torch.float32), params(metric, excess_over="shuffled"), None)
    assert figures["observed.value"] == 1.0
    assert figures["value"] > 0.4


@pytest.mark.parametrize("name", ["low_magnitude_overlap", "principal_overlap"])
def test_a_null_that_nobody_can_see_is_undefined_and_no_crash(name: str) -> None:
    """One tiny entry moved among large ones: permuted, it is invisible in bf16."""
    w0 = torch.tensor(with_values((12, 16), np.linspace(40, 20, 12), seed=0)).float()
    w0[w0.abs() < 0.5] = 1.0
    w0[3, 4] = 1e-6
    wt = w0.clone()
    wt[3, 4] = 2e-6
    metric = load_metrics()[name]
    with pytest.raises(Undefined, match="null"):
        metric.compute(Update(Base(w0), wt), {**params(metric, rank=4), "excess_over": "shuffled"}, None)


def test_principal_overlap_follows_density_as_its_null_does() -> None:
    """The finding behind the null: structureless updates overlap less with the principal mask than alpha."""
    rng = np.random.default_rng(1)
    w0 = rng.standard_normal((60, 60)) * np.exp(rng.standard_normal((60, 1)))
    sparse = update_of(w0, w0 + 2e-3 * rng.standard_normal((60, 60)), torch.bfloat16)
    nulls = [principal_overlap(equally_visible(sparse, seed), rank=6) for seed in range(SHUFFLES)]
    assert principal_overlap(sparse, rank=6) < 0.25
    assert np.mean(nulls) == pytest.approx(principal_overlap(sparse, rank=6), abs=0.05)


def test_the_null_of_no_update_is_none() -> None:
    w0 = torch.randn(8, 6, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    assert equally_visible(Update(Base(w0), w0.clone()), 0).density == 0


def test_a_figure_gets_its_own_parameters_and_is_undefined_where_its_null_is() -> None:
    update, structureless, given_params = make((6, 5), torch.float32, seed=0).update, object(), []

    def compute(of: object, own: dict[str, object], run: object) -> dict[str, float]:
        given_params.append(own)
        if of is structureless:
            raise Undefined("it is flat")
        return {"value": 1.0}

    judged = with_null(compute, lambda update, seed: structureless)
    assert judged(update, {"k": 3, "excess_over": "none"}, None) == {"value": 1.0}
    with pytest.raises(Undefined, match="which is the null, has no figure: it is flat"):
        judged(update, {"k": 3, "excess_over": "shuffled"}, None)
    assert given_params == [{"k": 3}] * 3
