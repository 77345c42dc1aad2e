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

    @property
    def unexplained(self) -> list[dict[str, Any]]:
        """The survivors of which ``explained.toml`` says nothing."""
        return unexplained(self.target.path, self.survivors)

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
            "left_out": self.left_out,
            "sha256": self.target.digest,
            "date": datetime.now(UTC).date().isoformat(),
            "survivors": [{key: mutant[key] for key in ("where", "before", "after")} for mutant in self.survivors],
        }


def unexplained(path: str, survivors: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those `survivors` of a module of which ``explained.toml`` says nothing."""
    reasons = tomllib.loads(EXPLAINED.read_text(encoding="utf-8")).get(path, [])
    known = {(mutant["before"], mutant["after"]) for reason in reasons for mutant in reason["mutants"]}
    return [survivor for survivor in survivors if (survivor["before"], survivor["after"]) not in known]


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
