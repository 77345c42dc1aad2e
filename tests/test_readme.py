"""What the README shows is what happens."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import geomcheck
from geomcheck.errors import SuiteError

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SUITES = (ROOT / "docs" / "reference" / "suites.md").read_text()
STUDY = (ROOT / "fixtures" / "defects" / "README.md").read_text()


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


@pytest.mark.parametrize(("page", "counts"), [(README, [1]), (SUITES, [4, 7])], ids=["README", "suites"])
def test_the_example_suites_load(tmp_path: Path, page: str, counts: list[int]) -> None:
    suites = [block for block in blocks("yaml", page) if "geomcheck: 1" in block]
    for suite, count in zip(suites, counts, strict=True):
        (tmp_path / "suite.yaml").write_text(suite)
        assert len(geomcheck.load_suite(tmp_path / "suite.yaml").expectations) == count


def test_the_first_suite_has_five_lines() -> None:
    (suite,) = (block for block in blocks("yaml") if "geomcheck: 1" in block)
    assert len(suite.splitlines()) == 5


def test_it_is_short() -> None:
    assert len(README.split()) <= 1500


@pytest.mark.parametrize(
    "defect",
    [
        "started from an earlier SFT checkpoint",
        "first layer frozen",
        "loss mask covers the prompt",
        "EMA weights saved instead of the student's",
    ],
)
def test_the_study_caught_at_the_first_checkpoint_what_is_claimed(defect: str) -> None:
    assert f"| {defect} | 2 of 2 | 1 |" in STUDY
    assert "the recipe as it is: 0 of 20 fresh clean seeds" in STUDY


def test_the_example_of_a_mistake_is_what_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shown,) = (block.strip() for block in blocks("console", SUITES) if "abvoe" in block)
    monkeypatch.chdir(tmp_path)
    suite = tmp_path / "suites" / "mine.yaml"
    suite.parent.mkdir()
    lines = ["geomcheck: 1", "name: x", "", "", "expect:", "  - id: support", "    metric: update_support"]
    suite.write_text("\n".join([*lines, "    abvoe: 50%"]))
    with pytest.raises(SuiteError) as error:
        geomcheck.load_suite(suite)
    assert str(error.value) == shown


def test_the_transcript_of_a_run_that_passes_is_real(pytester: pytest.Pytester) -> None:
    (transcript,) = (block.splitlines() for block in blocks("console") if block.startswith("$ pytest"))
    output = told(pytester, transcript[0].replace("=fixtures/", f"={ROOT}/fixtures/"), 0)
    measured = [line for line in transcript[1:] if line.startswith("  PASSED")]
    assert len(measured) > 5
    assert all(line in output for line in measured)


def test_the_transcript_of_a_run_that_fails_is_real(pytester: pytest.Pytester) -> None:
    (transcript,) = (block.splitlines() for block in blocks("console") if block.startswith("$ cp"))
    subprocess.run(
        transcript[0][2:].replace("fixtures/", f"{ROOT}/fixtures/"), shell=True, check=True, cwd=pytester.path
    )
    output = told(pytester, transcript[1], 1)
    finding = [line for line in transcript if line.startswith("  ")]
    assert len(finding) > 5
    assert all(line in output for line in finding)


def told(pytester: pytest.Pytester, command: str, code: int) -> str:
    """What pytest prints after ``$ pytest ARGUMENTS`` in a directory with the suites."""
    (pytester.path / "suites").symlink_to(ROOT / "suites")
    result = pytester.runpytest_inprocess(*command.split()[2:], "-p", "no:cacheprovider")
    assert result.ret == code
    return result.stdout.str()


def test_every_test_that_proves_a_layout_is_there() -> None:
    page = (ROOT / "docs" / "reference" / "layouts.md").read_text()
    table = page[page.index("| layout | written by |") :]
    named = re.findall(r"`([\w/]+\.py)`", table[: table.index("\n\n")])
    assert len(named) >= 9
    assert [name for name in named if not (ROOT / "tests" / "checkpoints" / name).is_file()] == []


def test_every_link_into_the_project_leads_somewhere() -> None:
    linked = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", README)
    assert len(linked) >= 20
    assert [link for link in linked if not (ROOT / link).exists()] == []
