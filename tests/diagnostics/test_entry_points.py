"""A metric of another package, installed for real: whatever shows it shows the same figure and the same warning."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.extensions.installed import install
from tests.runs import DOWN, K, Q, base_weights, moved, write_run

PACKAGE = """
from geomcheck.diagnostics import Metric, Parameter, Unit, Words

MOVED = Metric(
    name="moved_beyond",
    title="moved beyond",
    definition="share of |D_t| > limit",
    unit=Unit.FRACTION,
    source="the toy paper",
    parameters=(Parameter(name="limit", kind="number", low=0.0, high=1.0, about="In the unit of the weights."),),
    compute=lambda update, params, _run: {"value": (update.matrix.abs() > params["limit"]).double().mean().item()},
)

METRIC = Metric(
    name="largest_change",
    title="largest change",
    definition="max |D_t|",
    unit=Unit.NUMBER,
    fold="max",
    source="the toy paper",
    undefined="D_t = 0",
    compute=lambda update, _params, _run: {"value": update.matrix.abs().max().item()},
    words=Words("How far the farthest number moved.", "Some number moved too far.", "No number moved far enough."),
    distrust="One odd number sets it.",
    inflated_by_rounding=True,
    drawn="trajectory",
    example=(0.01, 0.04),
)
"""

SUITE = """
geomcheck: 1
name: toy
expect:
  - {id: largest, metric: largest_change, below: 0.001, at: last}
  - {id: few, metric: moved_beyond, limit: 0.01, below: 0.5, at: last}
"""

COMMANDS = """
import contextlib, sys
from geomcheck.cli import main

for number, line in enumerate(sys.stdin.read().splitlines()):
    with open(f"said-{number}", "w", encoding="utf-8") as out, contextlib.redirect_stdout(out):
        assert main(line.split()) == 0
"""

WARNING = "largest_change describes the rounding as much as the training"


@dataclass(frozen=True)
class Project:
    """Runs in bf16, whose updates are not much larger than the rounding, and what was said of them."""

    path: Path
    terminal: str
    metrics: str
    schema: str
    compared: str

    @property
    def verdict(self) -> dict[str, Any]:
        document = json.loads((self.path / "verdicts.json").read_text())
        verdict, _ = document["runs"][0]["suites"][0]["expectations"]
        return verdict

    @property
    def value(self) -> float:
        """The figure that the gate judged."""
        return float(self.verdict["decisive"]["value"])

    @property
    def page(self) -> str:
        return (self.path / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("project")
    metrics_of_toy = {"largest_change": "METRIC", "moved_beyond": "MOVED"}
    site = install(root / "site", "toy", PACKAGE, {"geomcheck.metrics": metrics_of_toy})
    base = base_weights()
    base[Q] /= 16  # so that its changes are rounded less: the largest of all weights is not their mean
    for seed in range(3):
        steps = {10 * i: moved(base, 1e-3 * i, seed=10 * seed + i, dtype=torch.bfloat16) for i in (1, 2)}
        write_run(root / f"run-{seed}", base, steps)
    (root / "suites").mkdir()
    (root / "suites" / "toy.yaml").write_text(SUITE)
    search = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])

    def python(*arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=root, env=environment, input=said, capture_output=True, text=True)

    outputs = ("--geom-json=verdicts.json", "--geom-report=report.html")
    gate = python("-m", "pytest", "-p", "no:cacheprovider", "--geom-run=run-0", *outputs)
    assert gate.returncode == 1, gate.stdout + gate.stderr
    commands = (
        "metrics",
        "schema",
        "calibrate run-0 run-1 run-2 --metrics largest_change -o bands.yaml",
        "compare run-0 run-1 --json",
    )
    done = python("-c", COMMANDS, said="\n".join(commands))
    assert done.returncode == 0, done.stderr
    metrics, schema, _, compared = ((root / f"said-{i}").read_text(encoding="utf-8") for i in range(4))
    return Project(root, gate.stdout, metrics, schema, compared)


def test_the_gate_tells_figure_and_warning(project: Project) -> None:
    assert f"largest_change left value < 0.001 at step 20: {project.value:.4g} (max of 3 weights)" in project.terminal
    (warning,) = project.verdict["warnings"]
    assert WARNING in warning
    assert WARNING in " ".join(project.terminal.split())


def largest_change(run: Path) -> float:
    """As the files have it."""
    before, after = (load_file(run / name / "model.safetensors") for name in ("base", "checkpoint-20"))
    return max((after[name].double() - before[name].double()).abs().max().item() for name in (Q, K, DOWN))


def test_the_page_has_the_same_words_and_warning(project: Project) -> None:
    for said in ("How far the farthest number moved.", "Some number moved too far.", "Largest change", WARNING):
        assert said in project.page


def test_the_page_draws_the_same_figure(project: Project) -> None:
    over_training = project.page.partition('<section id="training">')[2].partition("</section>")[0]
    own = over_training.partition('<a href="#d-largest_change">')[2].partition("</figure>")[0]
    data = json.loads(unescape(own.partition("<metadata>")[2].partition("</metadata>")[0]))
    drawn = [value for line in data["series"] for step, value, *_ in line.get("points", ()) if step == 20]
    assert project.value in drawn


def test_it_is_listed_with_its_words(project: Project) -> None:
    listed = project.metrics.partition("largest_change: max |D_t|\n")[2].partition("functional_sufficiency")[0]
    for said in ("0 to inf; fold max; source: the toy paper", "How far the farthest", "One odd number", "warn where"):
        assert said in listed


def test_a_parameter_without_default_is_asked_of_suites_alone(project: Project) -> None:
    assert "    limit = required: In the unit of the weights.\n" in project.metrics
    assert "1 failed, 1 passed" in project.terminal
    assert "moved_beyond" not in project.compared


def test_editors_offer_it(project: Project) -> None:
    schema = json.loads(project.schema)
    offered = schema["properties"]["expect"]["items"]["$ref"].rpartition("/")[2]
    assert "largest_change" in schema["definitions"][offered]["properties"]["metric"]["enum"]
    own = schema["definitions"]["largest_change"]
    assert own["properties"]["within"]["examples"] == [[0.01, 0.04]]
    assert "largest change: max |D_t|." in own["description"]
    assert "One odd number sets it." in own["description"]


def test_calibration_and_comparison_have_the_same_figure(project: Project) -> None:
    (row,) = [row for row in json.loads(project.compared)["metrics"] if row["metric"] == "largest_change"]
    assert row["pairs"][-1]["a"] == project.value
    largest = [largest_change(project.path / f"run-{seed}") for seed in range(3)]
    assert largest[0] == project.value
    (row,) = [line for line in (project.path / "bands.yaml").read_text().splitlines() if line.startswith("      20 [")]
    assert [float(figure) for figure in row.partition("] ")[2].split()] == pytest.approx(largest)
