"""Every figure that the whole pipeline gives for the committed OPD run, against the brute force."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

import fixtures
import geomcheck
from geomcheck.record import Record, Request
from tests.diagnostics import oracle

RUN = Path(fixtures.__file__).parent / "tiny-opd"
STEPS = (30, 60, 90, 120, 150)

SUITE = """
geomcheck: 1
expect:
  - {id: sparsity, metric: update_sparsity, above: 0.1}
  - {id: support, metric: update_support, above: 0.1}
  - {id: angle, metric: principal_angle, below: 80 deg}
  - {id: shift, metric: spectral_shift, above: 1e-9}
  - {id: share, metric: spectral_share, below: 90%}
  - {id: low, metric: low_magnitude_overlap, above: 1%}
  - {id: principal, metric: principal_overlap, rank: 8, above: 1%}
  - {id: rank, metric: stable_rank, above: 1.01}
  - {id: norm, metric: update_norm, above: 1e-9}
  - {id: relative, metric: relative_update_norm, above: 1e-9}
  - {id: hill, metric: hill_exponent, above: 0.1}
  - {id: top, metric: top_energy, k: 4, above: 30%}
  - {id: energy, metric: principal_energy, above: 1e-6}
  - {id: alignment, metric: subspace_alignment, k: 4, above: 1%}
  - {id: channel, metric: subspace_energy, k: 4, above: 1%}
"""


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    suite = tmp_path_factory.mktemp("suite") / "all.yaml"
    suite.write_text(SUITE)
    loaded = geomcheck.load_suite(suite)
    record = geomcheck.measure(RUN, suites=[loaded])
    assert {verdict.outcome for verdict in loaded.evaluate(record)} == {"passed"}
    return record


@pytest.fixture(scope="module")
def weights() -> dict[str, list[np.ndarray]]:
    """By name: W0, then the checkpoints, in float64."""
    places = [RUN / "base", *(RUN / f"checkpoint-{step}" for step in STEPS)]
    loaded = [load_file(place / "model.safetensors") for place in places]
    return {name: [weights[name].double().numpy() for weights in loaded] for name in loaded[0] if "_proj" in name}


def expected(path: list[np.ndarray], index: int) -> dict[str, float]:
    """The brute force of every scalar figure at checkpoint `index` (1-based)."""
    w0, wt, end, early = path[0], path[index], path[-1], path[1]
    d = wt - w0
    figures = {
        "update_sparsity": oracle.sparsity(w0, wt),
        "update_support": 1 - oracle.sparsity(w0, wt),
        "spectral_shift": oracle.nss(w0, wt),
        "spectral_share": oracle.spectral_share(w0, wt),
        "low_magnitude_overlap": oracle.low_overlap(w0, wt, 0.3),
        "principal_overlap": oracle.principal_overlap(w0, wt, 8, 0.3),
        "stable_rank": oracle.stable_rank(d),
        "update_norm": oracle.norm(d),
        "relative_update_norm": oracle.norm(d) / oracle.norm(w0),
        "hill_exponent": oracle.hill(d, 16),
        "top_energy": oracle.top_energy(d, 4),
        "principal_energy": oracle.principal_energy(w0, d, min(w0.shape) // 8),
        "subspace_energy": oracle.channel_energy(d, early - w0, 4),
    }
    if wt is not end:
        figures["subspace_alignment"] = oracle.alignment(d, end - w0, 4)
    return figures


def test_every_figure_is_that_of_the_definition(record: Record, weights: dict[str, list[np.ndarray]]) -> None:
    measured: dict[tuple[str, int], dict[str, float]] = {}
    for row in record.rows():
        if row.stat == "value" and row.figure.value is not None:
            measured.setdefault((row.weight, row.step), {})[row.request.metric] = row.figure.value
    assert len(weights) == 14
    for name, path in weights.items():
        for index, step in enumerate(STEPS, 1):
            figures = measured[name, step]
            assert figures.pop("frozen_share") == 0
            assert figures.pop("rounding_share") < 1e-6
            assert figures == pytest.approx(expected(path, index), rel=1e-6), (name, step)


@pytest.mark.parametrize("side", ["left", "right"])
def test_angles_are_those_of_the_definition(record: Record, weights: dict[str, list[np.ndarray]], side: str) -> None:
    request = Request("principal_angle", '{"excess_over":"none","k":"12.5%"}')
    for name, path in weights.items():
        for index, step in enumerate(STEPS, 1):
            left, right = oracle.angles(path[0], path[index], min(path[0].shape) // 8)
            angles = left if side == "left" else right
            for stat, value in (("max", angles.max()), ("mean", angles.mean()), ("median", np.median(angles))):
                figure = record.figures(request, f"{side}.{stat}")[step, name]
                assert figure.value == pytest.approx(value, rel=1e-4)
