"""The corpus of the diagnosis: what is done to saved runs, and what is called right (fixtures/defects)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fixtures.defects.conversions import Conversion, conversions
from fixtures.defects.corpus import CLEAN_SEEDS, GOOD_SEEDS, SPOILED_SEEDS, corpus, harmless
from fixtures.defects.saved import Saved, Tensors, read, read_merged, write
from fixtures.defects.truth import Place, Truth, is_placed, is_right
from geomcheck.diagnosis import Finding, load_kinds

RUN = Path(__file__).parents[1] / "fixtures" / "tiny-opd"
WITHOUT_CHANGE = {
    "tied-differs",
    "lora-merged-in-bf16",
    "lora-merged-half",
    "lora-merged-rslora",
    "lora-merged-twice",
    "lora-subtracted",
    "benign-sharded",
    "benign-sharded-moe",
    "benign-merged",
    "benign-fp32-base",
}
"""What is wrong with these lies in the config, the reading or the files."""


"""Defects that the diagnosis has no finding for."""


def with_experts(saved: Saved) -> Saved:
    """The run with four experts for each MLP, and a router."""
    noise = torch.Generator().manual_seed(0)

    def split(tensors: Tensors) -> Tensors:
        found = {name: weight for name, weight in tensors.items() if ".mlp." not in name}
        for name, weight in tensors.items():
            if ".mlp." in name:
                for expert in range(4):
                    drawn = weight + 0.01 * torch.randn(weight.shape, generator=noise).to(weight.dtype)
                    found[name.replace(".mlp.", f".mlp.experts.{expert}.")] = drawn
                found[name.rpartition(".mlp.")[0] + ".mlp.gate.weight"] = torch.randn(4, 64, generator=noise)
        return found

    return Saved(saved.steps, split(saved.base), [split(tensors) for tensors in saved.checkpoints])


def adapters() -> Saved:
    """A run of one adapter."""
    base = {"model.q_proj.weight": torch.ones(6, 4)}
    names = [f"base_model.model.model.q_proj.lora_{side}.weight" for side in "AB"]
    checkpoints = [{names[0]: torch.ones(2, 4) * t, names[1]: torch.ones(6, 2) * t} for t in range(1, 6)]
    return Saved((1, 2, 3, 4, 5), base, checkpoints)


def original(conversion: Conversion) -> Saved:
    if conversion.recipe == "lora" and conversion.read is read:
        return adapters()
    return with_experts(read(RUN)) if conversion.recipe == "moe" else read(RUN)


EVERY = [
    pytest.param(conversion, variant, id=f"{conversion.name}-{variant}")
    for conversion in (*conversions(), *harmless())
    for variant in conversion.variants
]


@pytest.mark.parametrize(("conversion", "variant"), EVERY)
def test_a_conversion_changes_what_it_says_and_nothing_else(conversion: Conversion, variant: str) -> None:
    saved, clean = original(conversion), original(conversion)
    place = conversion.variants[variant](saved)
    changed = {
        (name, step)
        for step, before, after in zip(saved.steps, clean.checkpoints, saved.checkpoints, strict=True)
        for name in before.keys() | after.keys()
        if not torch.equal(before[name], after[name])
    }
    assert bool(changed) is (conversion.name not in WITHOUT_CHANGE)
    if place.weights:
        assert {name for name, _ in changed} == place.weights
    if place.step is not None:
        assert min(step for _, step in changed) == place.step
    for name, weight in clean.base.items():
        assert torch.equal(saved.base[name].float(), weight.float())


def test_a_spoiled_run_is_written_as_the_original_is(tmp_path: Path) -> None:
    saved = read(RUN)
    run = write(saved, RUN, tmp_path / "run")
    again = read(run)
    assert again.steps == saved.steps
    for before, after in zip(saved.checkpoints, again.checkpoints, strict=True):
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert (run / "checkpoint-30" / "trainer_state.json").exists()


def test_an_adapter_is_merged_by_its_scale(tmp_path: Path) -> None:
    saved = adapters()
    for folder in ["base", *(f"checkpoint-{step}" for step in saved.steps)]:
        (tmp_path / "original" / folder).mkdir(parents=True)
        (tmp_path / "original" / folder / "config.json").write_text("{}")
        (tmp_path / "original" / folder / "adapter_config.json").write_text('{"lora_alpha": 4, "r": 2}')
    run = write(saved, tmp_path / "original", tmp_path / "run")
    merged = read_merged(run, factor=0.5)
    assert torch.equal(merged.checkpoints[1]["model.q_proj.weight"], torch.full((6, 4), 1 + 0.5 * 2 * 2 * 2 * 2.0))


def test_every_defect_names_kinds_of_findings_that_exist() -> None:
    known = {kind.name for kind in load_kinds()}
    truths = {case.name: case.truth for case in corpus() if case.truth}
    assert {name for name, truth in truths.items() if not set(truth.kinds) <= known} == set()


def test_the_corpus_is_as_large_as_its_claims() -> None:
    cases = corpus()
    assert len({case.name for case in cases if case.truth}) >= 40
    assert sum(case.truth is None for case in cases) >= 40
    assert len({(case.name, case.variant) for case in cases}) == len(cases)
    assert {case.half for case in cases if case.name == "stale-matrix"} == {1, 2}
    assert {case.half for case in cases if case.held_out} == {2}


def test_no_run_is_judged_by_itself() -> None:
    assert not {*GOOD_SEEDS} & {*CLEAN_SEEDS, *SPOILED_SEEDS}


def finding(kind: str, *weights: str, steps: tuple[int, ...] = (), causes: tuple[str, ...] = ()) -> Finding:
    return Finding(kind, "A", "fact", "a sentence", causes=causes, weights=frozenset(weights), steps=steps)


def test_the_first_finding_counts() -> None:
    truth = Truth(("stale",))
    assert is_right(truth, [finding("stale"), finding("order")])
    assert not is_right(truth, [finding("order"), finding("stale")])
    assert not is_right(truth, [])


def test_of_an_inference_one_of_two_causes_must_be_right() -> None:
    truth = Truth(("scale",), "inference", "learning rate")
    assert is_right(truth, [finding("scale", causes=("merged with the base", "half the Learning rate"))])
    assert not is_right(truth, [finding("scale", causes=("merged with the base", "skipped steps", "learning rate"))])


def test_a_place_is_named_by_its_weights_and_no_others_and_its_first_checkpoint() -> None:
    place = Place(frozenset({"q", "k"}), 30)
    assert is_placed(place, [finding("stale", "q", "k", steps=(30, 60))])
    assert not is_placed(place, [finding("stale", "q", "k", "v", steps=(30, 60))])
    assert not is_placed(place, [finding("stale", "q", steps=(30,))])
    assert not is_placed(place, [finding("stale", "q", "k", steps=(60,))])
    assert not is_placed(place, [])
