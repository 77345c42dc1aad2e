"""What the README shows is what happens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import geomcheck
from geomcheck.errors import SuiteError

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_example_suite_loads(tmp_path: Path) -> None:
    (suite,) = (block for block in blocks("yaml") if "geomcheck: 1" in block)
    (tmp_path / "suite.yaml").write_text(suite)
    assert len(geomcheck.load_suite(tmp_path / "suite.yaml").expectations) == 4


def test_the_example_of_a_mistake_is_what_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shown,) = (block.strip() for block in blocks("console") if "abvoe" in block)
    monkeypatch.chdir(tmp_path)
    suite = tmp_path / "suites" / "mine.yaml"
    suite.parent.mkdir()
    lines = ["geomcheck: 1", "name: x", "", "", "expect:", "  - id: support", "    metric: update_support"]
    suite.write_text("\n".join([*lines, "    abvoe: 50%"]))
    with pytest.raises(SuiteError) as error:
        geomcheck.load_suite(suite)
    assert str(error.value) == shown


@pytest.mark.parametrize(("index", "failing"), [(0, False), (1, True)])
def test_the_transcripts_are_real(pytester: pytest.Pytester, index: int, failing: bool) -> None:
    transcript = [block for block in blocks("console") if block.startswith("$ pytest")][index].splitlines()
    arguments = [word.replace("=fixtures/", f"={ROOT}/fixtures/") for word in transcript[0].split()[2:]]
    result = pytester.runpytest_inprocess(*arguments, "-p", "no:cacheprovider")
    assert result.ret == int(failing)
    output = result.stdout.str()
    measured = [line for line in transcript[1:] if line.startswith("  ") and "suite  " not in line]
    assert len(measured) > 5
    for line in measured:
        assert line in output


def test_every_test_that_proves_a_layout_is_there() -> None:
    page = (ROOT / "geomcheck" / "docs" / "pages" / "reference" / "layouts.md").read_text()
    table = page[page.index("| layout | written by |") :]
    named = re.findall(r"`([\w/]+\.py)`", table[: table.index("\n\n")])
    assert len(named) >= 9
    assert [name for name in named if not (ROOT / "tests" / "checkpoints" / name).is_file()] == []


def test_every_link_into_the_project_leads_somewhere() -> None:
    linked = re.findall(r"\]\(([^)#:]+)\)", README)
    assert len(linked) >= 8
    assert [link for link in linked if not (ROOT / link).exists()] == []
