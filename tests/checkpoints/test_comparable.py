"""Mixed formats in one comparison: what is measured does not depend on how a checkpoint was stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor

import geomcheck
from geomcheck.checkpoints import comparable, find_base, open_base, open_run
from geomcheck.errors import RunError, UsageError
from geomcheck.measurement import survey
from geomcheck.record import Record
from tests.checkpoints.canonical.models import config_of
from tests.checkpoints.canonical.test_experts import qwen3_moe
from tests.checkpoints.canonical.test_fused_models import MODELS, tiny
from tests.runs import EMBED, Q, base_weights, moved, simple_run, write_model, write_run

Tensors = dict[str, Tensor]
HEAD = "lm_head.weight"
METRICS = ["update_norm", "stable_rank", "update_sparsity", "principal_angle"]


def run_of(directory: Path, base: Tensors, checkpoints: Mapping[int, Tensors], config: Mapping[str, Any]) -> Path:
    """A run whose W0 and checkpoints all have `config`."""
    run = write_run(directory, base, checkpoints)
    for model in (run / "base", *(run / f"checkpoint-{step}" for step in checkpoints)):
        (model / "config.json").write_text(json.dumps(config))
    return run


def surveyed(path: Path) -> Record:
    run = open_run(path)
    return survey(*comparable(run, find_base(run)))


def figures(record: Record) -> list[object]:
    return [*record.rows(), *record.fingerprints.items()]


def expanded(experts: Tensors) -> Tensors:
    """The stacked experts of Qwen3-MoE as transformers writes them to disk."""
    loose = {}
    for name, tensor in experts.items():
        parent, _, last = name.rpartition(".")
        if last not in ("gate_up_proj", "down_proj"):
            loose[name] = tensor
            continue
        for e, matrix in enumerate(tensor):
            parts = {"gate_proj": matrix[:8], "up_proj": matrix[8:]} if last == "gate_up_proj" else {last: matrix}
            loose |= {f"{parent}.{e}.{part}.weight": rows.clone() for part, rows in parts.items()}
    return loose


def test_layouts_mixed_along_a_run_measure_as_one(tmp_path: Path) -> None:
    model = qwen3_moe()
    config = config_of(model)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    base = {name: tensor.bfloat16() for name, tensor in state.items()}
    trained = {step: moved(base, 1e-3 * step, seed=step) for step in (10, 20, 30)}
    stacked = run_of(tmp_path / "run", base, trained, config)
    wrapped = {f"module._orig_mod.{name}": tensor for name, tensor in trained[20].items()}
    mixed = run_of(
        tmp_path / "mixed" / "run", expanded(base), {**trained, 10: expanded(trained[10]), 20: wrapped}, config
    )
    one, other = (geomcheck.measure(run, metrics=METRICS, workers=1) for run in (stacked, mixed))
    assert figures(one) == figures(other)
    assert len(one.measured_weights()) == 4 * 3 + 4 + 1
    assert one.notes == ()
    (note,) = other.notes
    assert note.startswith(
        "stored differently along the run: checkpoint-10 has lm_head.weight, "
        "checkpoint-20 has module._orig_mod.lm_head.weight, checkpoint-30 has model.layers.#.mlp.experts.down_proj;"
    )
    assert one.weights["model.layers.0.mlp.experts.3.up_proj.weight"].dtypes == ("bf16", "fp32")


@pytest.mark.parametrize("name", ["gpt2", "phi3", "falcon-40b"])
def test_a_fused_run_measures_as_its_unfused_twin(tmp_path: Path, name: str) -> None:
    model = tiny(*MODELS[name][:2])
    config = config_of(model)
    base = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    trained = {10: moved(base, 1e-3)}
    fused = run_of(tmp_path / "run", base, trained, config)
    run, w0 = comparable(open_run(fused), open_base(fused / "base", "given"))
    sources = (w0.source, run.checkpoints[0].source)
    before, after = ({key: s.read(key).clone().contiguous() for key in s.weights} for s in sources)
    twin = run_of(tmp_path / "twin" / "run", before, {10: after}, {"model_type": "llama"})
    assert figures(geomcheck.measure(fused, metrics=METRICS)) == figures(geomcheck.measure(twin, metrics=METRICS))


@pytest.mark.parametrize("silent", ["base", "checkpoint-10"])
def test_a_side_without_config_has_that_of_the_other(tmp_path: Path, silent: str) -> None:
    model = tiny(*MODELS["gpt2"][:2])
    base = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    run = run_of(tmp_path / "run", base, {10: moved(base, 1e-3)}, config_of(model))
    (run / silent / "config.json").unlink()
    record = surveyed(run)
    assert record.skipped == {}
    assert record.weights["transformer.h.0.mlp.c_fc.weight"].shape == (96, 24)


def test_configs_that_would_split_one_tensor_in_two_ways_are_refused(tmp_path: Path) -> None:
    model = tiny(*MODELS["gpt_neox"][:2])
    base = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    path = run_of(tmp_path / "run", base, {10: moved(base, 1e-3)}, config_of(model))
    (path / "base" / "config.json").write_text(json.dumps(config_of(model) | {"num_attention_heads": 3}))
    with pytest.raises(UsageError, match=r"num_attention_heads is 3 in its config, and 6 in that of checkpoint-10"):
        surveyed(path)


def test_a_base_serves_a_second_run_without_being_turned_again(tmp_path: Path) -> None:
    model = tiny(*MODELS["gpt2"][:2])
    base = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    path = run_of(tmp_path / "run", base, {10: moved(base, 1e-3)}, config_of(model))
    run = open_run(path)
    once = comparable(run, find_base(run))[1]
    twice = comparable(open_run(path), once)[1]
    name = "transformer.h.0.mlp.c_fc.weight"
    assert twice.source.read(name).equal(base[name].T)


TIED = {"model_type": "qwen3", "tie_word_embeddings": True}


def tied(directory: Path, heads: Mapping[str, Tensor | None], config: Mapping[str, Any] = TIED) -> Path:
    """A run in which `base`, `first` and `last` have these heads."""
    base = base_weights(dtype=torch.float32)
    sides = {"base": base, "first": moved(base, 1e-2), "last": moved(base, 2e-2)}
    for side, weights in sides.items():
        head = heads.get(side)
        if head is not None:
            weights[HEAD] = head
        elif side in heads:
            weights[HEAD] = weights[EMBED].clone()
    return run_of(directory, sides["base"], {10: sides["first"], 20: sides["last"]}, config)


@pytest.mark.parametrize(
    "heads", [{}, {"base": None}, {"first": None}, {"base": None, "first": None, "last": None}, {"last": None}]
)
@pytest.mark.parametrize(
    "config", [TIED, {"model_type": "gemma"}, {"model_type": "x", "text_config": {"tie_word_embeddings": True}}]
)
def test_a_tied_head_is_no_weight_of_its_own(tmp_path: Path, heads: dict[str, None], config: dict[str, Any]) -> None:
    record = surveyed(tied(tmp_path / "run", heads, config))
    assert HEAD not in record.weights
    assert record.skipped == {}


@pytest.mark.parametrize("odd", [[], {}, 7, None, ["qwen3"]])
def test_a_config_that_says_nonsense_breaks_nothing(tmp_path: Path, odd: object) -> None:
    config = dict.fromkeys(("model_type", "text_config", "vision_config", "tie_word_embeddings"), odd)
    record = surveyed(tied(tmp_path / "run", {}, config))
    assert record.skipped == {}


def test_a_head_that_left_its_embedding_is_kept_and_stands_against_it(tmp_path: Path) -> None:
    path = tied(tmp_path / "run", {"first": None, "last": torch.randn(32, 16)})
    record = surveyed(path)
    assert record.weights[HEAD].role == "head"
    assert record.skipped == {}
    run = open_run(path)
    w0 = comparable(run, find_base(run))[1].source
    assert w0.read(HEAD).equal(w0.read(EMBED))


def test_a_tied_model_in_memory_has_the_weights_of_its_twin_on_disk(tmp_path: Path) -> None:
    shape = {"vocab_size": 32, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 6}
    config = hf.Qwen3Config(**shape, num_key_value_heads=2, head_dim=4, intermediate_size=32, tie_word_embeddings=True)
    model = tiny(hf.Qwen3ForCausalLM, config)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    path = run_of(tmp_path / "run", {}, {10: moved(state, 1e-3) | {HEAD: moved(state, 1e-3)[EMBED]}}, config_of(model))
    model.save_pretrained(path / "base")
    record = surveyed(path)
    assert HEAD not in open_base(path / "base", "given").source.weights
    assert HEAD in open_run(path).checkpoints[0].source.weights
    assert set(record.weights) == set(state) - {HEAD}
    assert record.skipped == {}


def test_a_head_of_a_model_that_does_not_tie_must_be_there(tmp_path: Path) -> None:
    record = surveyed(tied(tmp_path / "run", {"base": None}, {"model_type": "qwen3", "tie_word_embeddings": False}))
    assert record.skipped == {HEAD: "in W0, but in no checkpoint"}


def test_a_padded_vocabulary_says_so(tmp_path: Path) -> None:
    base = base_weights()
    grown = moved(base, 1e-2) | {EMBED: torch.randn(64, 16)}
    reason = surveyed(write_run(tmp_path / "run", base, {10: grown})).skipped[EMBED]
    assert "(64, 16) in checkpoint-10, but (32, 16) in W0: one vocabulary was padded, or grew" in reason


def test_a_placeholder_says_what_wrote_it(tmp_path: Path) -> None:
    base = base_weights()
    hollow = moved(base, 1e-2) | {Q: torch.zeros(0)}
    assert "zero_to_fp32.py" in surveyed(write_run(tmp_path / "run", base, {10: hollow})).skipped[Q]


def fp8_run(directory: Path) -> tuple[Path, Tensors]:
    """A run in fp8, and its last weights as they are meant."""
    base = base_weights(dtype=torch.float32)
    scale = torch.full((1, 1), 0.01)

    def quantized(weights: Tensors) -> Tensors:
        matrices = {n: (w / 0.01).clamp(-440, 440).to(torch.float8_e4m3fn) for n, w in weights.items() if w.ndim == 2}
        return weights | matrices | {f"{name}_scale_inv": scale.clone() for name in matrices}

    last = quantized(moved(base, 0.1))
    run = write_run(directory, quantized(base), {10: last})
    return run, {name: last[name].float() * 0.01 for name in (Q, EMBED)}


def test_fp8_is_measured_only_on_request_and_the_record_says_so(tmp_path: Path) -> None:
    run, meant = fp8_run(tmp_path / "run")
    refused = geomcheck.measure(run, metrics=["update_norm"])
    assert refused.measured_weights() == set()
    assert "stored as F8_E4M3 in W0" in refused.skipped[Q]
    assert "--geom-dequantize" in refused.skipped[Q]
    record = geomcheck.measure(run, metrics=["update_norm"], dequantize=True)
    assert record.skipped == {}
    assert record.notes == (
        "fp8 weights of W0, checkpoint-10 were dequantized to fp32; their rounding is part of the figures",
    )
    opened = comparable(open_run(run), open_base(run / "base", "given"), dequantize=True)[0]
    assert opened.checkpoints[0].source.read(Q).equal(meant[Q])
    geomcheck.write_record(record, tmp_path / "r.parquet")
    assert geomcheck.read_record(tmp_path / "r.parquet").notes == record.notes


def test_fp8_without_scales_is_not_said_to_be_dequantized(tmp_path: Path) -> None:
    base = base_weights() | {Q: torch.ones(24, 16).to(torch.float8_e4m3fn)}
    run = open_run(write_run(tmp_path / "run", base, {10: base}))
    compared, _ = comparable(run, find_base(run), dequantize=True)
    assert compared.notes == ()


def test_quantized_weights_refuse_the_run(tmp_path: Path) -> None:
    run = simple_run(tmp_path / "run")
    write_model(run / "base", {f"{Q[:-6]}qweight": torch.zeros(4, 4, dtype=torch.int32)})
    with pytest.raises(RunError, match=r"run/base: .*qweight: quantized \(GPTQ or AWQ\)"):
        surveyed(run)


def test_checkpoints_of_one_layout_are_taken_apart_once_and_keep_their_own_weights(tmp_path: Path) -> None:
    """W0 and checkpoints of the same names share the work, and still nothing of one is taken for the other's."""
    stacks = {
        "model.layers.0.mlp.experts.gate_up_proj": torch.randn(2, 8, 4),
        "model.layers.0.mlp.experts.down_proj": torch.randn(2, 4, 4),
    }
    start = {name: tensor.float() for name, tensor in (base_weights() | stacks).items()}
    held = {step: moved(start, step * 1e-3) for step in (10, 20)}
    path = run_of(tmp_path / "run", start, held, {"model_type": "qwen3_moe"})
    opened = open_run(path)
    run, base = comparable(opened, find_base(opened))
    expert = "model.layers.0.mlp.experts.1.up_proj.weight"
    for step, checkpoint in zip(held, run.checkpoints, strict=True):
        stack = held[step]["model.layers.0.mlp.experts.gate_up_proj"]
        assert checkpoint.source.read(expert).equal(stack[1, 4:])
        assert checkpoint.source.weights == base.source.weights
    record = survey(run, base)
    assert record.skipped == {}
    assert not any(weight.lent or weight.new for weight in record.weights.values())


def test_46000_experts_take_seconds(tmp_path: Path) -> None:
    """Headers alone: 30 layers of 512 experts, each checkpoint with one stack a layer."""
    from time import perf_counter

    from safetensors.torch import save_file

    layers, experts = 30, 512
    tensors = {EMBED: torch.zeros(4, 2)}
    for layer in range(layers):
        tensors[f"model.layers.{layer}.mlp.experts.gate_up_proj"] = torch.zeros(experts, 4, 2, dtype=torch.bfloat16)
        tensors[f"model.layers.{layer}.mlp.experts.down_proj"] = torch.zeros(experts, 2, 2, dtype=torch.bfloat16)
    run = run_of(tmp_path / "run", {}, {10: {}}, {"model_type": "qwen3_moe"})
    for model in ("base", "checkpoint-10"):
        save_file(tensors, run / model / "model.safetensors")
    start = perf_counter()
    record = surveyed(run)
    assert len(record.weights) == layers * experts * 3 + 1
    assert perf_counter() - start < 60
