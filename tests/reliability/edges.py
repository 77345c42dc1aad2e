"""Numerical edges: every metric against float64 brute force, and the memory that a huge weight takes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from geomcheck.diagnostics import load_metrics
from geomcheck.diagnostics.linalg import ACCURACY
from tests.diagnostics.edges import compare, depends_on_k, edges
from tests.reliability.large import peak_of
from tests.reliability.options import Options
from tests.reliability.table import Row, Section

SIDE = 32768
MEMORY = 5 * 2**30 + 2**28
"""Bytes for 2^30 entries: W0 and a checkpoint in bf16, the mask of what changed, and a quarter of a GiB."""


def section(options: Options) -> Section:
    """Every edge; `options` say nothing about them."""
    tried: dict[str, list[float]] = {}
    bad: dict[str, int] = {}
    for edge in edges():
        weight, route = edge.weight, "from 256 on" if min(edge.w0.shape) >= 256 else "below 256"
        errors = tried.setdefault(f"{edge.kind}, {route}", [])
        for metric in load_metrics():
            for k in edge.ks if depends_on_k(metric) else edge.ks[:1]:
                compared = compare(edge, weight, metric, k)
                errors.append(compared.error or 0.0)
                if compared.problem or errors[-1] > ACCURACY:
                    what = f"{edge.kind}, {route}"
                    bad[what] = bad.get(what, 0) + 1
                    print(f"{edge}, {metric.name}, k = {k}: {compared}")
    rows = [
        Row(what, str(len(errors)), f"worst relative error {max(errors):.1e}", bad.get(what, 0))
        for what, errors in tried.items()
    ]
    for metric_name in ("update_norm", "update_support"):
        with tempfile.TemporaryDirectory() as directory:
            peak = peak_of(Path(directory) / "run", SIDE, SIDE, metric_name)
        rows.append(Row(f"{metric_name} of 2^30 bf16 entries", "1", f"{peak / 2**20:.0f} MiB", int(peak > MEMORY)))
    return Section("edges", rows, f"accuracy promised: {ACCURACY:g}, angles below 0.01 degrees absolutely")
