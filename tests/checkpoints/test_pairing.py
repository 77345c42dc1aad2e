"""Names of a checkpoint and of W0 that differ by a wrapper, a moved prefix or a whole part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

import geomcheck
from geomcheck.checkpoints import Stored, comparable, find_base, open_run
from geomcheck.checkpoints.pairing import paired
from geomcheck.errors import UsageError
from geomcheck.measurement import survey
from geomcheck.record import Record
from tests.runs import moved, write_run

Tensors = dict[str, Tensor]
CONFIG = {"model_type": "qwen3", "num_hidden_layers": 2}


def stack(start: str, *, seed: int, layers: int = 2, width: int = 8) -> Tensors:
    """A stack of layers with attention and an MLP, no two shapes of which are equal in a layer."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"self_attn.q_proj": (width, width), "self_attn.k_proj": (4, width), "mlp.down_proj": (width, 12)}
    return {
        f"{start}layers.{layer}.{module}.weight": torch.randn(shape, generator=generator)
        for layer in range(layers)
        for module, shape in shapes.items()
    }


class Held:
    """A source of which only the headers are known."""

    path, layout = Path("held"), "none"

    def __init__(self, weights: dict[str, Stored]) -> None:
        self.weights = weights


LANGUAGE = {
    **stack("model.", seed=1),
    "model.embed_tokens.weight": torch.randn(16, 8, generator=torch.Generator().manual_seed(2)),
    "model.norm.weight": torch.ones(8),
    "lm_head.weight": torch.randn(16, 8, generator=torch.Generator().manual_seed(3)),
}
TOWER = stack("vision_tower.vision_model.encoder.", seed=4, width=6)
PROJECTOR = {"multi_modal_projector.linear.weight": torch.randn(8, 6, generator=torch.Generator().manual_seed(5))}
MTP = {**stack("mtp.", seed=6, layers=1), "mtp.fc.weight": torch.randn(8, 16)}
VALUE_HEAD = {"v_head.summary.weight": torch.randn(1, 8), "v_head.summary.bias": torch.zeros(1)}


def surveyed(directory: Path, w0: Tensors, rename: Callable[[Tensors], Tensors]) -> Record:
    """The record of a run whose checkpoints are W0, trained and then renamed."""
    run = open_run(write_run(directory / "run", w0, {step: rename(moved(w0, 1e-3 * step)) for step in (10, 20)}))
    return survey(*comparable(run, find_base(run)))


def matched(record: Record) -> set[str]:
    return {weight.name for weight in record.weights.values() if weight.is_matrix} - record.skipped.keys()


def wrapped(start: str) -> Callable[[Tensors], Tensors]:
    return lambda weights: {start + name: weight for name, weight in weights.items()}


def replaced(old: str, new: str) -> Callable[[Tensors], Tensors]:
    return lambda weights: {
        new + name[len(old) :] if name.startswith(old) else name: weight for name, weight in weights.items()
    }


def matrices(weights: Tensors) -> set[str]:
    return {name for name, weight in weights.items() if weight.dim() == 2}


RENAMES = {
    "a value head's wrapper": (wrapped("pretrained_model."), "pretrained_model. here is no prefix there"),
    "a wrapper that nobody listed": (wrapped("agent.net."), "agent.net. here is no prefix there"),
    "a policy": (wrapped("policy."), "policy. here is no prefix there"),
    "a backbone": (replaced("model.", "backbone."), "backbone. here is model. there"),
    "a bare language model": (replaced("model.", "language_model."), "language_model. here is model. there"),
    "a tower whose wrapper is gone": (
        replaced("vision_tower.vision_model.", "vision_tower."),
        "vision_tower. here is vision_tower.vision_model. there",
    ),
}


@pytest.mark.parametrize(("rename", "note"), RENAMES.values(), ids=RENAMES)
def test_a_moved_prefix_pairs_and_is_said(tmp_path: Path, rename: Callable[[Tensors], Tensors], note: str) -> None:
    w0 = {**LANGUAGE, **TOWER}
    record = surveyed(tmp_path, w0, rename)
    assert matched(record) == matrices(w0)
    assert f"paired with W0 by structure: {note}" in record.notes


def test_what_is_paired_is_measured_as_if_it_had_its_own_name(tmp_path: Path) -> None:
    trained = {step: moved(LANGUAGE, 1e-3 * step) for step in (10, 20)}
    plain = write_run(tmp_path / "plain", LANGUAGE, trained)
    policy = {step: wrapped("policy.")(weights) for step, weights in trained.items()}
    one, other = (
        geomcheck.measure(run, metrics=["stable_rank", "update_support"], workers=1)
        for run in (plain, write_run(tmp_path / "policy", LANGUAGE, policy))
    )
    assert list(one.rows()) == list(other.rows())


def test_a_bare_model_pairs_with_one_that_has_a_head(tmp_path: Path) -> None:
    def bare(weights: Tensors) -> Tensors:
        return {name.removeprefix("model."): w for name, w in weights.items() if not name.startswith("lm_head")}

    record = surveyed(tmp_path, LANGUAGE, bare)
    assert matched(record) == matrices(LANGUAGE) - {"lm_head.weight"}
    assert record.skipped == {"lm_head.weight": "in W0, but in no checkpoint"}


def test_the_thinker_of_an_omni_model_pairs_with_all_of_it(tmp_path: Path) -> None:
    talker = {**stack("talker.model.", seed=7), "talker.codec_head.weight": torch.randn(9, 8)}
    w0 = {**wrapped("thinker.")({**LANGUAGE, **stack("audio_tower.", seed=8)}), **talker}

    def thinker(weights: Tensors) -> Tensors:
        return {name.removeprefix("thinker."): w for name, w in weights.items() if name.startswith("thinker.")}

    record = surveyed(tmp_path, w0, thinker)
    assert matched(record) == matrices(thinker(w0))
    assert "left out, as W0 has them and no checkpoint does: talker.* (7 weights)" in record.notes


def test_a_value_model_beside_the_policy_is_not_taken_for_it(tmp_path: Path) -> None:
    def both(weights: Tensors) -> Tensors:
        value = wrapped("value_model.")(moved(LANGUAGE, 0.1, seed=9))
        return {**wrapped("policy.")(weights), **value}

    record = surveyed(tmp_path, LANGUAGE, both)
    assert matched(record) == record.weights.keys() - {"model.norm.weight"} == matrices(LANGUAGE)
    assert "a value model (value_model.*) is saved beside the model; it is not compared with W0" in record.notes


def test_a_critic_that_was_trained_itself_is_paired(tmp_path: Path) -> None:
    assert matched(surveyed(tmp_path, LANGUAGE, wrapped("critic."))) == matrices(LANGUAGE)


def test_a_value_head_is_left_out_and_named(tmp_path: Path) -> None:
    record = surveyed(tmp_path, LANGUAGE, lambda weights: {**weights, **VALUE_HEAD})
    assert record.weights.keys() == LANGUAGE.keys()
    assert any(note.startswith("a value head (v_head.*)") for note in record.notes)


@pytest.mark.parametrize(
    "rename",
    [
        lambda weights: {**wrapped("one.")(weights), **wrapped("two.")(moved(weights, 0.1))},
        lambda weights: {
            f"x.{name}": w[:, :-1] if name.endswith("q_proj.weight") else w for name, w in weights.items()
        },
        lambda weights: {f"x.{name.replace('layers.0', 'layers.7')}": w for name, w in weights.items()},
        lambda weights: {f"x.{name.replace('q_proj', 'query')}": w for name, w in weights.items()},
    ],
    ids=["two models for one place", "another shape", "another layer", "another module"],
)
def test_what_does_not_pair_completely_and_uniquely_is_refused_with_the_nearest_name(
    tmp_path: Path, rename: Callable[[Tensors], Tensors]
) -> None:
    with pytest.raises(
        UsageError, match=r"does not belong to run .* where the nearest name is (model|lm_head)\.\S+ \("
    ):
        surveyed(tmp_path, LANGUAGE, rename)


def test_two_places_in_w0_for_one_stack_are_not_chosen_between(tmp_path: Path) -> None:
    w0 = {**stack("one.", seed=1), **stack("two.", seed=2)}
    with pytest.raises(UsageError, match="does not belong"):
        surveyed(tmp_path, w0, lambda weights: {n.removeprefix("one."): w for n, w in weights.items() if "one" in n})


@pytest.mark.parametrize(
    ("extra", "left_out"),
    [
        (MTP, "mtp.* (4 weights)"),
        ({**TOWER, **PROJECTOR}, "multi_modal_projector.* (1 weights), vision_tower.* (6 weights)"),
    ],
    ids=["multi-token prediction", "a vision tower and its projector"],
)
def test_a_whole_part_that_no_checkpoint_has_is_left_out_with_a_note(
    tmp_path: Path, extra: Tensors, left_out: str
) -> None:
    record = surveyed(
        tmp_path, {**LANGUAGE, **extra}, lambda weights: {n: w for n, w in weights.items() if n in LANGUAGE}
    )
    assert record.weights.keys() == LANGUAGE.keys()
    assert record.notes == (f"left out, as W0 has them and no checkpoint does: {left_out}",)


def test_a_layer_behind_the_last_is_left_out_too(tmp_path: Path) -> None:
    w0 = {**LANGUAGE, **{n.replace("layers.0", "layers.2"): w for n, w in stack("model.", seed=3, layers=1).items()}}
    run = write_run(tmp_path / "run", w0, {10: moved(LANGUAGE, 1e-3)})
    for config in run.glob("*/config.json"):
        config.write_text('{"model_type": "deepseek_v3", "num_hidden_layers": 2}')
    opened = open_run(run)
    record = survey(*comparable(opened, find_base(opened)))
    assert record.weights.keys() == LANGUAGE.keys()
    assert any("model.layers.2.* (3 weights)" in note for note in record.notes)


@pytest.mark.parametrize("lost", ["model.layers.1.", "model.layers.0.mlp.", "lm_head.", "model.embed_tokens."])
@pytest.mark.parametrize("extra", [{}, MTP], ids=["", "beside a part that is left out"])
def test_a_hole_is_never_left_out(tmp_path: Path, lost: str, extra: Tensors) -> None:
    def kept(weights: Tensors) -> Tensors:
        return {n: w for n, w in weights.items() if n in LANGUAGE and not n.startswith(lost)}

    record = surveyed(tmp_path, {**LANGUAGE, **extra}, kept)
    assert record.skipped.keys() == {name for name in LANGUAGE if name.startswith(lost)}


def test_the_only_stack_is_no_part_that_a_run_never_had(tmp_path: Path) -> None:
    record = surveyed(tmp_path, LANGUAGE, lambda weights: {n: w for n, w in weights.items() if "layers" not in n})
    assert record.skipped.keys() == matrices(stack("model.", seed=1))


def test_a_stack_beside_the_layers_is_left_out(tmp_path: Path) -> None:
    w0 = {**LANGUAGE, **{n.replace("layers", "mtp_layers"): w for n, w in stack("model.", seed=3, layers=1).items()}}
    record = surveyed(tmp_path, w0, lambda weights: {n: w for n, w in weights.items() if n in LANGUAGE})
    assert record.weights.keys() == LANGUAGE.keys()


def test_a_part_that_one_checkpoint_has_is_missing_from_the_others(tmp_path: Path) -> None:
    w0 = {**LANGUAGE, **MTP}
    run = open_run(write_run(tmp_path / "run", w0, {10: moved(w0, 1e-3), 20: moved(LANGUAGE, 2e-3)}))
    record = survey(*comparable(run, find_base(run)))
    assert record.skipped.keys() == matrices(MTP)


def test_w0_gives_every_run_the_parts_that_it_has(tmp_path: Path) -> None:
    w0 = {**LANGUAGE, **MTP}
    without = open_run(write_run(tmp_path / "a", w0, {10: moved(LANGUAGE, 1e-3)}))
    whole = open_run(write_run(tmp_path / "b", w0, {10: moved(w0, 1e-3)}))
    _, base = comparable(without, find_base(without))
    assert matched(survey(*comparable(whole, base))) == matrices(w0)


def test_every_prefix_that_transformers_moves_is_paired() -> None:
    """From the published names to those in memory, and back; nothing but the prefix differs."""
    mapping = pytest.importorskip("transformers.conversion_mapping")
    found = {
        (move.model_prefix, move.prefix_to_remove or move.prefix_to_add)
        for model_type in CONFIG_MAPPING_NAMES
        for move in mapping.get_checkpoint_conversion_mapping(model_type) or ()
        if isinstance(move, mapping.PrefixChange)
    }
    assert {("", "vision_model"), ("", "thinker"), ("model", "language_model")} <= found
    for where, prefix in found:
        start = f"{where}." if where else ""
        outer, inner = (
            {start + between + name: Stored(w.shape, "fp32") for name, w in stack("", seed=1).items()}
            for between in (f"{prefix}.", "")
        )
        for one, other in ((outer, inner), (inner, outer)):
            source, notes = paired(Held(one), other)
            assert (source.weights, len(notes)) == (other, 1)
