"""Records made directly, for reports of runs that are too large or too odd to train."""

from __future__ import annotations

import random
from pathlib import Path

import geomcheck
from geomcheck.checkpoints.weights import describe
from geomcheck.diagnostics import load_metrics
from geomcheck.record import Figure, Origin, Point, Record, Request
from geomcheck.record.column import Column
from geomcheck.report.html import Reported, judged
from geomcheck.suite import Suite

STEPS = (100, 200, 300, 400, 500)
EXPERTS = 319
LAYERS = 48


def record_of(names: list[str], steps: tuple[int, ...] = STEPS, run: str = "synthetic", seed: int = 0) -> Record:
    """A record with plausible figures of the metrics that reports draw, for weights of these names."""
    chance = random.Random(seed)
    metrics = load_metrics()
    wanted = {
        "update_support": (0.2, 0.6),
        "principal_angle": (0.1, 2.0),
        "stable_rank": (15.0, 40.0),
        "relative_update_norm": (1e-4, 1e-3),
        "hill_exponent": (1.0, 3.0),
        "spectral_shift": (1e-5, 1e-3),
        "frozen_share": (0.0, 0.0),
        "rounding_share": (0.0, 0.3),
    }
    cells = [(step, name) for step in steps for name in names]
    columns = {}
    for metric, (low, high) in wanted.items():
        drawn = [Figure(value=chance.uniform(low, high)) for _ in range(997)]  # shared, to keep large records small
        request = Request.of(metrics[metric], {})
        stat = metrics[metric].stat({})
        columns[request, stat] = Column.of({cell: drawn[i % 997] for i, cell in enumerate(cells)})
    return Record(
        run=run,
        path=f"runs/{run}",
        layout="transformers",
        points=tuple(Point(f"checkpoint-{step}", step, step / steps[-1]) for step in steps),
        origin=Origin("runs/base", "--base"),
        weights={name: describe(name, (64, 64), ("bf16",)) for name in names},
        versions=dict.fromkeys(wanted, 1),
        fingerprints={"W0": "00"},
        columns=columns,
    )


def report(record: Record, suite: Path | Suite | None = None) -> Reported:
    """`record` as a page shows it, judged by `suite`."""
    loaded = geomcheck.load_suite(suite) if isinstance(suite, Path) else suite
    verdicts = [] if loaded is None else zip(loaded.expectations, loaded.evaluate(record), strict=True)
    found = [judged(loaded.name, verdict.to_dict(), own, record, None) for own, verdict in verdicts if loaded]
    return Reported(record.run, record.path, record, found)


def mixture_of_experts() -> Record:
    """46,128 matrices: 48 layers of 4 attention projections and 319 experts with three projections each."""
    names = []
    for layer in range(LAYERS):
        names += [f"model.layers.{layer}.self_attn.{p}_proj.weight" for p in "qkvo"]
        for expert in range(EXPERTS):
            names += [f"model.layers.{layer}.mlp.experts.{expert}.{p}_proj.weight" for p in ("gate", "up", "down")]
    return record_of(names, run="moe")
