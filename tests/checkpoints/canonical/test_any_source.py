"""What holds of any tensors under any names with any config: nothing is lost, doubled, or of another shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geomcheck.checkpoints.canonical.rules import RULES, SplitRule
from geomcheck.errors import RunError
from tests.checkpoints.canonical.models import stored

MODULES = sorted({rule.module for rule in RULES} | {"mlp.experts", "block_sparse_moe.experts.1", "mlp", "norm"})
LEAVES = [".weight", ".bias", "", ".gate_up_proj", ".down_proj", ".gate_up_proj_bias", ".w1.weight", ".w3.weight"]
PREFIXES = ["", "module.", "model.", "model.layers.0.", "model.model.layers.1.", "visual.blocks.0.", "transformer.h.0."]
NAMES = st.builds("{}{}{}".format, st.sampled_from(PREFIXES), st.sampled_from(MODULES), st.sampled_from(LEAVES))
ODD_SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 4, 6, 8, 12, 24, 36]), max_size=3)
SHAPES = (
    st.sampled_from([[36, 12], [24, 12], [12, 36], [48, 12], [36], [2, 8, 12], [2, 12, 4], [2, 12, 8]]) | ODD_SHAPES
)
TYPES = sorted(
    {kind for rule in RULES for kind in rule.types} | {"qwen3_moe", "gpt_oss", "mixtral", "llama4", "mystery"}
)
NUMBERS = st.sampled_from([1, 2, 3, 4, 6, 12, 0, -1, None, "2", True, 2.0, [], {}, 10**30])
KEYS = [
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_size",
    "n_head",
    "n_embd",
    "d_model",
    "n_heads",
]
KEYS += ["multi_query", "new_decoder_architecture", "multi_query_attention", "attn_config", "text_config"]
KEYS += ["vision_config", "linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim"]
SENSIBLE = {"num_attention_heads": 3, "hidden_size": 12, "multi_query": False, "linear_num_key_heads": 1}
SENSIBLE |= {"linear_num_value_heads": 2, "linear_key_head_dim": 6, "linear_value_head_dim": 6}
ODD = st.just({}) | st.dictionaries(st.sampled_from(KEYS), NUMBERS | st.booleans(), max_size=3)


def of_a_rule(rule: SplitRule) -> st.SearchStrategy[Any]:
    """A model type that the rule is for, and tensors of which some are."""
    prefix = "visual.blocks.0." if rule.scope else "model.layers.0."
    own = st.builds("{}{}{}".format, st.just(prefix), st.just(rule.module), st.sampled_from([".weight", ".bias"]))
    return st.tuples(st.sampled_from(sorted(rule.types)), st.dictionaries(own | NAMES, SHAPES, min_size=1, max_size=4))


ANY = st.tuples(st.sampled_from(TYPES), st.dictionaries(NAMES, SHAPES, min_size=1, max_size=4))


@given(case=st.sampled_from(RULES).flatmap(of_a_rule) | ANY, odd=ODD)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_entry_is_in_one_weight_of_the_shape_that_was_said(
    tmp_path: Path, case: tuple[str, dict[str, list[int]]], odd: dict[str, Any]
) -> None:
    kind, shapes = case
    numbers = iter(range(10**9))
    tensors = {}
    for name, shape in shapes.items():
        count = torch.Size(shape).numel()
        tensors[name] = torch.tensor([next(numbers) for _ in range(count)], dtype=torch.float64).reshape(shape)
    try:
        source = stored(tmp_path, tensors, SENSIBLE | {"model_type": kind} | odd)
    except RunError:
        return
    weights = {name: source.read(name) for name in source.weights}
    assert {name: tuple(weight.shape) for name, weight in weights.items()} == {
        name: weight.shape for name, weight in source.weights.items()
    }
    entries = sorted(value for weight in weights.values() for value in weight.flatten().tolist())
    assert entries == list(range(next(numbers)))
