from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

import geomcheck
from geomcheck.measurement import Reading
from geomcheck.report.ci import markdown
from geomcheck.report.facts import shown
from geomcheck.report.safe import printable
from geomcheck.report.text import verdicts as text
from geomcheck.report.text.progress import Pace
from geomcheck.suite import Verdict
from tests.runs import simple_run

PER_WEIGHT = """
geomcheck: 1
name: many
expect:
  - id: norms
    metric: update_norm
    below: 0.001
    per: weight
    why: |
      First reason.
      Second line.
"""


def judged(tmp_path: Path, suite: str, steps: tuple[int, ...]) -> Verdict:
    (tmp_path / "suite.yaml").write_text(suite)
    loaded = geomcheck.load_suite(tmp_path / "suite.yaml")
    (verdict,) = loaded.evaluate(geomcheck.measure(simple_run(tmp_path / "run", steps), suites=[loaded]))
    return verdict


def test_groups_are_rows_and_violations_are_marked(tmp_path: Path) -> None:
    lines = text.failure(judged(tmp_path, PER_WEIGHT, (10, 20)).to_dict()).splitlines()
    table = [line for line in lines if "model.layers.0" in line and "!" in line]
    assert len(table) == 3
    assert "  why        First reason." in lines
    assert "             Second line." in lines
    assert any(line.startswith("  expected   below 0.001 at every checkpoint, for each weight") for line in lines)


def test_long_runs_are_shortened_in_the_middle(tmp_path: Path) -> None:
    verdict = judged(tmp_path, PER_WEIGHT.replace("per: weight", "per: run"), tuple(range(10, 250, 10)))
    step_line = next(line for line in text.failure(verdict.to_dict()).splitlines() if "observed" in line)
    assert step_line.split()[2:] == ["10", "20", "30", "40", "50", "...", "200", "210", "220", "230", "240"]


@pytest.mark.parametrize("command", ["::error file=a::b", "  ::add-mask::x", "\n\t::stop-commands::y", "so ##[error]z"])
def test_no_line_is_a_command_of_github(command: str) -> None:
    """GitHub's runner takes ``::`` at the start of a line, after blanks, and ``##[`` anywhere in it."""
    for line in printable(f"{command}\n{command}").splitlines():
        assert not line.lstrip().startswith("::")
        assert "##[" not in line
    assert printable("suites/mine.yaml::rank # [1] a::b") == "suites/mine.yaml::rank # [1] a::b"


def test_control_characters_are_escaped() -> None:
    assert printable("a\x1b[31mb\x07\u202e") == "a\\x1b[31mb\\x07\\u202e"
    assert printable("two\nlines ▁█ °") == "two\nlines ▁█ °"


@pytest.mark.parametrize(
    ("value", "percent", "expected"),
    [(0.23456, True, "23.46%"), (0.23456, False, "0.2346"), (None, False, "-"), (None, True, "-")],
)
def test_figures_are_shown_as_the_suite_writes_them(value: float | None, percent: bool, expected: str) -> None:
    assert shown(value, {"percent": percent}) == expected


def test_markdown_is_literal() -> None:
    assert markdown.escape("<script>|`*_[x](y)\n#") == r"\<script\>\|\`\*\_\[x\]\(y\) \#"


def test_a_session_without_verdicts_says_so_in_markdown() -> None:
    assert "Nothing was checked" in markdown.page([], ["suites/a.yaml:1:1: <bad>"])


def test_progress_hears_which_weight_is_read_at_which_checkpoint(tmp_path: Path) -> None:
    pace = Pace()
    read: list[Reading] = []
    tell = pace.reading
    pace.reading = lambda reading: (read.append(reading), tell(reading))  # type: ignore[assignment]
    geomcheck.measure(simple_run(tmp_path / "run", (10, 20)), show=lambda run: nullcontext(pace))
    assert {(one.checkpoint, one.number, one.count) for one in read} == {
        ("checkpoint-10", 1, 2),
        ("checkpoint-20", 2, 2),
    }
    assert any(one.entries for one in read)
    assert pace.at == pace.total
