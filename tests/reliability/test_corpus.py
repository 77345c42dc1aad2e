"""Every bad input of the corpus comes to its expected end: no pass, no crash, no bare traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.corpus import cases
from tests.reliability.corpus.case import Case, Outcome
from tests.reliability.corpus.gate import complaints, good, run_case
from tests.reliability.corpus.seeds import SEEDS

CASES = list(cases())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_expected_outcome(case: Case, tmp_path: Path) -> None:
    result = run_case(case, tmp_path / "project")
    assert list(complaints(case, result)) == [], result.output


@pytest.mark.parametrize("seed", [seed for seed in SEEDS if seed not in ("real", "adapter")])
def test_the_good_runs_have_one_verdict(seed: str) -> None:
    assert good(seed) == good("plain")


def test_the_corpus_is_large_and_its_ids_are_unique() -> None:
    assert len({case.id for case in CASES}) == len(CASES) >= 250
    assert {case.outcome for case in CASES} == set(Outcome)
