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
    assert set(ACTION["inputs"]) == {"run", "base", "suite", "extra-args", "python-version", "version"}
    assert all(entry["description"] for entry in ACTION["inputs"].values())
    assert not re.search(r"secrets|github\.token|GITHUB_TOKEN", (ROOT / "action.yml").read_text())


def test_no_input_is_part_of_a_script() -> None:
    for step in STEPS.values():
        assert "${{" not in step["run"]
        assert step["shell"] == "bash"


def test_report_and_record_are_uploaded_whatever_the_verdict() -> None:
    upload = ACTION["runs"]["steps"][-1]
    assert upload["uses"].startswith("actions/upload-artifact@")
    assert upload["if"].startswith("always()")


def test_every_output_is_asked_for() -> None:
    for declared in OPTIONS:
        assert (f'"{declared.flagged}=$directory/' in STEPS["check"]["run"]) == (declared.output is not None)


@pytest.mark.parametrize("text", HOSTILE)
def test_inputs_arrive_as_they_are(tmp_path: Path, text: str) -> None:
    arguments = arguments_of("check", tmp_path, RUNS=text, BASE=text, SUITES=f"{text}\nopd", EXTRA=f"-k\n{text}\n\n")
    assert arguments[:2] == ["-m", "pytest"]
    wanted = [f"--geom-run={text}", f"--geom-base={text}", f"--geom-suite={text}", "--geom-suite=opd", "-k", text]
    assert arguments[6:] == wanted
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
    assert names == {"verdicts.json", "record.parquet", "report.html", "junit.xml"}


def test_a_failing_run_fails_the_step(tmp_path: Path) -> None:
    assert run_step("check", tmp_path, RUNS="$(touch pwned)").returncode == 4
    assert not (tmp_path / "pwned").exists()
