"""What is written into a project: a suite that needs no calibration, a workflow, lines of the ini file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

CHECKS = Path("suites/checks.yaml")
WORKFLOW = Path(".github/workflows/geometry.yml")
FORK = "https://github.com/YOUR-FORK/geomcheck"

_PLAIN = re.compile(r"[\w][\w./-]*", re.ASCII)
"""A path that is one word, to a shell and to YAML."""

_CHECKS = """\
# What holds of any good training, whatever its method: the shipped suite `sanity`, which needs no calibration.
# `geomcheck init` wrote this file; it is yours to edit. `geomcheck metrics` lists what can be measured.
# Completion in an editor: geomcheck schema > suites/geomcheck-suite.schema.json
geomcheck: 1
name: checks
about: What holds of any good training of this project.
extends: sanity

# Expectations to switch on: take away the `#` before `expect:` and before those that you want. Bands that gate are best
# taken from two good runs or more, which differ in their seed: geomcheck calibrate RUN RUN ... -o suites/NAME.yaml
#
#expect:
#  - id: trained                    # in place of sanity's: what is frozen on purpose
#    trains: {role: everything, exclude: ["model.embed_tokens.*", "lm_head.*"]}
#
#  - id: support                    # how many single numbers changed
#    metric: update_support
#    within: [1%, 90%]
#    at: last
#
#  - id: size                       # how far the weights went, beside their own size
#    metric: relative_update_norm
#    below: 5%
#    at: last
#
#  - id: rank                       # over how many directions the update spreads
#    metric: stable_rank
#    above: 1.05
#
#  - id: locked-from-the-start      # whether the first checkpoint goes where the last one is
#    metric: subspace_alignment
#    above: 50%
#    at: first
#    level: warn
"""

_WORKFLOW = """\
name: geometry of training
on: pull_request
jobs:
  geomcheck:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: {{python-version: "3.12"}}
      - run: pip install "geomcheck @ git+{source}"
      - run: python train_smoke.py --output_dir {run}   # your recipe, a few hundred steps
      - run: pytest --geom-run={run}{options} --geom-report=report.html
      - uses: actions/upload-artifact@v4
        if: always()
        with: {{name: geometry, path: report.html}}
"""


@dataclass(frozen=True)
class File:
    """A file to write: its path from the project, its text, and what it is."""

    path: Path
    text: str
    about: str


def checks() -> File:
    """A suite that extends the shipped one which needs no calibration, with examples to switch on."""
    return File(CHECKS, _CHECKS, "what holds of any good training, and expectations to switch on")


def workflow(run: str, *, base: str = "", suite: str = "", source: str = FORK) -> File:
    """A workflow of GitHub that trains and judges.

    Args:
        run: where the recipe writes its run.
        base: W0, where the run does not hold it.
        suite: to judge by, where that is not for `applies_to` to say.
        source: the git repository that geomcheck is installed from.

    Values that are more than one plain word to a shell are left out: a directory's name must not become a command.
    """
    given = (("--geom-base", base), ("--geom-suite", suite))
    options = "".join(f" {flag}={value}" for flag, value in given if _PLAIN.fullmatch(value))
    run = run if _PLAIN.fullmatch(run) else "ckpts/smoke"
    text = _WORKFLOW.format(run=run, options=options, source=source)
    return File(WORKFLOW, text, "a check of every pull request; put your recipe in its line `train_smoke.py`")


def installed_from() -> str:
    """The git repository that this geomcheck was installed from, where pip knows one that a workflow can read."""
    try:
        told: Any = json.loads(distribution("geomcheck").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return FORK
    url = str(told.get("url", "")) if isinstance(told, dict) and "vcs_info" in told else ""
    return url.removesuffix(".git") if re.fullmatch(r"https://[\w.-]+(/[\w.-]+)+", url, re.ASCII) else FORK


def ini_lines(settings: Mapping[str, str], *, toml: bool) -> list[str]:
    """The settings as lines of an ini file, with the heading that they stand below."""
    if not settings:
        return []
    head = "[tool.pytest.ini_options]" if toml else "[pytest]"
    return [head, *(f"{name} = {json.dumps(value) if toml else value}" for name, value in settings.items())]
