"""What packages, hooks and workflows are made of agrees with itself."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import geomcheck

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_the_version_is_written_once() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "geomcheck/_version.py"
    assert f'VERSION = "{geomcheck.__version__}"' in (ROOT / "geomcheck" / "_version.py").read_text()


def test_the_licence_is_that_of_the_field() -> None:
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert (ROOT / "LICENSE").read_text().lstrip().startswith("Apache License")
    assert PROJECT["project"]["license-files"] == ["LICENSE"]


def test_the_changelog_has_what_comes_and_what_is_there() -> None:
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[:2] == ["Unreleased", geomcheck.__version__]


def test_the_constraint_is_the_torch_that_is_tested() -> None:
    (pin,) = re.findall(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert f"torch=={pin}" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_may_only_read(path: Path) -> None:
    flow = yaml.safe_load(path.read_text())
    assert flow["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in flow["jobs"].values())


def test_pull_requests_run_what_a_stranger_runs() -> None:
    flow = yaml.safe_load((ROOT / ".github" / "workflows" / "pull-request.yml").read_text())
    assert "pull_request" in flow[True]  # YAML 1.1 reads `on` so
    assert {"run": ".ci/run"} in flow["jobs"]["run"]["steps"]


def test_each_session_of_the_weekly_workflow_is_there() -> None:
    flow = yaml.safe_load((ROOT / ".github" / "workflows" / "compatibility.yml").read_text())
    sessions = flow["jobs"]["nox"]["strategy"]["matrix"]["session"]
    defined = re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(), re.MULTILINE)
    assert {re.split(r"[-(]", name)[0] for name in sessions} <= set(defined)
    assert "weekly" in sessions


def test_hooks_fetch_nothing() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repo["repo"] for repo in hooks["repos"]] == ["local"]
    assert {hook["language"] for repo in hooks["repos"] for hook in repo["hooks"]} == {"system"}


WRITERS = sorted((ROOT / "tests" / "writers" / "requirements").glob("*.txt"))


def test_every_framework_that_writes_runs_does_so_weekly() -> None:
    flow = yaml.safe_load((ROOT / ".github" / "workflows" / "compatibility.yml").read_text())
    sessions = flow["jobs"]["nox"]["strategy"]["matrix"]["session"]
    assert {name for name in sessions if name.startswith("writers")} == {f"writers({file.stem})" for file in WRITERS}


@pytest.mark.parametrize("file", WRITERS, ids=lambda file: file.stem)
def test_the_page_on_layouts_has_the_version_that_writes(file: Path) -> None:
    framework, _, version = file.read_text().splitlines()[0].partition("==")
    rows = (ROOT / "docs" / "reference" / "layouts.md").read_text().lower().splitlines()
    assert any(row.startswith(f"| {framework} ") and version in row for row in rows)
