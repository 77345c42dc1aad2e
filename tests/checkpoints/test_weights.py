from __future__ import annotations

import pytest

from geomcheck.checkpoints.layers import names_of
from geomcheck.checkpoints.weights import Layers, describe


@pytest.mark.parametrize(
    ("name", "layer", "module", "kind"),
    [
        ("model.layers.3.self_attn.q_proj.weight", 3, "q_proj", "attention"),
        ("model.layers.11.mlp.down_proj.weight", 11, "down_proj", "mlp"),
        ("model.layers.2.mlp.experts.7.up_proj.weight", 2, "up_proj", "mlp"),
        ("model.layers.0.block_sparse_moe.experts.1.w2.weight", 0, "w2", "mlp"),
        ("transformer.h.5.attn.c_attn.weight", 5, "c_attn", "attention"),
        ("model.layers.3.self_attn.q_norm.weight", 3, "q_norm", "norm"),
        ("model.layers.3.input_layernorm.weight", 3, "input_layernorm", "norm"),
        ("transformer.h.5.ln_1.weight", 5, "ln_1", "norm"),
        ("model.norm.weight", None, "norm", "norm"),
        ("model.embed_tokens.weight", None, "embed_tokens", "embedding"),
        ("transformer.wte.weight", None, "wte", "embedding"),
        ("lm_head.weight", None, "lm_head", "head"),
        ("score.weight", None, "score", "head"),
        ("bert.encoder.layer.3.output.dense.weight", 3, "dense", "mlp"),
        ("bert.encoder.layer.3.attention.output.dense.weight", 3, "dense", "attention"),
        ("distilbert.transformer.layer.2.ffn.lin1.weight", 2, "lin1", "mlp"),
        ("encoder.block.4.layer.1.DenseReluDense.wi.weight", 4, "wi", "mlp"),
        ("decoder.block.4.layer.1.EncDecAttention.q.weight", 4, "q", "attention"),
        ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", 0, "relative_attention_bias", "table"),
        ("shared.weight", None, "shared", "embedding"),
        ("model.embed_tokens_per_layer.weight", None, "embed_tokens_per_layer", "embedding"),
        ("model.decoder.embed_positions.weight", None, "embed_positions", "embedding"),
        ("model.decoder.layers.1.fc1.weight", 1, "fc1", "mlp"),
        ("model.layers.0.mamba.A_log", 0, "A_log", "state"),
        ("model.layers.0.mamba.in_proj.weight", 0, "in_proj", "projection"),
        ("model.layers.1.mlp.gate.weight", 1, "gate", "router"),
        ("model.layers.1.self_attn.q_proj.bias", 1, "bias", "bias"),
        ("model.multi_modal_projector.linear_1.weight", None, "linear_1", "projection"),
        ("visual.merger.mlp.0.weight", None, "mlp.0", "mlp"),
        ("something.odd", None, "odd", "other"),
    ],
)
def test_weights_are_placed_in_the_network(name: str, layer: int | None, module: str, kind: str) -> None:
    weight = describe(name, (4, 4))
    assert (weight.layer, weight.module, weight.role) == (layer, module, kind)


@pytest.mark.parametrize(
    ("name", "stack", "layer"),
    [
        ("model.layers.3.self_attn.q_proj.weight", "model.layers", 3),
        ("mtp.layers.0.mlp.up_proj.weight", "mtp.layers", 0),
        ("talker.model.layers.0.mlp.up_proj.weight", "talker.model.layers", 0),
        ("model.layers.3.mlp.experts.7.up_proj.weight", "model.layers", 3),
        ("encoder.block.4.layer.1.DenseReluDense.wi.weight", "encoder.block", 4),
        ("swin.encoder.layers.2.blocks.5.attention.self.query.weight", "swin.encoder.layers.2.blocks", 5),
        ("encoder.block.2.1.attention.self.query.weight", "encoder.block.2", 1),
        ("vision_model.encoder.layers.5.mlp.fc1.weight", "vision_model.encoder.layers", 5),
        ("mask_decoder.output_hypernetworks_mlps.0.layers.1.weight", "", None),
        ("model.embed_tokens.weight", "", None),
    ],
)
def test_a_layer_is_a_stack_and_a_number(name: str, stack: str, layer: int | None) -> None:
    weight = describe(name, (4, 4))
    assert (weight.stack, weight.layer) == (stack, layer)


@pytest.mark.parametrize(
    ("stacks", "names"),
    [
        (["model.layers"], ["model"]),
        (["model.layers", "mtp.layers"], ["model", "mtp"]),
        (["model.layers", "model.mtp.layers"], ["model", "mtp"]),
        (["decoder.block", "encoder.block"], ["decoder", "encoder"]),
        (["talker.model.layers", "thinker.model.layers"], ["talker", "thinker"]),
        (["model.layers", "vision_tower.vision_model.encoder.layers"], ["model", "vision_tower"]),
        (
            ["talker.model.layers", "thinker.model.layers", "thinker.visual.blocks"],
            ["talker", "thinker.model", "thinker.visual"],
        ),
        (["swin.layers.0.blocks", "swin.layers.1.blocks"], ["layers.0", "layers.1"]),
        (["lxmert.encoder.layer", "lxmert.encoder.x_layers"], ["encoder", "x_layers"]),
        (["a.layers", "a.x.layers", "b.a.layers"], ["a.layers", "a.x", "b"]),
        (["layers", "mtp.layers"], ["layers", "mtp"]),
    ],
)
def test_stacks_have_short_names_that_tell_them_apart(stacks: list[str], names: list[str]) -> None:
    assert list(names_of(stacks).values()) == names


def test_more_stacks_than_any_model_has_keep_their_paths() -> None:
    stacks = [f"model.{n}.{'x.' * 300}layers" for n in range(20_000)]
    assert names_of(stacks) == {stack: stack for stack in stacks}


def test_layers_are_called_by_stack_where_there_are_several() -> None:
    one, other, outside = (describe(f"{name}.weight", (4, 4)) for name in ("model.layers.1.q", "mtp.layers.0.q", "a"))
    assert Layers([one, outside]).label(one) == "layer 1"
    assert [Layers([one, other, outside]).label(w) for w in (one, other, outside)] == [
        "model layer 1",
        "mtp layer 0",
        "outside layers",
    ]


@pytest.mark.parametrize(
    ("shape", "is_matrix"),
    [((4, 4), True), ((4,), False), ((1, 4), False), ((4, 1), False), ((2, 4, 4), False), ((), False)],
)
def test_only_true_matrices_are_measured(shape: tuple[int, ...], is_matrix: bool) -> None:
    assert describe("x.weight", shape).is_matrix is is_matrix
