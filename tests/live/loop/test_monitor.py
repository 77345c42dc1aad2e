"""Watching a loop gives what measuring its checkpoints gives, and keeps no weight for it."""

from __future__ import annotations

import gc
import itertools
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import geomcheck
from geomcheck.checkpoints.weights import describe
from geomcheck.diagnostics import load_metrics
from geomcheck.errors import RunError, UsageError
from geomcheck.live.loop.history import ObservedWeight
from geomcheck.live.loop.measure import observe_weight
from geomcheck.live.loop.plan import spread
from geomcheck.record import Record, Request, digests
from geomcheck.training import Monitor, Sharded
from tests.diagnostics import oracle
from tests.diagnostics.adversaries import sampled
from tests.figures import IN_FLOAT32, require_same_figures
from tests.files import tree
from tests.runs import EMBED, NORM, Q, Tensors, base_weights, moved, simple_run, write_model, write_run

METRICS = load_metrics()
STEPS = (10, 20, 30, 40, 50)
SMALL = [
    Request.of(METRICS["stable_rank"], {}),
    Request.of(METRICS["update_sparsity"], {}),
    Request.of(METRICS["principal_angle"], {"k": 2}),
    Request.of(METRICS["subspace_alignment"], {"k": 2}),
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return simple_run(tmp_path / "opd", STEPS)


def weights(run: Path, step: int) -> Tensors:
    return load_file(run / f"checkpoint-{step}" / "model.safetensors")


def watched(run: Path, **options: Any) -> Monitor:
    return Monitor(run / "base", **{"metrics": SMALL, "total_steps": STEPS[-1], "run": run, **options})


def follow(monitor: Monitor, run: Path, steps: tuple[int, ...] = STEPS) -> Record:
    for step in steps:
        monitor.observe(step, weights(run, step), name=f"checkpoint-{step}", finished=step == STEPS[-1])
    assert monitor.record is not None
    return monitor.record


def assert_same(one: Record, other: Record) -> None:
    require_same_figures(one, other)
    assert (one.weights, one.skipped, one.versions) == (other.weights, other.skipped, other.versions)
    names = sorted(other.measured_weights())
    for point in other.points:
        assert one.sketches.at(point.step, names).tobytes() == other.sketches.at(point.step, names).tobytes()


PLACES: list[Any] = ["first", "last", "previous", {"progress": "40%"}, {"step": 40}]


@pytest.mark.parametrize("to", PLACES, ids=str)
def test_figures_are_those_of_the_saved_checkpoints(run: Path, to: Any) -> None:
    requests = [*SMALL, Request.of(METRICS["subspace_alignment"], {"k": 3, "to": to, "side": "left"})]
    record, after = follow(watched(run, metrics=requests), run), geomcheck.measure(run, metrics=requests)
    assert_same(record, after)


@pytest.mark.parametrize("early", ["first", "previous", {"progress": "20%"}], ids=str)
def test_energy_in_a_channel_that_is_known_in_time(run: Path, early: Any) -> None:
    requests = [Request.of(METRICS["subspace_energy"], {"k": 2, "from": early})]
    record, after = follow(watched(run, metrics=requests), run), geomcheck.measure(run, metrics=requests)
    assert_same(record, after)
    if early != "previous":  # nothing is computed but the one channel that is compared with
        assert record.routes == after.routes


def test_energy_in_a_channel_that_came_later_is_undefined_with_the_reason(run: Path) -> None:
    request = Request.of(METRICS["subspace_energy"], {"k": 2, "from": {"step": 30}})
    figures = follow(watched(run, metrics=[request]), run).figures(request, "value")
    after = geomcheck.measure(run, metrics=[request]).figures(request, "value")
    for (step, name), figure in figures.items():
        if step < 30:
            assert "keeps only channels" in str(figure.undefined) or "no checkpoint" in str(figure.undefined)
        else:
            assert figure == after[step, name]
    assert {step for step, _ in figures} == set(STEPS)


def test_figures_against_brute_force(run: Path) -> None:
    record = follow(watched(run), run)
    before = load_file(run / "base" / "model.safetensors")[Q].double().numpy()
    deltas = {step: weights(run, step)[Q].double().numpy() - before for step in STEPS}
    channels = {step: np.linalg.svd(delta)[2][:2] for step, delta in deltas.items()}
    for step in STEPS:
        sigma = np.linalg.svd(deltas[step], compute_uv=False)
        expected = (sigma**2).sum() / sigma[0] ** 2
        assert record.figures(SMALL[0], "value")[step, Q].value == pytest.approx(expected, rel=1e-6)
        if step < STEPS[-1]:
            expected = (np.linalg.norm(channels[step] @ channels[STEPS[-1]].T) ** 2) / 2
            assert record.figures(SMALL[3], "value")[step, Q].value == pytest.approx(expected, rel=1e-6)


def test_large_matrices_keep_their_channels_in_fp32_and_w0_in_the_cache(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    before = {Q: torch.randn(300, 280, generator=generator)}
    after = {}
    for step in (10, 20, 30):
        low_rank = torch.randn(300, 4, generator=generator) @ torch.randn(4, 280, generator=generator)
        after[step] = {Q: before[Q] + 1e-4 * step * (low_rank + torch.randn(300, 280, generator=generator))}
    run = write_run(tmp_path / "opd", before, after)
    monitor = Monitor(run / "base", metrics=SMALL, total_steps=30, run=run, cache=tmp_path / "cache")
    record, measured = follow(monitor, run, (10, 20, 30)), geomcheck.measure(run, metrics=SMALL)
    for request, stat in measured.measured():
        expected = {cell: figure.value for cell, figure in measured.figures(request, stat).items()}
        found = {cell: figure.value for cell, figure in record.figures(request, stat).items()}
        assert found == pytest.approx(expected, rel=1e-6)
    assert len(list((tmp_path / "cache" / "bases").glob("*.safetensors"))) == 1


def test_no_tensor_is_kept_but_channels(run: Path) -> None:
    monitor = watched(run)
    before = matrices()
    given = weights(run, 10)
    refs = [weakref.ref(tensor) for tensor in given.values()]
    monitor.observe(10, given)
    del given
    gc.collect()
    assert not any(ref() is not None for ref in refs)
    kept = [tensor for tensor in matrices() if not any(tensor is other for other in before)]
    assert sorted(tuple(tensor.shape) for tensor in kept) == [(16, 2), (16, 2), (24, 2)]
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in kept)  # no view of something larger


def matrices() -> list[Tensor]:
    return [thing for thing in gc.get_objects() if type(thing) is Tensor and thing.dim() == 2]


def test_names_mean_what_they_mean_on_disk(run: Path) -> None:
    monitor = watched(run, metrics=SMALL, weights="all")
    for step in STEPS:
        own = weights(run, step)
        named = [(f"module._orig_mod.{name}", tensor) for name, tensor in own.items()]
        named.append(("module._orig_mod.lm_head.weight", own[EMBED]))  # tied: the same tensor again
        monitor.observe(step, named, name=f"checkpoint-{step}")
    assert monitor.record is not None
    everything = geomcheck.suite.language.selection.Selection("all")
    assert_same(monitor.record, geomcheck.measure(run, metrics=SMALL, weights=everything))


def test_experts_that_are_stacked_in_memory(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.Qwen3MoeConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, moe_intermediate_size=8, num_hidden_layers=1,
        num_experts=4, num_experts_per_tok=2, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
        tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.Qwen3MoeForCausalLM(config)
    run = tmp_path / "moe"
    model.save_pretrained(run / "base")
    monitor = Monitor(run / "base", metrics=SMALL, total_steps=2, run=run, config=config.to_dict())
    for step in (1, 2):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1e-3 * torch.randn(parameter.shape))
        model.save_pretrained(run / f"checkpoint-{step}")
        monitor.observe(step, dict(model.named_parameters()), name=f"checkpoint-{step}")
    assert monitor.record is not None
    after = geomcheck.measure(run, metrics=SMALL)
    require_same_figures(monitor.record, after)
    assert "model.layers.0.mlp.experts.3.gate_proj.weight" in monitor.record.measured_weights()


def test_figures_of_weights_that_mislead_fast_routes(tmp_path: Path) -> None:
    """Against brute force, and against what the saved checkpoints give."""
    shapes = ((256, 256), (257, 320), (128, 130))
    some = [a for a in sampled(60, shapes, ("fp32", "bf16")) if a.is_sound]
    some = [a for a in some if max(oracle.norm(a.weight.d), oracle.norm(a.weight.e)) < 0.5 * oracle.norm(a.weight.w0)]
    named = {f"model.layers.{i}.self_attn.q_proj.weight": a for i, a in enumerate(some[:12])}
    assert len(named) == 12
    run = tmp_path / "run"
    write_model(run / "base", {name: a.w0 for name, a in named.items()})
    requests = [Request.of(METRICS[name], {}) for name in ("spectral_shift", "stable_rank", "update_norm")]
    monitor = Monitor(run / "base", metrics=requests, total_steps=2, run=run)
    for step in (1, 2):
        after = {name: a.wt if step == 1 else a.later for name, a in named.items()}
        write_model(run / f"checkpoint-{step}", after)
        monitor.observe(step, after, name=f"checkpoint-{step}")
    assert monitor.record is not None
    require_same_figures(monitor.record, geomcheck.measure(run, metrics=requests), IN_FLOAT32)
    shift, rank, size = (monitor.record.figures(request, METRICS[request.metric].stat({})) for request in requests)
    for name, a in named.items():
        scale = oracle.norm(a.weight.w0)
        for step, wt, delta in ((1, a.weight.wt, a.weight.d), (2, a.weight.other, a.weight.e)):
            noise = oracle.RESOLUTIONS["spectral_shift"](a.weight, 1)
            values = oracle.spectrum(delta).s
            assert shift[step, name].value == pytest.approx(oracle.shift(a.weight.w0, wt) / scale, rel=1e-3, abs=noise)
            assert rank[step, name].value == pytest.approx((values**2).sum() / values[0] ** 2, rel=1e-3)
            assert size[step, name].value == pytest.approx(oracle.norm(delta), rel=1e-9)


def test_what_was_kept_continues_the_record(run: Path, tmp_path: Path) -> None:
    record = tmp_path / "out" / "opd.parquet"
    first = watched(run, record=record)
    follow(first, run, (10, 20, 30))
    resumed = watched(run, record=record)
    resumed.resume(20)  # step 30 was not saved before the training was interrupted
    assert_same(follow(resumed, run, (30, 40, 50)), geomcheck.measure(run, metrics=SMALL))
    assert_same(geomcheck.read_record(record), geomcheck.measure(run, metrics=SMALL))


def test_a_longer_training_goes_by_its_own_length(run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def after(metrics: list[Any], record: Path) -> list[tuple[int, float]]:
        follow(watched(run, record=record, metrics=metrics), run, (10, 20))
        longer = watched(run, record=record, metrics=metrics, total_steps=100)
        longer.resume(20)
        return [(point.step, point.progress) for point in follow(longer, run, (30,)).points]

    assert after(SMALL, tmp_path / "a.parquet") == [(10, 0.1), (20, 0.2), (30, 0.3)]
    early = Request.of(load_metrics()["subspace_energy"], {"k": 2, "from": {"progress": "20%"}})
    assert after([early], tmp_path / "b.parquet") == [(30, 0.3)]
    assert "the training now takes 100 steps, and figures go by its progress" in caplog.text


def test_other_figures_than_before_start_a_new_record(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    follow(watched(run, record=tmp_path / "opd.parquet"), run, (10, 20))
    resumed = watched(run, record=tmp_path / "opd.parquet", metrics=SMALL[:1])
    resumed.resume(20)
    assert [point.step for point in follow(resumed, run, (30,)).points] == [30]
    assert "the record starts anew at step 20" in caplog.text


def test_a_damaged_memory_starts_a_new_record(run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    follow(watched(run, record=tmp_path / "opd.parquet"), run, (10,))
    (tmp_path / "opd.resume" / "10.safetensors").write_bytes(b"{}")
    resumed = watched(run, record=tmp_path / "opd.parquet")
    resumed.resume(10)
    assert [point.step for point in follow(resumed, run, (20,)).points] == [20]
    assert "damaged" in caplog.text


def test_a_memory_with_digests_of_an_older_geomcheck_starts_a_new_record(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(digests, "named", lambda digits: digits)
        follow(watched(run, record=tmp_path / "opd.parquet"), run, (10,))
    resumed = watched(run, record=tmp_path / "opd.parquet")
    resumed.resume(10)
    assert [point.step for point in follow(resumed, run, (20,)).points] == [20]
    assert "they were kept by an older geomcheck" in caplog.text


def test_a_memory_that_is_a_link_is_refused(run: Path, tmp_path: Path) -> None:
    """It would be written to, and emptied of all its weights, by a name that anybody can foresee."""
    model = write_model(tmp_path / "model", base_weights())
    before = tree(model)
    (tmp_path / "opd.resume").symlink_to(model)
    with pytest.raises(UsageError, match="opd.resume is a link or no directory, and not followed; remove it"):
        watched(run, record=tmp_path / "opd.parquet")
    assert tree(model) == before


def test_a_new_record_drops_only_what_was_kept_of_another(run: Path, tmp_path: Path) -> None:
    follow(watched(run, record=tmp_path / "opd.parquet"), run, (10, 20))
    kept, model = tmp_path / "opd.resume", write_model(tmp_path / "model", base_weights())
    foreign = [kept / name for name in ("model.safetensors", "-1.safetensors", "5.safetensors", "6.safetensors")]
    foreign[0].write_bytes(b"precious")
    foreign[1].write_bytes(b"precious")
    foreign[2].symlink_to(model / "model.safetensors")
    os.mkfifo(foreign[3])
    before = tree(model)
    follow(watched(run, record=tmp_path / "opd.parquet"), run, (30,))
    assert set(kept.iterdir()) == {*foreign, kept / "30.safetensors"}
    assert tree(model) == before


def test_another_w0_than_before_is_refused(run: Path, tmp_path: Path) -> None:
    follow(watched(run, record=tmp_path / "opd.parquet"), run, (10,))
    resumed = Monitor(
        write_model(tmp_path / "other", moved(base_weights(), 1e-2)),
        metrics=SMALL,
        total_steps=50,
        run=run,
        record=tmp_path / "opd.parquet",
    )
    resumed.resume(10)
    with pytest.raises(RunError, match="of W0 is not what it was at step 10"):
        follow(resumed, run, (20,))


def test_the_budget_says_how_much_is_watched(run: Path) -> None:
    monitor = watched(run, budget=1e-9, suite=None)
    seen = [monitor.observe(step, weights(run, step)) for step in (10, 20)]
    assert [(one.watched, one.weights) for one in seen] == [(1, 3), (1, 3)]
    assert seen[-1].figures["geom/watched_weights"] == 1
    assert monitor.record is not None
    (name,) = monitor.record.measured_weights()
    assert {weight.name for weight in monitor.record.weights.values() if weight.is_linear} == {name}
    assert "1 of 3 weights" in monitor.record.notes[-1]
    after = geomcheck.measure(run, metrics=SMALL).figures(SMALL[0], "value")
    assert monitor.record.figures(SMALL[0], "value")[20, name] == after[20, name]


def test_every_beginning_is_spread() -> None:
    modules = ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")
    names = [f"model.layers.{layer}.{module}.weight" for layer in range(16) for module in modules]
    order = spread(describe(name, (4, 4)) for name in names)
    assert sorted(order) == sorted(names)
    first = [describe(name, (4, 4)) for name in order[:16]]
    assert {weight.module for weight in first} == {"q_proj", "o_proj", "up_proj", "down_proj"}
    for module in ("q_proj", "down_proj"):
        layers = sorted(weight.layer or 0 for weight in first if weight.module == module)
        assert max(b - a for a, b in itertools.pairwise(layers)) <= 6


SUITE = """
geomcheck: 1
name: watched
expect:
  - {id: rank, metric: stable_rank, within: [1, 2]}
  - {id: sparse-in-the-end, metric: update_sparsity, above: 99%, at: last}
  - {id: early, metric: subspace_alignment, k: 2, above: 1%, at: first}
"""


def test_a_suite_is_judged_as_soon_as_it_can_be(run: Path, tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    monitor = watched(run, suite=tmp_path / "suite.yaml", metrics=None, on_violation="stop")
    first = monitor.observe(10, weights(run, 10))
    assert [verdict.id for verdict in first.violations] == ["rank"]
    assert first.stop
    assert first.violations[0].position.line == 5
    assert first.figures["geom/rank"] > 2
    assert (first.figures["geom/rank/low"], first.figures["geom/rank/high"]) == (1, 2)
    assert first.figures["geom/sparse-in-the-end/low"] == 0.99
    assert "geom/early" not in first.figures
    for step in STEPS[1:]:
        last = monitor.observe(step, weights(run, step), finished=step == STEPS[-1])
    assert [verdict.id for verdict in last.violations] == ["rank", "sparse-in-the-end"]
    assert "geom/early" in last.figures


def test_a_warning_does_not_stop(run: Path, tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    seen = watched(run, suite=tmp_path / "suite.yaml", metrics=None).observe(10, weights(run, 10))
    assert seen.violations
    assert not seen.stop


def test_two_requests_of_one_metric_have_two_names(run: Path) -> None:
    angles = [Request.of(METRICS["principal_angle"], {"k": k}) for k in (2, 3)]
    seen = watched(run, metrics=[*angles, "stable_rank"]).observe(10, weights(run, 10))
    assert {"geom/principal_angle[k=2]", "geom/principal_angle[k=3]", "geom/stable_rank"} < seen.figures.keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["mask_jaccard"]}, "reference run"),
        ({"metrics": [Request.of(METRICS["subspace_energy"], {"from": "last"})]}, "first` or `previous"),
        ({"metrics": ["stable_ranks"]}, "no metric is called"),
        ({"weights": "atention"}, "did you mean"),
        ({"total_steps": 0}, "total_steps"),
        ({"budget": 0}, "budget"),
        ({"on_violation": "halt"}, "'warn', 'stop'"),
        ({"record": "opd/inside.parquet"}, "never written to"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_step(
    run: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(run.parent)
    with pytest.raises(UsageError, match=message):
        watched(run, **options)


def test_a_checkpoint_of_the_run_itself_is_not_w0(run: Path) -> None:
    with pytest.raises(UsageError, match="is a checkpoint of the training that is watched"):
        Monitor(run / "checkpoint-20", total_steps=50, run=run)
    write_model(run / "checkpoint-0", base_weights())
    assert Monitor(run / "checkpoint-0", total_steps=50, run=run).base_path == run / "checkpoint-0"


def test_steps_ascend(run: Path) -> None:
    monitor = watched(run)
    monitor.observe(10, weights(run, 10))
    with pytest.raises(UsageError, match="after step 10"):
        monitor.observe(10, weights(run, 20))
    with pytest.raises(UsageError, match="count from 1"):
        watched(run).observe(0, weights(run, 10))


def test_another_model_is_refused(run: Path) -> None:
    with pytest.raises(UsageError, match="does not belong"):
        watched(run).observe(
            10, {name: tensor[:, :-1] for name, tensor in weights(run, 10).items() if tensor.dim() > 1}
        )
    with pytest.raises(UsageError, match="matches no weight"):
        watched(run, weights={"include": ["*.qkv_proj.*"]}).observe(10, weights(run, 10))


def test_a_weight_that_becomes_nan_is_watched_no_longer(run: Path) -> None:
    monitor = watched(run)
    monitor.observe(10, weights(run, 10))
    spoiled = weights(run, 20)
    spoiled[Q][0, 0] = torch.nan
    seen = monitor.observe(20, spoiled)
    assert monitor.record is not None
    assert (seen.watched, "NaN" in monitor.record.skipped[Q]) == (2, True)


def renamed(held: Tensors) -> None:
    held[Q.replace("q_proj", "query")] = held.pop(Q)


def reshaped(held: Tensors) -> None:
    held[Q] = held[Q][:4].clone()


@pytest.mark.parametrize(("change", "says"), [(renamed, "in no checkpoint"), (reshaped, "shape")])
def test_a_weight_that_becomes_another_is_watched_no_longer_and_passes_nothing(
    run: Path, tmp_path: Path, change: Any, says: str
) -> None:
    suite = tmp_path / "suite.yaml"
    suite.write_text("geomcheck: 1\nexpect:\n  - {id: rank, metric: stable_rank, below: 15}\n")
    monitor = watched(run, suite=suite, metrics=None)
    monitor.observe(10, weights(run, 10))
    held = weights(run, 20)
    change(held)
    assert monitor.observe(20, held).watched == 2
    assert monitor.record is not None
    assert monitor.record.skipped[Q].startswith("step-20: ")
    assert says in monitor.record.skipped[Q]
    (unjudged,) = monitor.observe(50, weights(run, 50), finished=True).unjudged
    assert f"{Q} cannot be measured" in unjudged.message


def test_functional_sufficiency_is_not_of_a_training(run: Path) -> None:
    suite = Path("fixtures/experiments/channel-suffices.yaml")
    with pytest.raises(UsageError, match=r"channel-suffices.yaml:12: `keeps-the-gain`: .* in saved checkpoints"):
        watched(run, suite=suite)


def test_weights_that_stand_still_are_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = base_weights()
    run = write_run(tmp_path / "opd", base, {10: moved(base, 1e-3), 20: moved(base, 1e-3)})
    monitor = Monitor(run / "base", metrics=SMALL[:1], total_steps=20, run=run)
    for step in (10, 20):
        monitor.observe(step, weights(run, step))
    assert "hold the same weights" in caplog.text
    assert monitor.record is not None
    assert "hold the same weights" in monitor.record.notes[-1]


def test_checkpoints_on_disk_are_watched_too(run: Path) -> None:
    monitor = watched(run)
    for step in STEPS:
        monitor.observe(step, run / f"checkpoint-{step}", name=f"checkpoint-{step}")
    assert monitor.record is not None
    assert_same(monitor.record, geomcheck.measure(run, metrics=SMALL))


def test_a_hole_in_what_was_kept_starts_a_new_record(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    follow(watched(run, record=tmp_path / "opd.parquet"), run, (10, 20, 30))
    (tmp_path / "opd.resume" / "20.safetensors").unlink()
    resumed = watched(run, record=tmp_path / "opd.parquet")
    resumed.resume(30)
    assert [point.step for point in follow(resumed, run, (40,)).points] == [40]
    assert "in between is missing" in caplog.text


def test_placeholders_are_not_taken_for_weights(run: Path) -> None:
    partitioned = torch.nn.Parameter(torch.empty(0))
    partitioned.ds_id = 0  # type: ignore[attr-defined]
    with pytest.raises(RunError, match="ZeRO-3"):
        watched(run).observe(10, {Q: partitioned})
    with pytest.raises(RunError, match="meta device"):
        watched(run).observe(10, {Q: torch.empty(4, 4, device="meta")})


def test_parts_that_are_gathered_by_the_caller(run: Path) -> None:
    monitor = watched(run)
    gathered: list[str] = []

    def part(name: str, tensor: Tensor) -> Sharded:
        def whole() -> Tensor:
            gathered.append(name)
            return tensor

        return Sharded(tuple(tensor.shape), tensor.dtype, whole)

    for step in STEPS:
        monitor.observe(step, {n: part(n, t) for n, t in weights(run, step).items()}, name=f"checkpoint-{step}")
    assert monitor.record is not None
    assert_same(monitor.record, geomcheck.measure(run, metrics=SMALL))
    assert len(gathered) == 4 * len(STEPS)  # each watched weight once per look, and the vector, which findings look at


def test_products_are_exact_whatever_the_training_has_allowed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()

    def asked(*args: Any, **options: Any) -> ObservedWeight:
        seen.add(torch.get_float32_matmul_precision())
        return observe_weight(*args, **options)

    monkeypatch.setattr("geomcheck.live.loop.measure.observe_weight", asked)
    torch.set_float32_matmul_precision("high")
    try:
        watched(run).observe(10, weights(run, 10))
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert seen == {"highest"}


def test_norms_that_stay_at_one_are_told_at_the_first_observation(tmp_path: Path) -> None:
    """Nobody asked for figures of norms: their contents are looked at beside."""
    base = {Q: base_weights()[Q].float(), NORM: torch.ones(16)}
    run = write_run(tmp_path / "opd", base, {step: {**base, Q: base[Q] + 1e-3 * step} for step in (10, 20)})
    monitor = watched(run, total_steps=20)
    first, second = (monitor.observe(step, weights(run, step)) for step in (10, 20))
    (found,) = first.findings
    assert found.sentence == f"{NORM} never moved: W0, to the bit, at every checkpoint"
    assert [one.kind for one in second.findings] == ["never-moved"]
    assert not second.stop


def test_what_stands_still_is_told_in_a_resumed_training_too(run: Path, tmp_path: Path) -> None:
    record = tmp_path / "record.parquet"
    follow(watched(run, record=record), run, STEPS[:2])
    resumed = watched(run, record=record)
    resumed.resume(20)
    seen = resumed.observe(30, {**weights(run, 30), Q: weights(run, 20)[Q]})
    assert [(one.kind, one.weights) for one in seen.findings] == [("stale", {Q})]


def test_a_sound_training_is_told_nothing(run: Path) -> None:
    monitor = watched(run)
    assert not any(monitor.observe(step, weights(run, step)).findings for step in STEPS)


def test_a_diagnosis_that_fails_ends_no_training(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("it broke")

    monkeypatch.setattr("geomcheck.live.snapshot.findings", broken)
    assert watched(run).observe(10, weights(run, 10)).findings == ()
    assert "no diagnosis: RuntimeError: it broke" in caplog.text


def test_a_verdict_is_news_when_it_turns(tmp_path: Path) -> None:
    """The channel of the first checkpoint is not that of the second, and again that of the third."""
    base = base_weights()
    shift = {name: torch.zeros_like(value) for name, value in base.items()}
    first, other = ({name: value.clone() for name, value in shift.items()} for _ in range(2))
    for name, value in base.items():
        if value.ndim == 2:
            first[name][0, 0] = other[name][1, 1] = 0.5
    weights = {step: {n: base[n] + by[n] for n in base} for step, by in ((10, first), (20, other), (30, first))}
    run = write_run(tmp_path / "run", base, weights)
    (tmp_path / "suite.yaml").write_text(
        "geomcheck: 1\nexpect:\n"
        "  - {id: same, metric: subspace_alignment, k: 1, above: 90%, at: first}\n"
        "  - {id: rank, metric: stable_rank, above: 3, level: warn}\n"
    )
    monitor = Monitor(run / "base", tmp_path / "suite.yaml", total_steps=40, run=run)
    told = []
    for step in weights:
        seen = monitor.observe(step, run / f"checkpoint-{step}")
        assert not seen.stop
        told += [(alert.level, alert.title) for alert in seen.alerts if alert.title.startswith(("same", "rank"))]
    assert told == [
        ("warn", "rank is violated at step 10"),
        ("warn", "same does not hold at step 20, which later checkpoints may mend"),
        ("info", "same holds again at step 30"),
    ]
