from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from geomcheck.checkpoints import comparable, find_base, open_base, open_run
from geomcheck.errors import RunError, UsageError
from geomcheck.measurement import survey
from geomcheck.record import Record
from tests.runs import DOWN, EMBED, NORM, K, Q, base_weights, moved, simple_run, write_model, write_run


def surveyed(path: Path, base: str | None = None) -> Record:
    run = open_run(path)
    return survey(*comparable(run, open_base(base, "--geom-base") if base else find_base(run)))


def test_a_healthy_run_is_described_from_headers(tmp_path: Path) -> None:
    record = surveyed(simple_run(tmp_path / "opd"))
    assert (record.run, record.origin.how) == ("opd", "base/ in the run")
    assert [(p.name, p.step) for p in record.points] == [
        ("checkpoint-10", 10),
        ("checkpoint-20", 20),
        ("checkpoint-30", 30),
    ]
    assert list(record.weights) == sorted([Q, K, DOWN, NORM, EMBED])
    assert record.weights[Q].dtypes == ("bf16", "fp32")
    assert record.skipped == {}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: w.pop(Q), "missing from checkpoint-20"),
        (lambda w: w.update({Q: torch.zeros(24, 8)}), r"shape \(24, 8\) in checkpoint-20, but \(24, 16\) in W0"),
        (lambda w: w.update({Q: torch.zeros(24, 16, dtype=torch.int8)}), "stored as I8 in checkpoint-20"),
        (lambda w: w.update({Q: torch.zeros(24, 16).bfloat16()}), "its storage format changes along the run"),
    ],
)
def test_a_weight_that_cannot_be_followed_is_skipped_with_the_reason(tmp_path: Path, change, reason: str) -> None:
    base = base_weights()
    middle = moved(base, 2e-2)
    change(middle)
    run = write_run(tmp_path / "run", base, {10: moved(base, 1e-2), 20: middle, 30: moved(base, 3e-2)})
    skipped = surveyed(run).skipped
    assert set(skipped) == {Q}
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(skipped[Q])


def test_weights_on_one_side_only_are_skipped(tmp_path: Path) -> None:
    base, extra = base_weights(), "model.layers.9.mlp.up_proj.weight"
    only_base = write_run(tmp_path / "a", base | {extra: torch.ones(4, 4)}, {10: moved(base, 1e-2)})
    assert surveyed(only_base).skipped == {extra: "in W0, but in no checkpoint"}
    only_run = write_run(tmp_path / "b", base, {10: moved(base, 1e-2) | {extra: torch.ones(4, 4)}})
    assert surveyed(only_run).skipped == {extra: "not in W0"}


def test_a_tied_head_that_one_side_leaves_out_is_no_weight_of_its_own(tmp_path: Path) -> None:
    base = base_weights()
    run = write_run(tmp_path / "run", base | {"lm_head.weight": base[EMBED].clone()}, {10: moved(base, 1e-2)})
    assert "lm_head.weight" in surveyed(run).skipped
    write_model(run / "base", base | {"lm_head.weight": base[EMBED].clone()}, {"tie_word_embeddings": True})
    record = surveyed(run)
    assert "lm_head.weight" not in record.weights
    assert record.skipped == {}


def test_a_base_of_another_width_is_refused(tmp_path: Path) -> None:
    run = simple_run(tmp_path / "run")
    other = write_model(
        tmp_path / "wide", {name: torch.ones([2 * n for n in w.shape]) for name, w in base_weights().items()}
    )
    with pytest.raises(
        UsageError,
        match="does not belong to run .*: 4 of its 4 weight matrices are not in W0 or have another shape there",
    ):
        surveyed(run, str(other))


def test_a_base_of_another_architecture_is_refused(tmp_path: Path) -> None:
    run = simple_run(tmp_path / "run")
    other = write_model(tmp_path / "gpt2", {"transformer.h.0.attn.c_attn.weight": torch.ones(16, 48)})
    with pytest.raises(UsageError, match="Give the model that this run started from, with --geom-base"):
        surveyed(run, str(other))


def test_a_run_without_matrices_is_refused(tmp_path: Path) -> None:
    norms = {NORM: torch.ones(16)}
    with pytest.raises(UsageError, match="no weight matrices"):
        surveyed(write_run(tmp_path / "run", norms, {10: norms}))


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    run = simple_run(tmp_path / "run")
    file = run / "checkpoint-20" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(RunError, match=r"checkpoint-20/model.safetensors: truncated"):
        surveyed(run)


@pytest.mark.parametrize("shape", [(384,), (0,)])
def test_a_weight_that_is_flat_on_one_side_is_skipped_not_forgotten(tmp_path: Path, shape: tuple[int, ...]) -> None:
    base = base_weights()
    flat = base | {Q: torch.zeros(shape)}
    assert "shape" in surveyed(write_run(tmp_path / "run", flat, {10: moved(base, 1e-2)})).skipped[Q]


def test_a_vocabulary_that_was_padded_is_told_from_another_width(tmp_path: Path) -> None:
    base = base_weights()
    rows, width = base[EMBED].shape
    shapes = {"padded": (rows + 8, width), "wide": (rows, width + 8)}
    told = {}
    for name, shape in shapes.items():
        run = write_run(tmp_path / name, base, {10: moved(base, 1e-2) | {EMBED: torch.zeros(shape)}})
        told[name] = surveyed(run).skipped[EMBED]
    assert told["padded"].endswith(": one vocabulary was padded, or grew")
    assert told["wide"].endswith("in W0")


def test_a_name_that_could_drive_a_log_is_refused(tmp_path: Path) -> None:
    base = base_weights() | {"a\n::error::b.weight": torch.zeros(3, 3)}
    run = open_run(write_run(tmp_path / "run", base, {10: moved(base, 1e-3)}))
    with pytest.raises(RunError, match=r"a weight is called 'a\\n::error::b"):
        survey(*comparable(run, find_base(run)))


@pytest.mark.parametrize(("who", "count", "lacks"), [("base", 3, "2 of the 3"), ("checkpoint-20", 2, "1 of the 2")])
def test_layers_that_a_config_counts_and_w0_lacks_are_an_error(
    tmp_path: Path, who: str, count: int, lacks: str
) -> None:
    run = simple_run(tmp_path / "run")
    (run / who / "config.json").write_text(json.dumps({"model_type": "qwen3", "num_hidden_layers": count}))
    with pytest.raises(RunError, match=rf"lacks {lacks} layers that .*/{who}/config.json counts, such as layer 1: "):
        surveyed(run)
    (run / who / "config.json").write_text(json.dumps({"model_type": "qwen3", "num_hidden_layers": 1}))
    assert surveyed(run).skipped == {}


@pytest.mark.parametrize("shape", [(0,), (1,)])
def test_what_zero_3_leaves_of_a_weight_is_told(tmp_path: Path, shape: tuple[int, ...]) -> None:
    base = base_weights()
    run = write_run(tmp_path / "run", base, {10: moved(base, 1e-2) | {Q: torch.zeros(shape)}})
    assert "a placeholder, as DeepSpeed ZeRO-3 leaves it" in surveyed(run).skipped[Q]
