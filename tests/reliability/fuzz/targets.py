"""All targets by name, and the inputs that once broke one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.reliability.fuzz import of_checkpoints, of_records, of_suites
from tests.reliability.fuzz.target import Target

FINDINGS = Path(__file__).with_name("findings")
"""A directory per target with inputs that once broke it: they stay, and are tried in every test session."""

TARGETS: Mapping[str, Target] = {
    target.name: target for module in (of_checkpoints, of_suites, of_records) for target in module.targets()
}


def corpus(target: Target) -> dict[str, bytes]:
    """What is tried first: good inputs, and those that once broke the parser."""
    found = sorted((FINDINGS / target.name).glob("*"))
    return {**target.seeds(), **{f"finding {path.name}": path.read_bytes() for path in found}}
