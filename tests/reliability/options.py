"""What ``python -m tests.reliability`` was asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """Attributes:
    fuzz_seconds: how long each parser is fuzzed.
    faults_per_kind: how many faults of each kind are injected; None for one at every call.
    """

    fuzz_seconds: float = 5.0
    faults_per_kind: int | None = None
