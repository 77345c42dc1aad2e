"""``mutation.json``: what the last run found, module by module."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.reliability.mutation.targets import HERE, Target

STORED = HERE.parent / "mutation.json"
EXPLAINED = HERE / "explained.toml"


@dataclass(frozen=True)
class MutantRun:
    """The mutants of one module and what became of each."""

    target: Target
    mutants: tuple[dict[str, Any], ...]

    @cached_property
    def survivors(self) -> tuple[dict[str, Any], ...]:
        """The mutants that no test noticed."""
        return tuple(mutant for mutant in self.mutants if mutant["outcome"] == "survived")

    @cached_property
    def unexplained(self) -> tuple[dict[str, Any], ...]:
        """The survivors of which ``explained.toml`` says nothing."""
        known = explained(self.target.path)
        return tuple(mutant for mutant in self.survivors if (mutant["before"], mutant["after"]) not in known)

    @property
    def line(self) -> str:
        """For people."""
        killed = len(self.mutants) - len(self.survivors)
        return f"{self.target.path}: {killed} of {len(self.mutants)} killed, {len(self.unexplained)} unexplained"

    def facts(self) -> dict[str, Any]:
        """As ``mutation.json`` holds them."""
        return {
            "section": self.target.section,
            "drawn": len(self.mutants),
            "killed": len(self.mutants) - len(self.survivors),
            "explained": len(self.survivors) - len(self.unexplained),
            "unexplained": len(self.unexplained),
            "sha256": self.target.digest,
            "date": datetime.now(UTC).date().isoformat(),
        }


def explained(path: str) -> dict[tuple[str, str], str]:
    """Why a survivor of the module is none of our business: reasons by the line before and after."""
    found = tomllib.loads(EXPLAINED.read_text(encoding="utf-8")) if EXPLAINED.exists() else {}
    return {
        (entry["before"], entry["after"]): reason["why"]
        for reason in found.get(path, [])
        for entry in reason["mutants"]
    }


def save(runs: Iterable[MutantRun], path: Path = STORED) -> None:
    """Put the runs in place of what the file says of their modules."""
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"modules": {}}
    stored["tool"] = f"cosmic-ray {version('cosmic-ray')}"
    for run in runs:
        stored["modules"][run.target.path] = run.facts()
    path.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
