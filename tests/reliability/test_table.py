from __future__ import annotations

import subprocess
import sys

from tests.reliability.table import Row, Section, table


def test_a_section_that_did_not_run_says_so() -> None:
    lines = table([Section("faults", not_run="there is no module"), Section("fuzz")])
    assert "  not run: there is no module" in lines
    assert "  not run: it returned no rows" in lines


def test_what_came_out_wrong_is_counted() -> None:
    section = Section("corpus", [Row("truncated", "12", "refused"), Row("NaN", "3", "refused", bad=2)], "15 in all")
    assert section.bad == 2
    assert table([section])[2:] == ["  truncated  12  refused", "  NaN         3  refused   2 BAD", "  15 in all"]


def test_the_command_fails_where_sections_did_not_run() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability", "--only", "mutation"], capture_output=True, text=True, check=False
    )
    assert "not run: not asked for" in done.stdout
    assert done.returncode == 1
