"""The composite GitHub Action: its shell steps run here as a runner runs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from geomcheck.options import OPTIONS

ROOT = Path(__file__).parent.parent
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS = {step["id"]: step for step in ACTION["runs"]["steps"] if "run" in step}

HOSTILE = [
    "$(touch pwned)",
    "`touch pwned`",
    '"; touch pwned; "',
    "' && touch pwned && '",
    "x | touch pwned",
    "*",
    "~",
    "-h && touch pwned",
    "\\",
    "${IFS}touch${IFS}pwned",
    "<(touch pwned)",
]


def run_step(
    name: str, directory: Path, python: str = sys.executable, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a shell step with the variables that its inputs become; `python` is what it finds under that name."""
    tools = directory / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "python").write_text(f'#!/bin/bash\nexec {python} "$@"\n')
    (tools / "python").chmod(0o755)
    known = dict.fromkeys(STEPS[name]["env"], "")
    places = {"RUNNER_TEMP": str(directory / "temp"), "GITHUB_OUTPUT": str(directory / "output")}
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("GITHUB_", "PYTEST_"))},
        **{"PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
        **(known | places | variables),
    }
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEPS[name]["run"]]
    return subprocess.run(command, cwd=directory, env=environment, text=True, capture_output=True, check=False)


def arguments_of(name: str, directory: Path, **variables: str) -> list[str]:
    """The arguments that the step hands to ``python``."""
    recorder = directory / "recorder.py"
    recorder.write_text("import json, sys\njson.dump(sys.argv[1:], open('arguments.json', 'w'))\n")
    result = run_step(name, directory, f"{sys.executable} {recorder}", **variables)
    assert result.returncode == 0, result.stderr
    found: list[str] = json.loads((directory / "arguments.json").read_text())
    return found


def test_it_has_the_inputs_of_its_documentation_and_no_secrets() -> None:
    inputs = {"run", "base", "suite", "previous", "comment", "extra-args", "python-version", "version"}
    assert set(ACTION["inputs"]) == inputs
    assert all(entry["description"] for entry in ACTION["inputs"].values())
    guide = (ROOT / "docs/guides/ci-gate.md").read_text()
    assert all(f"`{name}`" in guide or f"  {name}:" in guide for name in inputs)
    assert not re.search(r"secrets|GITHUB_TOKEN", (ROOT / "action.yml").read_text())


def test_the_token_is_only_for_a_comment_which_nobody_gets_unasked() -> None:
    having = [step for step in ACTION["runs"]["steps"] if "github.token" in json.dumps(step)]
    assert having == [STEPS["comment"]]
    assert ACTION["inputs"]["comment"]["default"] == "false"
    assert "inputs.comment == 'true'" in STEPS["comment"]["if"]


def test_no_input_is_part_of_a_script() -> None:
    for step in STEPS.values():
        assert "${{" not in step["run"]
        assert step["shell"] == "bash"


def test_report_and_record_are_uploaded_whatever_the_verdict() -> None:
    (upload,) = (step for step in ACTION["runs"]["steps"] if step.get("id") == "upload")
    assert upload["uses"].startswith("actions/upload-artifact@")
    assert upload["if"].startswith("always()")


def test_every_output_is_asked_for() -> None:
    for declared in OPTIONS:
        assert (f'"{declared.flagged}=$directory/' in STEPS["check"]["run"]) == (declared.output is not None)


@pytest.mark.parametrize("text", HOSTILE)
def test_inputs_arrive_as_they_are(tmp_path: Path, text: str) -> None:
    arguments = arguments_of(
        "check", tmp_path, RUNS=text, BASE=text, SUITES=f"{text}\nopd", PREVIOUS=text, EXTRA=f"-k\n{text}\n\n"
    )
    assert arguments[:2] == ["-m", "pytest"]
    wanted = [f"--geom-run={text}", f"--geom-base={text}", f"--geom-suite={text}", "--geom-suite=opd"]
    assert arguments[8:] == [*wanted, f"--geom-previous={text}", "-k", text]
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("text", [*HOSTILE, "1.0 --index-url=x", "-r/etc/passwd", "1.0\n2.0", "1.0;x"])
def test_a_version_is_a_version(tmp_path: Path, text: str) -> None:
    result = run_step("install", tmp_path, "false", VERSION=text)
    assert result.returncode == 4
    assert "::error" in result.stdout
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(("version", "wanted"), [("0.1.0", "geomcheck==0.1.0"), ("", "/the action")])
def test_what_is_installed(tmp_path: Path, version: str, wanted: str) -> None:
    arguments = arguments_of("install", tmp_path, VERSION=version, SOURCE="/the action")
    assert arguments == ["-m", "pip", "install", "--quiet", "--", wanted]


def test_a_real_run_passes_and_leaves_its_outputs(tmp_path: Path) -> None:
    suite = str(ROOT / "suites/tiny-opd.yaml")
    result = run_step("check", tmp_path, RUNS=str(ROOT / "fixtures/tiny-opd"), SUITES=suite)
    assert result.returncode == 0, result.stdout + result.stderr
    directory = Path((tmp_path / "output").read_text().strip().removeprefix("directory="))
    names = {path.name for path in directory.iterdir()}
    assert names == {"verdicts.json", "record.parquet", "report.html", "junit.xml", "comment.md", "code-quality.json"}
    assert (directory / "comment.md").read_text().startswith("### geomcheck: ")
    assert json.loads((directory / "code-quality.json").read_text()) == []


def test_a_failing_run_fails_the_step(tmp_path: Path) -> None:
    assert run_step("check", tmp_path, RUNS="$(touch pwned)").returncode == 4
    assert not (tmp_path / "pwned").exists()


GH = """#!/bin/bash
# As gh does: what --jq finds of the comments, one on a line; `GH_DOWN` names the method that is refused.
printf '%s\\0' "$@" >> calls; printf '\\n' >> calls
case "$*" in *--jq*) method=GET;; *) method=${4};; esac
[[ $method != "$GH_DOWN" ]] || { echo "HTTP 403: Resource not accessible by integration" >&2; exit 1; }
[[ $method != GET ]] || cat comments
"""


def comment_on(directory: Path, *, text: str, ids: str = "", **variables: str) -> tuple[str, list[list[str]], str]:
    """Run the step that comments, beside a stand-in for ``gh``: what it prints, its calls, the body that was sent."""
    (directory / "tools").mkdir(exist_ok=True)
    (directory / "tools/gh").write_text(GH)
    (directory / "tools/gh").chmod(0o755)
    (directory / "temp").mkdir(exist_ok=True)
    (directory / "comments").write_text(ids)
    (directory / "comment.md").write_text(text)
    known = {
        "NUMBER": "7",
        "MARKER": "<!-- geomcheck job-0 -->",
        "FILE": "comment.md",
        "REPORT": "https://github.com/o/r/actions/runs/1/artifacts/2",
        "GITHUB_REPOSITORY": "o/r",
        "GH_DOWN": "",
    }
    done = run_step("comment", directory, **known | variables)
    assert done.returncode == 0, done.stderr
    path, body = directory / "calls", directory / "temp/geomcheck-comment.md"
    calls = [line.split("\0")[:-1] for line in path.read_text().splitlines()] if path.exists() else []
    return done.stdout, calls, body.read_text() if body.exists() else ""


def test_the_first_comment_is_written_and_later_ones_replace_it(tmp_path: Path) -> None:
    _, (listed, sent), body = comment_on(tmp_path, text="### geomcheck\n")
    assert listed[:3] == ["api", "--paginate", "repos/o/r/issues/7/comments"]
    assert sent[2:5] == ["--method", "POST", "repos/o/r/issues/7/comments"]
    assert body.startswith("<!-- geomcheck job-0 -->\n\n### geomcheck\n")
    assert body.endswith("(https://github.com/o/r/actions/runs/1/artifacts/2)\n")
    (tmp_path / "calls").unlink()
    _, (_, sent), _ = comment_on(tmp_path, text="### geomcheck\n", ids="41\n42\n")
    assert sent[2:5] == ["--method", "PATCH", "repos/o/r/issues/comments/41"]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_comment_is_run(tmp_path: Path, text: str) -> None:
    _, calls, body = comment_on(tmp_path, text=text)
    assert text in body
    assert not any(text in argument for call in calls for argument in call if len(text) > 2)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("refused", ["GET", "POST"])
def test_a_fork_may_only_read_and_fails_nothing(tmp_path: Path, refused: str) -> None:
    told, calls, _ = comment_on(tmp_path, text="### geomcheck", GH_DOWN=refused)
    assert told.startswith("::warning title=geomcheck::no comment on the pull request: ")
    assert len(calls) == (1 if refused == "GET" else 2)


def test_a_comment_fits_whatever_the_marker_and_the_link() -> None:
    from geomcheck.report.ci.markdown import COMMENT_BYTES

    assert COMMENT_BYTES + 5000 < 65_536
