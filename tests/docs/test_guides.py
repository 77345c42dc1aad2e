"""What the guides show works: suites load, workflows are YAML, commands run on the committed runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import geomcheck
from tests.runs import repeats

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs"
GUIDES = sorted(
    page for path in PAGES.rglob("*.md") if not (page := path.relative_to(PAGES).as_posix()).startswith("metrics/")
)
"""The pages that somebody wrote; those of the metrics are made while the site is built."""

_BLOCK = re.compile(r"(?P<fails><!-- fails -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)


def blocks(guide: str, language: str) -> list[tuple[str, bool]]:
    """(text, whether it is meant to fail) of the blocks in a language."""
    found = _BLOCK.finditer((PAGES / guide).read_text())
    return [(block["text"], bool(block["fails"])) for block in found if block["language"] == language]


PLAIN = "geomcheck: 1\nexpect:\n  - {id: moves, metric: update_support, above: 1%}\n"
"""The suite of a reader who has one, on pages that show none."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that holds the runs of the guides."""
    for run in ("tiny-opd", "tiny-sft", "tiny-rlvr"):
        shutil.copytree(ROOT / "fixtures" / run, tmp_path / "ckpts" / run)
    *good, new = repeats(tmp_path / "repeats", 6)
    for number, run in enumerate(good, 1):
        run.rename(tmp_path / "ckpts" / f"good-{number}")
    new.rename(tmp_path / "ckpts" / "new")
    (tmp_path / "profiles").mkdir()
    (tmp_path / "suites").mkdir()
    for suite in (ROOT / "suites").glob("tiny-*.yaml"):
        shutil.copy(suite, tmp_path / "suites")
    tools = tmp_path / "tools"
    tools.mkdir()
    commands = {
        "pytest": "-m pytest -p no:cacheprovider",
        "geomcheck": '-c "import sys; from geomcheck.cli import main; sys.exit(main())"',
    }
    for tool, arguments in commands.items():
        (tools / tool).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
        (tools / tool).chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("guide", GUIDES)
def test_suites_load(guide: str, tmp_path: Path) -> None:
    for text, _ in blocks(guide, "yaml"):
        if "geomcheck: 1" in text:
            (tmp_path / "suite.yaml").write_text(text)
            assert geomcheck.load_suite(tmp_path / "suite.yaml").expectations
        else:
            assert isinstance(yaml.safe_load(text), dict)


@pytest.mark.parametrize("guide", [guide for guide in GUIDES if blocks(guide, "bash")])
def test_commands_do_what_the_guide_says(guide: str, project: Path) -> None:
    suites = [text for text, _ in blocks(guide, "yaml") if "geomcheck: 1" in text]
    made = any("-o suites/mine.yaml" in text for text, _ in blocks(guide, "bash"))
    for name in () if made else ("mine.yaml", "like.yaml"):
        (project / "suites" / name).write_text(suites[0] if suites else PLAIN)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "GITHUB_"))}
    environment |= {"PATH": f"{project / 'tools'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    for text, fails in blocks(guide, "bash"):
        command = ["bash", "-euo", "pipefail", "-c", text]
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == int(fails), f"{text}\n{done.stdout}\n{done.stderr}"


def test_each_page_is_in_the_navigation() -> None:
    listed = (PAGES / "index.md").read_text() + (PAGES / "commands" / "index.md").read_text()
    names = [guide.removesuffix(".md").removeprefix("commands/") for guide in GUIDES if guide != "index.md"]
    assert [name for name in names if f"\n{name}\n" not in listed and f"\ncommands/{name}\n" not in listed] == []


def test_the_action_is_called_with_inputs_that_it_has() -> None:
    inputs = set(yaml.safe_load((ROOT / "action.yml").read_text())["inputs"])
    workflows = [yaml.safe_load(text) for text, _ in blocks("guides/ci-gate.md", "yaml")]
    steps = [step for flow in workflows for job in flow.get("jobs", {}).values() for step in job["steps"]]
    ours = [step for step in steps if "geomcheck@" in step.get("uses", "")]
    assert ours
    assert all(set(step["with"]) <= inputs for step in ours)
