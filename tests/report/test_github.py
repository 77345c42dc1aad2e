from __future__ import annotations

from pathlib import Path

import pytest

from geomcheck.diagnosis import Finding
from geomcheck.diagnosis.finding import Grade
from geomcheck.report.ci import github
from geomcheck.report.findings import Diagnosis, Explained

from .verdicts import facts


@pytest.fixture(autouse=True)
def _workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))


def test_each_violation_is_on_its_line(tmp_path: Path) -> None:
    lines = list(github.of_verdicts(facts(tmp_path)))
    assert [line.split(",title")[0] for line in lines] == [
        "::error file=suite.yaml,line=5",
        "::error file=suite.yaml,line=7",
    ]
    assert "%0A%0AThe norm says how far." in lines[0]
    assert "12.5%25" in lines[1]


@pytest.mark.parametrize(("outcome", "command"), [("warned", "::warning "), ("error", "::error "), ("info", None)])
def test_levels_are_githubs(tmp_path: Path, outcome: str, command: str | None) -> None:
    lines = list(github.of_verdicts([facts(tmp_path)[0] | {"outcome": outcome}]))
    assert len(lines) == int(command is not None)
    assert all(line.startswith(str(command)) for line in lines)


def test_no_text_can_start_a_command_of_its_own(tmp_path: Path) -> None:
    hostile = "x\r\n::add-mask::y\x1b[0m\n::error::z"
    verdict = facts(tmp_path)[0] | {"run": f"a,b:c{hostile}", "message": hostile, "why": hostile}
    (line,) = github.of_verdicts([verdict])
    assert "\n" not in line
    assert "\r" not in line
    assert "\x1b" not in line
    assert line.startswith("::error file=suite.yaml,line=5,title=geomcheck%3A a%2Cb%3Ac")


def test_paths_are_relative_to_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = facts(tmp_path)[0]
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    verdict["position"]["path"] = "../suite.yaml"
    assert "file=suite.yaml," in next(github.of_verdicts([verdict]))
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path / "below"))
    assert "file=" not in next(github.of_verdicts([verdict]))


def test_mistakes_in_suites_are_on_their_lines() -> None:
    errors = ["suites/a.yaml:8:5: unknown key `abvoe`\nsuites/a.yaml:9:1: too: many", "tests/x.py:3: in <module>"]
    assert list(github.of_errors(errors)) == [
        "::error file=suites/a.yaml,line=8,title=geomcheck%3A invalid suite::unknown key `abvoe`",
        "::error file=suites/a.yaml,line=9,title=geomcheck%3A invalid suite::too: many",
    ]


@pytest.mark.parametrize(("grade", "command"), [("fact", "::error "), ("inference", "::warning ")])
def test_each_finding_that_explains_is_on_the_line_of_what_it_explains(
    tmp_path: Path, grade: Grade, command: str
) -> None:
    first, second, *_ = ({**one, "path": "suite.yaml"} for one in facts(tmp_path))
    finding = Finding("stale", "A", grade, "layer 1 stands still", ("4 of 9 tensors",), ("a shard",), "Save again.")
    told = Diagnosis([Explained(1, "opd", finding, [second, first]), Explained(2, "opd", finding)])
    (line,) = github.of_findings([told])
    assert line.startswith(f"{command}file=suite.yaml,line=6,title=geomcheck%3A opd%3A stale::")
    assert "layer 1 stands still%0Aevidence: 4 of 9 tensors%0Alikely: a shard%0Anext: Save again.%0Aexplains: " in line
    assert ("::probably: " in line) == (grade == "inference")
