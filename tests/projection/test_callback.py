"""The callback in Hugging Face's own trainer: free, then constrained, said so in checkpoints, and resumed from them."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import Dataset
from transformers import Qwen3Config, Qwen3ForCausalLM, Trainer, TrainingArguments

from geomcheck.checkpoints.constraint import CONSTRAINT_FILE, Constraint
from geomcheck.errors import RunError, UsageError
from geomcheck.projection.callback import ConstrainUpdates, start_step
from geomcheck.projection.channel import Channel
from geomcheck.projection.parameters import shapes_of

pytest.importorskip("accelerate", reason="transformers' Trainer needs accelerate")


class Tokens(Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        ids = torch.randint(0, 20, (6,), generator=torch.Generator().manual_seed(index))
        return {"input_ids": ids, "labels": ids}


def new_model(seed=0):
    torch.manual_seed(seed)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=20,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
        )
    )


def trainer(model, out, callback, **changes):
    settings = {
        "output_dir": str(out),
        "max_steps": 10,
        "save_steps": 2,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
        "seed": 0,
        "logging_strategy": "no",
    }
    return Trainer(model, TrainingArguments(**{**settings, **changes}), train_dataset=Tokens(), callbacks=[callback])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    new_model().save_pretrained(folder)
    return folder


def weights(directory, step):
    return load_file(directory / f"checkpoint-{step}" / "model.safetensors")


@pytest.fixture(scope="module")
def run(base, tmp_path_factory):
    """Ten steps of AdamW with projected gradients from step 2."""
    out = tmp_path_factory.mktemp("run")
    trainer(new_model(), out, ConstrainUpdates(base=base, k=3)).train()
    return out


def test_checkpoints_say_so_from_the_start_of_the_constraint(run):
    known = {step: Constraint.read(run / f"checkpoint-{step}") for step in (2, 4, 6, 8, 10)}
    assert set(known.values()) == {
        Constraint("learned", 3, 2, "gradient", "free", None, "the live trajectory at step 2", 7)
    }


def test_the_channel_is_what_was_learned_by_then(base, run):
    before, after = load_file(base / "model.safetensors"), weights(run, 2)
    held = Channel.load(run / "checkpoint-10")
    assert len(held.vectors) == 7
    for name, v in held.vectors.items():
        right = np.linalg.svd(after[name].double().numpy() - before[name].double().numpy())[2][:3]
        np.testing.assert_allclose((v.double() @ v.double().T).numpy(), right.T @ right, atol=1e-4)


@pytest.mark.parametrize(
    ("how", "settings"),
    [("gradient", {"optim": "sgd", "learning_rate": 0.1}), ("step", {"optim": "adamw_torch", "weight_decay": 0.1})],
)
def test_the_updates_stay_in_it(base, tmp_path, how, settings):
    trainer(new_model(), tmp_path, ConstrainUpdates(base=base, k=3, how=how), **settings).train()
    assert outside(tmp_path).max() < 1e-4  # of fp32 weights whose update is a hundredth of them


def test_projected_gradients_leak_with_adam(run):
    assert outside(run).max() > 1e-2


def outside(run):
    """Share outside the channel of what was added to each weight since step 2, by norm."""
    held, before, after = Channel.load(run / "checkpoint-10"), weights(run, 2), weights(run, 10)
    shares = []
    for name, v in held.vectors.items():
        d, q = (after[name].double() - before[name].double()).numpy(), np.linalg.qr(v.double().numpy())[0]
        shares.append(np.linalg.norm(d - d @ q @ q.T) / np.linalg.norm(d))
    return np.array(shares)


@pytest.mark.parametrize("resumed", [2, 6])
def test_a_resumed_training_ends_where_an_uninterrupted_one_does(base, run, tmp_path, resumed):
    out = tmp_path / "run"
    shutil.copytree(
        run, out, ignore=lambda _, names: [n for n in names if n.startswith("checkpoint-") and n[11:] != str(resumed)]
    )
    callback = ConstrainUpdates(base=base, k=3)
    trainer(new_model(), out, callback).train(resume_from_checkpoint=str(out / f"checkpoint-{resumed}"))
    for name, weight in weights(run, 10).items():
        torch.testing.assert_close(weights(out, 10)[name], weight, rtol=0, atol=1e-6)
    assert Constraint.read(out / "checkpoint-10") == Constraint.read(run / "checkpoint-10")


def test_a_training_that_resumes_before_the_constraint_takes_the_same_channel(base, tmp_path):
    whole, part = tmp_path / "whole", tmp_path / "part"
    trainer(new_model(), whole, ConstrainUpdates(base=base, k=3, at=5)).train()
    assert Constraint.read(whole / "checkpoint-4") is None
    shutil.copytree(whole / "checkpoint-4", part / "checkpoint-4")
    callback = ConstrainUpdates(base=base, k=3, at=5)
    trainer(new_model(), part, callback).train(resume_from_checkpoint=str(part / "checkpoint-4"))
    for name, weight in weights(whole, 10).items():
        torch.testing.assert_close(weights(part, 10)[name], weight, rtol=0, atol=1e-6)


def test_resuming_without_the_constraint_or_with_another_stops_the_training(base, run, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(run / "checkpoint-6", out / "checkpoint-6")
    for other in ({"k": 4}, {"how": "step"}, {"channel": "random"}):
        callback = ConstrainUpdates(**{"base": base, "k": 3, **other})
        with pytest.raises(RunError, match="is asked for"):
            trainer(new_model(), out, callback).train(resume_from_checkpoint=str(out / "checkpoint-6"))
    (out / "checkpoint-6" / CONSTRAINT_FILE).unlink()
    with pytest.raises(RunError, match="holds none"):
        trainer(new_model(), out, ConstrainUpdates(base=base, k=3)).train(
            resume_from_checkpoint=str(out / "checkpoint-6")
        )


def test_the_random_control_differs_in_its_channel_alone(base, run, tmp_path):
    trainer(new_model(), tmp_path, ConstrainUpdates(channel="random", k=3, seed=5)).train()
    for name, weight in weights(run, 2).items():
        torch.testing.assert_close(weights(tmp_path, 2)[name], weight, rtol=0, atol=1e-6)
    known = Constraint.read(tmp_path / "checkpoint-10")
    assert (known.channel, known.seed, known.start_step) == ("random", 5, 2)
    drawn = Channel.random(shapes_of(new_model()), 3, 5)
    held = Channel.load(tmp_path / "checkpoint-10")
    assert all(torch.equal(held.vectors[name], v) for name, v in drawn.vectors.items())


def test_a_given_channel_from_the_first_step_on(run, tmp_path):
    held = Channel.load(run / "checkpoint-10")
    trainer(new_model(), tmp_path, ConstrainUpdates(channel=held, at="0%"), optim="sgd", max_steps=2).train()
    assert Constraint.read(tmp_path / "checkpoint-2").start_step == 0


def test_what_cannot_be_constrained_stops_before_the_first_step(base, tmp_path):
    with pytest.raises(UsageError, match="give base="):
        ConstrainUpdates(k=3)
    with pytest.raises(UsageError, match="a step before the last"):
        trainer(new_model(), tmp_path, ConstrainUpdates(base=base, k=3, at=10)).train()
    other = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=20,
            hidden_size=8,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            head_dim=8,
        )
    )
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(UsageError, match="has it as"):
        trainer(new_model(), tmp_path / "run", ConstrainUpdates(base=tmp_path / "other", k=3)).train()


def test_a_training_that_ends_before_its_constraint_is_an_error(base, tmp_path):
    class Stop(ConstrainUpdates):
        def on_step_end(self, args, state, control, **kwargs):
            super().on_step_end(args, state, control, **kwargs)
            control.should_training_stop = True

    with pytest.raises(RunError, match="ended at step 1, before"):
        trainer(new_model(), tmp_path, Stop(base=base, k=3)).train()


def test_a_model_that_has_not_moved_has_no_channel(base, tmp_path):
    with pytest.raises(UsageError, match="the update is zero"):
        trainer(new_model(), tmp_path, ConstrainUpdates(base=base, k=3), learning_rate=0.0).train()


@pytest.mark.parametrize(("at", "step"), [("20%", 20), ("0%", 0), ("33.4%", 33), (7, 7)])
def test_the_start_is_a_share_of_the_steps_or_a_step(at, step):
    assert start_step(at, 100) == step


@pytest.mark.parametrize("at", ["100%", "x%", "nan%", "inf%", "first", -1, 100, 0.2, True])
def test_a_start_that_is_neither_is_refused(at):
    with pytest.raises(UsageError, match="at="):
        start_step(at, 100)
