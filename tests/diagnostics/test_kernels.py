"""Products and eigenpairs, by every library and for every layout of the operands, against float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from geomcheck.diagnostics.linalg import kernels

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "rows": lambda matrix: matrix,
    "columns": lambda matrix: matrix.T.contiguous().T,
    "some columns": lambda matrix: torch.cat([matrix, matrix], dim=1)[:, : matrix.shape[1]],
    "some rows, transposed": lambda matrix: torch.cat([matrix.T, matrix.T], dim=1)[:, : matrix.shape[0]].T,
    "every other": lambda matrix: matrix.repeat_interleave(2, dim=1)[:, ::2],
}


@pytest.fixture(params=["this processor's", "torch alone"], autouse=True)
def libraries(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "torch alone":
        monkeypatch.setattr(kernels, "NUMPY_ON_CPU", False)
        monkeypatch.setattr(kernels, "ONEDNN_ON_CPU", False)


@pytest.mark.parametrize("right", LAYOUTS)
@pytest.mark.parametrize("left", LAYOUTS)
@pytest.mark.parametrize("sizes", [(65, 130, 17), (17, 130, 65), (1, 40, 1), (300, 1, 20)])
def test_products(sizes: tuple[int, int, int], left: str, right: str) -> None:
    rows, inner, columns = sizes
    generator = torch.Generator().manual_seed(sum(sizes))
    a = LAYOUTS[left](torch.randn(rows, inner, generator=generator))
    b = LAYOUTS[right](torch.randn(inner, columns, generator=generator))
    exact = a.double().numpy() @ b.double().numpy()
    np.testing.assert_allclose(kernels.product(a, b).numpy(), exact, atol=1e-5 * inner**0.5)
    np.testing.assert_allclose(kernels.product(a.double(), b.double()).numpy(), exact, atol=1e-12 * inner**0.5)


@pytest.mark.parametrize("left", [(3, 20, 30), (20, 30)], ids=["a stack", "one"])
def test_products_of_stacks(left: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(4)
    a, b = torch.randn(left, generator=generator), torch.randn(3, 30, 10, generator=generator)
    np.testing.assert_allclose(kernels.products(a, b).numpy(), a.double().numpy() @ b.double().numpy(), atol=1e-4)


@pytest.mark.parametrize("sizes", [(0, 3, 4), (3, 0, 4), (3, 4, 0)])
def test_products_of_nothing(sizes: tuple[int, int, int]) -> None:
    rows, inner, columns = sizes
    assert torch.equal(kernels.product(torch.ones(rows, inner), torch.ones(inner, columns)), torch.zeros(rows, columns))


def test_what_is_not_finite_stays_so() -> None:
    a = torch.ones(20, 30)
    a[3, 4] = torch.inf
    a[5, 6] = torch.nan
    found = kernels.product(a, torch.ones(30, 10))
    assert found[3].isposinf().all()
    assert found[5].isnan().all()
    assert torch.equal(found[6], torch.full((10,), 30.0))


def test_a_product_does_not_depend_on_where_its_operands_lie() -> None:
    a, b = torch.randn(40, 200, generator=torch.Generator().manual_seed(1)), torch.ones(200, 24) / 3
    expected = kernels.product(a, b)
    for offset in range(1, 17):
        place = torch.empty(a.numel() + offset)[offset:].view(a.shape)
        assert torch.equal(kernels.product(place.copy_(a), b), expected)


def test_eigenpairs_are_descending_and_exact() -> None:
    matrix = torch.randn(90, 90, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    symmetric = matrix + matrix.T
    values, vectors = kernels.eigenpairs(symmetric)
    assert torch.equal(values, values.sort(descending=True).values)
    torch.testing.assert_close(symmetric @ vectors, vectors * values, atol=1e-11, rtol=0)
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(90, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("count", [1, 7, 90])
def test_leading_eigenvectors_are_those_of_the_largest_eigenvalues(count: int) -> None:
    matrix = torch.randn(90, 90, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    symmetric = matrix + matrix.T
    values = torch.from_numpy(np.linalg.eigvalsh(symmetric.numpy())[::-1][:count].copy())
    _, vectors = kernels.leading_eigenpairs(symmetric, count)
    assert vectors.shape == (90, count)
    torch.testing.assert_close(symmetric @ vectors, vectors * values, atol=1e-11, rtol=0)
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(count, dtype=torch.float64), atol=1e-12, rtol=0)
