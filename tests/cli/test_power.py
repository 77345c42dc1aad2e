"""``geomcheck power`` and what ``calibrate`` says at its end."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import geomcheck
from geomcheck.cli import main
from geomcheck.cli.calibrate import MOST_ENTRIES
from tests.runs import repeats, simple_run

SUITE = """
geomcheck: 1
name: moves
expect:
  - {id: moves, metric: frozen_share, at: all, per: weight, below: 50%}
"""


@pytest.fixture
def suite(tmp_path: Path) -> str:
    (tmp_path / "moves.yaml").write_text(SUITE)
    return str(tmp_path / "moves.yaml")


@pytest.fixture
def run(tmp_path: Path) -> str:
    return str(simple_run(tmp_path / "opd"))


@pytest.fixture
def good(tmp_path: Path) -> list[str]:
    return list(map(str, repeats(tmp_path / "good", 3)))


def test_it_is_said_in_80_columns(suite: str, run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["power", suite, run]) == 0
    said = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"moves on opd: would notice \d+ of \d+", said[0])
    assert any(re.fullmatch(r"frozen-matrix +moves +10", line) for line in said)
    assert {"Blind to", "Just noticed", "Not in this run"} <= set(said)
    assert max(map(len, said)) <= 80


def test_json_goes_to_a_file_or_instead_of_the_table(
    suite: str, run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "power.json"
    assert main(["power", suite, run, "--defects=frozen-matrix,negated", f"--json={file}"]) == 0
    assert capsys.readouterr().out.startswith("moves on opd: would notice 1 of 2\n")
    assert main(["power", suite, run, "--defects", "frozen-matrix,negated", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads(file.read_text())
    assert document["summary"] == "would notice 1 of 2 defects; blind to: negated"
    assert [(one["defect"], one["outcome"], one["expectation"], one["step"]) for one in document["defects"]] == [
        ("frozen-matrix", "caught", "moves", 10),
        ("negated", "missed", "", None),
    ]


def test_what_is_required_and_not_noticed_is_exit_1(suite: str, run: str, capsys: pytest.CaptureFixture[str]) -> None:
    picked = ["power", suite, run, "--defects=frozen-matrix"]
    assert main([*picked, "--require=frozen-matrix"]) == 0
    assert main([*picked, "--require=all"]) == 0
    capsys.readouterr()
    assert main([*picked, "--require=frozen-matrix,negated"]) == 1
    assert capsys.readouterr().out.endswith("\nRequired and not noticed: negated\n")
    assert main([*picked, "--require=head-reset"]) == 1  # the run has no head: what cannot be tried is not noticed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--defects=frozen"], "no defect is called 'frozen'; did you mean frozen-layer?. There are update-x0.5"),
        (["--require=frozen"], "no defect is called 'frozen'; did you mean frozen-layer?. There are"),
        (["--json={run}/power.json"], "which is never written to"),
        (["--report={suite}"], "which is never written to"),
    ],
)
def test_what_cannot_be_is_exit_4(
    suite: str, run: str, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["power", suite, run, *(option.format(run=run, suite=suite) for option in options)]) == 4
    assert message in capsys.readouterr().err


def test_a_run_that_fails_by_itself_is_exit_4(suite: str, run: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(suite).write_text(SUITE.replace("below", "above"))
    assert main(["power", suite, run]) == 4
    assert "opd does not pass moves by itself: moves: " in capsys.readouterr().err


class Page(HTMLParser):
    """The elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def test_the_page_loads_nothing_and_runs_nothing(
    suite: str, run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = Path(run).rename(tmp_path / "<script>alert(1)<")
    file = tmp_path / "power.html"
    assert main(["power", suite, str(hostile), "--defects=frozen-matrix,negated,last-is-w0", f"--report={file}"]) == 0
    text = file.read_text()
    page = Page(text)
    assert not {"script", "img", "iframe", "object"} & {tag for tag, _ in page.elements}
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "script-src" not in policy
    assert all((a.get("href") or "").startswith(("#", "data:")) for _, a in page.elements if "href" in a)
    assert "Would notice 2 of 3 defects" in text
    assert "refused before any suite" in text


def test_calibrate_ends_with_what_the_suite_would_notice(
    good: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    assert main(["calibrate", *good, "-o", str(file), "--quiet"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"power: would notice \d+ of \d+ defects; .* \(tried on seed-2\)$", said)
    comment = " ".join(line.lstrip("# ") for line in file.read_text().splitlines() if line.startswith("#"))
    assert "Power: " + said.split("power: ")[1] in comment
    assert geomcheck.load_suite(file).name == "mine"


def test_calibrate_says_nothing_of_it_where_it_should_not_or_cannot(
    good: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    assert main(["calibrate", *good, "-o", str(file), "--no-power"]) == 0
    records = [str(tmp_path / f"{index}.parquet") for index in range(3)]
    for run, record in zip(good, records, strict=True):
        assert main(["measure", run, "-o", record]) == 0
    assert main(["calibrate", *records, "-o", str(tmp_path / "other.yaml")]) == 0
    assert "power" not in capsys.readouterr().out
    assert "Power" not in file.read_text() + (tmp_path / "other.yaml").read_text()


def test_calibrate_names_the_command_where_it_would_take_long(
    good: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MOST_ENTRIES > 1e6
    monkeypatch.setattr("geomcheck.cli.calibrate.MOST_ENTRIES", 10)
    file = tmp_path / "mine.yaml"
    assert main(["calibrate", *good, "-o", str(file)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.endswith(f"power: left out, as weights of this size take long: geomcheck power {file} {good[-1]}")
