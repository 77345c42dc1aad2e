"""What mutation testing has stored is about modules and mutants that exist, and every survivor has its reason."""

from __future__ import annotations

import tomllib

import pytest

from tests.reliability.mutation import section
from tests.reliability.mutation.record import EXPLAINED, stored
from tests.reliability.mutation.targets import ROOT, targets
from tests.reliability.options import Options

REASONS = tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))


def test_every_target_and_its_tests_exist():
    for target in targets():
        assert (ROOT / target.path).is_file()
        assert all((ROOT / path).is_file() for path in target.tests)


@pytest.mark.parametrize("path", REASONS)
def test_reasons_are_of_lines_that_are_there(path):
    lines = {line.strip() for line in (ROOT / path).read_text(encoding="utf-8").splitlines()}
    for reason in REASONS[path]:
        assert reason["why"]
        for mutant in reason["mutants"]:
            assert mutant["before"] in lines
            assert mutant["before"] != mutant["after"]


def test_the_table_counts_what_was_stored_and_no_survivor_lacks_its_reason():
    found, modules = section(Options()), stored()["modules"]
    assert len(found.rows) == len(targets())
    assert sum(row.outcome == "not run yet" for row in found.rows) == len(targets()) - len(modules)
    assert found.bad == 0
    for facts in modules.values():
        assert facts["drawn"] == facts["killed"] + len(facts["survivors"])
