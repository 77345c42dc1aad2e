"""A condition keyword of one module is handled by every surface: gate, JSON, page, schema, hover, watch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.extensions.installed import install
from tests.runs import simple_run

HERE = Path(__file__).parent
SUITE = """
geomcheck: 1
name: growth
applies_to: ["opd*"]
expect:
  - {id: grew, metric: update_norm, grows_by: 1.01}
  - {id: doubled, metric: update_norm, grows_by: 1000, why: A warm-up that is too long.}
"""

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run a module of Python in a project with a run and the suite, where the extension is installed."""
    source = (HERE / "grows_by.py").read_text(encoding="utf-8")
    site = install(tmp_path / "site", "grows_by", source, {"geomcheck.conditions": {"grows_by": "GrowsBy"}})
    project = tmp_path / "project"
    simple_run(project / "ckpts" / "opd")
    (project / "suites").mkdir()
    (project / "suites" / "growth.yaml").write_text(SUITE)
    paths = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": paths, "COLUMNS": "100"}
        full = [sys.executable, "-m", *arguments]
        return subprocess.run(full, cwd=project, env=environment, capture_output=True, text=True, timeout=300)

    return run


def test_the_gate_json_and_page_show_it(command: Command, tmp_path: Path) -> None:
    verdicts, page = tmp_path / "v.json", tmp_path / "page.html"
    done = command("pytest", "--geom-run=ckpts/opd", f"--geom-json={verdicts}", f"--geom-report={page}")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "update_norm grew only by" in done.stdout
    assert "A warm-up that is too long." in done.stdout
    (run,) = json.loads(verdicts.read_text())["runs"]
    (suite,) = run["suites"]
    by_id = {facts["id"]: facts for facts in suite["expectations"]}
    assert {name: facts["outcome"] for name, facts in by_id.items()} == {"grew": "passed", "doubled": "failed"}
    assert by_id["doubled"]["kind"] == "grows_by"
    assert by_id["doubled"]["condition"] == "grows by 1000"
    assert by_id["doubled"]["meaning"] == "It should have grown, and did not."
    text = page.read_text()
    assert "It should have grown, and did not." in text
    assert "grew only by" in text


def test_mistakes_in_it_are_told_like_others(command: Command, tmp_path: Path) -> None:
    suite = tmp_path / "project" / "suites" / "growth.yaml"
    suite.write_text(
        "geomcheck: 1\nexpect:\n"
        "  - {id: a, metric: update_norm, grows_by: much}\n"
        "  - {id: b, metric: update_norm, grows_by: 0}\n"
        "  - {id: c, metric: update_norm, grows_by: 2, above: 1}\n"
        "  - {id: d, metric: update_norm, grow_by: 2}\n"
        "  - {id: e, metric: update_norm, grows_by: 2, tolerance: 1}\n"
        "  - {id: f, metric: update_norm}\n"
    )
    done = command("pytest", "--geom-run=ckpts/opd")
    assert done.returncode == 2
    for told in (
        "`grows_by`: expected a factor such as `1.5`",
        "`grows by 0` cannot fail: no figure is negative",
        "several conditions, `grows_by` and `above`",
        "did you mean `grows_by`?",
        "`tolerance` goes with near, trend, like, unlike, not with `grows_by`",
        "one of: within, bands, above, below, near, trend, like, unlike, normal, grows_by, regime",
    ):
        assert told in done.stdout, told


def test_editors_know_it(command: Command) -> None:
    schema = json.loads(command("geomcheck.cli", "schema").stdout)
    key = schema["definitions"]["update_norm"]["properties"]["grows_by"]
    key = schema["definitions"][key["$ref"].rpartition("/")[2]]
    assert key["description"] == "The last figure is at least so many times the first."
    assert (key["type"], key["examples"]) == ("number", [1.5])


def test_a_watch_judges_it_as_the_run_goes(command: Command) -> None:
    done = command(
        "geomcheck.cli", "watch", "ckpts/opd", "--suite=suites/growth.yaml", "--steps=60", "--once", "--json"
    )
    document = json.loads(done.stdout.splitlines()[-1])
    (suite,) = document["runs"][0]["suites"]
    standings = {facts["id"]: facts["standing"] for facts in suite["expectations"]}
    assert standings == {"grew": "provisional", "doubled": "provisional"}, done.stdout + done.stderr


def test_a_key_that_is_taken_is_refused(command: Command, tmp_path: Path) -> None:
    module = tmp_path / "site" / "grows_by.py"
    module.write_text(module.read_text().replace('name="grows_by"', 'name="within"'))
    done = command("geomcheck.cli", "schema")
    assert done.returncode == 4
    assert "the key `within` is taken by another condition" in done.stderr
