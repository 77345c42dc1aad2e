"""Constrained updates stay in the channel: measured by an independent float64 projection."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fixtures.experiments.measured import share_outside
from geomcheck.checkpoints.constraint import Constraint
from geomcheck.errors import RunError, UsageError
from geomcheck.projection.channel import Channel
from geomcheck.projection.parameters import shapes_of
from geomcheck.projection.projection import constrain_updates, resume_constraint
from geomcheck.suite.language.selection import Selection
from geomcheck.suite.verdict import Unanswerable
from tests.models import DOWN, UP, Tiny, copies, loss, train

NORM = "model.layers.0.input_layernorm.weight"


def channel(model, k=3, seed=0):
    return Channel.random(shapes_of(model), k, seed)


def residual(before, after, v):
    """|D (I - Q Q^T)|_F / |D|_F with numpy alone."""
    d = after.double().numpy() - before.double().numpy()
    q = np.linalg.svd(v.double().numpy(), full_matrices=False)[0]
    assert np.linalg.norm(d) > 0
    return np.linalg.norm(d - d @ q @ q.T) / np.linalg.norm(d)


def residuals(before, model, held):
    after = copies(model)
    return [residual(before[name], after[name], v) for name, v in held.vectors.items()]


# ---- what is guaranteed


@settings(max_examples=25, deadline=None)
@given(
    width=st.integers(5, 20),
    hidden=st.integers(5, 20),
    k=st.integers(1, 4),
    steps=st.integers(1, 12),
    momentum=st.sampled_from([0.0, 0.9]),
    nesterov=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_sgd_stays_in_the_channel_after_any_number_of_steps(width, hidden, k, steps, momentum, nesterov, seed):
    model = Tiny(width, hidden, seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=momentum, nesterov=nesterov and momentum > 0)
    before, held = copies(model), channel(model, k, seed)
    handle = constrain_updates(model, held)
    for _ in range(steps):
        optimizer.zero_grad()
        (model(torch.randn(4, width, dtype=torch.float64)) - 1).square().mean().backward()
        optimizer.step()
    handle.remove()
    assert max(residuals(before, model, held)) < 1e-6


def test_in_fp32_the_update_leaves_the_channel_by_the_rounding_of_the_weights_alone():
    model = Tiny(dtype=torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    before, held = copies(model), channel(model)
    constrain_updates(model, held)
    train(model, optimizer, range(50))
    for name, v in held.vectors.items():
        moved = (copies(model)[name].double() - before[name].double()).numpy()
        q = np.linalg.qr(v.double().numpy())[0]
        assert np.linalg.norm(moved - moved @ q @ q.T) < 1e-6 * float(before[name].norm())
        assert np.linalg.norm(moved) > 1e-2 * float(before[name].norm())


def test_is_sgd_on_the_projected_gradient():
    model, twin = Tiny(), Tiny()
    held = channel(model)
    constrain_updates(model, held)
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), range(5))
    for step in range(5):
        named = dict(twin.named_parameters())
        gradients = torch.autograd.grad(loss(twin, step), list(named.values()))
        with torch.no_grad():
            for (name, parameter), g in zip(named.items(), gradients, strict=True):
                v = torch.linalg.qr(held.vectors[name].double()).Q if name in held.vectors else None
                parameter -= 0.1 * (g if v is None else g @ v @ v.T)
    for name, weight in copies(twin).items():
        torch.testing.assert_close(copies(model)[name], weight, rtol=0, atol=1e-12)


OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
    "sgd with decay": lambda p: torch.optim.SGD(p, lr=0.05, weight_decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_projected_step_stays_in_the_channel_with_any_optimizer(name):
    model = Tiny()
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer, range(3))
    before, held = copies(model), channel(model)
    constrain_updates(model, held, how="step", optimizer=optimizer)
    train(model, optimizer, range(3, 20))
    assert max(residuals(before, model, held)) < 1e-6


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_projected_gradient_leaks_where_the_optimizer_is_not_linear_in_it(name):
    model = Tiny()
    optimizer = OPTIMIZERS[name](model.parameters())
    before, held = copies(model), channel(model)
    constrain_updates(model, held, optimizer=optimizer)
    train(model, optimizer, range(20))
    leaks = [share_outside(copies(model)[n] - before[n], v) for n, v in held.vectors.items()]
    assert all(1e-4 < leak < 0.9 for leak in leaks)
    assert leaks == pytest.approx([r**2 for r in residuals(before, model, held)])


def test_a_free_run_is_nowhere_near_the_channel():
    model = Tiny()
    before, held = copies(model), channel(model)
    train(model, torch.optim.SGD(model.parameters(), lr=0.05), range(10))
    assert min(residuals(before, model, held)) > 0.5


def test_momentum_from_the_free_phase_is_projected_where_the_optimizer_is_given():
    model = Tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    train(model, optimizer, range(5))
    before, held = copies(model), channel(model)
    constrain_updates(model, held, optimizer=optimizer)
    train(model, optimizer, range(5, 10))
    assert max(residuals(before, model, held)) < 1e-6


def test_a_gradient_that_no_hook_has_seen_is_projected_before_the_step():
    model = Tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    before, held = copies(model), channel(model)
    constrain_updates(model, held, optimizer=optimizer)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert max(residuals(before, model, held)) < 1e-6


# ---- what else happens to gradients


def test_accumulated_gradients_are_those_of_the_whole_batch():
    whole, parts = Tiny(), Tiny()
    held = channel(whole)
    constrain_updates(whole, held), constrain_updates(parts, held)
    loss(whole, 0).backward()
    for start in (0, 2, 4, 6):
        (loss(parts, 0, part=slice(start, start + 2)) / 4).backward()
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-14)


def test_clipping_sees_projected_gradients():
    model, twin = Tiny(), Tiny()
    held = channel(model)
    constrain_updates(model, held)
    loss(model, 0).backward()
    loss(twin, 0).backward()
    projected = {
        name: p.grad @ (v := held.vectors[name].double()) @ v.T if name in held.vectors else p.grad
        for name, p in twin.named_parameters()
    }
    expected = torch.sqrt(sum(g.square().sum() for g in projected.values()))
    full = torch.sqrt(sum(p.grad.square().sum() for p in twin.parameters()))
    seen = nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    assert float(seen) == pytest.approx(float(expected))
    assert float(seen) < 0.99 * float(full)


@pytest.mark.parametrize("how", ["gradient", "step"])
def test_unselected_weights_are_free_or_frozen(how):
    for unselected in ("free", "frozen"):
        model = Tiny()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
        train(model, optimizer, range(3))
        before = copies(model)
        handle = constrain_updates(model, channel(model), how=how, unselected=unselected, optimizer=optimizer)
        train(model, optimizer, range(3, 8))
        stood = {name for name, weight in copies(model).items() if torch.equal(weight, before[name])}
        assert stood == (before.keys() - {UP, DOWN} if unselected == "frozen" else set())
        handle.remove()
        train(model, optimizer, range(8, 9))
        assert not any(torch.equal(weight, before[name]) for name, weight in copies(model).items())


def test_frozen_weights_take_no_part_in_clipping():
    model = Tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    held = channel(model)
    constrain_updates(model, held, unselected="frozen", optimizer=optimizer)
    loss(model, 0).backward()
    norms = [p.grad.norm() for name, p in model.named_parameters() if name in held.vectors]
    assert float(nn.utils.clip_grad_norm_(model.parameters(), 1.0)) == pytest.approx(float(torch.stack(norms).norm()))


def test_a_removed_constraint_leaves_no_trace():
    model, twin = Tiny(), Tiny()
    optimizers = [torch.optim.AdamW(m.parameters(), lr=0.01) for m in (model, twin)]
    for how in ("gradient", "step"):
        constrain_updates(model, channel(model), how=how, unselected="frozen", optimizer=optimizers[0]).remove()
    train(model, optimizers[0], range(4))
    train(twin, optimizers[1], range(4))
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, other)


def test_part_of_a_channel_can_be_selected():
    model = Tiny()
    before, held = copies(model), channel(model)
    handle = constrain_updates(model, held, weights=Selection(include=("*up_proj*",)))
    train(model, torch.optim.SGD(model.parameters(), lr=0.05), range(5))
    assert handle.constraint.weights == 1
    assert residual(before[UP], copies(model)[UP], held.vectors[UP]) < 1e-6
    assert residual(before[DOWN], copies(model)[DOWN], held.vectors[DOWN]) > 0.1


def test_embeddings_and_heads_can_be_selected():
    model = Tiny()
    held = Channel.random(shapes_of(model, Selection("all")), 3, 0)
    before = copies(model)
    constrain_updates(model, held)
    train(model, torch.optim.SGD(model.parameters(), lr=0.05), range(5))
    assert "lm_head.weight" in held.vectors
    assert max(residuals(before, model, held)) < 1e-6


def test_a_wrapped_model_has_the_names_of_its_checkpoints():
    model = Tiny()
    held = channel(model)
    wrapped = nn.Module()
    wrapped.module = model  # as DistributedDataParallel names it
    assert constrain_updates(wrapped, held).constraint.weights == 2


# ---- saved and resumed


@pytest.mark.parametrize("how", ["gradient", "step"])
def test_a_resumed_run_has_the_weights_of_an_uninterrupted_one(tmp_path, how):
    def started():
        model = Tiny()
        return model, torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)

    model, optimizer = started()
    train(model, optimizer, range(4))
    handle = constrain_updates(model, channel(model), how=how, unselected="frozen", optimizer=optimizer, start_step=4)
    train(model, optimizer, range(4, 8))
    handle.save(tmp_path)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    train(model, optimizer, range(8, 12))

    again, fresh = started()
    state = torch.load(tmp_path / "state.pt")
    again.load_state_dict(state["model"])
    fresh.load_state_dict(state["optimizer"])
    resumed = resume_constraint(again, tmp_path, optimizer=fresh)
    train(again, fresh, range(8, 12))
    assert resumed.constraint == handle.constraint == Constraint.read(tmp_path)
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_resuming_needs_a_constraint_and_its_own_channel(tmp_path):
    model = Tiny()
    with pytest.raises(UsageError, match="not constrained"):
        resume_constraint(model, tmp_path)
    constrain_updates(model, channel(model)).save(tmp_path)
    channel(model, seed=1).save(tmp_path)
    with pytest.raises(RunError, match="is not the channel"):
        resume_constraint(Tiny(), tmp_path)
    with pytest.raises(UsageError, match="no such checkpoint"):
        constrain_updates(Tiny(), channel(model)).save(tmp_path / "gone")


# ---- refused


def test_what_would_not_be_constrained_is_refused():
    model = Tiny()
    held = channel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UsageError, match="need the optimizer"):
        constrain_updates(model, held, how="step")
    with pytest.raises(UsageError, match="need the optimizer"):
        constrain_updates(model, held, unselected="frozen")
    with pytest.raises(UsageError, match="does not step on"):
        constrain_updates(model, held, optimizer=torch.optim.SGD(Tiny().parameters(), lr=0.1))
    with pytest.raises(UsageError, match="give gradient or step"):
        constrain_updates(model, held, how="both")
    with pytest.raises(UsageError, match="in 12 in the model, but 10 in the channel"):
        constrain_updates(model, channel(Tiny(10, 9)))
    with pytest.raises(UsageError, match="no weight model.layers.1"):
        constrain_updates(model, Channel.random({UP.replace("0", "1"): (9, 12)}, 3, 0))
    with pytest.raises(Unanswerable, match="matches no weight"):
        constrain_updates(model, held, weights=Selection(include=("*o_proj*",)))
    constrain_updates(model, held, how="step", optimizer=optimizer)
    with pytest.raises(UsageError, match="constrained already"):
        constrain_updates(model, held)
    frozen = Tiny()
    frozen.requires_grad_(False)
    with pytest.raises(UsageError, match="is not trained"):
        constrain_updates(frozen, held)


def replace_parameter(model, handle):
    layer = model.model.layers[0].mlp
    layer.up_proj.weight = nn.Parameter(layer.up_proj.weight.detach().clone())


def load_other_parameters(model, handle):
    model.load_state_dict(copies(model), assign=True)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda model, handle: handle.remove(), "was removed"),
        (replace_parameter, f"{UP} of the model is another parameter"),
        (load_other_parameters, f"{DOWN} of the model is another parameter"),
    ],
)
def test_a_checkpoint_of_free_training_does_not_say_that_it_was_constrained(tmp_path, spoil, says):
    model = Tiny()
    handle = constrain_updates(model, channel(model))
    handle.save(tmp_path)
    for file in tmp_path.iterdir():
        file.unlink()
    spoil(model, handle)
    with pytest.raises(UsageError, match=says):
        handle.save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_another_optimizer_could_move_is_not_frozen():
    """It would: weight decay needs no gradient."""
    model = Tiny()
    held = channel(model)
    own = torch.optim.SGD([p for n, p in model.named_parameters() if n in held.vectors], lr=0.05)
    with pytest.raises(UsageError, match="does not step on .*layernorm.*, and another may move it"):
        constrain_updates(model, held, optimizer=own, unselected="frozen")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in held.vectors)
    constrain_updates(model, held, optimizer=own, unselected="frozen")


@pytest.mark.parametrize("step", [-1, 0.5, True, "10"])
def test_a_start_that_is_no_step_is_refused(step):
    model = Tiny()
    with pytest.raises(UsageError, match="start_step="):
        constrain_updates(model, channel(model), start_step=step)


def test_an_adapted_model_is_refused():
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(Tiny(), peft.LoraConfig(r=4, target_modules=["up_proj"]))
    inside = Channel.random(shapes_of(model, Selection(include=("*lora_A*",))), 3, 0)
    with pytest.raises(UsageError, match="has an adapter"):
        constrain_updates(model, inside)


def test_a_refusal_changes_nothing():
    model = Tiny()
    with pytest.raises(UsageError):
        constrain_updates(model, channel(model), how="step")
    before, held = copies(model), channel(model)
    train(model, torch.optim.SGD(model.parameters(), lr=0.05), range(3))
    assert min(residuals(before, model, held)) > 0.5
    constrain_updates(model, held)


def test_a_transposed_weight_is_refused():
    """GPT-2's Conv1D keeps (in, out): its columns are the wrong side, and a square one would fit."""
    from transformers.pytorch_utils import Conv1D

    model = nn.Module()
    model.transformer = nn.Module()
    model.transformer.h = nn.ModuleList([nn.Module()])
    model.transformer.h[0].attn = nn.Module()
    model.transformer.h[0].attn.c_proj = Conv1D(8, 8)
    held = Channel.random({"transformer.h.0.attn.c_proj.weight": (8, 8)}, 3, 0)
    with pytest.raises(UsageError, match="could be constrained"):
        constrain_updates(model, held)
