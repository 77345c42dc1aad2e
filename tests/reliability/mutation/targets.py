"""What is mutated, and by which tests it is held."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
EVERY = 1_000_000


@dataclass(frozen=True)
class Target:
    """One module.

    Attributes:
        section: the part of the package it belongs to, as the report groups them.
        path: relative to the root.
        tests: the files whose tests are run on each mutant.
        draw: at most so many mutants, drawn with a fixed seed.
        only: the functions that are mutated; all, where empty.
    """

    section: str
    path: str
    tests: tuple[str, ...]
    draw: int = EVERY
    only: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Of the module's text now."""
        return hashlib.sha256((ROOT / self.path).read_bytes()).hexdigest()[:16]


def targets() -> tuple[Target, ...]:
    """All of ``targets.toml``, in its order."""
    found = tomllib.loads((HERE / "targets.toml").read_text(encoding="utf-8"))
    return tuple(
        Target(section, path, tuple(entry["tests"]), entry.get("draw", EVERY), tuple(entry.get("only", ())))
        for section, modules in found.items()
        for path, entry in modules.items()
    )
