"""``mutation.json``: what the last run found, module by module."""

from __future__ import annotations

import json
import tomllib
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
    """The mutants of one module and what became of each.

    Attributes:
        mutants: those that were run.
        earlier: how many more were killed before, and not run again.
        left_out: how many act at import and were not run.
    """

    target: Target
    mutants: tuple[dict[str, Any], ...]
    earlier: int = 0
    left_out: int = 0

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
    def drawn(self) -> int:
        """How many mutants the figures are of."""
        return len(self.mutants) + self.earlier

    @property
    def line(self) -> str:
        """For people."""
        killed = self.drawn - len(self.survivors)
        return f"{self.target.path}: {killed} of {self.drawn} killed, {len(self.unexplained)} unexplained"

    def facts(self) -> dict[str, Any]:
        """As ``mutation.json`` holds them."""
        return {
            "section": self.target.section,
            "drawn": self.drawn,
            "killed": self.drawn - len(self.survivors),
            "explained": len(self.survivors) - len(self.unexplained),
            "unexplained": len(self.unexplained),
            "left_out": self.left_out,
            "sha256": self.target.digest,
            "date": datetime.now(UTC).date().isoformat(),
            "survivors": [{key: mutant[key] for key in ("where", "before", "after")} for mutant in self.survivors],
        }


def explained(path: str) -> dict[tuple[str, str], str]:
    """Why a survivor of the module is none of our business: reasons by the line before and after."""
    found = tomllib.loads(EXPLAINED.read_text(encoding="utf-8")) if EXPLAINED.exists() else {}
    return {
        (entry["before"], entry["after"]): reason["why"]
        for reason in found.get(path, [])
        for entry in reason["mutants"]
    }


def stored(path: Path = STORED) -> dict[str, Any]:
    """What the file holds; nothing, where there is none."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"modules": {}}
    return found


def save(run: MutantRun, path: Path = STORED) -> None:
    """Put the run in place of what the file says of its module."""
    found = stored(path)
    found["tool"] = f"cosmic-ray {version('cosmic-ray')}"
    found["modules"][run.target.path] = run.facts()
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
