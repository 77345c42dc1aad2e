"""What ``python -m tests.reliability`` was asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """Attributes:
    fuzz_seconds: how long each parser is fuzzed.
    """

    fuzz_seconds: float = 5.0
