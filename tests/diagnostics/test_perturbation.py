"""W_t in the base's singular basis against brute force: figures, and that no certificate promises too much."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from geomcheck.diagnostics.linalg import ACCURACY, Basis, Perturbation, Route, windows
from geomcheck.diagnostics.linalg.riccati import _remaining, invariant_graph
from geomcheck.diagnostics.linalg.scaling import difference
from geomcheck.diagnostics.linalg.windows import Windowed, windowed_eigenvalues
from geomcheck.errors import RunError
from tests.diagnostics import oracle
from tests.diagnostics.cases import SEEDS, Case, Shape, gap, make, numbers, orthonormal, shapes, with_values

FLOOR = 0.01
STEPS = st.sampled_from([1e-5, 1e-4, 1e-3, 1e-2, 0.1])


def seen(case: Case) -> Perturbation:
    """`case` as the fast route sees it, whatever its size."""
    return Perturbation(Basis.of(case.w0), difference(case.w0, case.wt))


def error_of(actual: torch.Tensor, expected: np.ndarray) -> float:
    """The largest relative error of angles, with the floor."""
    return float(np.max(np.abs(actual.rad2deg().numpy() - expected) / np.maximum(expected, FLOOR)))


@given(shapes(6), SEEDS, STEPS, st.sampled_from([1e-30, 1.0, 1e30]), st.data())
def test_certified_angles_are_those_of_brute_force(
    shape: Shape, seed: int, step: float, scale: float, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, min(shape) - 1))
    case = make(shape, torch.float32, seed, step=step, scale=scale)
    found = seen(case).angles(k)
    if found is None:
        return
    left, right = oracle.angles(case.before, case.after, k)
    if shape[0] < shape[1]:
        left, right = right, left
    (actual_left, actual_right), certificate = found
    assert certificate.bound <= ACCURACY
    assert max(error_of(actual_left, left), error_of(actual_right, right)) <= certificate.bound + 1e-9


@given(shapes(6), SEEDS, STEPS, st.data())
def test_most_updates_are_certified(shape: Shape, seed: int, step: float, data: st.DataObject) -> None:
    """Small updates of a separated spectrum need no fallback: the certificate is not met by refusing everything."""
    k = data.draw(st.integers(1, min(shape) - 1))
    case = make(shape, torch.float32, seed, step=min(step, 1e-3))
    assume(gap(case.before, k) > 1e-2 and gap(case.after, k) > 1e-2)
    found = seen(case).angles(k)
    assert found is not None
    assert found[1].route in (Route.RICCATI, Route.BASIS_EIGEN)


@given(shapes(6), SEEDS, STEPS, st.sampled_from([1e-30, 1.0, 1e30]))
def test_certified_shifts_are_those_of_brute_force(shape: Shape, seed: int, step: float, scale: float) -> None:
    case = make(shape, torch.float32, seed, step=step, scale=scale)
    perturbation = seen(case)
    shift, certificate = perturbation.shift()
    if certificate.met:
        actual = float(torch.linalg.vector_norm(shift)) * 2.0**perturbation.basis.exponent
        expected = oracle.shift(case.before, case.after)
        assert abs(actual / expected - 1) <= certificate.bound + 1e-9
    else:
        assert not certificate.bound <= ACCURACY


@pytest.mark.parametrize("step", [1e-5, 1e-4, 1e-3])
def test_shifts_of_larger_weights_are_certified_by_windows(step: float) -> None:
    case = make((300, 280), torch.float32, seed=3, step=step)
    perturbation = seen(case)
    shift, certificate = perturbation.shift()
    assert certificate.route is Route.WINDOWS
    actual = float(torch.linalg.vector_norm(shift)) * 2.0**perturbation.basis.exponent
    assert abs(actual / oracle.shift(case.before, case.after) - 1) <= certificate.bound + 1e-9


def test_a_cut_that_the_update_ties_is_refused() -> None:
    before = np.array([5.0, 4.0, 3.99, 2.0, 1.5, 1.0])
    after = np.where(before == 3.99, 4.0, before)  # sigma_3 rises to sigma_2: any mixture of both is as good
    w0, wt = (torch.tensor(with_values((30, 6), values, seed=1)).float() for values in (before, after))
    assert Basis.of(w0).separates(2)
    perturbation = seen(Case(w0, wt))
    assert perturbation.angles(2) is None
    assert perturbation.angles(3) is not None


@pytest.mark.parametrize("shape", [(20, 50), (50, 20)])
def test_no_update_is_no_rotation_and_no_shift(shape: Shape) -> None:
    w0 = make(shape, torch.bfloat16, seed=1).w0
    perturbation = seen(Case(w0, w0.clone()))
    found = perturbation.angles(5)
    assert found is not None
    assert max(float(side.max()) for side in found[0]) == 0
    assert float(perturbation.shift()[0].abs().max()) < 1e-12


@given(st.sampled_from([(30, 30), (30, 70), (70, 30)]), SEEDS, st.integers(1, 28))
def test_rank_one_updates(shape: Shape, seed: int, k: int) -> None:
    case = make(shape, torch.float32, seed, delta_rank=1, step=1e-3)
    found = seen(case).angles(k)
    assume(found is not None)
    left, right = oracle.angles(case.before, case.after, k)
    if shape[0] < shape[1]:
        left, right = right, left
    assert max(error_of(found[0][0], left), error_of(found[0][1], right)) <= found[1].bound


def test_a_nearly_tied_cut_is_either_right_or_refused() -> None:
    """s_k - s_{k+1} from 1e-2 to 1e-9 of s_1, the update being larger than all of them."""
    refused = 0
    for exponent in range(2, 10):
        values = np.linspace(2, 1, 40)
        values[10] = values[9] * (1 - 10.0**-exponent)
        w0 = with_values((40, 60), values, seed=exponent)
        wt = w0 + 1e-3 * with_values((40, 60), np.linspace(1, 0.2, 40), seed=exponent + 50)
        found = seen(Case(torch.tensor(w0).float(), torch.tensor(wt).float())).angles(10)
        if found is None:
            refused += 1
            continue
        exact = [numbers(torch.tensor(matrix).float()) for matrix in (w0, wt)]
        left, right = oracle.angles(*exact, 10)
        assert max(error_of(found[0][0], right), error_of(found[0][1], left)) <= found[1].bound
    assert refused < 8


@given(SEEDS)
def test_the_base_says_where_its_cut_is_tied_or_its_rank_too_low(seed: int) -> None:
    values = np.array([4.0, 3.0, 3.0, 2.0, 1.0, 0.0, 0.0])
    basis = Basis.of(torch.tensor(with_values((9, 7), values, seed)))
    assert [k for k in range(9) if basis.separates(k)] == [1, 3, 4, 5]


@pytest.mark.parametrize("shape", [(30, 30), (30, 50), (50, 30)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_basis_is_restored_from_its_state(shape: Shape, dtype: torch.dtype) -> None:
    case = make(shape, dtype, seed=4, step=0.01)
    basis = Basis.of(case.w0)
    state = {name: tensor.clone() for name, tensor in basis.state().items()}
    assert sum(tensor.numel() * tensor.element_size() for tensor in state.values()) == 4 * 30**2 + 8 * 30
    delta = difference(case.w0, case.wt)
    first = Perturbation(basis, delta).angles(6)
    again = Perturbation(Basis.from_state(case.w0, state), delta).angles(6)
    assert first is not None
    assert again is not None
    assert all(torch.equal(a, b) for a, b in zip(first[0], again[0], strict=True))
    truncated = basis.truncated(6)
    expected = oracle.low_rank(case.before, 6)
    np.testing.assert_allclose(truncated.matrix * truncated.factor, expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("wrong", ["shape", "dtype", "missing", "more"])
def test_a_state_of_another_weight_is_refused(wrong: str) -> None:
    w0 = make((20, 30), torch.float32, seed=0).w0
    state = Basis.of(w0).state()
    if wrong == "shape":
        state["vectors"] = state["vectors"][:-1]
    elif wrong == "dtype":
        state["values"] = state["values"].float()
    elif wrong == "missing":
        del state["values"]
    else:
        state["extra"] = state["values"]
    with pytest.raises(RunError, match="does not fit"):
        Basis.from_state(w0, state)


# ---- the two algorithms by themselves


def perturbed(size: int, strength: float, seed: int, *, power: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    """A descending diagonal and a symmetric change whose entries are `strength` times the distance of neighbours."""
    rng = np.random.default_rng(seed)
    diagonal = np.sort(rng.random(size))[::-1] + 1 + 5 * np.arange(1.0, size + 1) ** -power
    change = rng.standard_normal((size, size)) * strength / size
    return torch.tensor(np.sort(diagonal)[::-1].copy()), torch.tensor((change + change.T) / 2).float()


def shift_of(eigenvalues: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    return eigenvalues.clamp_min(0).sqrt() - before


@settings(max_examples=12)
@given(st.integers(256, 330), st.sampled_from([1e-6, 1e-3, 1e-2, 0.05]), SEEDS)
def test_windowed_eigenvalues(size: int, strength: float, seed: int) -> None:
    diagonal, change = perturbed(size, strength, seed)
    before = diagonal.sqrt()
    exact = shift_of(torch.linalg.eigvalsh(torch.diag(diagonal) + change.double()).flip(0), before)
    windowed = windowed_eigenvalues(diagonal, change)
    assert windowed is not None
    off = torch.linalg.vector_norm(shift_of(windowed.eigenvalues, before) - exact)
    assert float(off / torch.linalg.vector_norm(exact)) <= windowed.relative_error(before) <= ACCURACY


@pytest.mark.parametrize("place", [3, 40, 150, 299])
@pytest.mark.parametrize("factor", [0.5, 0.9, 1.001, 3.0])
def test_an_eigenvalue_that_moves_past_others_is_found_where_it_went(place: int, factor: float) -> None:
    """By the diagonal, which needs no window but the right order."""
    diagonal = torch.linspace(4, 1, 300, dtype=torch.float64)
    change = torch.zeros(300, 300)
    change[place, place] = float(diagonal[place]) * (factor - 1)
    found = windowed_eigenvalues(diagonal, change)
    assert found is not None
    exact = (diagonal + change.diagonal()).sort(descending=True).values
    torch.testing.assert_close(found.eigenvalues, exact, rtol=1e-12, atol=0)


@pytest.mark.parametrize("places", [(3, 4), (100, 101), (100, 110), (290, 299)])
def test_eigenvalues_that_a_coupling_drives_out_of_their_window_are_not_missed(places: tuple[int, int]) -> None:
    diagonal = torch.linspace(4, 1, 300, dtype=torch.float64)
    change = torch.zeros(300, 300)
    change[places] = change[places[::-1]] = 0.7
    assert windowed_eigenvalues(diagonal, change) is None


def test_the_defects_show_an_eigenvalue_that_was_taken_twice() -> None:
    """Whatever the windows say of their own error: trace and Frobenius norm are exact."""
    diagonal, change = spiked()
    before = diagonal.sqrt()
    found = windowed_eigenvalues(diagonal, change)
    assert found is not None
    assert found.relative_error(before) < 1e-5
    wrong = found.eigenvalues.clone()
    wrong[200] = wrong[190]
    missed = float(wrong[200] - found.eigenvalues[200])
    doubted = replace(found, eigenvalues=wrong, trace_defect=found.trace_defect + missed)
    off = shift_of(wrong, before)[200] - shift_of(found.eigenvalues, before)[200]
    size = torch.linalg.vector_norm(shift_of(wrong, before))
    assert doubted.relative_error(before) >= 0.5 * float(off / size) > ACCURACY


def test_the_error_of_windows_does_not_depend_on_the_scale() -> None:
    diagonal, change = perturbed(300, 1e-2, seed=1)
    windowed = windowed_eigenvalues(diagonal, change)
    assert windowed is not None
    small = Windowed(
        windowed.eigenvalues * 1e-6, windowed.error * 1e-6, windowed.trace_defect * 1e-6, windowed.square_defect * 1e-12
    )
    before = diagonal.sqrt()
    assert small.relative_error(before * 1e-3) == pytest.approx(windowed.relative_error(before))


def test_windows_refuse_what_is_not_a_perturbation() -> None:
    diagonal, change = perturbed(300, 1e3, seed=1)
    assert windowed_eigenvalues(diagonal, change) is None
    assert windowed_eigenvalues(torch.ones_like(diagonal), change) is None
    assert windowed_eigenvalues(diagonal, torch.full_like(change, torch.nan)) is None
    steep = 0.8 ** torch.arange(300, dtype=torch.float64)
    assert windowed_eigenvalues(steep, change * 1e-40) is None


@given(st.integers(120, 200), st.integers(1, 119), st.sampled_from([1e-4, 1e-2, 0.1, 0.5]), SEEDS)
def test_the_riccati_iteration_finds_the_invariant_subspace(size: int, k: int, strength: float, seed: int) -> None:
    diagonal, change = perturbed(size, strength, seed)
    graph = invariant_graph(diagonal, change, k)
    if graph is None:
        assert strength > 1e-2
        return
    _, vectors = torch.linalg.eigh(torch.diag(diagonal) + change.double())
    exact = vectors.flip(1)[:, :k].numpy()
    basis, _ = np.linalg.qr(torch.cat([graph.top, graph.rest]).double().numpy())
    sines = np.linalg.norm(basis - exact @ (exact.T @ basis), 2)
    assert sines <= graph.error + 3e-6


def test_the_riccati_iteration_converges_where_its_changes_grow_and_shrink_in_turn() -> None:
    """Two rows below the cut, one near and one far, hand Q to and fro: times 4 one way, times 0.04 the other."""
    size, k = 200, 50
    near, far = torch.linspace(10300, 10250, k), torch.linspace(10200, 10100, size - k - 1)
    diagonal = torch.cat([near, far, torch.ones(1)]).double()
    generator = torch.Generator().manual_seed(0)
    change = torch.randn(size, size, generator=generator)
    change = (change + change.T) / 2
    change[150, -1] = change[-1, 150] = 400.0
    graph = invariant_graph(diagonal, change, k)
    assert graph is not None
    vectors = torch.linalg.eigh(torch.diag(diagonal) + change.double())[1].flip(1)[:, :k].numpy()
    basis, _ = np.linalg.qr(torch.cat([graph.top, graph.rest]).double().numpy())
    assert np.linalg.norm(basis - vectors @ (vectors.T @ basis), 2) <= graph.error + 1e-7


@given(st.floats(1e-3, 1.0), st.floats(1e-3, 10.0), st.floats(1e-3, 0.8))
def test_what_remains_of_changes_in_turn_is_their_sum(even: float, odd: float, ratio: float) -> None:
    changes = [(odd if index % 2 else even) * ratio ** (index // 2) for index in range(400)]
    assert _remaining(changes[:2]) == changes[1]
    for done in (3, 6):
        assert _remaining(changes[:done]) == pytest.approx(sum(changes[done:]), rel=1e-9)
    assert _remaining([1.0, 1.0, 0.82]) is None
    assert _remaining([1.0, 1.0, math.nan]) is None


def test_the_riccati_iteration_gives_up_where_the_order_of_the_values_changes() -> None:
    """Outside the window the diagonal says that a row belongs below the cut, and the change lifts it above."""
    diagonal = torch.linspace(2, 1, 200, dtype=torch.float64)
    change = torch.zeros(200, 200)
    change[199, 199] = 3.0
    assert invariant_graph(diagonal, change, 20) is None


def test_a_rotation_by_more_than_a_graph_can_hold() -> None:
    """The cut swaps two directions, 90 degrees: right, or refused."""
    values = np.linspace(3, 1, 30)
    u, v = orthonormal(40, 30, 1), orthonormal(30, 30, 2)
    w0 = (u * values) @ v.T
    swapped = values.copy()
    swapped[[9, 10]] = swapped[[10, 9]]
    case = Case(torch.tensor(w0), torch.tensor((u * swapped) @ v.T))
    found = seen(case).angles(10)
    if found is not None:
        assert float(found[0][0][-1].rad2deg()) == pytest.approx(90, abs=0.05)
        assert float(found[0][0][-2].rad2deg()) < 0.01


def test_nothing_separates_in_a_base_of_zeros() -> None:
    assert not any(Basis.of(torch.zeros(9, 7)).separates(k) for k in range(9))


def spiked() -> tuple[torch.Tensor, torch.Tensor]:
    """A diagonal whose first values stand apart, and a change that couples all of them."""
    diagonal = torch.linspace(4, 1, 400, dtype=torch.float64) + 8 * torch.arange(1, 401).double() ** -1.5
    change = 3e-4 * torch.randn(400, 400, generator=torch.Generator().manual_seed(5))
    return diagonal, change + change.T


@pytest.mark.parametrize("at_once", [1, 3])
def test_windows_do_not_depend_on_how_many_are_done_at_once(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    diagonal, change = spiked()
    expected = windowed_eigenvalues(diagonal, change)
    monkeypatch.setattr(windows, "AT_ONCE", at_once)
    found = windowed_eigenvalues(diagonal, change)
    assert expected is not None
    assert found is not None
    torch.testing.assert_close(found.eigenvalues, expected.eigenvalues, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.error, expected.error, rtol=1e-3, atol=1e-12)
    assert found.relative_error(diagonal.sqrt()) == pytest.approx(expected.relative_error(diagonal.sqrt()), rel=1e-2)
