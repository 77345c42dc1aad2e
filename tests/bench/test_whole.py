"""The benchmark of a whole model runs, on runs that are what it says; nothing is asserted of times."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.bench.protocols import ALL
from tests.bench.whole.compare import Findings, measured
from tests.bench.whole.gates import BUDGET, ENTRIES, EXACT, GATES, REMEMBERED, UPDATE
from tests.bench.whole.model import Model, write_run
from tests.bench.whole.stages import REST, STAGES
from tests.bench.whole.table import aims, lines

SHAPES = {"q": (320, 256), "down": (64, 96)}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    model = Model(SHAPES, layers=3, written=(2, 3))
    return measured(model, model.written, 5, tmp_path_factory.mktemp("whole"), papers=True)


def test_every_gate_passes_and_is_told_with_its_cost(found: Findings) -> None:
    said = list(lines(found))
    assert max(map(len, said)) <= 100
    for name in GATES:
        cost = found.whole(name)
        assert cost == found.sessions[name].cost
        assert cost.cpu > 0
        assert cost.peak > cost.anonymous > 10
        assert any(line.startswith(name) for line in said)
    assert found.sessions[REMEMBERED].cost.cpu < found.sessions[EXACT].cost.cpu
    assert list(found.peaks) == [2, 3]
    assert len(list(aims(found))) == 7


def test_gates_judge_every_metric_of_the_papers_protocol_but_that_of_two_runs() -> None:
    assert GATES[EXACT].metrics == ALL - {"mask_jaccard"}


def test_stages_are_of_a_session_that_measured(found: Findings) -> None:
    assert {"reading", "digests", "factorization of W0", "products with D", REST} <= found.stages.keys()
    assert found.stages.keys() <= {*STAGES, REST}
    assert min(found.stages.values()) >= 0
    assert [set(of_shapes) for of_shapes in found.weights.values()] == [{*SHAPES.values()}] * 2


def test_nothing_is_left_where_runs_were_written(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"the runs and their caches take .* GB that are free"):
        measured(Model({"q": (1 << 20, 1 << 20)}, layers=100, written=(100,)), [100], 5, tmp_path, papers=False)
    assert not list(tmp_path.iterdir())


def test_a_model_of_which_fewer_layers_were_measured_is_scaled_but_for_the_start(found: Findings) -> None:
    larger = replace(found, model=replace(found.model, layers=30))
    for name in (EXACT, UPDATE):
        before = found.sessions[name].cost
        assert larger.whole(name).cpu == pytest.approx(found.start + 10 * (before.cpu - found.start))
        assert larger.whole(name).peak == before.peak
    larger.sessions = {**found.sessions, BUDGET: replace(found.sessions[BUDGET], weights=6)}
    entries, exact, beside = larger.whole(ENTRIES), found.sessions[EXACT].cost, found.sessions[ENTRIES].cost
    assert larger.whole(BUDGET).cpu == pytest.approx(entries.cpu + exact.cpu - beside.cpu)
    assert any("SCALED by 10" in line for line in lines(larger))


def test_layers_differ_and_have_the_spectra_of_what_was_drawn(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", Model({"q": (96, 64)}, layers=3, written=(3,)), 3, 2)
    base, last = (load_file(run / name / "model.safetensors") for name in ("base", "checkpoint-2"))
    names = [f"model.layers.{layer}.self_attn.q_proj.weight" for layer in range(3)]
    spectra = [torch.linalg.svdvals(base[name].double()) for name in names]
    assert torch.allclose(spectra[0], spectra[2], rtol=1e-12)
    assert not torch.allclose(spectra[0], spectra[1], rtol=1e-3)
    assert not torch.equal(base[names[0]], base[names[2]])
    for name in names:
        assert 0.3 < float((base[name] != last[name]).float().mean()) < 0.7
