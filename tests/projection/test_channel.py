"""Channels from runs, records, live models, files and chance, against an SVD of our own."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import geomcheck
from geomcheck.checkpoints.constraint import CHANNEL_FILE
from geomcheck.errors import RunError, UsageError
from geomcheck.projection.channel import Channel
from geomcheck.projection.parameters import shapes_of
from geomcheck.projection.projection import constrain_updates
from geomcheck.suite.language.selection import Selection
from tests.models import Tiny, save
from tests.runs import DOWN, EMBED, K, Q, base_weights, moved, simple_run, write_model, write_run

STEPS = (10, 30, 50)
"""Of runs, so that there is a checkpoint at 20%."""


def top(base, after, k):
    """Projector on the top-k right singular subspace, by numpy in float64."""
    right = np.linalg.svd(after.double().numpy() - base.double().numpy())[2][:k]
    return right.T @ right


def projector(v):
    return (v.double() @ v.double().T).numpy()


def of_checkpoint(directory, step):
    return load_file(directory / f"checkpoint-{step}" / "model.safetensors")


@pytest.mark.parametrize(("at", "step"), [("20%", 10), ("60%", 30), ("last", 50), ("first", 10), (30, 30)])
def test_of_a_run_is_the_top_right_subspace_of_its_update(tmp_path, at, step):
    run = simple_run(tmp_path / "opd", STEPS)
    held = Channel.of_run(run, k=3, at=at)
    base, after = load_file(run / "base" / "model.safetensors"), of_checkpoint(run, step)
    assert held.vectors.keys() == {Q, K, DOWN}
    assert held.source == f"checkpoint-{step} of opd"
    for name, v in held.vectors.items():
        np.testing.assert_allclose(projector(v), top(base[name], after[name], 3), atol=1e-6)


def test_other_matrices_can_be_selected(tmp_path):
    assert Channel.of_run(simple_run(tmp_path / "opd", STEPS), k=2, weights=Selection("all")).vectors.keys() == {
        Q,
        K,
        DOWN,
        EMBED,
    }


def test_a_real_run_gives_a_channel_of_all_its_projections():
    held = Channel.of_run("fixtures/tiny-opd", k=4)
    assert len(held.vectors) == 14
    assert held.source == "checkpoint-30 of tiny-opd"


def test_of_a_record_is_that_of_its_run_as_long_as_it_is_there(tmp_path):
    run = simple_run(tmp_path / "opd", STEPS)
    record = geomcheck.measure(run, metrics=["stable_rank"])
    held, same = Channel.of_record(record, k=3), Channel.of_run(run, k=3)
    assert all(torch.equal(held.vectors[name], v) for name, v in same.vectors.items())
    geomcheck.write_record(record, tmp_path / "opd.parquet")
    assert Channel.of_record(tmp_path / "opd.parquet", k=3).source == same.source
    write_model(run / "checkpoint-10", moved(base_weights(), 1e-2, seed=9))
    with pytest.raises(RunError, match="give a run"):
        Channel.of_record(record, k=3)
    run.rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="give the run's directory"):
        Channel.of_record(record, k=3)


def test_weights_without_a_channel_are_listed_or_left_out(tmp_path):
    base = base_weights()
    after = moved(base, 1e-2)
    after[K] = base[K].float()
    after[DOWN] = base[DOWN].float() + 2**-8 * torch.outer(torch.ones(16), torch.arange(24.0))
    run = write_run(tmp_path / "opd", base, {10: after}, max_steps=50)
    with pytest.raises(UsageError) as error:
        Channel.of_run(run, k=3)
    assert f"{K}: checkpoint-10: the update is zero there" in str(error.value)
    assert "undefined for 2 of 3" in str(error.value)
    assert Channel.of_run(run, k=3, leave_out_undefined=True).vectors.keys() == {Q}
    with pytest.raises(UsageError, match="undefined for 1 of 1"):
        Channel.of_run(run, k=3, weights=Selection(include=(K,)), leave_out_undefined=True)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    run = simple_run(tmp_path / "opd", STEPS)
    for at in ("early", "x%", 15):
        said = (
            "at=" if isinstance(at, str) else r"or within 5 points of it; there are step 10 \(20%\), step 30 \(60%\), "
        )
        with pytest.raises(UsageError, match=said):
            Channel.of_run(run, k=3, at=at)


@pytest.mark.parametrize("k", [0, 16, 40, True])
def test_a_channel_that_constrains_nothing_is_refused(tmp_path, k):
    with pytest.raises(UsageError, match="k="):
        Channel.random({Q: (24, 16)}, k, 0)
    with pytest.raises(UsageError):
        Channel.of_run(simple_run(tmp_path / "opd", STEPS), k=k)


# ---- of a live model


def test_of_a_live_model_is_that_of_its_checkpoint(tmp_path):
    model = Tiny(dtype=torch.float32)
    save(model, tmp_path / "run" / "base")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    save(model, tmp_path / "run" / "checkpoint-5")
    of_file = Channel.of_run(tmp_path / "run", k=3, at="last")
    wrapped = [(f"module._orig_mod.{name}", p) for name, p in model.named_parameters()]
    held = Channel.of_live(wrapped, tmp_path / "run" / "base", 3)
    assert held.vectors.keys() == of_file.vectors.keys() == shapes_of(model).keys()
    for name, v in of_file.vectors.items():
        np.testing.assert_allclose(projector(held.vectors[name]), projector(v), atol=1e-6)


def test_a_live_model_of_another_base_is_refused(tmp_path):
    model = Tiny(dtype=torch.float32)
    save(Tiny(seed=1, dtype=torch.float32), tmp_path / "other")
    save(Tiny(10, dtype=torch.float32), tmp_path / "narrow")
    write_model(tmp_path / "lacks", base_weights())
    for base, says in (("other", "another model"), ("narrow", "has it as"), ("lacks", "has it as|lacks it")):
        with pytest.raises(UsageError, match=says):
            Channel.of_live(model.named_parameters(), tmp_path / base, 3)
    save(model, tmp_path / "same")
    with pytest.raises(UsageError, match="the update is zero"):
        Channel.of_live(model.named_parameters(), tmp_path / "same", 3)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(RunError, match="NaN"):
        Channel.of_live(model.named_parameters(), tmp_path / "same", 3)


# ---- random


def test_a_random_channel_depends_on_seed_and_name_alone():
    one = Channel.random({Q: (24, 16), K: (16, 16)}, 3, 0)
    other = Channel.random({K: (99, 16)}, 3, 0)
    assert torch.equal(one.vectors[K], other.vectors[K])
    assert not torch.equal(one.vectors[K], one.vectors[Q])
    assert not torch.equal(one.vectors[K], Channel.random({K: (16, 16)}, 3, 1).vectors[K])
    assert one.seed == 0


def test_random_channels_are_orthonormal_and_unbiased():
    held = [Channel.random({Q: (24, 16)}, 4, seed).vectors[Q].double() for seed in range(400)]
    assert all(torch.allclose(v.T @ v, torch.eye(4, dtype=torch.float64), atol=1e-6) for v in held)
    mean = torch.stack([v @ v.T for v in held]).mean(0)
    assert (mean - 4 / 16 * torch.eye(16, dtype=torch.float64)).abs().max() < 0.05


# ---- files


def test_is_read_back_as_saved(tmp_path):
    for held in (
        Channel.random({Q: (24, 16), K: (16, 16)}, 3, 7),
        Channel.of_run(simple_run(tmp_path / "opd", STEPS), k=3),
    ):
        held.save(tmp_path)
        again = Channel.load(tmp_path)
        assert (again.k, again.drawn, again.seed, again.source) == (held.k, held.drawn, held.seed, held.source)
        assert all(torch.equal(again.vectors[name], v) for name, v in held.vectors.items())


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda held, meta: (held, {**meta, "k": "4"}), "not V"),
        (lambda held, meta: (held, {**meta, "channel": "drawn"}), "damaged"),
        (lambda held, meta: (held, {key: value for key, value in meta.items() if key != "seed"}), "damaged"),
        (lambda held, meta: (held, {}), "damaged"),
        (lambda held, meta: ({name: v * 1.01 for name, v in held.items()}, meta), "not orthonormal"),
        (lambda held, meta: ({name: v * float("nan") for name, v in held.items()}, meta), "not orthonormal"),
        (lambda held, meta: ({name: v.double() for name, v in held.items()}, meta), "not V"),
        (lambda held, meta: ({name: v[:3] for name, v in held.items()}, meta), "constrains nothing"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, spoil, says):
    held = Channel.random({Q: (24, 16)}, 3, 7)
    held.save(tmp_path)
    vectors, metadata = spoil(dict(held.vectors), {"channel": "random", "k": "3", "source": "x", "seed": "7"})
    save_file({n: v.contiguous() for n, v in vectors.items()}, tmp_path / CHANNEL_FILE, metadata=metadata)
    with pytest.raises(RunError, match=says):
        Channel.load(tmp_path)


@pytest.mark.parametrize(
    ("v", "drawn", "seed", "says"),
    [
        (torch.eye(12), "learned", None, r"is torch.float32 \(12, 12\), not V \(in, 3\)"),  # would confine nothing
        (torch.zeros(12, 3), "learned", None, "not orthonormal"),
        (torch.full((12, 3), float("nan")), "learned", None, "not orthonormal"),
        (torch.eye(12)[:, :3].double(), "learned", None, "not V"),
        (torch.eye(12)[:, :3], "random", None, "the random channel has seed None"),
        (torch.eye(12)[:, :3], "random", -1, "the random channel has seed -1"),
        (torch.eye(12)[:, :3], "learned", 0, "the learned channel has seed 0"),
    ],
)
def test_a_channel_of_ones_own_that_is_none_is_refused(v, drawn, seed, says):
    with pytest.raises(UsageError, match=says):
        Channel({Q: v}, 3, drawn, "mine", seed)


def test_what_is_not_there_or_no_such_file_is_refused(tmp_path):
    with pytest.raises(RunError, match="cannot be opened"):
        Channel.load(tmp_path)
    (tmp_path / CHANNEL_FILE).write_bytes(b"\x00" * 10)
    with pytest.raises(RunError, match="not a safetensors file"):
        Channel.load(tmp_path)


@pytest.mark.parametrize("kind", ["run", "directory", "record", "parquet", "saved", "file"])
def test_updates_are_constrained_by_whatever_holds_a_channel(tmp_path, kind):
    model = Tiny(dtype=torch.float32)
    save(model, tmp_path / "run" / "base")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    save(model, tmp_path / "run" / "checkpoint-5")
    (tmp_path / "run" / "checkpoint-5" / "trainer_state.json").write_text('{"global_step": 5, "max_steps": 25}')
    record = geomcheck.measure(tmp_path / "run", metrics=["stable_rank"])
    geomcheck.write_record(record, tmp_path / "run.parquet")
    held = Channel.of_run(tmp_path / "run", k=3)
    (tmp_path / "saved").mkdir()
    saved = held.save(tmp_path / "saved")
    source = {
        "run": geomcheck.open_run(tmp_path / "run"),
        "directory": tmp_path / "run",
        "record": record,
        "parquet": str(tmp_path / "run.parquet"),
        "saved": tmp_path / "saved",
        "file": saved,
    }[kind]
    handle = constrain_updates(model, source, k=3)
    assert handle.channel.source == "checkpoint-5 of run"
    assert all(torch.equal(handle.channel.vectors[name], v) for name, v in held.vectors.items())
