"""W0 is factorized once for all runs that start from it, as long as the cache has it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import geomcheck
from geomcheck.diagnostics.linalg import Basis
from tests.runs import Q, age, write_run

STEPS = (10, 20)


def large_run(directory: Path, seed: int) -> Path:
    """One matrix, large enough for the routes that need W0's basis."""
    generator = torch.Generator().manual_seed(0)
    w0 = torch.randn(280, 260, generator=generator).bfloat16()
    own = torch.Generator().manual_seed(seed)
    after = {step: {Q: w0.float() + 1e-4 * step * torch.randn(w0.shape, generator=own)} for step in STEPS}
    return age(write_run(directory, {Q: w0}, after))


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
