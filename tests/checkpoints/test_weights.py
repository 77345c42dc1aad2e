from __future__ import annotations

import pytest

from geomcheck.checkpoints.weights import describe


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
        ("something.odd", None, "odd", "other"),
    ],
)
def test_weights_are_placed_in_the_network(name: str, layer: int | None, module: str, kind: str) -> None:
    weight = describe(name, (4, 4))
    assert (weight.layer, weight.module, weight.role) == (layer, module, kind)


@pytest.mark.parametrize(
    ("shape", "is_matrix"),
    [((4, 4), True), ((4,), False), ((1, 4), False), ((4, 1), False), ((2, 4, 4), False), ((), False)],
)
def test_only_true_matrices_are_measured(shape: tuple[int, ...], is_matrix: bool) -> None:
    assert describe("x.weight", shape).is_matrix is is_matrix
