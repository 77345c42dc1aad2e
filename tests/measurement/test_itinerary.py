"""Each checkpoint is read once, whatever is compared with what."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from geomcheck.checkpoints import find_base, open_run
from geomcheck.diagnostics import load_metrics
from geomcheck.measurement import measure_record, survey
from geomcheck.measurement.itinerary import Itinerary
from geomcheck.record import Point, Request
from tests.conftest import Reads
from tests.runs import DOWN, EMBED, K, Q, base_weights, moved, write_run

METRICS = load_metrics()
POINTS = [Point(f"checkpoint-{i}", i, i / 5) for i in range(1, 6)]


def aligned(to: Any) -> Request:
    return Request.of(METRICS["subspace_alignment"], {"k": 2, "to": to})


def energy(at: Any) -> Request:
    return Request.of(METRICS["subspace_energy"], {"k": 2, "from": at})


@pytest.mark.parametrize(
    ("requests", "order"),
    [
        (set(), []),
        ({Request.of(METRICS["stable_rank"], {})}, [0, 1, 2, 3, 4]),
        ({aligned("last")}, [4, 0, 1, 2, 3]),
        ({aligned("previous")}, [0, 1, 2, 3, 4]),
        ({energy({"progress": "40%"})}, [1, 0, 2, 3, 4]),
        ({energy({"progress": "40%"}), aligned("last")}, [1, 4, 0, 2, 3]),
        ({aligned({"step": 99})}, [0, 1, 2, 3, 4]),
    ],
)
def test_checkpoints_that_others_are_compared_with_come_first(requests: set[Request], order: list[int]) -> None:
    assert Itinerary(POINTS, [requests] * 5, METRICS).order() == order


def test_checkpoints_of_which_nothing_is_wanted_are_not_visited() -> None:
    rank = {Request.of(METRICS["stable_rank"], {})}
    assert Itinerary(POINTS, [set(), rank, set(), set(), {aligned("last")}], METRICS).order() == [4, 1]


PLACES: list[Any] = ["first", "last", "previous", {"progress": "40%"}, {"step": 4}]


@pytest.mark.parametrize("to", PLACES, ids=str)
@pytest.mark.parametrize("early", [{"progress": "20%"}, {"progress": "60%"}], ids=str)
def test_each_tensor_is_read_once_a_pass_and_figures_are_those_of_the_definition(
    tmp_path: Path, reads: Reads, to: Any, early: Any
) -> None:
    base = base_weights()
    weights = {step: moved(base, 1e-2, seed=step) for step in range(1, 6)}
    run = open_run(write_run(tmp_path / "run", base, weights))
    w0 = find_base(run)
    record = survey(run, w0)
    requests = {aligned(to), energy(early), Request.of(METRICS["stable_rank"], {})}
    measure_record(record, run, w0, dict.fromkeys((Q, K, DOWN), requests))
    times = Counter(reads)
    assert {name for _, name in reads} == {Q, K, DOWN, EMBED}
    assert all(count == (1 if name == EMBED else 2) for (_, name), count in times.items())  # entries, factorizations
    assert len(times) == 4 * 6
    delta = {step: weights[step][Q].double() - base[Q].double() for step in weights}
    top = {step: torch.linalg.svd(delta[step]).Vh[:2] for step in weights}
    target = {"first": 1, "last": 5}.get(str(to))
    for (step, name), figure in record.figures(aligned(to), "value").items():
        if name == Q:
            other = target or (step - 1 if to == "previous" else to.get("step", 2))
            assert figure.value == pytest.approx((top[step] @ top[other].T).norm().item() ** 2 / 2, rel=1e-9)
    source = 1 if early == {"progress": "20%"} else 3
    for (step, name), figure in record.figures(energy(early), "value").items():
        if name == Q:
            expected = (delta[step] @ top[source].T).norm().item() ** 2 / delta[step].norm().item() ** 2
            assert figure.value == pytest.approx(expected, rel=1e-9)
