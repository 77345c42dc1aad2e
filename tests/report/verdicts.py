"""Facts of verdicts as suites give them, for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geomcheck
from tests.runs import simple_run

SUITE = """
geomcheck: 1
name: many
expect:
  - {{id: norms, metric: update_norm, below: {bound}, per: {per}, why: The norm says how far.}}
  - {{id: rank, metric: stable_rank, within: [1.5, 15]}}
  - {{id: support, metric: update_support, within: [0.1%, 12.5%], at: last}}
"""


def facts(
    directory: Path, *, steps: Sequence[int] = (10, 20, 30), per: str = "run", bound: str = "0.001"
) -> list[dict[str, Any]]:
    """What three expectations come to on a small run: the first and the last fail."""
    (directory / "suite.yaml").write_text(SUITE.format(per=per, bound=bound))
    suite = geomcheck.load_suite(directory / "suite.yaml")
    record = geomcheck.measure(simple_run(directory / "run", tuple(steps)), suites=[suite])
    return [{"run": "run", "suite": "many"} | verdict.to_dict() for verdict in suite.evaluate(record)]
