"""The seeds of the fuzzer and what it once found, and a little noise, without the fuzzer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.fuzz.target import check
from tests.reliability.fuzz.targets import TARGETS, corpus


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_is_read_and_every_finding_refused_or_read(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    outcomes = {seed: check(target, content, tmp_path, seconds=60) for seed, content in corpus(target).items()}
    assert "read" in [outcome for seed, outcome in outcomes.items() if not seed.startswith("finding ")]
