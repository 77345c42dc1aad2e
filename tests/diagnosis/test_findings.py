"""A spoiled run is told what is wrong with it, in one sentence; a clean one nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import geomcheck
from geomcheck.diagnosis import Finding, resembles
from tests.diagnosis.spoiled import (
    ALL,
    EVERY,
    FIXTURES,
    LATE,
    LAYER,
    Edit,
    States,
    decayed,
    exchanged,
    exchanged_steps,
    fresh,
    from_step,
    half_frozen,
    halves,
    in_order,
    int8,
    interleaved,
    mapped,
    of,
    place,
    replaced,
    restarted,
    resumed,
    shuffled,
    spoiled,
)

UP, HEAD, EMBED = "model.layers.1.mlp.up_proj.weight", "lm_head.weight", "model.embed_tokens.weight"


def diagnosed(run: Path) -> tuple[Finding, ...]:
    return geomcheck.diagnose(run, workers=1)


def ones(tensor: Tensor) -> Tensor:
    return torch.ones_like(tensor)


def other_layer(states: States, step: int, name: str) -> Tensor:
    return states[step][name.replace("layers.1.", "layers.0.")]


def halfway_to(origin: int) -> Callable[[States, int, str], Tensor]:
    """The mean of the weight and of that at another step."""
    return lambda states, step, name: (states[step][name] + states[origin][name].float()) / 2


def half_from(origin: int) -> Callable[[States, int, str], Tensor]:
    """The first half of the columns as at another step."""

    def make(states: States, step: int, name: str) -> Tensor:
        here, half = states[step][name], states[step][name].shape[1] // 2
        return torch.cat([states[origin][name][:, :half].to(here.dtype), here[:, half:]], dim=1)

    return make


def half_zero(tensor: Tensor) -> Tensor:
    """The first half of the rows is zero."""
    return torch.cat([torch.zeros_like(tensor[: len(tensor) // 2]), tensor[len(tensor) // 2 :]])


SPOILED: dict[str, tuple[Edit, str, str]] = {
    "a stale layer": (
        replaced(LATE, LAYER, from_step(60)),
        "stale",
        "layer 1 stands still from checkpoint-90 on: that of checkpoint-60, to the bit",
    ),
    "a stale matrix": (
        replaced((150,), (UP,), from_step(120)),
        "stale",
        f"{UP} stands still at checkpoint-150: that of checkpoint-120, to the bit",
    ),
    "a checkpoint saved again": (
        replaced((120,), EVERY, from_step(90)),
        "stale",
        "checkpoint-120 holds the weights of checkpoint-90, to the bit",
    ),
    "a copied checkpoint": (
        replaced((120,), EVERY, from_step(60)),
        "copy",
        "checkpoint-120 is a copy of checkpoint-60, to the bit",
    ),
    "a checkpoint under an earlier name": (
        replaced((30,), EVERY, from_step(150)),
        "copy",
        "checkpoint-30 is a copy of checkpoint-150, to the bit",
    ),
    "the next checkpoint saved too early": (
        replaced((60,), EVERY, from_step(90)),
        "copy",
        "checkpoint-60 is a copy of checkpoint-90, to the bit",
    ),
    "a frozen layer": (
        replaced(ALL, LAYER, from_step(0)),
        "never-moved",
        "layer 1 never moved: W0, to the bit, at every checkpoint",
    ),
    "frozen queries": (
        replaced(ALL, ("q_proj",), from_step(0)),
        "never-moved",
        "all q_proj never moved: W0, to the bit, at every checkpoint",
    ),
    "frozen norms": (
        replaced(ALL, ("norm",), from_step(0)),
        "never-moved",
        "all norms never moved: W0, to the bit, at every checkpoint",
    ),
    "a frozen embedding": (
        replaced(ALL, ("embed",), from_step(0)),
        "never-moved",
        f"{EMBED} never moved: W0, to the bit, at every checkpoint",
    ),
    "one MLP trained": (
        replaced(ALL, ("embed", "lm_head", "norm", "attn", "layers.0"), from_step(0)),
        "never-moved",
        "every weight but MLPs of layer 1 never moved: W0, to the bit, at every checkpoint",
    ),
    "nothing trained": (
        replaced(ALL, EVERY, from_step(0)),
        "never-moved",
        "no checkpoint differs from W0 in any weight: nothing was trained, or it was not saved",
    ),
    "W0 in the middle": (
        replaced((90,), EVERY, from_step(0)),
        "back-at-w0",
        "checkpoint-90 is W0, to the bit, after training had moved it",
    ),
    "a layer of W0": (
        replaced((120, 150), LAYER, from_step(0)),
        "back-at-w0",
        "layer 1 is back at W0 from checkpoint-120 on, to the bit, after having moved",
    ),
    "W0 at first": (replaced((30,), EVERY, from_step(0)), "late-start", "checkpoint-30 is W0, to the bit"),
    "a layer twice": (replaced(ALL, LAYER, other_layer), "twins", "layer 1 holds the values of layer 0 at every"),
    "keys and values": (
        mapped(exchanged("k_proj", "v_proj")),
        "another-weight",
        "k_proj and v_proj are exchanged at every checkpoint",
    ),
    "gate and up, once": (
        mapped(exchanged("gate_proj", "up_proj"), (90,)),
        "another-weight",
        "gate_proj and up_proj are exchanged at checkpoint-90",
    ),
    "layers": (
        mapped(exchanged("layers.0.", "layers.1.")),
        "another-weight",
        "layers 0 and 1 are exchanged at every checkpoint",
    ),
    "halves": (
        replaced(ALL, ("q_proj",), of(halves)),
        "reordered",
        "all q_proj have W0's rows with their halves exchanged",
    ),
    "heads in pairs": (
        replaced(ALL, ("q_proj", "k_proj"), of(interleaved)),
        "reordered",
        "all k_proj and q_proj have W0's rows in the other layout of rotary embeddings: pairs instead of halves",
    ),
    "columns": (
        replaced(ALL, ("down_proj",), of(lambda tensor: shuffled(tensor.T).T)),
        "reordered",
        "all down_proj have W0's columns in another order at every checkpoint",
    ),
    "a transposed square": (
        replaced(LATE, ("o_proj",), of(lambda tensor: tensor.T)),
        "reordered",
        "all o_proj are transposed from checkpoint-90 on",
    ),
    "a new head": (
        replaced(ALL, ("lm_head",), of(fresh)),
        "made-anew",
        f"{HEAD} is made anew at every checkpoint: nothing in common with W0",
    ),
    "a new embedding, late": (
        replaced(LATE, ("embed",), of(fresh)),
        "made-anew",
        f"{EMBED} is made anew from checkpoint-90 on: nothing in common with W0",
    ),
    "a new layer": (
        replaced((120,), LAYER, of(fresh)),
        "made-anew",
        "layer 1 is made anew at checkpoint-120: nothing in common with W0",
    ),
    "another W0": (
        replaced((0,), EVERY, of(lambda tensor: fresh(tensor).to(tensor.dtype))),
        "another-model",
        "W0 and the run are different models: 16 of 16 matrices have nothing in common with W0's",
    ),
    "norms of one": (
        replaced(ALL, ("norm",), of(ones)),
        "one-value",
        "all norms are 1 in every entry at every checkpoint, and not in W0",
    ),
    "norms less one": (
        replaced(ALL, ("norm",), of(lambda tensor: tensor - 1)),
        "shifted-by-one",
        "all norms are W0 - 1 in every entry at every checkpoint",
    ),
    "norms and one, at last": (
        replaced((150,), ("layernorm",), of(lambda tensor: tensor + 1)),
        "shifted-by-one",
        "all input_layernorm and post_attention_layernorm are W0 + 1 in every entry at checkpoint-150",
    ),
    "norms of queries and keys": (
        mapped(exchanged("q_norm", "k_norm")),
        "another-weight",
        "k_norm and q_norm are exchanged at every checkpoint",
    ),
    "norms twice as large": (
        replaced(LATE, ("q_norm", "k_norm"), of(lambda tensor: 2 * tensor)),
        "scaled",
        "all k_norm and q_norm are W0 times 2 from checkpoint-90 on",
    ),
    "new norms": (
        replaced(LATE, ("layers.1.input_layernorm",), of(lambda tensor: 1 + 30 * fresh(tensor))),
        "made-anew",
        "model.layers.1.input_layernorm.weight is made anew from checkpoint-90 on: no training moves a norm so far",
    ),
    "zeros": (
        replaced((120, 150), (UP,), of(torch.zeros_like)),
        "zeros",
        f"{UP} is all zeros from checkpoint-120 on, and not in W0",
    ),
    "absurd values": (
        replaced((90,), (UP,), of(lambda tensor: 1e6 * tensor)),
        "absurd",
        f"{UP} has entries up to 6.4e+05 at checkpoint-90, where W0 has 0.64 at most",
    ),
    "no numbers": (
        replaced((90,), ("model.norm",), of(lambda tensor: tensor / 0 * 0)),
        "not-finite",
        "model.norm.weight holds NaN or infinity at checkpoint-90",
    ),
    "through bf16": (
        replaced(ALL, EVERY, of(lambda tensor: tensor.bfloat16().float())),
        "rounded",
        "every matrix holds nothing but bf16 numbers at every checkpoint, in files of a finer format",
    ),
    "through int8": (
        replaced((120,), LAYER, of(int8)),
        "quantized",
        "every matrix of layer 1 went through int8 at checkpoint-120: each row has at most 255 levels",
    ),
    "a factor": (
        replaced((150,), LAYER, of(lambda tensor: 1.3 * tensor)),
        "scaled",
        "layer 1 is W0 times 1.3 at checkpoint-150",
    ),
    "decay alone": (
        replaced(ALL, LAYER, decayed),
        "only-decay",
        "every matrix of layer 1 only shrank at every checkpoint: the update is W0 itself, with the other sign",
    ),
    "half of the rows": (
        replaced(ALL, ("down_proj", "o_proj"), half_frozen),
        "still-block",
        "50% of the rows of all down_proj and o_proj never moved while the others did: rows 0 to 31 of 64",
    ),
    "a stale half of the columns": (
        replaced(LATE, ("down_proj", "o_proj"), half_from(60)),
        "still-block",
        "50% of the columns of all down_proj and o_proj stand still from checkpoint-90 on while the others move: as at "
        "checkpoint-60, to the bit: columns 0 to 63 of 128",
    ),
    "a half of zeros": (
        replaced((120, 150), ("layers.1.self_attn.q_proj",), of(half_zero)),
        "zero-block",
        "50% of the rows of model.layers.1.self_attn.q_proj.weight are zero from checkpoint-120 on, and not in W0: "
        "rows 0 to 31 of 64",
    ),
    "half of the head": (
        replaced(ALL, ("lm_head",), half_frozen),
        "still-block",
        f"48% of the rows of {HEAD} never moved while the others did: rows 0 to 9 of 21",
    ),
    "exchanged checkpoints": (
        exchanged_steps,
        "exchanged-checkpoints",
        "checkpoint-60 and checkpoint-90 are exchanged: in the other order the run goes straight on",
    ),
    "checkpoints in the order of letters": (
        in_order(120, 150, 30, 60, 90),
        "exchanged-checkpoints",
        "the checkpoints are out of order: 90, 120, 150, 30, 60 goes straight on",
    ),
    "checkpoints backwards": (
        in_order(150, 120, 90, 60, 30),
        "exchanged-checkpoints",
        "the checkpoints are out of order: 150, 120, 90, 60, 30 goes straight on",
    ),
    "the last one averaged with W0": (
        replaced((150,), EVERY, halfway_to(0)),
        "merged-checkpoint",
        "checkpoint-150 begins anew, or was averaged or merged with W0 or an earlier checkpoint: its update is 61% as",
    ),
    "one averaged with W0": (
        replaced((90,), EVERY, halfway_to(0)),
        "merged-checkpoint",
        "checkpoint-90 was averaged or merged with W0 or an earlier checkpoint: its update is 7",
    ),
    "a restart": (restarted, "restart", "the run begins anew at checkpoint-90: its update is 5"),
    "a restart at once": (resumed(60, 0), "restart", "the run begins anew at checkpoint-60: its update is"),
    "a resume from an older checkpoint": (
        resumed(120, 60),
        "restart",
        "the run went back before checkpoint-120: its update is 98%",
    ),
}


@pytest.mark.parametrize("spoil", SPOILED)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path: Path, spoil: str) -> None:
    edit, kind, sentence = SPOILED[spoil]
    (found,) = diagnosed(spoiled(tmp_path, edit))
    assert (found.kind, found.sentence[: len(sentence)]) == (kind, sentence)
    assert found.grade == ("inference" if found.group == "B" else "fact")
    assert all((found.weights, found.steps, found.causes, found.next_step))


@pytest.mark.parametrize("spoil", ["another W0", "keys and values"])
def test_of_very_many_far_weights_some_speak_for_all(
    tmp_path: Path, spoil: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resembles, "MANY", 3)
    edit, kind, sentence = SPOILED[spoil]
    (found,) = diagnosed(spoiled(tmp_path, edit))
    assert (found.kind, found.sentence[: len(sentence)]) == (kind, sentence)
    assert ("in 3 that were compared entry by entry" in found.evidence[0]) == (kind == "another-model")


def gate_of_w0(states: States, step: int, name: str) -> Tensor:
    return states[0][name.replace("up_proj", "gate_proj")].to(states[step][name].dtype)


@pytest.mark.parametrize(("others", "kind"), [(2, "another-weight"), (0, "made-anew")])
def test_of_a_w0_too_large_to_read_the_own_layer_is_read(
    tmp_path: Path, others: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = spoiled(tmp_path, replaced((150,), (UP,), gate_of_w0))
    monkeypatch.setattr(resembles, "READ", (1 + others) * 128 * 64 + 1)  # beside itself: down_proj and gate_proj
    assert {found.kind for found in diagnosed(run)} == {kind}


@pytest.mark.parametrize("run", ["tiny-opd", "tiny-sft", "tiny-rlvr"])
def test_nothing_is_said_of_a_clean_run(run: str) -> None:
    assert diagnosed(FIXTURES / run) == ()


def tied(run: Path, *steps: int) -> Path:
    """The run with a config that ties head and embedding at these checkpoints."""
    for step in steps:
        file = run / place(step) / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"tie_word_embeddings": True}))
    return run


def test_a_tied_pair_that_differs_is_told(tmp_path: Path) -> None:
    (found,) = diagnosed(tied(spoiled(tmp_path, lambda states: None), *LATE))
    assert (found.kind, found.weights, found.steps) == ("tied", {HEAD}, LATE)
    assert found.sentence.startswith(f"{HEAD} and {EMBED} differ from checkpoint-90 on, and config.json ties them")


def test_a_tied_pair_that_is_saved_twice_and_equal_is_not_accused(tmp_path: Path) -> None:
    run = spoiled(tmp_path, replaced((0, *ALL), ("lm_head",), lambda states, step, _: states[step][EMBED]))
    assert diagnosed(tied(run, 0, *ALL)) == ()


@pytest.mark.parametrize("pairs", [("01",), ("01", "23")])
def test_exchanged_experts_that_were_made_of_one_are_told(tmp_path: Path, pairs: tuple[str, ...]) -> None:
    """They are .14 of their norm apart."""

    def upcycle(states: States) -> None:
        one, generator = states[0][UP].float(), torch.Generator().manual_seed(0)
        parts = [0.1 * one.std() * torch.randn(one.shape, generator=generator) for _ in range(4)]
        place = {int(a): int(b) for pair in pairs for a, b in (pair, pair[::-1])}
        for step, held in states.items():
            update = held.pop(UP).float() - one
            for expert, part in enumerate(parts):
                home = place.get(expert, expert) if step else expert
                turn = torch.randperm(len(one), generator=torch.Generator().manual_seed(expert))
                held[UP.replace("up_proj", f"experts.{home}.up_proj")] = one + part + update[turn]

    (found,) = diagnosed(spoiled(tmp_path, upcycle))
    assert found.kind == "another-weight"
    assert len(found.weights) == 2 * len(pairs)
    assert "are exchanged at every checkpoint" in found.sentence


def without(*steps: int) -> Edit:
    """Without these checkpoints."""

    def edit(states: States) -> None:
        for step in steps:
            del states[step]

    return edit


def noisy(states: States, step: int, name: str) -> Tensor:
    update = states[step][name] - states[0][name].float()
    return states[step][name] + 0.1 * update.std() * torch.randn(
        update.shape, generator=torch.Generator().manual_seed(step)
    )


def noise_on(origin: int) -> Callable[[States, int, str], Tensor]:
    """The weight at another step, and noise, as where the learning rate was next to nothing."""
    return lambda states, _, name: noisy(states, origin, name)


BENIGN: dict[str, Edit] = {
    "stored in bf16": replaced(ALL, EVERY, of(Tensor.bfloat16)),
    "W0 in fp32": replaced((0,), EVERY, of(Tensor.float)),
    "W0 in fp16": replaced((0,), EVERY, of(Tensor.half)),
    "all in fp64": replaced((0, *ALL), EVERY, of(Tensor.double)),
    "fewer checkpoints": without(30, 90),
    "one checkpoint": without(30, 60, 90, 120),
    "a bit of rounding": replaced(ALL, EVERY, of(lambda tensor: tensor * (1 + 1e-7))),
    "noise": replaced(ALL, EVERY, noisy),
    "nothing learned for a while": replaced((90,), EVERY, noise_on(60)),
}


@pytest.mark.parametrize("change", BENIGN)
def test_nothing_is_said_of_a_benign_change(tmp_path: Path, change: str) -> None:
    assert diagnosed(spoiled(tmp_path, BENIGN[change])) == ()


def test_vectors_near_one_value_are_not_called_quantized(tmp_path: Path) -> None:
    def settle(states: States) -> None:
        for step, held in states.items():
            for index, name in enumerate(name for name in held if "norm" in name):
                noise = torch.randn(held[name].shape, generator=torch.Generator().manual_seed(index))
                held[name] = 1 + 1e-6 * step * noise

    assert diagnosed(spoiled(tmp_path, settle)) == ()


def test_what_starts_near_zero_may_grow(tmp_path: Path) -> None:
    def add(states: States) -> None:
        for step, held in states.items():
            noise = torch.randn(32, generator=torch.Generator().manual_seed(step))
            held["model.layers.0.self_attn.v_proj.bias"] = (1e-9 + 1e-5 * step) * noise

    assert diagnosed(spoiled(tmp_path, add)) == ()


def test_a_fault_over_another_is_told_beside_it(tmp_path: Path) -> None:
    def both(states: States) -> None:
        replaced(ALL, ("lm_head",), from_step(0))(states)
        replaced((150,), ("layers.0.",), from_step(120))(states)

    assert [found.kind for found in diagnosed(spoiled(tmp_path, both))] == ["stale", "never-moved"]


def test_which_of_two_is_the_copy_is_left_open_where_norms_do_not_tell(tmp_path: Path) -> None:
    def edit(states: States) -> None:
        replaced((30,), EVERY, from_step(150))(states)
        without(90, 120)(states)
        states[60] = {name: 1.5 * tensor - 0.5 * states[0][name] for name, tensor in states[60].items()}

    (found,) = diagnosed(spoiled(tmp_path, edit))
    assert found.sentence == "checkpoint-30 and checkpoint-150 hold the same weights, to the bit"
    assert found.steps == (30, 150)


@pytest.mark.parametrize("gone", [30, 60, 90])
def test_exchanged_checkpoints_are_found_among_fewer(tmp_path: Path, gone: int) -> None:
    def edit(states: States) -> None:
        states[120], states[150] = states[150], states[120]
        without(gone)(states)

    (found,) = diagnosed(spoiled(tmp_path, edit))
    assert found.sentence.startswith("checkpoint-120 and checkpoint-150 are exchanged")


def test_a_record_tells_what_its_digests_tell(tmp_path: Path) -> None:
    run = spoiled(tmp_path / "run", replaced((150,), LAYER, from_step(120)))
    geomcheck.write_record(geomcheck.measure(run, metrics=["update_norm"], workers=1), tmp_path / "run.parquet")
    shutil.rmtree(run)
    (found,) = geomcheck.diagnose(tmp_path / "run.parquet")
    assert found.sentence.startswith("layer 1 stands still at checkpoint-150")


def test_vectors_of_bf16_that_could_not_move_are_not_accused(tmp_path: Path) -> None:
    """Ones do not move in bf16 by steps below 2^-9, and in this run no entry moved as far."""

    def in_bf16(states: States) -> None:
        for step, held in states.items():
            for name, tensor in held.items():
                norm = "norm" in name
                states[step][name] = ones(tensor).bfloat16() if norm else tensor.bfloat16()

    assert diagnosed(spoiled(tmp_path, in_bf16)) == ()


def test_weights_that_start_at_zero_may_stay_there(tmp_path: Path) -> None:
    def add(states: States) -> None:
        for held in states.values():
            held["model.layers.0.self_attn.k_proj.bias"] = torch.zeros(32)

    assert diagnosed(spoiled(tmp_path, add)) == ()


def test_a_run_that_measuring_refuses_is_diagnosed(tmp_path: Path) -> None:
    run = spoiled(tmp_path, replaced((120,), EVERY, from_step(90)))
    with pytest.raises(geomcheck.RunError, match="hold the same weights"):
        geomcheck.measure(run, metrics=["update_norm"], workers=1)
    assert diagnosed(run)


Spoil = Callable[[Path], object]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize("spoil", [Path.unlink, cut])
def test_files_that_cannot_be_opened_are_an_error(tmp_path: Path, spoil: Spoil) -> None:
    run = spoiled(tmp_path, lambda states: None)
    spoil(run / place(0) / "model.safetensors")
    with pytest.raises(geomcheck.GeomcheckError):
        diagnosed(run)
