"""LoRA adapters as PEFT saves them, against the model that PEFT makes of them."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

import geomcheck
from geomcheck.checkpoints import Stored, WeightSource
from geomcheck.checkpoints.adapted import Adapted
from geomcheck.checkpoints.canonical.parts import Part, PartsOf
from geomcheck.checkpoints.formats.adapter import Adapter, holds_adapter, open_adapter
from geomcheck.checkpoints.formats.adapter_config import lora_settings, named_base
from geomcheck.checkpoints.formats.safetensors import SafetensorsDirectory
from geomcheck.cli import main
from geomcheck.diagnostics import Base, Update
from geomcheck.errors import RunError, UsageError

Q = "model.layers.0.self_attn.q_proj.weight"
EMBED = "model.embed_tokens.weight"
SMALL = {"vocab_size": 40, "num_hidden_layers": 1, "num_attention_heads": 2, "pad_token_id": 0}


def qwen3() -> PreTrainedModel:
    return Qwen3ForCausalLM(
        Qwen3Config(hidden_size=16, intermediate_size=24, num_key_value_heads=1, head_dim=8, **SMALL)
    )


def qwen3_moe() -> PreTrainedModel:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "moe_intermediate_size": 12, "head_dim": 8}
    experts = {"num_experts": 3, "num_experts_per_tok": 2, "num_key_value_heads": 1}
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**sizes, **experts, **SMALL))


def gpt2() -> PreTrainedModel:
    return GPT2LMHeadModel(
        GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=40, n_positions=8, bos_token_id=0, eos_token_id=0)
    )


def phi3() -> PreTrainedModel:
    return Phi3ForCausalLM(Phi3Config(hidden_size=16, intermediate_size=24, num_key_value_heads=1, **SMALL))


@dataclass(frozen=True)
class Trained:
    """An adapter on disk with its base, both as they were in memory, and the model that PEFT merges them to."""

    base: Path
    adapter: Path
    before: dict[str, Tensor]
    wrapped: dict[str, Tensor]
    after: dict[str, Tensor]

    @property
    def w0(self) -> SafetensorsDirectory:
        return SafetensorsDirectory(self.base)

    @property
    def source(self) -> Adapter:
        return open_adapter(self.adapter).on(self.w0)


def train(
    directory: Path, model: Callable[[], PreTrainedModel], *, seed: int = 0, scale: float = 0.1, **config: Any
) -> Trained:
    """Give every adapted tensor random values, as training would, and save."""
    torch.manual_seed(0)
    plain = model()
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    plain.save_pretrained(directory / "base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT's, on tied weights and on the flag for Conv1D
        wrapped = get_peft_model(plain, LoraConfig(**{"r": 2, "lora_alpha": 6, **config}))
        generator = torch.Generator().manual_seed(seed)
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.data = parameter.data * (1 + scale * noise) if parameter.dim() == 1 else scale * noise
        wrapped.save_pretrained(directory / "adapter")
        state = {name: tensor.clone() for name, tensor in wrapped.state_dict().items()}
        after = {name: tensor.clone() for name, tensor in wrapped.merge_and_unload().state_dict().items()}
    return Trained(directory / "base", directory / "adapter", before, state, after)


def update(source: WeightSource, name: str, w0: Tensor, at: tuple[int, ...] = ()) -> Tensor:
    """D of one weight, in float64."""
    found = source.read(name, at)
    return Update(Base(w0), found if isinstance(found, Tensor) else found.of(w0)).matrix


def require_equal(actual: Tensor, before: Tensor, after: Tensor) -> None:
    """`actual` is the update that merging in fp32 shows, up to its rounding."""
    torch.testing.assert_close(actual, after.double() - before.double(), rtol=0, atol=4e-7 * float(after.abs().max()))


CASES: dict[str, tuple[Callable[[], PreTrainedModel], dict[str, Any]]] = {
    "plain": (qwen3, {"target_modules": ["q_proj", "down_proj"]}),
    "untrained A": (qwen3, {"target_modules": ["q_proj"], "init_lora_weights": "gaussian"}),
    "orthogonal": (qwen3, {"target_modules": ["q_proj"], "init_lora_weights": "orthogonal"}),
    "eva": (qwen3, {"target_modules": ["q_proj"], "init_lora_weights": "eva"}),
    "rslora": (qwen3, {"target_modules": ["q_proj", "v_proj"], "use_rslora": True}),
    "patterns": (
        qwen3,
        {
            "target_modules": ["q_proj", "k_proj", "down_proj"],
            "rank_pattern": {"k_proj": 4, r"layers\.0\.mlp.*": 3, ".*proj": 1},
            "alpha_pattern": {"^model.layers.0.self_attn.q_proj": 5, "_proj": 99, "down": 98, r".*\.k_proj": 7},
        },
    ),
    "biases": (gpt2, {"target_modules": ["c_attn"], "lora_bias": True}),
    "all biases": (gpt2, {"target_modules": ["c_attn"], "bias": "all"}),
    "dora": (qwen3, {"target_modules": ["q_proj", "down_proj"], "use_dora": True}),
    "embedding": (qwen3, {"target_modules": ["embed_tokens", "q_proj"]}),
    "embedding with dora": (qwen3, {"target_modules": ["embed_tokens", "q_proj"], "use_dora": True}),
    "modules to save": (qwen3, {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "input_layernorm"]}),
    "tokens": (qwen3, {"target_modules": ["q_proj"], "trainable_token_indices": [3, 17]}),
    "tokens by module": (qwen3, {"target_modules": ["v_proj"], "trainable_token_indices": {"embed_tokens": [5]}}),
    "tokens of a tied embedding": (gpt2, {"target_modules": ["c_attn"], "trainable_token_indices": {"wte": [7]}}),
    "conv1d": (gpt2, {"target_modules": ["c_attn", "c_proj", "c_fc"]}),
    "conv1d with dora": (gpt2, {"target_modules": ["c_attn", "c_proj"], "use_dora": True}),
    "conv1d and linear": (gpt2, {"target_modules": ["c_attn", "c_proj", "lm_head"]}),
    "fused": (phi3, {"target_modules": ["qkv_proj", "gate_up_proj"]}),
    "experts": (qwen3_moe, {"target_modules": "all-linear"}),
    "one kind of expert": (qwen3_moe, {"target_modules": ["q_proj"], "target_parameters": ["experts.down_proj"]}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_update_is_that_of_the_merged_model(case: str, tmp_path: Path) -> None:
    """Every weight that PEFT changes, by the name that it has in memory, and no other."""
    model, config = CASES[case]
    trained = train(tmp_path, model, **config)
    source = trained.source
    assert holds_adapter(trained.adapter)
    moved = {name for name, tensor in trained.before.items() if not torch.equal(tensor, trained.after[name])}
    matrices = {name for name in moved if trained.before[name].dim() > 1}
    tied = {"transformer.wte.weight", "lm_head.weight"}  # one tensor in GPT-2, which the adapter has once
    assert matrices - tied <= set(source.weights)
    assert not matrices & tied or tied & set(source.weights)
    for name, stored in source.weights.items():
        before, after = trained.before[name], trained.after[name]
        assert stored.shape == tuple(before.shape), name
        if before.dim() == 3:
            for expert in range(len(before)):
                require_equal(update(source, name, before[expert], (expert,)), before[expert], after[expert])
        elif before.dim() == 2:
            require_equal(update(source, name, before), before, after)


@pytest.mark.parametrize("case", ["plain", "dora", "embedding with dora", "modules to save", "tokens", "experts"])
def test_a_wrapped_models_state_dict_holds_the_same_adapter(case: str, tmp_path: Path) -> None:
    """What verl's shards hold: ``.default.``, ``.base_layer.``, and the frozen weights beside the factors."""
    model, config = CASES[case]
    trained = train(tmp_path, model, **config)
    whole = {f"module.{name}".replace(".layers.", ".layers._orig_mod."): t for name, t in trained.wrapped.items()}
    (tmp_path / "state").mkdir()
    save_file({name: t.contiguous().clone() for name, t in whole.items()}, tmp_path / "state" / "model.safetensors")
    written = json.loads((trained.adapter / "adapter_config.json").read_text())
    settings = lora_settings(written, tmp_path / "state" / "lora_train_meta.json")
    wrapped = Adapter(SafetensorsDirectory(tmp_path / "state"), settings, ()).on(trained.w0)
    saved = trained.source
    assert set(wrapped.weights) >= {name for name in saved.weights if len(saved.weights[name].shape) > 1}
    for name, stored in saved.weights.items():
        if len(stored.shape) == 2:
            w0 = trained.before[name]
            assert torch.equal(update(wrapped, name, w0), update(saved, name, w0))
    frozen = "model.embed_tokens.weight"
    if frozen not in saved.weights:
        assert not update(wrapped, frozen, trained.before[frozen]).any()


def thirds(first: int, second: int) -> dict[str, slice]:
    return {"q_proj": slice(0, first), "k_proj": slice(first, second), "v_proj": slice(second, None)}


@pytest.mark.parametrize("use_dora", [False, True])
@pytest.mark.parametrize(
    ("model", "module", "rows", "transposed"),
    [
        (gpt2, "transformer.h.0.attn.c_attn.weight", thirds(16, 32), True),
        (phi3, "model.layers.0.self_attn.qkv_proj.weight", thirds(16, 24), False),
    ],
)
def test_an_adapter_follows_the_parts_of_fused_weights(
    model: Callable[[], PreTrainedModel],
    module: str,
    rows: dict[str, slice],
    transposed: bool,
    use_dora: bool,
    tmp_path: Path,
) -> None:
    """One table of parts, for W0 and for the adapter."""
    trained = train(tmp_path, model, target_modules=[module.split(".")[-2]], use_dora=use_dora)

    def part(at: slice) -> Callable[[Tensor], Tensor]:
        return lambda w: (w.T if transposed else w)[at]

    parts = {
        name: Part(module, Stored(tuple(part(at)(trained.before[module]).shape), "fp32"), take=part(at))
        for name, at in rows.items()
    }
    source = Adapted(PartsOf(trained.w0, parts), PartsOf(trained.source, parts))
    assert set(source.weights) == set(rows)
    for name, at in rows.items():
        before, after = part(at)(trained.before[module]), part(at)(trained.after[module])
        require_equal(update(source, name, before), before, after)
        if not use_dora:
            assert Update(Base(before), source.read(name).of(before)).spectrum.top_values(5).shape == (2,)


def test_per_head_interleaving_moves_whole_rows_too(tmp_path: Path) -> None:
    """GPT-NeoX's order of a fused projection, where views and copies are needed."""
    trained = train(tmp_path, phi3, target_modules=["qkv_proj"])
    module = "model.layers.0.self_attn.qkv_proj.weight"

    def query(w: Tensor) -> Tensor:
        return w.view(2, 2, 8, w.shape[-1])[:, 1].reshape(-1, w.shape[-1])

    before, after = query(trained.before[module]), query(trained.after[module])
    source = PartsOf(trained.source, {"q": Part(module, Stored((16, 16), "fp32"), take=query)})
    require_equal(update(source, "q", before), before, after)


@pytest.mark.parametrize("use_dora", [False, True])
def test_a_part_that_mixes_rows_and_columns_is_refused(use_dora: bool, tmp_path: Path) -> None:
    trained = train(tmp_path, qwen3, target_modules=["q_proj"], use_dora=use_dora)

    def scrambled(w: Tensor) -> Tensor:
        return w.reshape(-1, 2, 8).transpose(1, 2).reshape(16, 16).tril() + w.T.triu(1)

    with pytest.raises(RunError, match="split across rows and columns"):
        PartsOf(trained.source, {"x": Part(Q, Stored((16, 16), "fp32"), take=scrambled)}).read("x")
    if use_dora:
        with pytest.raises(RunError, match="split across its inputs"):
            PartsOf(trained.source, {"x": Part(Q, Stored((16, 8), "fp32"), take=lambda w: w[:, :8])}).read("x")


def test_the_flag_that_peft_saves_for_conv1d_is_not_believed(tmp_path: Path) -> None:
    """With a Linear target behind the Conv1D ones, PEFT writes fan_in_fan_out false for all."""
    trained = train(tmp_path, gpt2, target_modules=["c_attn", "c_proj", "lm_head"])
    assert json.loads((trained.adapter / "adapter_config.json").read_text())["fan_in_fan_out"] is False
    name = "transformer.h.0.attn.c_proj.weight"
    assert trained.before[name].shape == (16, 16)
    require_equal(update(trained.source, name, trained.before[name]), trained.before[name], trained.after[name])


def run_of(directory: Path, count: int = 3, **config: Any) -> tuple[Path, Path]:
    """The same LoRA run twice: as adapters, and merged in fp32."""
    for step in range(1, count + 1):
        trained = train(directory / f"{step}", qwen3, seed=step, scale=0.03, r=4, target_modules="all-linear", **config)
        shutil.copytree(trained.adapter, directory / "lora" / f"checkpoint-{step}0")
        merged = directory / "merged" / f"checkpoint-{step}0"
        shutil.copytree(trained.base, merged)
        stored = load_file(trained.base / "model.safetensors")
        save_file({name: trained.after[name].contiguous() for name in stored}, merged / "model.safetensors")
        for kind in ("lora", "merged"):
            shutil.copytree(trained.base, directory / kind / "base", dirs_exist_ok=True)
            state = {"global_step": step * 10, "max_steps": count * 10}
            (directory / kind / f"checkpoint-{step}0" / "trainer_state.json").write_text(json.dumps(state))
    return directory / "lora", directory / "merged"


SUITE = """
geomcheck: 1
expect:
  - {id: sparsity, metric: update_sparsity, above: 1e-9}
  - {id: angle, metric: principal_angle, below: 89 deg}
  - {id: shift, metric: spectral_shift, above: 1e-9}
  - {id: share, metric: spectral_share, below: 99%}
  - {id: low, metric: low_magnitude_overlap, above: 1e-9}
  - {id: principal, metric: principal_overlap, rank: 2, above: 1e-9}
  - {id: rank, metric: stable_rank, below: 15}
  - {id: norm, metric: update_norm, above: 1e-9}
  - {id: relative, metric: relative_update_norm, above: 1e-9}
  - {id: hill, metric: hill_exponent, k: 4, above: 1e-9}
  - {id: top, metric: top_energy, k: 2, above: 1e-9}
  - {id: energy, metric: principal_energy, above: 1e-9}
  - {id: alignment, metric: subspace_alignment, k: 4, above: 1e-9}
  - {id: channel, metric: subspace_energy, k: 4, above: 1e-9}
"""


def figures(run: Path, suite: Path) -> dict[tuple[Any, ...], float]:
    """What ``geomcheck measure`` writes of a run, where it has a value."""
    record = run.parent / f"{run.name}.parquet"
    assert main(["measure", str(run), "-o", str(record), "--suite", str(suite)]) == 0
    return {
        (row.weight, row.step, row.request.metric, row.stat): row.figure.value
        for row in geomcheck.read_record(record).rows()
        if row.figure.value is not None
    }


@pytest.mark.parametrize("use_dora", [False, True])
def test_a_lora_run_measures_as_its_merged_twin(use_dora: bool, tmp_path: Path) -> None:
    """The whole command, on ``checkpoint-N`` directories of adapters and on the models that they make."""
    lora, merged = run_of(tmp_path, use_dora=use_dora)
    suite = tmp_path / "suite.yaml"
    suite.write_text(SUITE)
    actual, expected = figures(lora, suite), figures(merged, suite)
    for found in (actual, expected):
        for key in [key for key in found if key[2] == "rounding_share"]:  # zero, up to the noise of fp32
            assert found.pop(key) < 1e-9
    assert len(actual) > 7 * 3 * 14
    rounding = 1e-5 if use_dora else 1e-6  # merging a DoRA adapter rounds norms and products too
    assert actual == pytest.approx(expected, rel=rounding, abs=1e-8)


def test_weights_without_an_adapter_are_frozen(tmp_path: Path) -> None:
    trained = train(tmp_path, qwen3, target_modules=["q_proj"])
    source = Adapted(trained.w0, trained.source)
    assert set(source.weights) == set(trained.w0.weights)
    assert torch.equal(source.read(EMBED), trained.before[EMBED])
    assert set(source.files) == {*trained.w0.files, *trained.source.files}
    assert {path.name for path in trained.source.files} == {"adapter_config.json", "adapter_model.safetensors"}
    assert source.config["model_type"] == "qwen3"
    assert source.path == trained.adapter


def rewrite(trained: Trained, **config: Any) -> Path:
    """Other settings, or without those that are None."""
    path = trained.adapter / "adapter_config.json"
    changed = json.loads(path.read_text()) | config
    path.write_text(json.dumps({key: value for key, value in changed.items() if value is not None}))
    return trained.adapter


@pytest.fixture
def plain(tmp_path: Path) -> Trained:
    return train(tmp_path, qwen3, target_modules=["q_proj", "down_proj"])


def test_sharded_and_pickled_adapters_are_read_too(plain: Trained) -> None:
    w0 = plain.before[Q]
    expected = update(plain.source, Q, w0)
    file = plain.adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    file.unlink()
    torch.save(tensors, plain.adapter / "adapter_model.bin")
    assert torch.equal(update(plain.source, Q, w0), expected)
    index = {}
    for number, name in enumerate(tensors):
        index[name] = f"adapter_model-{number}.safetensors"
        save_file({name: tensors[name]}, plain.adapter / index[name])
    (plain.adapter / "adapter_model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert torch.equal(update(plain.source, Q, w0), expected)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"init_lora_weights": "pissa_niter_4"}, "'pissa_niter_4': such an initialisation changes the base's weights"),
        ({"init_lora_weights": "olora"}, "path_initial_model_for_weight_conversion"),
        ({"init_lora_weights": "corda"}, "B A is not W_t - W0"),
        ({"init_lora_weights": "loftq"}, "B A is not W_t - W0"),
        ({"init_lora_weights": "lora_ga"}, "merge_and_unload"),
        ({"init_lora_weights": ["?"]}, "B A is not W_t - W0"),
        ({"lora_alpha": 0}, "lora_alpha is 0, under which the adapter would change nothing"),
        ({"alpha_pattern": {"q_proj": 0}}, "lora_alpha is 0"),
        ({"alpha_pattern": {"q_proj": 2, ".*q_proj": 5}}, "q_proj 2 and 5, and the file does not say which went first"),
        ({"lora_alpha": None}, "lora_alpha is None, where a number is expected"),
        ({"lora_alpha": 10**400}, "lora_alpha is 1000"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan"),
        ({"r": None}, "r is None, where a rank of at least 1 is expected"),
        ({"r": True}, "r is True"),
        ({"r": -2}, "r is -2"),
        ({"r": 4}, "r of .* is 4, but its lora_A has 2 rows"),
        ({"rank_pattern": {"q_proj": 1}}, "r of model.layers.0.self_attn.q_proj is 1, but its lora_A has 2 rows"),
        ({"rank_pattern": {"(?=a)b": 1}}, "more than characters, classes, groups and repetitions"),
        ({"rank_pattern": {"(": 1}}, "no regular expression"),
        ({"rank_pattern": [1]}, "rank_pattern is not a mapping"),
        ({"alpha_pattern": {"q_proj": "1"}}, "alpha_pattern is not a mapping of module names to numbers"),
        ({"peft_type": "ADALORA"}, "peft_type is 'ADALORA', and only LORA is read"),
        ({"peft_type": None}, "peft_type is None"),
        ({"layer_replication": [[0, 1], [0, 1]]}, "layer_replication is set"),
        ({"alora_invocation_tokens": [1]}, "aLoRA"),
        ({"use_qalora": True}, "QALoRA"),
        ({"kasa_config": {"x": 1}}, "KaSA"),
        ({"target_parameters": "all"}, "target_parameters is not a list"),
        ({"trainable_token_indices": [2**70]}, "trainable_token_indices is neither"),
        ({"trainable_token_indices": [1, 1]}, "trainable_token_indices is neither"),
        ({"use_dora": True}, "use_dora is True, but .* has no lora_magnitude_vector"),
    ],
)
def test_adapters_whose_update_is_unknown_are_refused_with_the_reason(
    config: dict[str, Any], reason: str, plain: Trained
) -> None:
    with pytest.raises(RunError, match=reason):
        _ = open_adapter(rewrite(plain, **config)).weights


def renamed(old: str, new: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {name.replace(old, new): tensor for name, tensor in tensors.items()}


def without(part: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if part not in name}


def with_one(name: str, *shape: int) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {**tensors, f"base_model.model.{name}": torch.ones(shape)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without("lora_B"), "has no counterpart; the file may be incomplete"),
        (without("lora_"), "no lora_A and lora_B, so it is no LoRA adapter"),
        (renamed("lora_A", "lora_E"), "lora_E.* is a kind of adapter tensor that is not read"),
        (with_one("model.x.lora_magnitude_vector", 2), "has no lora_A and lora_B beside it"),
        (with_one("model.layers.0.self_attn.q_proj.lora_magnitude_vector", 16), "use_dora is False"),
        (with_one("model.layers.0.self_attn.q_proj.lora_A.other.weight", 2, 16), "mean the same weight"),
        (with_one("model.layers.0.self_attn.q_proj.weight", 16, 16), "changes .*q_proj.weight in two ways at once"),
        (with_one("model.layers.0.self_attn.q_proj.base_layer.lora_A.weight", 2, 16), "adapters inside each other"),
        (with_one("a." * 200 + "lora_A.weight", 2, 2), "is no name of a weight: it has 4"),
        (with_one("model.e.token_adapter.trainable_tokens_delta", 2, 16), "does not say which rows"),
    ],
)
def test_tensors_that_do_not_belong_together_are_refused(change: Any, reason: str, plain: Trained) -> None:
    file = plain.adapter / "adapter_model.safetensors"
    save_file(change(load_file(file)), file)
    with pytest.raises(RunError, match=reason):
        _ = open_adapter(plain.adapter).weights


def test_factors_that_do_not_fit_each_other_are_refused(plain: Trained) -> None:
    file = plain.adapter / "adapter_model.safetensors"
    save_file({name: t[..., :1].contiguous() for name, t in load_file(file).items()}, file)
    with pytest.raises(RunError, match=r"do not fit each other: A is \(2, 1\), B is \(\d+, 1\)"):
        _ = open_adapter(plain.adapter).weights


def test_quantized_factors_are_refused(plain: Trained) -> None:
    file = plain.adapter / "adapter_model.safetensors"
    save_file({name: t.to(torch.int8) for name, t in load_file(file).items()}, file)
    with pytest.raises(RunError, match="holds no numbers in floating point"):
        plain.source.read(Q)


def test_an_untrained_adapter_is_no_pass(plain: Trained) -> None:
    file = plain.adapter / "adapter_model.safetensors"
    save_file({name: t * ("lora_A" in name) for name, t in load_file(file).items()}, file)
    with pytest.raises(RunError, match="lora_B is zero: the adapter has not been trained"):
        plain.source.read(Q)


@pytest.mark.parametrize(("beside", "name"), [("pissa_init", "checkpoint-10"), (None, "pissa_backup")])
def test_llama_factorys_pissa_is_recognised_by_its_directories(beside: str | None, name: str, plain: Trained) -> None:
    directory = plain.adapter.rename(plain.adapter.parent / name)
    if beside:
        (directory.parent / beside).mkdir()
    with pytest.raises(RunError, match="PiSSA adapter of LLaMA-Factory .* Use pissa_converted/"):
        open_adapter(directory)
    assert Q in open_adapter(directory.rename(directory.parent / "pissa_converted")).weights


def test_missing_files_are_named(plain: Trained) -> None:
    (plain.adapter / "adapter_model.safetensors").unlink()
    assert holds_adapter(plain.adapter)
    with pytest.raises(RunError, match=r"neither adapter_model.safetensors nor adapter_model.bin; the save was not"):
        open_adapter(plain.adapter)
    (plain.adapter / "adapter_config.json").unlink()
    assert not holds_adapter(plain.adapter)
    with pytest.raises(RunError, match="missing, so the adapter's rank and alpha are unknown"):
        open_adapter(plain.adapter)


class Harm:
    """A pickle that runs code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path("harmed").write_text, ("x",)


@pytest.mark.parametrize("content", [Harm(), [1], {"lora_A": 1}, b"cut"])
def test_a_pickle_runs_nothing_and_holds_tensors_alone(
    content: Any, plain: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = plain.adapter / "adapter_model.bin"
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    (plain.adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(RunError, match="adapter_model.bin: not read: "):
        _ = open_adapter(plain.adapter).weights
    assert not Path("harmed").exists()


def test_another_models_adapter_is_refused(plain: Trained, tmp_path: Path) -> None:
    other = train(tmp_path / "other", gpt2, target_modules=["c_attn"])
    with pytest.raises(
        UsageError, match=r"not the model that the adapter .*: 2 of 2 do not fit. For example model.layers"
    ):
        _ = Adapted(other.w0, open_adapter(plain.adapter).on(other.w0)).weights


def test_one_adapter_without_a_place_is_enough(plain: Trained) -> None:
    """Its weight would be reported as frozen, under the name that W0 has for it."""
    file = plain.base / "model.safetensors"
    save_file({name: t for name, t in load_file(file).items() if name != Q}, file)
    with pytest.raises(
        UsageError, match=r": 1 of 2 do not fit. For example .*q_proj.weight: \(16, 16\) .* missing in W0"
    ):
        _ = Adapted(plain.w0, plain.source).weights


def test_a_quantized_base_is_refused(plain: Trained) -> None:
    file = plain.base / "model.safetensors"
    quantized = {n: torch.zeros(t.numel() // 2, 1, dtype=torch.uint8) for n, t in load_file(file).items()}
    save_file(quantized, file)
    with pytest.raises(UsageError, match=r"is quantized: .* in full precision with --geom-base"):
        _ = Adapted(plain.w0, plain.source).weights


@pytest.mark.parametrize(("rows", "reason"), [([3, 99], "trains token 99, but W0 has 40 rows"), ([3], "which rows")])
def test_tokens_beyond_the_embedding_are_refused(rows: list[int], reason: str, tmp_path: Path) -> None:
    trained = train(tmp_path, qwen3, target_modules=["q_proj"], trainable_token_indices=[3, 17])
    rewrite(trained, trainable_token_indices=rows)
    with pytest.raises(RunError, match=reason):
        update(trained.source, EMBED, trained.before[EMBED])


def test_nested_experts_without_their_names_are_refused(tmp_path: Path) -> None:
    trained = train(tmp_path, qwen3_moe, target_modules="all-linear")
    for names in (None, ["gate.weight"], ["a", "b"]):
        with pytest.raises(RunError, match=r"which is which is unknown|were wrapped is unknown"):
            _ = open_adapter(rewrite(trained, target_parameters=names)).weights


def test_all_experts_at_once_are_no_matrix(tmp_path: Path) -> None:
    trained = train(tmp_path, qwen3_moe, target_modules=[], target_parameters=["experts.gate_up_proj"])
    with pytest.raises(RunError, match="one expert at a time only"):
        trained.source.read("model.layers.0.mlp.experts.gate_up_proj")


@pytest.mark.parametrize(("broken", "match"), [(float("nan"), "NaN or infinite"), (0.0, "has not been trained")])
def test_a_broken_adapter_is_an_error_of_the_run(broken: float, match: str, tmp_path: Path) -> None:
    lora, _ = run_of(tmp_path, count=1)
    file = lora / "checkpoint-10" / "adapter_model.safetensors"
    save_file({n: torch.full_like(t, broken) if "lora_B" in n else t for n, t in load_file(file).items()}, file)
    with pytest.raises(RunError, match=match):
        geomcheck.measure(lora, metrics=["stable_rank"])


def test_an_adapter_that_lacks_a_weight_of_the_others_is_refused(tmp_path: Path) -> None:
    lora, _ = run_of(tmp_path, count=2)
    file = lora / "checkpoint-20" / "adapter_model.safetensors"
    save_file(
        {name: tensor for name, tensor in load_file(file).items() if "layers.0.self_attn.q_proj" not in name}, file
    )
    with pytest.raises(RunError, match=r"checkpoint-20: does not adapt model.layers.0.self_attn.q_proj.weight, which"):
        geomcheck.measure(lora, metrics=["stable_rank"])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"lora_alpha": 7}, "one run has one scaling"),
        ({"use_rslora": True}, "one run has one scaling"),
        ({"lora_alpha": -16}, "would undo what it learned"),
    ],
)
def test_a_scaling_that_changes_along_the_run_is_refused(change: dict[str, Any], match: str, tmp_path: Path) -> None:
    lora, _ = run_of(tmp_path, count=2)
    file = lora / "checkpoint-20" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(RunError, match=match):
        geomcheck.measure(lora, metrics=["stable_rank"])


def test_an_adapter_is_no_w0(tmp_path: Path) -> None:
    lora, _ = run_of(tmp_path, count=1)
    other = shutil.copytree(lora / "checkpoint-10", tmp_path / "other")
    with pytest.raises(UsageError, match="is an adapter; give the model that it was trained on"):
        geomcheck.measure(lora, base=other, metrics=["stable_rank"])


@pytest.mark.parametrize(("name", "expected"), [("org/model", "org/model"), ("", None), (None, None)])
def test_the_base_that_an_adapter_names(name: Any, expected: str | None, plain: Trained) -> None:
    assert named_base(rewrite(plain, base_model_name_or_path=name), plain.adapter.resolve()) == expected


@pytest.mark.parametrize("name", [7, True, ["org/model"], {"a": 1}, float("nan")])
def test_a_base_that_is_no_name_is_refused(name: Any, plain: Trained) -> None:
    with pytest.raises(RunError, match="adapter_config.json: base_model_name_or_path is .* where a path or a Hub id"):
        named_base(rewrite(plain, base_model_name_or_path=name), plain.adapter.resolve())
