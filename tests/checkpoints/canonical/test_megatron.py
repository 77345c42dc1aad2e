from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from geomcheck.checkpoints.canonical import megatron
from geomcheck.checkpoints.canonical.parts import PartsOf, parts_of
from geomcheck.checkpoints.formats.dcp import DistributedCheckpoint
from geomcheck.checkpoints.formats.megatron import MegatronCheckpoint, holds_megatron
from geomcheck.checkpoints.source import WeightSource
from geomcheck.errors import RunError
from tests.checkpoints.dcp_files import (
    Runs,
    as_megatron_metadata,
    by_layer,
    foreign_classes,
    rewrite,
    save,
    save_chunks,
    whole,
)

transformers = pytest.importorskip("transformers")

LAYERS, HEADS, GROUPS, SIZE, HIDDEN, WIDTH, VOCABULARY, EXPERTS = 2, 6, 2, 8, 32, 24, 65, 4
PADDED = 128
SHARED = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": GROUPS,
    "head_dim": SIZE,
    "vocab_size": VOCABULARY,
    "intermediate_size": WIDTH,
}
CONFIG = {**SHARED, "model_type": "qwen3"}
ARGUMENTS = {
    "num_layers": LAYERS,
    "hidden_size": HIDDEN,
    "num_attention_heads": HEADS,
    "num_query_groups": GROUPS,
    "group_query_attention": True,
    "kv_channels": SIZE,
    "vocab_size": VOCABULARY,
    "padded_vocab_size": PADDED,
    "num_experts": None,
    "untie_embeddings_and_output_weights": True,
}


def renamed(source: WeightSource, config: Mapping[str, Any]) -> PartsOf:
    """The weights of a checkpoint under Hugging Face names."""
    return parts_of(source, megatron.parts(source, config))


def weights_of(model: torch.nn.Module) -> dict[str, Tensor]:
    """Every parameter a different random one, experts apart, as the files of the Hub have them."""
    found: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(3)
    for name, tensor in model.state_dict().items():
        tensor = torch.randn(tensor.shape, generator=generator).bfloat16()
        if name.endswith("experts.gate_up_proj"):
            for expert, fused in enumerate(tensor):
                found[name.replace("gate_up_proj", f"{expert}.gate_proj.weight")] = fused[: fused.shape[0] // 2].clone()
                found[name.replace("gate_up_proj", f"{expert}.up_proj.weight")] = fused[fused.shape[0] // 2 :].clone()
        elif name.endswith("experts.down_proj"):
            for expert, down in enumerate(tensor):
                found[name.replace("down_proj", f"{expert}.down_proj.weight")] = down.clone()
        else:
            found[name] = tensor
    return found


@pytest.fixture(scope="module")
def dense() -> dict[str, Tensor]:
    config = transformers.Qwen3Config(**SHARED, attention_bias=True, tie_word_embeddings=False)
    return weights_of(transformers.Qwen3ForCausalLM(config))


@pytest.fixture(scope="module")
def sparse() -> dict[str, Tensor]:
    config = transformers.Qwen3MoeConfig(
        **SHARED, moe_intermediate_size=WIDTH, num_experts=EXPERTS, num_experts_per_tok=2, tie_word_embeddings=False
    )
    return weights_of(transformers.Qwen3MoeForCausalLM(config))


def fused_qkv(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Group by group: the queries of the group, its key, its value; row by row, without reshaping."""
    rows = []
    for group in range(GROUPS):
        for head in range(group * HEADS // GROUPS, (group + 1) * HEADS // GROUPS):
            rows += [q[head * SIZE + row] for row in range(SIZE)]
        rows += [k[group * SIZE + row] for row in range(SIZE)]
        rows += [v[group * SIZE + row] for row in range(SIZE)]
    return torch.stack(rows)


def padded(embedding: Tensor) -> Tensor:
    return torch.cat([embedding, torch.full((PADDED - VOCABULARY, HIDDEN), 7.0, dtype=embedding.dtype)])


def in_megatrons_words(model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a Qwen3 model, dense or sparse, as Megatron holds them layer by layer."""
    found = {
        "embedding.word_embeddings.weight": padded(model["model.embed_tokens.weight"]),
        "output_layer.weight": padded(model["lm_head.weight"]),
        "decoder.final_layernorm.weight": model["model.norm.weight"],
    }
    for layer in range(LAYERS):
        own = {name.removeprefix(f"model.layers.{layer}."): w for name, w in model.items() if f".{layer}." in name}
        into = f"decoder.layers.{layer}."
        for kind in ("weight", "bias"):
            q, k, v = (own.get(f"self_attn.{letter}_proj.{kind}") for letter in "qkv")
            if q is not None and k is not None and v is not None:
                found[f"{into}self_attention.linear_qkv.{kind}"] = fused_qkv(q, k, v)
            if f"self_attn.o_proj.{kind}" in own:
                found[f"{into}self_attention.linear_proj.{kind}"] = own[f"self_attn.o_proj.{kind}"]
        found[f"{into}self_attention.linear_qkv.layer_norm_weight"] = own["input_layernorm.weight"]
        found[f"{into}self_attention.q_layernorm.weight"] = own["self_attn.q_norm.weight"]
        found[f"{into}self_attention.k_layernorm.weight"] = own["self_attn.k_norm.weight"]
        if "mlp.gate.weight" in own:
            found[f"{into}pre_mlp_layernorm.weight"] = own["post_attention_layernorm.weight"]
            found[f"{into}mlp.router.weight"] = own["mlp.gate.weight"]
            each = [mlp(own, f"mlp.experts.{expert}.") for expert in range(EXPERTS)]
            found[f"{into}mlp.experts.experts.linear_fc1.weight"] = torch.stack([fc1 for fc1, _ in each])
            found[f"{into}mlp.experts.experts.linear_fc2.weight"] = torch.stack([fc2 for _, fc2 in each])
        else:
            found[f"{into}mlp.linear_fc1.layer_norm_weight"] = own["post_attention_layernorm.weight"]
            found[f"{into}mlp.linear_fc1.weight"], found[f"{into}mlp.linear_fc2.weight"] = mlp(own, "mlp.")
    return found


def mlp(own: Mapping[str, Tensor], where: str) -> tuple[Tensor, Tensor]:
    gate, up = own[f"{where}gate_proj.weight"], own[f"{where}up_proj.weight"]
    return torch.stack([*gate, *up]), own[f"{where}down_proj.weight"]


def stacked(layers: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One tensor for all layers, as homogeneous models have it."""
    found = {name: w for name, w in layers.items() if ".layers." not in name}
    for name in layers:
        if ".layers.0." in name:
            each = [layers[name.replace(".layers.0.", f".layers.{layer}.")] for layer in range(LAYERS)]
            found[name.replace(".layers.0.", ".layers.")] = torch.stack(each)
    return found


def singletons(layers: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A tensor per expert, gate and up in two: what local shards of one expert each look like."""
    found = {name: w for name, w in layers.items() if ".experts." not in name}
    for name, tensor in layers.items():
        if ".experts." in name:
            for expert, own in enumerate(tensor):
                key = f"{name.replace('experts.experts', 'experts')}{expert}"
                if "linear_fc1" in name:
                    found |= {f"{key}_w": own[:WIDTH].clone(), f"{key}_v": own[WIDTH:].clone()}
                else:
                    found[key] = own.clone()
    return found


def write(directory: Path, tensors: Mapping[str, Tensor], arguments: Mapping[str, object] | None = None) -> Path:
    """An ``iter_`` directory as Megatron leaves it: a chunk per layer of a stack, optimizer states, ``common.pt``."""
    optimizer = {f"optimizer.state.exp_avg.{name}": torch.zeros_like(w) for name, w in tensors.items()}
    chunked = {
        name: (w, by_layer(w) if ".layers." in name and w.ndim > 1 else whole(w))
        for name, w in {**tensors, **optimizer}.items()
    }
    as_megatron_metadata(save_chunks(directory, chunked, files=2))
    (directory / "metadata.json").write_text('{"sharded_backend": "torch_dist", "sharded_backend_version": 1}')
    if arguments is not None:
        with foreign_classes("megatron.core.transformer.enums.AttnBackend") as (enum,):
            args = argparse.Namespace(**arguments, attention_backend=enum(), params_dtype=torch.bfloat16)
            torch.save({"args": args, "iteration": 64, "checkpoint_version": 3.0}, directory / "common.pt")
    return directory


def read_all(source: DistributedCheckpoint, config: Mapping[str, Any]) -> dict[str, Tensor]:
    assert megatron.speaks(source.weights)
    canonical = renamed(source, config)
    read = {name: canonical.read(name) for name in canonical.weights}
    for name, stored in canonical.weights.items():
        assert tuple(read[name].shape) == stored.shape, name
    return read


def assert_same(read: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert set(read) == set(expected)
    for name, weight in expected.items():
        assert read[name].dtype == weight.dtype
        assert torch.equal(read[name], weight), name


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("form", [dict, stacked, singletons])
def test_the_model_that_was_trained_comes_back_bit_for_bit(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str, form: Any
) -> None:
    model = request.getfixturevalue(kind)
    directory = write(tmp_path / "iter_0000063", form(in_megatrons_words(model)), ARGUMENTS)
    assert holds_megatron(directory)
    source = MegatronCheckpoint(directory)
    assert [file.name for file in source.files] == [".metadata", "__0_0.distcp", "__1_0.distcp", "common.pt"]
    assert_same(read_all(source, {}), model)


def test_the_config_of_w0_serves_where_common_is_missing(tmp_path: Path, dense: dict[str, Tensor]) -> None:
    source = MegatronCheckpoint(write(tmp_path, stacked(in_megatrons_words(dense))))
    assert source.config == {}
    assert_same(read_all(source, CONFIG), dense)
    assert_same(read_all(source, {"model_type": "qwen3_vl", "text_config": CONFIG}), dense)


def test_w0_knows_the_vocabulary_better_than_the_arguments(tmp_path: Path, dense: dict[str, Tensor]) -> None:
    source = MegatronCheckpoint(
        write(tmp_path, stacked(in_megatrons_words(dense)), {**ARGUMENTS, "vocab_size": PADDED})
    )
    assert_same(read_all(source, {"vocab_size": VOCABULARY}), dense)
    assert read_all(source, {})["lm_head.weight"].shape[0] == PADDED


@pytest.mark.parametrize("missing", ["num_attention_heads", "vocab_size"])
def test_what_no_config_says_is_named_with_the_places_to_look(
    tmp_path: Path, dense: dict[str, Tensor], missing: str
) -> None:
    source = MegatronCheckpoint(write(tmp_path, stacked(in_megatrons_words(dense))))
    config = {key: value for key, value in CONFIG.items() if key != missing}
    with pytest.raises(RunError, match=f"without {missing}, which is neither in common.pt, nor in config.json or"):
        renamed(source, config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_attention_heads": 4}, "does not fit 4 heads of 8 in 2 groups; the config is of another model"),
        ({"num_key_value_heads": 4}, "does not fit 6 heads of 8 in 4 groups"),
        ({"num_key_value_heads": "2"}, "does not fit 6 heads of 8 in 2 groups"),
        ({"head_dim": 0, "hidden_size": 1}, "does not fit 6 heads of 0 in 2 groups"),
        ({"head_dim": -8}, "does not fit 6 heads of -8 in 2 groups"),
        ({"vocab_size": 1000}, "has fewer rows than the vocabulary of 1000; is W0 another model"),
        ({"vocab_size": True}, "without vocab_size"),
    ],
)
def test_a_config_of_another_model_is_refused(
    tmp_path: Path, dense: dict[str, Tensor], change: dict[str, object], message: str
) -> None:
    source = MegatronCheckpoint(write(tmp_path, stacked(in_megatrons_words(dense))))
    with pytest.raises(RunError, match=message):
        renamed(source, {**CONFIG, **change})


def test_an_output_gate_follows_the_query_of_its_head(tmp_path: Path) -> None:
    q, gate = torch.randn(HEADS, SIZE, HIDDEN), torch.randn(HEADS, SIZE, HIDDEN)
    k, v = torch.randn(GROUPS, SIZE, HIDDEN), torch.randn(GROUPS, SIZE, HIDDEN)
    blocks: list[Tensor] = []
    for group in range(GROUPS):
        of_group = range(group * 3, group * 3 + 3)
        blocks += [*(q[head] for head in of_group), *(gate[head] for head in of_group), k[group], v[group]]
    name = "decoder.layers.0.self_attention.linear_qkv.weight"
    read = read_all(DistributedCheckpoint(save(tmp_path, {name: torch.cat(blocks)})), CONFIG)
    expected = torch.cat([half for head in range(HEADS) for half in (q[head], gate[head])])
    assert_same(
        read,
        {
            "model.layers.0.self_attn.q_proj.weight": expected,
            "model.layers.0.self_attn.k_proj.weight": torch.cat([*k]),
            "model.layers.0.self_attn.v_proj.weight": torch.cat([*v]),
        },
    )


def test_the_other_names_are_those_of_hugging_face(tmp_path: Path) -> None:
    renamed = {
        "self_attention.linear_q_down_proj.weight": "self_attn.q_a_proj.weight",
        "self_attention.linear_q_up_proj.weight": "self_attn.q_b_proj.weight",
        "self_attention.linear_q_up_proj.layer_norm_weight": "self_attn.q_a_layernorm.weight",
        "self_attention.linear_kv_down_proj.weight": "self_attn.kv_a_proj_with_mqa.weight",
        "self_attention.linear_kv_up_proj.weight": "self_attn.kv_b_proj.weight",
        "self_attention.kv_layernorm.weight": "self_attn.kv_a_layernorm.weight",
        "self_attention.linear_attn.in_proj_qkvz.weight": "linear_attn.in_proj_qkvz.weight",
        "input_layernorm.weight": "input_layernorm.weight",
        "mlp.router.expert_bias": "mlp.gate.e_score_correction_bias",
        "mlp.shared_experts.linear_fc2.weight": "mlp.shared_experts.down_proj.weight",
        "mlp.something.new": "mlp.something.new",
    }
    tensors = {f"decoder.layers.3.{name}": torch.randn(4, 6) for name in renamed}
    tensors["decoder.layers.3.mlp.shared_experts.linear_fc1.weight"] = torch.randn(12, 4)
    tensors["mtp.layers.0.transformer_layer.mlp.linear_fc2.weight"] = torch.randn(4, 5)
    tensors["mtp.layers.0.transformer_layer.mlp.linear_fc1.weight"] = torch.randn(5, 4)  # nothing gates it
    tensors["mtp.layers.0.eh_proj.weight"] = torch.randn(4, 8)
    tensors["mtp.layers.0.final_layernorm.weight"] = torch.randn(4)
    tensors["vision.weight"] = torch.randn(2, 2)
    shared = tensors["decoder.layers.3.mlp.shared_experts.linear_fc1.weight"]
    expected = {f"model.layers.3.{ours}": tensors[f"decoder.layers.3.{theirs}"] for theirs, ours in renamed.items()} | {
        "model.layers.3.mlp.shared_experts.gate_proj.weight": shared[:6],
        "model.layers.3.mlp.shared_experts.up_proj.weight": shared[6:],
        "model.layers.4.mlp.down_proj.weight": tensors["mtp.layers.0.transformer_layer.mlp.linear_fc2.weight"],
        "model.layers.4.mlp.up_proj.weight": tensors["mtp.layers.0.transformer_layer.mlp.linear_fc1.weight"],
        "model.layers.4.eh_proj.weight": tensors["mtp.layers.0.eh_proj.weight"],
        "model.layers.4.shared_head.norm.weight": tensors["mtp.layers.0.final_layernorm.weight"],
        "vision.weight": tensors["vision.weight"],
    }
    source = DistributedCheckpoint(save(tmp_path, tensors))
    assert_same(read_all(source, {"model_type": "deepseek_v3"}), expected)
    qwen = {name.replace(".shared_experts.", ".shared_expert."): w for name, w in expected.items()}
    assert_same(read_all(source, {"model_type": "qwen2_moe"}), qwen)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("decoder.layers.0.mlp.linear_fc1.weight", (8, 4), "linear_fc2.weight is not: the checkpoint is incomplete"),
        ("decoder.layers.mlp.linear_fc1.weight", (), None),
        ("decoder.layers.mlp.experts.experts.linear_fc1.weight", (2,), None),
        ("decoder.layers.mlp.experts.experts.linear_fc1.weight", (2**60, 2**60, 0), None),
        ("decoder.layers.mlp.experts.experts.linear_fc2.weight", (2, 0, 2**60), None),
        ("decoder.layers.self_attention.linear_qkv.weight", (5,), "does not fit 6 heads"),
        ("decoder.layers.0.self_attention.linear_qkv.weight", (), "does not fit 6 heads"),
        ("decoder.layers.self_attention.linear_qkv.adapter.linear_in.weight", (2, 2), "belongs to a LoRA adapter"),
        ("embedding.word_embeddings.weight", (), "fewer rows than the vocabulary"),
    ],
)
def test_odd_shapes_are_errors_or_kept_whole(
    tmp_path: Path, name: str, shape: tuple[int, ...], message: str | None
) -> None:
    save(tmp_path, {name: torch.ones([min(n, 9) for n in shape])})
    source = DistributedCheckpoint(
        rewrite(tmp_path, lambda m: setattr(m.state_dict_metadata[name], "size", torch.Size(shape)))
    )
    if message is None:
        assert [stored.shape for stored in renamed(source, CONFIG).weights.values()]
        return
    with pytest.raises(RunError, match=message):
        renamed(source, CONFIG)


def test_an_fc1_that_fits_no_fc2_is_refused(tmp_path: Path) -> None:
    tensors = {f"decoder.layers.0.mlp.linear_fc{n}.weight": torch.ones(7, 4) for n in (1, 2)}
    source = DistributedCheckpoint(save(tmp_path, tensors))
    with pytest.raises(RunError, match="does not fit an MLP of width 4"):
        renamed(source, CONFIG)


def test_two_tensors_for_one_weight_are_refused(tmp_path: Path) -> None:
    names = ["decoder.layers.mlp.linear_fc2.weight", "decoder.layers.1.mlp.linear_fc2.weight"]
    tensors = {names[0]: torch.ones(2, 4, 4), names[1]: torch.ones(4, 4)}
    source = DistributedCheckpoint(save(tmp_path, tensors))
    with pytest.raises(RunError, match=r"decoder.* and decoder.* are both model.layers.1.mlp.down_proj.weight"):
        renamed(source, CONFIG)


def test_hugging_face_and_other_names_are_not_megatrons(dense: dict[str, Tensor]) -> None:
    assert not megatron.speaks(dense)
    assert not megatron.speaks(["decoder.layers.0.self_attn.q_proj.weight", "decoder.layers.0.fc1.weight"])


# The arguments of the training.


def config_of(directory: Path, arguments: Mapping[str, object], **common: object) -> Mapping[str, Any]:
    save(directory, {"w": torch.ones(2, 2)})
    torch.save({"args": argparse.Namespace(**arguments), **common}, directory / "common.pt")
    return MegatronCheckpoint(directory).config


def test_arguments_are_given_in_the_words_of_a_config(tmp_path: Path) -> None:
    assert config_of(tmp_path, ARGUMENTS) == {
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": GROUPS,
        "head_dim": SIZE,
        "vocab_size": VOCABULARY,
        "tie_word_embeddings": False,
    }
    (tmp_path / "config.json").write_text('{"model_type": "qwen3", "vocab_size": 60}')
    config = MegatronCheckpoint(tmp_path).config
    assert (config["model_type"], config["vocab_size"], config["num_attention_heads"]) == ("qwen3", 60, HEADS)


def test_without_grouped_queries_there_is_a_key_per_head(tmp_path: Path) -> None:
    arguments = {**ARGUMENTS, "group_query_attention": False, "num_query_groups": 1}  # 1 is only the default
    assert config_of(tmp_path, arguments)["num_key_value_heads"] == HEADS


def test_the_common_state_of_later_versions_is_read_from_the_checkpoint(tmp_path: Path) -> None:
    """From core 0.19 on: a list of one, as an object that is no tensor."""
    common = [{"args": argparse.Namespace(**ARGUMENTS), "iteration": 64}]
    tensor = torch.ones(2, 2)
    save_chunks(tmp_path, {"w": (tensor, whole(tensor))}, objects={"common_state/shard_0_1": common})
    assert set(MegatronCheckpoint(tmp_path).weights) == {"w"}
    assert MegatronCheckpoint(tmp_path).config["num_key_value_heads"] == GROUPS


@pytest.mark.parametrize(
    "hostile",
    [
        lambda marker: Runs(os.mkdir, marker),
        lambda marker: Runs(eval, f"__import__('os').mkdir({marker!r})"),
        lambda marker: Runs(getattr, os.mkdir, "__call__"),
        lambda marker: Runs(torch.hub.load, marker, "x"),
    ],
)
def test_arguments_beside_code_are_not_used_and_the_code_is_not_run(tmp_path: Path, hostile: Any) -> None:
    marker = tmp_path / "ran"
    assert config_of(tmp_path / "run", ARGUMENTS, extra=hostile(str(marker))) == {}
    assert config_of(tmp_path / "run", {**ARGUMENTS, "hook": hostile(str(marker))}) == {}
    assert not marker.exists()


@pytest.mark.parametrize("args", [None, [1], "text", {"num_attention_heads": 3}, argparse.Namespace(num_layers="2")])
def test_arguments_that_are_none_say_nothing(tmp_path: Path, args: object) -> None:
    save(tmp_path, {"w": torch.ones(2, 2)})
    torch.save({"args": args}, tmp_path / "common.pt")
    assert MegatronCheckpoint(tmp_path).config == {}
    torch.save(args, tmp_path / "common.pt")
    assert MegatronCheckpoint(tmp_path).config == {}


def test_damaged_common_files_say_nothing(tmp_path: Path) -> None:
    config_of(tmp_path, ARGUMENTS)
    content = (tmp_path / "common.pt").read_bytes()
    for keep in range(0, len(content), 37):
        (tmp_path / "common.pt").write_bytes(content[:keep] + bytes(keep % 2 * (len(content) - keep)))
        assert MegatronCheckpoint(tmp_path).config == {}


def test_a_common_file_that_is_a_pipe_or_lies_outside_is_refused(tmp_path: Path) -> None:
    config_of(tmp_path / "run", ARGUMENTS)
    common = tmp_path / "run" / "common.pt"
    common.rename(tmp_path / "common.pt")
    common.symlink_to(tmp_path / "common.pt")
    with pytest.raises(RunError, match="links to"):
        _ = MegatronCheckpoint(tmp_path / "run").config
    common.unlink()
    os.mkfifo(common)
    with pytest.raises(RunError, match="not a regular file"):
        _ = MegatronCheckpoint(tmp_path / "run").config


def test_a_common_file_without_bounds_is_not_read(tmp_path: Path) -> None:
    config_of(tmp_path, ARGUMENTS)
    end = b"PK\5\6" + bytes(4) + b"\1\0\1\0" + (2**32 - 2).to_bytes(4, "little") + bytes(4) + bytes(2)
    with (tmp_path / "common.pt").open("wb") as file:
        file.seek(2**32)  # a directory of 4 GiB, in a file that takes no room
        file.write(end)
    assert MegatronCheckpoint(tmp_path).config == {}
