"""W0 is factorized once for all runs that start from it, as long as the cache has it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import geomcheck
from geomcheck.diagnostics.linalg import Basis
from geomcheck.measurement import Cache
from tests.runs import Q, age, write_run

STEPS = (10, 20)


def large_run(directory: Path, seed: int) -> Path:
    """One matrix, large enough for the routes that need W0's basis."""
    generator = torch.Generator().manual_seed(0)
    w0 = torch.randn(280, 260, generator=generator).bfloat16()
    own = torch.Generator().manual_seed(seed)
    after = {step: {Q: w0.float() + 1e-4 * step * torch.randn(w0.shape, generator=own)} for step in STEPS}
    return age(write_run(directory, {Q: w0}, after))


POISONS: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "another": lambda values, vectors: (values * 1.01, vectors),
    "not a number": lambda values, vectors: (values * math.nan, vectors),
    "infinite": lambda values, vectors: (values, vectors + math.inf),
    "turned": lambda values, vectors: (values, vectors.flip(1)),
    "no basis": lambda values, vectors: (values, vectors * 0.5),
    "ascending": lambda values, vectors: (values.flip(0), vectors.flip(1)),
    "negative": lambda values, vectors: (-values.flip(0), vectors.flip(1)),
    "smaller": lambda values, vectors: (values[:9], vectors[:9, :9]),
    "larger": lambda values, vectors: (values.repeat(9), vectors.repeat(9, 9)),
}


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
def test_a_factorization_of_another_weight_is_not_used(
    tmp_path: Path, poison: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
) -> None:
    """Whoever may write to a cache may leave any under the digest of W0."""
    run = large_run(tmp_path / "run", 1)
    cold = geomcheck.measure(run, metrics=["principal_angle"], cache=tmp_path / "cache")
    (file,) = (tmp_path / "cache" / "bases").iterdir()
    state = load_file(file)
    digest = file.name.partition("-")[0]
    values, vectors = poison(state["values"], state["vectors"])
    Cache(tmp_path / "cache").keep_base_state(digest, {"values": values, "vectors": vectors})
    shutil.rmtree(tmp_path / "cache" / "records")
    (tmp_path / "cache" / "measurements.sqlite").unlink()
    again = geomcheck.measure(run, metrics=["principal_angle"], cache=tmp_path / "cache")
    assert list(again.rows()) == list(cold.rows())
    assert all(torch.equal(tensor, state[name]) for name, tensor in load_file(file).items())  # and kept anew


def test_a_second_run_from_the_same_weights_takes_the_factorization_that_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    geomcheck.measure(large_run(tmp_path / "first", 1), metrics=["principal_angle"], cache=tmp_path / "cache")
    second = large_run(tmp_path / "second", 2)
    cold = geomcheck.measure(second, metrics=["principal_angle"])

    def fail(*_: object) -> None:
        raise AssertionError("W0 was factorized again")

    monkeypatch.setattr(Basis, "of", fail)
    warm = geomcheck.measure(second, metrics=["principal_angle"], cache=tmp_path / "cache")
    assert list(warm.rows()) == list(cold.rows())
    with pytest.raises(AssertionError, match="factorized again"):
        geomcheck.measure(second, metrics=["principal_angle"])
