"""The examples in the docstrings of the diagnostics run, and every diagnostic has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

from geomcheck import diagnostics
from geomcheck.diagnostics import Base, Update

GLOBALS = {"torch": torch, "Base": Base, "Update": Update}
"""What the examples take as imported."""

NAMES = sorted(
    module.name for module in pkgutil.walk_packages(diagnostics.__path__, "geomcheck.diagnostics.") if not module.ispkg
)

DIAGNOSTICS = {
    "drift": ("spectral_shift", "spectral_share"),
    "localization": ("principal_overlap", "low_magnitude_overlap"),
    "locking": ("alignment", "subspace_energy"),
    "intruders": ("intruder_dimensions",),
    "lines": ("row_concentration", "frozen_rows"),
    "precision": ("unmovable_share", "representable_share"),
    "rank": (
        "update_norm",
        "relative_update_norm",
        "stable_rank",
        "stable_rank_ceiling",
        "effective_rank",
        "hill_exponent",
        "top_energy",
        "update_spectrum",
        "rounding_share",
    ),
    "rotation": ("rotation_angles", "principal_energy"),
    "trajectory": (
        "update_cosine",
        "increment_norm",
        "increment_cosine",
        "path_efficiency",
        "trajectory_rank",
        "linearity",
        "decay_share",
    ),
    "support": ("update_support", "update_sparsity", "mask_jaccard", "sign_flips", "frozen_share"),
}
"""The functions behind the metrics, by module."""


@pytest.mark.parametrize("name", NAMES)
def test_examples_give_what_they_say(name: str) -> None:
    module = importlib.import_module(name)
    results = doctest.testmod(module, extraglobs=GLOBALS)
    assert results.failed == 0
    assert results.attempted >= len(DIAGNOSTICS.get(name.rpartition(".")[2], ()))


def test_every_diagnostic_has_an_example() -> None:
    for module, names in DIAGNOSTICS.items():
        home = importlib.import_module(f"geomcheck.diagnostics.{module}")
        assert [name for name in names if ">>> " not in inspect.getdoc(getattr(home, name))] == []


def tensor_functions(module: ModuleType) -> Iterator[tuple[str, object]]:
    """Public functions and methods of `module` that take or give tensors."""
    classes = [owner for name, owner in vars(module).items() if inspect.isclass(owner) and not name.startswith("_")]
    for owner in (module, *classes):
        for name, found in vars(owner).items():
            wrapped = next((w for kind in ("__func__", "fget") if (w := getattr(found, kind, None))), found)
            function = inspect.unwrap(wrapped)
            if name.startswith("_") or not inspect.isfunction(function) or function.__module__ != module.__name__:
                continue
            if any("Tensor" in said or "Array" in said for said in function.__annotations__.values()):
                yield f"{owner.__name__}.{name}", function


@pytest.mark.parametrize("name", NAMES)
def test_functions_of_tensors_state_shapes(name: str) -> None:
    found = tensor_functions(importlib.import_module(name))
    assert [place for place, function in found if "shape" not in inspect.getdoc(function).lower()] == []
