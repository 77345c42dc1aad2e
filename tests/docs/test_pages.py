"""The pages of the metrics say what is declared, and show what is measured."""

from __future__ import annotations

import html
import importlib.util
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import geomcheck
from docs.generate.examples import MODEL, RUNS, Example, examples
from docs.generate.metric import metric_page, overview
from docs.generate.sufficiency import sufficiency_page
from geomcheck.diagnostics import load_metrics
from geomcheck.suite.conditions.sufficiency import SUFFICIENCY, SufficiencyStatement

ROOT = Path(__file__).parents[2]
NAMES = load_metrics().names()


@pytest.fixture(scope="module")
def made() -> dict[str, Example]:
    return examples(ROOT / "fixtures")


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_all_of_the_declaration(made: dict[str, Example], name: str) -> None:
    page = html.unescape(metric_page(made[name]))
    metric = load_metrics()[name]
    for fact in (metric.title, metric.definition, metric.unit.value, metric.source, metric.undefined, metric.baseline):
        assert fact in page
    for parameter in metric.parameters:
        assert f"| `{parameter.name}` |" in page
        assert parameter.about in page


@pytest.mark.parametrize("name", NAMES)
def test_the_example_loads_and_the_model_run_keeps_it(made: dict[str, Example], name: str, tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", metric_page(made[name]), re.DOTALL)
    (tmp_path / "suite.yaml").write_text(text)
    (expectation,) = geomcheck.load_suite(tmp_path / "suite.yaml").expectations
    assert expectation.metric == name
    assert made[name].verdicts[MODEL].outcome == "passed"
    for verdict in (made[name].verdicts[run] for run in RUNS.values()):
        assert verdict.outcome in ("passed", "failed") or "the reference started from another W0" in verdict.message


@pytest.mark.parametrize("name", NAMES)
def test_the_figure_shows_what_was_judged(made: dict[str, Example], name: str) -> None:
    (text,) = re.findall(r"<svg.*</svg>", metric_page(made[name]), re.DOTALL)
    assert "\n\n" not in text  # Markdown would end the figure there
    drawing = ET.fromstring(text)
    marks = [str(mark.text) for mark in drawing.iter("{http://www.w3.org/2000/svg}title")]
    for label, run in (("OPD", "tiny-opd"), ("SFT", "tiny-sft"), ("RLVR", "tiny-rlvr")):
        observed = made[name].verdicts[run].observed
        assert sum(mark.startswith(f"{label} at ") for mark in marks) == len(observed)
        outside = sum(mark.startswith(f"{label} at ") and mark.endswith("outside") for mark in marks)
        assert outside == sum(entry.holds is False for entry in observed)


def test_most_examples_tell_fine_tuning_from_distillation(made: dict[str, Example]) -> None:
    told = [name for name, example in made.items() if example.verdicts["tiny-sft"].outcome == "failed"]
    assert len(told) > len(NAMES) / 2
    assert {"stable_rank", "principal_angle", "spectral_shift", "update_support"} <= set(told)


def test_the_overview_links_every_page() -> None:
    assert all(f"({name}.md)" in overview() for name in NAMES)


@pytest.mark.skipif(importlib.util.find_spec("furo") is None, reason="needs the extra `docs`")
def test_the_site_builds_strictly_and_fetches_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(tmp_path / "doctrees")]
    command += ["docs", str(tmp_path / "site")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    pages = {path.stem for path in (tmp_path / "site" / "metrics").glob("*.html")}
    assert pages == {*NAMES, SUFFICIENCY, "index"}
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|link|iframe)[^>]*(?:src|href)="(https?:[^"]*)"', page.read_text())
        assert [address for address in loaded if "canonical" not in address] == []


def test_the_page_of_sufficiency_has_all_its_keys_and_a_suite_that_loads(tmp_path: Path) -> None:
    page = html.unescape(sufficiency_page())
    for name in ("score", "better", "free", "random", "start", "since", "min_gain", "above", "below", "over_random"):
        assert f"| `{name}` | {SufficiencyStatement.model_fields[name].description} |" in page
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "suite.yaml").write_text(text)
    (expectation,) = geomcheck.load_suite(tmp_path / "suite.yaml").expectations
    assert expectation.metric == SUFFICIENCY
    assert f"[`{SUFFICIENCY}`]({SUFFICIENCY}.md)" in overview()
