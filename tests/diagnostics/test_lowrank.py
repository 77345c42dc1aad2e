"""An update by its factors against the same update as a matrix: every metric, and the spectrum itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geomcheck.diagnostics import Base, Metric, Update, load_metrics
from geomcheck.diagnostics.linalg import Factorization, UpdateSpectrum
from geomcheck.diagnostics.locking import top_channel
from geomcheck.diagnostics.lowrank import LowRank
from geomcheck.errors import Undefined
from tests.diagnostics import oracle
from tests.diagnostics.cases import SEEDS, Run, Shape, make, orthonormal, shapes

each_metric = pytest.mark.parametrize("metric", list(load_metrics()), ids=lambda metric: metric.name)


def factors(shape: Shape, values: np.ndarray, seed: int) -> LowRank:
    """An update with given singular values, its factors mixed so that neither is orthogonal."""
    rank = len(values)
    mixed = np.random.default_rng(seed).standard_normal((rank, rank)) + 3 * np.eye(rank)
    left = orthonormal(shape[0], rank, seed) * values @ np.linalg.inv(mixed)
    return LowRank(torch.tensor(left), torch.tensor(mixed @ orthonormal(shape[1], rank, seed + 1).T))


def pair(shape: Shape, values: np.ndarray, seed: int, dtype: torch.dtype = torch.bfloat16) -> tuple[Update, Update]:
    """The same update by its factors, and as a matrix; W_t in float64 would round away its rank."""
    base = Base(make(shape, dtype, seed).w0)
    change = factors(shape, values, seed + 5)
    dense = Update(base, base.matrix + change.matrix)
    dense.__dict__ |= {"matrix": change.matrix, "spectrum": UpdateSpectrum(dense.delta, lambda: change.matrix)}
    return Update(base, change), dense


@each_metric
@given(shapes(3), SEEDS, st.sampled_from([1e-6, 1e-3, 1.0, 1e3]), st.data())
def test_every_metric_gives_the_same_from_factors_as_from_the_matrix(
    metric: Metric, shape: Shape, seed: int, scale: float, data: st.DataObject
) -> None:
    """Ranks from 1 to min(out, in), k up to the rank and above it."""
    rank = data.draw(st.integers(1, min(shape)))
    k = data.draw(st.integers(1, min(shape)))
    values = scale * np.linspace(2.0, 1.0, rank)
    thin, dense = pair(shape, values, seed)
    if metric.name == "rounding_share":  # of the fp32 that merging gives
        dense.__dict__ |= {"wt": thin.wt, "norm": thin.norm}
    other = pair(shape, values, seed + 9)[0]
    params = {p.name: {"k": k, "rank": 2}.get(p.name, p.usual) for p in metric.measured_parameters}

    def figures(update: Update) -> dict[str, float] | str:
        try:
            return dict(metric.compute(update, params, Run(update, other)))
        except Undefined as reason:
            return str(reason)

    expected, actual = figures(dense), figures(thin)
    if metric.name == "representable_share":  # of what is stored
        expected = "an adapter stores D_t, so W_t is of no format"
    if isinstance(expected, str) or isinstance(actual, str):
        assert actual == expected
    else:
        noise = 1e-12 if "spectral" not in metric.name else 1e-13 / scale  # a difference of spectra of W0's size
        assert actual == pytest.approx(expected, rel=2e-6, abs=noise)


@given(shapes(3), SEEDS, st.sampled_from([1e-150, 1e-30, 1.0, 1e30, 1e150]), st.data())
def test_the_spectrum_is_that_of_the_product(shape: Shape, seed: int, scale: float, data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, min(shape)))
    k = data.draw(st.integers(1, rank))
    values = scale * np.linspace(2.0, 1.0, rank)
    change = factors(shape, values, seed)
    whole = oracle.spectrum(change.matrix.numpy() / scale)
    thin = change.factorization
    np.testing.assert_allclose(thin.top_values(k), values[:k], rtol=1e-10)
    assert float(thin.top_values(1)[0]) == pytest.approx(values[0], rel=1e-12)
    assert thin.norm == pytest.approx(scale * oracle.norm(change.matrix.numpy() / scale), rel=1e-12)
    assert oracle.subspace_angles(thin.left(k).numpy(), whole.u[:, :k]).max() < 1e-6
    assert oracle.subspace_angles(thin.right(k).numpy(), whole.v[:, :k]).max() < 1e-6


@given(shapes(3), SEEDS, st.data())
def test_subspaces_are_refused_by_the_rule_for_matrices(shape: Shape, seed: int, data: st.DataObject) -> None:
    """Ranks below k, be it by the factors' width or by factors whose product has a lower rank, and ties."""
    size = min(shape)
    rank = data.draw(st.integers(1, size - 1))
    change = factors(shape, np.linspace(2.0, 1.0, rank), seed)
    doubled = LowRank(torch.cat([change.left, change.left], 1), torch.cat([change.right, change.right], 0))
    for thin in (change.factorization, doubled.factorization):
        assert thin.right(rank).shape == (shape[1], rank)
        for side in (thin.left, thin.right):
            with pytest.raises(Undefined, match=f"rank below k = {rank + 1}"):
                side(rank + 1)
    tied = factors(shape, np.array([2.0, 2.0]), seed).factorization
    with pytest.raises(Undefined, match="singular values 1 and 2 are tied"):
        tied.right(1)
    assert tied.left(2).shape == (shape[0], 2)


@given(shapes(3), SEEDS, st.integers(1, 60))
def test_more_columns_than_the_matrix_has_are_no_rank(shape: Shape, seed: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    change = LowRank(
        torch.tensor(rng.standard_normal((shape[0], width))), torch.tensor(rng.standard_normal((width, shape[1])))
    )
    expected = oracle.spectrum(change.matrix.numpy()).s
    rank = min(width, *shape)
    np.testing.assert_allclose(change.factorization.top_values(99), expected[:rank], rtol=1e-7, atol=1e-12)
    with pytest.raises(Undefined, match="rank below"):
        change.factorization.right(rank + 1)


def test_no_update_is_zero_and_has_no_subspace() -> None:
    base = make((6, 5), torch.bfloat16, seed=1)
    still = Update(Base(base.w0), LowRank(torch.zeros(6, 2).double(), torch.randn(2, 5).double()))
    assert still.is_zero
    assert torch.equal(still.wt, base.w0.float())
    with pytest.raises(Undefined, match="rank below"):
        still.spectrum.right(1)


@pytest.mark.parametrize(
    ("dtype", "merged"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_w_t_is_merged_in_fp32_or_better(dtype: torch.dtype, merged: torch.dtype) -> None:
    thin, dense = pair((7, 9), np.array([1.0, 0.5]), 3, dtype)
    assert thin.wt.dtype == merged
    assert torch.equal(thin.wt, dense.wt.to(merged))


def test_the_matrix_is_not_factored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a 300 x 200 update of rank 3, nothing larger than 3 x 3 is decomposed."""
    seen: list[int] = []
    plain = Factorization.__init__

    def watched(self: Factorization, matrix: torch.Tensor) -> None:
        seen.append(max(matrix.shape))
        plain(self, matrix)

    monkeypatch.setattr(Factorization, "__init__", watched)
    thin, _ = pair((300, 200), np.array([3.0, 2.0, 1.0]), 3)
    assert thin.norm > 0
    for name in ("stable_rank", "hill_exponent", "top_energy"):
        metric = load_metrics()[name]
        metric.compute(thin, {p.name: 3 for p in metric.measured_parameters}, Run(thin, thin))
    assert top_channel(thin, 2, "right").shape == (200, 2)
    assert seen == [3]


@pytest.mark.parametrize("shape", [(400, 30), (30, 400)])
def test_a_value_below_the_rounding_of_the_whole_matrix_is_no_direction(shape: Shape) -> None:
    """The threshold is of the matrix's longer side, not of the core's, however small that is."""
    for value, whole in ((3e-14, False), (1e-4, True)):
        left = torch.tensor(orthonormal(shape[0], 2, 1) * np.array([1.0, value]))
        thin = LowRank(left, torch.tensor(orthonormal(shape[1], 2, 2).T)).factorization
        for side, rows in ((thin.left, shape[0]), (thin.right, shape[1])):
            if whole:
                assert side(2).shape == (rows, 2)
            else:
                with pytest.raises(Undefined, match="rank below k = 2"):
                    side(2)
