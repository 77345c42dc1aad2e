"""What a terminal shows: its width, its colours, and what -q, -v and -vv leave out and add."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from geomcheck.measurement import Reading
from geomcheck.report.ci.github import ANNOTATING_PLUGIN
from geomcheck.report.text import progress
from geomcheck.report.text.screen import Screen
from tests.stories.conftest import HEALTHY, STRICT

ROOT = Path(__file__).parents[2]
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def in_terminal(directory: Path, *arguments: str, columns: int = 80, **environment: str) -> str:
    """Everything that ``pytest --geom-run=ckpts/opd`` writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    inherited = {
        k: v for k, v in os.environ.items() if k not in ("CI", "COLUMNS", "NO_COLOR", "PY_COLORS", "GITHUB_ACTIONS")
    }
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--geom-run=ckpts/opd", *arguments]
    variables = inherited | {"TERM": "xterm", "PYTHONPATH": str(ROOT)} | environment
    process = subprocess.Popen(command, cwd=directory, stdin=theirs, stdout=theirs, stderr=theirs, env=variables)
    os.close(theirs)
    chunks = []
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not chunk:
            break
        chunks.append(chunk)
    os.close(ours)
    process.wait()
    return b"".join(chunks).decode().replace("\r\n", "\n")


def test_a_terminal_of_eighty_columns(pytester: pytest.Pytester, write_suite, opd_run: Path) -> None:
    write_suite(STRICT)
    output = in_terminal(pytester.path)
    assert "measuring opd" in output
    assert "\x1b[31m" in output
    _, summary = _CONTROL.sub("", output).split("= geomcheck =", maxsplit=1)
    ours = [line for line in summary.splitlines() if line.startswith(("  FAILED", "  PASSED"))]
    assert len(ours) == 2
    assert all(len(line) <= 80 for line in ours)


def test_a_terminal_without_colours_and_blocks(pytester: pytest.Pytester, write_suite, opd_run: Path) -> None:
    write_suite(HEALTHY)
    output = in_terminal(pytester.path, columns=200, NO_COLOR="1", PYTHONIOENCODING="ascii", CI="1")
    assert "measuring" not in output
    assert not re.search(r"\x1b\[[0-9;]*m", output)
    assert re.search(r"PASSED rank .* [_.:\-=+*#]{3} ", output)
    assert output.isascii()


class TestVerbosity:
    def test_quiet_is_a_line_per_failure_and_the_count(self, geom, write_suite) -> None:
        write_suite(STRICT)
        lines = geom("-q").stdout.lines
        failing = [line for line in lines if line.startswith("FAILED ")]
        assert len(failing) == 1
        assert "- 93.75% at step 30, below 5%: 18 half width" in failing[0]
        assert lines[-1].startswith("1 failed, 1 passed")
        assert not any("furthest" in line or "= FAILURES" in line for line in lines)

    def test_quiet_keeps_the_text_where_tb_asks_for_it(self, geom, write_suite) -> None:
        write_suite(STRICT)
        assert "  furthest  " in geom("-q", "--tb=short").stdout.str()

    def test_quiet_hides_no_traceback_of_other_tests(self, geom, write_suite, pytester: pytest.Pytester) -> None:
        write_suite(STRICT)
        pytester.makepyfile(test_own="def test_own():\n    assert 1 == 2")
        output = geom("-q", "test_own.py", "suites").stdout.str()
        assert "assert 1 == 2" in output
        assert "  furthest  " in output

    def test_quiet_still_says_what_is_wrong_with_a_suite(self, geom, write_suite) -> None:
        write_suite(STRICT.replace("below", "belwo"))
        assert "unknown key `belwo`" in geom("-q").stdout.str()

    def test_the_default_has_no_figures_of_what_passed(self, geom, write_suite) -> None:
        write_suite(HEALTHY)
        output = geom().stdout.str()
        assert "PASSED rank" in output
        assert "  observed  " not in output

    def test_v_adds_the_observed_values(self, geom, write_suite) -> None:
        write_suite(HEALTHY)
        output = geom("-v").stdout.str()
        assert output.count("  observed  ") == 1
        assert "  furthest  " not in output

    def test_vv_adds_the_worst_weights(self, geom, write_suite) -> None:
        write_suite(HEALTHY)
        output = geom("-vv").stdout.str()
        assert output.count("  observed  ") == 2
        assert "model.layers.0." in output

    @pytest.mark.parametrize("arguments", [("-vv",), ()])
    def test_the_short_summary_has_one_line_each(
        self, geom, write_suite, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
    ) -> None:
        monkeypatch.setenv("CI", "true")  # where pytest does not shorten messages
        write_suite(STRICT)
        _, summary = geom(*arguments).stdout.str().split("short test summary info")
        assert len(summary.splitlines()) == 3


def test_there_need_be_no_terminal_at_all(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(STRICT)
    assert geom("-p", "no:terminal", "--junitxml=j.xml").ret == 1
    assert "  furthest  " in (pytester.path / "j.xml").read_text()


class TestGitHub:
    def test_violations_are_annotations(self, geom, write_suite, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GITHUB_ACTIONS", "true")
        monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)
        write_suite(STRICT)
        geom("-p", f"no:{ANNOTATING_PLUGIN}").stdout.fnmatch_lines(
            ["::error file=suites/mine.yaml,line=6,title=geomcheck%3A opd%3A support::*"]
        )

    def test_they_are_left_to_the_plugin_that_annotates_all_tests(
        self, geom, write_suite, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GITHUB_ACTIONS", "true")
        write_suite(STRICT)
        pytester.makepyfile(pytest_github_actions_annotate_failures="")
        monkeypatch.syspath_prepend(pytester.path)
        assert "::error" not in geom("-p", "pytest_github_actions_annotate_failures").stdout.str()
        write_suite(STRICT.replace("below: 5%", "below: 5%\n    level: warn"))
        warned = geom("-p", "pytest_github_actions_annotate_failures")
        assert warned.ret == 0
        warned.stdout.fnmatch_lines(["::warning file=suites/mine.yaml,line=6,title=geomcheck%3A opd%3A support::*"])

    def test_elsewhere_there_are_none(self, geom, write_suite, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
        write_suite(STRICT)
        assert "::error" not in geom().stdout.str()


def test_pytest_html_gets_a_figure_per_failure(geom, write_suite, pytester: pytest.Pytester) -> None:
    pytest.importorskip("pytest_html")
    write_suite(STRICT)
    geom("--html=report.html", "--self-contained-html")
    assert (pytester.path / "report.html").read_text().count("&lt;svg ") == 1


def test_a_log_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 10.0, 60.0, 61.0, 5400.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    with progress.shown("a\x1b[31mb", Screen()) as report:
        report(0, 10_000_000)
        report.reading(Reading("q.weight", "checkpoint-30", 4, 5, 6_000_000))  # of the only weight so far
        report(7_000_000, 10_000_000)
        report(8_000_000, 10_000_000)
    lines = [line.removeprefix(r"geomcheck: measuring a\x1b[31mb: ") for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "60%, about 40 s left, 100.0 k numbers/s, 60 s so far: q, checkpoint 4 of 5",
        "80%, about 22 min left, 1.5 k numbers/s, 90 min so far: q, checkpoint 4 of 5",
    ]


def test_an_estimate_moves_between_two_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 0.0, 10.0, 30.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    pace = progress.Pace()
    pace(0, 100)
    assert pace.left(5.0) is None
    pace.reading(Reading("q", "checkpoint-30", 3, 5, 20))
    assert (pace.at, pace.left(10.0), pace.left(15.0)) == (20, 40.0, 35.0)
    pace(50, 100)
    assert (pace.at, pace.left(30.0), pace.what(20)) == (50, 30.0, "q, checkpoint 3 of 5")
