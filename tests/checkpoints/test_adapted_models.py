"""LoRA runs of models with fused projections and experts: the figures of the merged runs, under the same names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Phi3Config, Phi3ForCausalLM, PreTrainedModel

import geomcheck
from geomcheck.checkpoints import comparable, find_base, open_base, open_run
from geomcheck.errors import UsageError
from geomcheck.record import Record
from tests.checkpoints.formats.test_adapter import SMALL, gpt2, phi3, qwen3_moe, train
from tests.checkpoints.test_hub import cache, put  # noqa: F401 (`cache` is a fixture)


def runs(directory: Path, model: Callable[[], PreTrainedModel], **config: Any) -> tuple[Path, Path]:
    """The same run twice: as adapters, and merged in fp32 by PEFT."""
    for step in (1, 2):
        trained = train(directory / f"{step}", model, seed=step, scale=0.03, **config)
        shutil.copytree(trained.adapter, directory / "lora" / f"checkpoint-{step}0")
        merged = model()
        merged.load_state_dict(trained.after)
        merged.save_pretrained(directory / "merged" / f"checkpoint-{step}0")
        for kind in ("lora", "merged"):
            shutil.copytree(trained.base, directory / kind / "base", dirs_exist_ok=True)
    return directory / "lora", directory / "merged"


def figures(record: Record) -> dict[tuple[Any, ...], float]:
    return {
        (row.weight, row.step, row.request.metric, row.stat): row.figure.value
        for row in record.rows()
        if row.figure.value is not None and row.request.metric != "rounding_share"
    }


METRICS = ["stable_rank", "relative_update_norm", "spectral_shift", "principal_angle", "update_sparsity"]


@pytest.mark.parametrize(
    ("model", "config"),
    [
        (gpt2, {"target_modules": ["c_attn", "c_proj", "c_fc"]}),
        (gpt2, {"target_modules": ["c_attn", "c_proj"], "use_dora": True}),
        (phi3, {"target_modules": ["qkv_proj", "gate_up_proj", "o_proj"]}),
        (qwen3_moe, {"target_modules": "all-linear"}),
    ],
    ids=["gpt2", "gpt2 dora", "phi3", "qwen3-moe"],
)
def test_a_lora_run_measures_as_its_merged_twin(
    model: Callable[[], PreTrainedModel], config: dict[str, Any], tmp_path: Path
) -> None:
    lora, merged = runs(tmp_path, model, **config)
    one, two = (geomcheck.measure(path, metrics=METRICS) for path in (lora, merged))
    assert set(one.weights) == set(two.weights)
    assert one.skipped == two.skipped == {}
    actual, expected = figures(one), figures(two)
    assert len(actual) > 2 * 4 * len(METRICS)
    assert actual == pytest.approx(expected, rel=1e-5 if config.get("use_dora") else 1e-6, abs=1e-9)


def test_a_reference_run_may_be_of_adapters(tmp_path: Path) -> None:
    """It meets a W0 that has canonical names already."""
    lora, merged = runs(tmp_path, gpt2, target_modules=["c_attn", "c_proj"])
    record = geomcheck.measure(merged, metrics=["mask_jaccard"], reference=lora)
    values = {key: value for key, value in figures(record).items() if key[2] == "mask_jaccard"}
    assert len(values) == 2 * 5
    assert set(values.values()) == {1.0}


def test_experts_read_from_an_adapter_keep_their_factors(tmp_path: Path) -> None:
    lora, _ = runs(tmp_path, qwen3_moe, target_modules="all-linear")
    run = open_run(lora)
    run, _ = comparable(run, find_base(run))
    name = "model.layers.0.mlp.experts.2.up_proj.weight"
    left, right = run.checkpoints[0].source.read(name).tensors
    assert (left.shape, right.shape) == ((12, 4), (4, 16))


def deeper() -> PreTrainedModel:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_key_value_heads": 1}
    return Phi3ForCausalLM(Phi3Config(**{**SMALL, **sizes, "num_hidden_layers": 2}))


def test_adapters_of_another_model_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    """As a reference too, which is not surveyed."""
    _, merged = runs(tmp_path / "run", phi3, target_modules=["o_proj"])
    lora, _ = runs(tmp_path / "other", deeper, target_modules=["o_proj"])
    run = open_run(merged)
    _, w0 = comparable(run, find_base(run))
    with pytest.raises(UsageError, match="is not the model that the adapter"):
        comparable(open_run(lora), w0)


def test_a_w0_other_than_the_cached_model_that_the_adapter_names_is_refused(tmp_path: Path, cache: Path) -> None:  # noqa: F811
    lora, _ = runs(tmp_path, phi3, target_modules=["o_proj"])
    snapshot = put(cache, "org/phi", lora / "base")
    name_base(lora, Path("org/phi"))
    assert find_base(open_run(lora)).source.path == lora / "base"
    weights = load_file(lora / "base" / "model.safetensors")
    save_file({name: 1.1 * w for name, w in weights.items()}, lora / "base" / "model.safetensors")
    with pytest.raises(UsageError, match="is not the model that the run's adapter was trained on: "):
        find_base(open_run(lora))
    assert find_base(open_run(lora), given=open_base(snapshot, "--geom-base")).source.path == snapshot


def name_base(run: Path, base: Path) -> None:
    """Have every adapter of a run name `base` as the model that it was trained on."""
    for file in run.glob("*/adapter_config.json"):
        config = json.loads(file.read_text())
        file.write_text(json.dumps({**config, "base_model_name_or_path": str(base)}))


@pytest.mark.parametrize("model", [phi3, gpt2])
def test_a_w0_other_than_the_one_that_the_adapter_names_is_refused(
    model: Callable[[], PreTrainedModel], tmp_path: Path
) -> None:
    """B A is the same over any W0, so no figure would tell."""
    lora, _ = runs(tmp_path, model, target_modules=["o_proj", "c_attn"])
    shutil.rmtree(lora / "base")
    own, other = tmp_path / "own", tmp_path / "other"
    trained = model()
    trained.save_pretrained(own)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.mul_(1.1)
    trained.save_pretrained(other)
    for named, refused in ((own, True), (other, False), (tmp_path / "gone", False), (tmp_path, False)):
        name_base(lora, named)
        given = open_base(other, "--geom-base")
        if refused:
            with pytest.raises(UsageError, match="is not the model that the run's adapter was trained on: "):
                find_base(open_run(lora), given=given)
        else:
            assert find_base(open_run(lora), given=given) is given
    in_fp32 = open_base(own, "--geom-base")
    trained.to(torch.bfloat16).save_pretrained(tmp_path / "in bf16")
    name_base(lora, tmp_path / "in bf16")
    assert find_base(open_run(lora), given=given) is given  # the same numbers, rounded
    with pytest.raises(UsageError, match="is not the model that the run's adapter was trained on: "):
        find_base(open_run(lora), given=in_fp32)
    (tmp_path / "in bf16" / "model.safetensors").write_bytes(b"damaged")
    assert find_base(open_run(lora), given=in_fp32) is in_fp32
    shutil.copytree(own, lora / "base")
    name_base(lora, other)
    with pytest.raises(UsageError, match=r"base/ in the run\) is not the model that the run's adapter"):
        find_base(open_run(lora))
