"""Verdicts on the pages of hosts: Markdown for GitHub, a code-quality report for GitLab."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from geomcheck.report.ci import markdown
from geomcheck.report.ci.gitlab import code_quality

from .verdicts import facts

ENTRY = {
    "type": "object",
    "required": ["description", "check_name", "fingerprint", "severity", "location"],
    "properties": {
        "description": {"type": "string", "minLength": 1},
        "check_name": {"type": "string", "minLength": 1},
        "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
        "location": {
            "type": "object",
            "required": ["path", "lines"],
            "properties": {
                "path": {"type": "string", "pattern": r"^[^/.]"},
                "lines": {
                    "type": "object",
                    "required": ["begin"],
                    "properties": {"begin": {"type": "integer", "minimum": 1}},
                },
            },
        },
    },
}
"""https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format"""


@pytest.fixture
def verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Of three expectations the first and the last fail."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CI_PROJECT_DIR", str(tmp_path))
    path = str(tmp_path / "suite.yaml")
    return [one | {"path": path} for one in facts(tmp_path)]


def require_gitlabs_format(report: list[dict[str, Any]]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(report, {"type": "array", "items": ENTRY})
    assert len({entry["fingerprint"] for entry in report}) == len(report)


def test_gitlab_has_an_entry_on_the_line_of_each_violation(verdicts: list[Any]) -> None:
    errors = ["suites/a.yaml:8:5: unknown key `abvoe`", "tests/x.py:3: in <module>"]
    report = code_quality(verdicts, errors)
    require_gitlabs_format(report)
    places = [(e["severity"], e["location"]["path"], e["location"]["lines"]["begin"]) for e in report]
    assert places == [("blocker", "suites/a.yaml", 8), ("critical", "suite.yaml", 5), ("critical", "suite.yaml", 7)]
    assert report[1]["description"].startswith("run: norms: ")


def test_gitlabs_severity_is_that_of_the_level(verdicts: list[Any]) -> None:
    outcomes = {"failed": "critical", "error": "blocker", "warned": "minor", "info": None, "passed": None}
    for outcome, severity in outcomes.items():
        report = code_quality([verdicts[0] | {"outcome": outcome}], [])
        assert [entry["severity"] for entry in report] == ([severity] if severity else [])


def test_a_fingerprint_outlives_figures_lines_and_machines(
    verdicts: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = code_quality(verdicts, [])[0]["fingerprint"]
    moved = verdicts[0] | {"message": "other", "position": verdicts[0]["position"] | {"line": 99}}
    moved["path"] = str(tmp_path / "elsewhere" / "suite.yaml")
    monkeypatch.setenv("CI_PROJECT_DIR", str(tmp_path / "elsewhere"))
    assert code_quality([moved], [])[0]["fingerprint"] == before
    assert code_quality([moved | {"run": "another"}], [])[0]["fingerprint"] != before


def test_what_fails_is_first_with_its_band_and_what_holds_is_folded(verdicts: list[Any]) -> None:
    text = markdown.page(verdicts, [])
    assert text.startswith("### geomcheck: 2 failed, 1 passed\n")
    failing, _, holding = text.partition("<details>")
    assert failing.count("| FAILED |") == 2
    assert "below 0.001" in failing
    assert re.search(r"\| \d+ above \|", failing)
    assert holding.count("| PASSED |") == 1
    assert "1.5 to 15" in holding
    assert "before" not in text


def test_earlier_figures_stand_beside(verdicts: list[Any]) -> None:
    value = verdicts[0]["decisive"]["value"]
    key = verdicts[0]["run"], verdicts[0]["path"], verdicts[0]["id"]
    first, *rest = [
        line for line in markdown.page(verdicts, [], before={key: value / 2}).splitlines() if "ED |" in line
    ]
    assert r"\+100.0% since" in first
    assert all(line.endswith("| \\- |") for line in rest)


@pytest.mark.parametrize("limit", [markdown.COMMENT_BYTES, markdown.SUMMARY_BYTES])
def test_a_page_is_cut_at_its_end_with_a_sentence(verdicts: list[Any], limit: int) -> None:
    many = [verdicts[0] | {"id": f"red-{n}-{'@' * 4000}"} for n in range(20)]
    many += [verdicts[1] | {"id": f"green-{n}-{'é' * 200}"} for n in range(5000)]
    text = markdown.page(many, [], ["a note"], limit=limit)
    assert 0.9 * limit < len(text.encode()) <= limit
    assert text.count("| FAILED |") == 20
    assert "a note" in text
    assert text.count("<details>") == text.count("</details>") == 1
    assert re.search(r"\n\d+ more lines do not fit here", text)


def test_the_summary_of_a_step_stays_within_what_is_left(
    verdicts: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_bytes(b"x" * (markdown.SUMMARY_BYTES - 1500))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    markdown.append_step_summary(verdicts * 20, [])
    assert summary.stat().st_size <= markdown.SUMMARY_BYTES


HOSTILE = ["#123", "GH-123", "org/repo#7", "@someone", "https://evil.example", "<!-- geomcheck x -->"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_link_to_nothing(verdicts: list[Any], name: str) -> None:
    text = markdown.page([verdicts[0] | {"run": name, "id": name, "message": name}], [name], [name])
    rendered = MarkdownIt("gfm-like", {"linkify": False}).render(text)
    assert "<a" not in rendered
    assert "<!--" not in text
    assert name not in rendered
    assert not re.search(r"@\w|#\d|GH-\d|://", rendered.replace("\u200b", "\N{BULLET}"))


def test_a_name_is_no_formula(verdicts: list[Any]) -> None:
    assert r"\$\\href\{x\}\$" in markdown.page([verdicts[0] | {"id": r"$\href{x}$"}], [])
