"""Runs that cannot be what they claim: refused whatever is asked of them, and before anything is factorized."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import geomcheck
from geomcheck.diagnostics.linalg import Factorization
from geomcheck.errors import RunError
from geomcheck.record import Record, Request
from geomcheck.suite.language.selection import Selection
from tests.runs import DOWN, EMBED, NORM, Q, Tensors, age, base_weights, moved, write_model, write_run


def norms(run: Path, weights: Selection | None = None, cache: Path | None = None) -> Record:
    """A figure of these weights; by default of all in layers."""
    return geomcheck.measure(run, metrics=["update_norm"], weights=weights, cache=cache, workers=1)


def measured(run: Path) -> Record:
    """A figure of attention alone."""
    return norms(run, Selection("attention"))


def layered(weights: Tensors, layers: int = 3) -> Tensors:
    """A model of several layers with the weights of one."""
    copies = {name.replace("layers.0", f"layers.{n}"): w.clone() for n in range(layers) for name, w in weights.items()}
    return {name: w + 0.001 * index for index, (name, w) in enumerate(copies.items())}


def write(directory: Path, steps: int = 3, edit: Callable[[dict[int, Tensors]], None] = lambda _: None) -> Path:
    """A run of a three-layer model; `edit` gets W0 as 0, and the checkpoints by step."""
    base = layered(base_weights(dtype=torch.float32))
    weights = {0: base, **{step: moved(base, 1e-3 * step, seed=step) for step in range(1, steps + 1)}}
    edit(weights)
    return write_run(directory, weights.pop(0), weights)


# ---- everything that is opened is finite


@pytest.mark.parametrize("step", [0, 2])
@pytest.mark.parametrize("name", [EMBED, NORM, DOWN, "lm_head.weight", "model.layers.0.mlp.gate.bias", "model.odd"])
@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_a_tensor_that_nothing_is_asked_of_is_finite_too(tmp_path: Path, step: int, name: str, bad: float) -> None:
    def spoil(weights: dict[int, Tensors]) -> None:
        for tensors in weights.values():
            tensors.setdefault(name, torch.ones(5, 3))
        weights[step][name] = weights[step][name].clone()
        weights[step][name].view(-1)[-1] = bad

    where = "W0" if step == 0 else "checkpoint-2"
    with pytest.raises(RunError, match=rf"{where}: 1 of \d+ values of {name} are NaN or infinite: no model runs with"):
        measured(write(tmp_path, edit=spoil))


@pytest.mark.parametrize("shape", [(), (1,), (2, 3, 4)])
@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2]
)
def test_whatever_its_shape_and_format(tmp_path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    def add(value: float) -> Callable[[dict[int, Tensors]], None]:
        def edit(weights: dict[int, Tensors]) -> None:
            for step, tensors in weights.items():
                tensors["model.odd"] = torch.full(shape, value if step == 3 else 0.5).to(dtype)

        return edit

    assert measured(write(tmp_path / "sound", edit=add(0.25))).measured_weights()
    with pytest.raises(RunError, match="checkpoint-3.*model.odd are NaN or infinite"):
        measured(write(tmp_path / "spoiled", edit=add(float("nan"))))


def test_integers_are_no_business_of_ours(tmp_path: Path) -> None:
    def edit(weights: dict[int, Tensors]) -> None:
        for tensors in weights.values():
            tensors["model.position_ids"] = torch.arange(8)

    assert measured(write(tmp_path, edit=edit)).measured_weights()


def test_of_an_adapter_all_factors_are_finite(tmp_path: Path) -> None:
    base = layered(base_weights(dtype=torch.float32))
    write_model(tmp_path / "base", base)
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "base_model_name_or_path": str(tmp_path / "base")}
    for step in (1, 2):
        place = tmp_path / "run" / f"checkpoint-{step}"
        place.mkdir(parents=True)
        factors: Tensors = {}
        for name in (Q, DOWN):
            out, into = base[name].shape
            stem = f"base_model.model.{name.removesuffix('.weight')}"
            factors |= {
                f"{stem}.lora_A.weight": torch.ones(2, into) * 0.01 * step,
                f"{stem}.lora_B.weight": torch.ones(out, 2),
            }
        save_file(factors, place / "adapter_model.safetensors")
        (place / "adapter_config.json").write_text(json.dumps(settings | {"target_modules": ["q_proj", "down_proj"]}))
    assert measured(tmp_path / "run").measured_weights()
    factors = load_file(place / "adapter_model.safetensors")
    factors[next(name for name in factors if "down_proj" in name)].view(-1)[0] = torch.nan
    save_file(factors, place / "adapter_model.safetensors")
    with pytest.raises(RunError, match=f"checkpoint-2: 1 of .* values of {DOWN} are NaN or infinite"):
        measured(tmp_path / "run")


def test_what_was_found_to_be_finite_is_not_read_again(
    tmp_path: Path, settled_run: Path, no_reading: Callable[[], None]
) -> None:
    queries = Selection(include=("*q_proj*",))
    cold = norms(settled_run, queries, tmp_path / "cache")
    no_reading()
    assert list(norms(settled_run, queries, tmp_path / "cache").rows()) == list(cold.rows())


def test_a_digest_from_a_session_that_failed_vouches_for_nothing(tmp_path: Path) -> None:
    """The first suite digests all weights before one of them is found to be bad; the second does not select it."""

    def spoil(weights: dict[int, Tensors]) -> None:
        weights[3][DOWN].view(-1)[0] = torch.nan

    run = age(write(tmp_path / "run", edit=spoil))
    for _ in range(2):
        with pytest.raises(RunError, match=f"{DOWN} cannot be measured: checkpoint-3: 1 of 384 values are NaN"):
            norms(run, Selection(include=("*proj*",)), tmp_path / "cache")
    for _ in range(2):
        with pytest.raises(RunError, match=f"checkpoint-3: 1 of 384 values of {DOWN}"):
            norms(run, Selection(include=("*q_proj*",)), tmp_path / "cache")


# ---- copies, in whole and in part


def of_layer(weights: Tensors, layer: int) -> Tensors:
    return {name: w for name, w in weights.items() if f"layers.{layer}." in name}


def test_a_layer_of_the_checkpoint_before_is_said(tmp_path: Path) -> None:
    def spoil(weights: dict[int, Tensors]) -> None:
        weights[3] |= of_layer(weights[2], 1)

    (note,) = norms(write(tmp_path, edit=spoil)).notes
    assert note.startswith("checkpoint-3: 3 of 9 weights are those of checkpoint-2 to the bit, all of layer 1: a stale")


def test_a_layer_and_more_of_the_checkpoint_before_is_not_called_the_layer(tmp_path: Path) -> None:
    def spoil(weights: dict[int, Tensors]) -> None:
        weights[3] |= of_layer(weights[2], 1) | {Q: weights[2][Q]}

    (note,) = norms(write(tmp_path, edit=spoil)).notes
    assert note.startswith("checkpoint-3: 4 of 9 weights are those of checkpoint-2 to the bit, such as model.layers.0")


def test_half_a_checkpoint_of_the_one_before_is_an_error(tmp_path: Path) -> None:
    def spoil(weights: dict[int, Tensors]) -> None:
        weights[3] |= {name: w for name, w in weights[2].items() if "q_proj" not in name}

    with pytest.raises(RunError, match=r"checkpoint-3: 7 of 10 matrices are those of checkpoint-2 to the bit, such as"):
        norms(write(tmp_path, edit=spoil))


def test_training_a_part_at_a_time_is_no_stale_file(tmp_path: Path) -> None:
    """Of a layer in each interval, as block coordinate descent does; then of one that had been trained before."""

    def in_turn(weights: dict[int, Tensors]) -> None:
        for step in (1, 2, 3, 4):
            trained = of_layer(weights[step], (step - 1) % 3)
            weights[step] = weights[step - 1] | trained

    (note,) = norms(write(tmp_path, steps=4, edit=in_turn)).notes
    assert note.startswith("checkpoint-3: 6 of 6 weights are those of checkpoint-2 to the bit, such as model.layers.")
    assert note.endswith("(and so at 2 more checkpoints): a stale file, or a part that was not trained in between")


def test_what_is_stale_is_told_whatever_is_measured(tmp_path: Path) -> None:
    """A stale layer is all that one suite is about, and a part of what another, or a report, is about."""

    def spoil(weights: dict[int, Tensors]) -> None:
        weights[3] |= of_layer(weights[2], 1)

    run = write(tmp_path, edit=spoil)
    for weights, count in ((Selection(include=("*layers.1.*",)), "3 of 3"), (None, "3 of 9")):
        (note,) = norms(run, weights).notes
        assert note.startswith(f"checkpoint-3: {count} weights are those of checkpoint-2 to the bit, ")


def test_matrices_of_an_earlier_checkpoint_are_a_copy_whatever_the_norms_are(tmp_path: Path) -> None:
    def copy(weights: dict[int, Tensors]) -> None:
        weights[3] = {name: weights[1][name] if w.dim() == 2 else w for name, w in weights[3].items()}

    same = "checkpoint-1 and checkpoint-3 hold the same weights in the 10 matrices that were read, and differ elsewhere"
    with pytest.raises(RunError, match=same):
        norms(write(tmp_path / "whole", edit=copy))

    def part(weights: dict[int, Tensors]) -> None:
        weights[3] |= of_layer(weights[1], 1)

    (note,) = norms(write(tmp_path / "part", edit=part)).notes
    assert note.startswith("checkpoint-3: 3 of 9 weights are those of checkpoint-1 to the bit, all of layer 1: a stale")


def test_weights_that_never_train_are_frozen_and_not_stale(tmp_path: Path) -> None:
    def freeze(weights: dict[int, Tensors]) -> None:
        for step in (1, 2, 3):
            weights[step] |= {name: w for name, w in weights[0].items() if "layers.2." not in name}

    record = norms(write(tmp_path, edit=freeze))
    assert record.notes == ()


def test_selected_weights_that_stand_still_are_no_copy_of_a_checkpoint(tmp_path: Path) -> None:
    def spoil(weights: dict[int, Tensors]) -> None:
        weights[3] |= {name: w for name, w in weights[2].items() if "self_attn" in name}

    with pytest.raises(RunError, match="checkpoint-3: 6 of 10 matrices are those of checkpoint-2 to the bit"):
        measured(write(tmp_path / "part", edit=spoil))

    def copy(weights: dict[int, Tensors]) -> None:
        weights[3] = weights[2]

    with pytest.raises(RunError, match="checkpoint-2 and checkpoint-3 hold the same weights"):
        measured(write(tmp_path / "whole", edit=copy))


@pytest.mark.parametrize("formats", [(torch.float32, torch.bfloat16), (torch.float16, torch.bfloat16)])
@pytest.mark.parametrize("metric", ["update_norm", "update_support"])
def test_w0_written_in_another_format_is_no_training(
    tmp_path: Path, formats: tuple[torch.dtype, torch.dtype], metric: str
) -> None:
    ours, theirs = formats
    base = layered(base_weights(dtype=ours))
    cast = {name: weight.to(theirs) for name, weight in base.items()}
    run = write_run(tmp_path / "run", base, {1: cast})
    with pytest.raises(RunError, match=r"checkpoint-1: 9 weights differ from W0 .*, but in no entry visibly"):
        geomcheck.measure(run, metrics=[metric], workers=1)


def test_w0_through_another_format_is_told_where_support_is_measured(tmp_path: Path) -> None:
    base = layered(base_weights(dtype=torch.float32))
    run = write_run(tmp_path / "run", base, {1: {name: w.bfloat16().float() for name, w in base.items()}})
    with pytest.raises(RunError, match="W0 written in another format"):
        geomcheck.measure(run, metrics=["update_support"], workers=1)


def test_what_is_measured_for_soundness_alone_is_not_recorded(tmp_path: Path) -> None:
    base = layered(base_weights(dtype=torch.bfloat16))
    run = write_run(tmp_path / "run", base, {1: moved(base, 1e-2)})
    for _ in range(2):  # measured, and then from the cache
        assert "update_support" not in norms(run, cache=tmp_path / "cache").measured_metrics()
        both = geomcheck.measure(run, metrics=["update_norm", "update_support"], cache=tmp_path / "cache", workers=1)
        assert {"update_norm", "update_support"} < both.measured_metrics()


def test_one_visible_entry_is_a_change(tmp_path: Path) -> None:
    base = layered(base_weights(dtype=torch.float32))
    cast = {name: weight.bfloat16() for name, weight in base.items()}
    cast[DOWN][0, 0] += 1
    assert norms(write_run(tmp_path / "run", base, {1: cast})).measured_weights()


def test_a_part_of_w0_that_is_of_another_model_is_an_error(tmp_path: Path) -> None:
    def spoil(weights: dict[int, Tensors]) -> None:
        weights[0] |= of_layer(layered(base_weights(seed=99, dtype=torch.float32)), 1)

    with pytest.raises(RunError, match=r"different models in 3 of 9 weights: model.layers.1.* differs by 1.\d+ times"):
        norms(write(tmp_path, edit=spoil))


def test_a_matrix_that_was_initialised_anew_is_told(tmp_path: Path) -> None:
    """It moves by more than itself, at the pace of the others."""
    gate = "model.layers.0.mlp.gate.weight"

    def upcycle(weights: dict[int, Tensors]) -> None:
        start = 1e-3 * torch.randn(4, 16, generator=torch.Generator().manual_seed(3))
        for step, tensors in weights.items():
            tensors[gate] = start + 1e-3 * step * torch.randn(4, 16, generator=torch.Generator().manual_seed(step))

    (note,) = norms(write(tmp_path, edit=upcycle)).notes
    assert f"{gate} differs by" in note
    assert note.endswith("or these weights were initialised anew before training")


def test_a_mask_may_be_minus_infinite(tmp_path: Path) -> None:
    def add(weights: dict[int, Tensors]) -> None:
        for tensors in weights.values():
            tensors["model.layers.0.self_attn.masked_bias"] = torch.tensor(-1e9).half()

    assert norms(write(tmp_path, edit=add)).measured_weights()


def test_a_reference_with_nan_vouches_for_nothing(tmp_path: Path) -> None:
    """Its weights are digested only once they are known to be finite."""

    def spoil(weights: dict[int, Tensors]) -> None:
        weights[3][Q].view(-1)[0] = torch.nan

    run, reference = age(write(tmp_path / "run")), age(write(tmp_path / "reference", edit=spoil))
    cache = tmp_path / "cache"
    queries = Selection(include=("*q_proj*",))
    record = geomcheck.measure(
        run, metrics=["mask_jaccard"], weights=queries, reference=reference, cache=cache, workers=1
    )
    assert "NaN" in record.figures(Request("mask_jaccard"), "value")[3, Q].undefined
    with pytest.raises(RunError, match=f"checkpoint-3: 1 of 384 values of {Q}"):
        norms(reference, Selection(include=("*down_proj*",)), cache)


def test_a_new_embedding_is_no_other_model(tmp_path: Path) -> None:
    def renew(weights: dict[int, Tensors]) -> None:
        weights[0][EMBED] = base_weights(seed=99, dtype=torch.float32)[EMBED]

    record = geomcheck.measure(
        write(tmp_path, edit=renew), metrics=["update_norm"], weights=Selection("all"), workers=1
    )
    assert EMBED in record.measured_weights()


# ---- before anything is factorized


def spoiled(kind: str) -> Callable[[dict[int, Tensors]], None]:
    def edit(weights: dict[int, Tensors]) -> None:
        if kind == "another W0":
            weights[0] = layered(base_weights(seed=99, dtype=torch.float32))
        elif kind == "a copied checkpoint":
            weights[3] = weights[2]
        elif kind == "W0 again":
            weights[3] |= of_layer(weights[0], 1)
        elif kind == "half a checkpoint":
            weights[3] |= of_layer(weights[2], 1) | of_layer(weights[2], 0)
        elif kind == "NaN elsewhere":
            weights[3][EMBED] = torch.full_like(weights[3][EMBED], torch.nan)

    return edit


@pytest.mark.parametrize(
    "kind", ["another W0", "a copied checkpoint", "W0 again", "half a checkpoint", "NaN elsewhere"]
)
def test_structural_refusals_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    def forbidden(self: Factorization, matrix: Tensor) -> None:
        pytest.fail("a matrix was factorized")

    run = write(tmp_path / "run", edit=spoiled(kind))
    monkeypatch.setattr(Factorization, "__init__", forbidden)
    with pytest.raises(RunError):
        geomcheck.measure(run, metrics=["spectral_shift", "stable_rank"], workers=1)
    shutil.rmtree(tmp_path / "run")
