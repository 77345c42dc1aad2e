from dataclasses import replace

import pytest

from geomcheck.checkpoints.weights import describe
from geomcheck.suite.language.quantities import Refusal
from geomcheck.suite.language.selection import parse_selection
from geomcheck.suite.verdict import Unanswerable

from .conftest import ATTENTION, SHAPES

WEIGHTS = {name: describe(name, shape) for name, shape in SHAPES.items()}
MLP = tuple(name for name in SHAPES if "mlp" in name)
NORMS = tuple(name for name in SHAPES if "norm" in name)
EMBEDDINGS = tuple(name for name in SHAPES if "embed" in name)


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        ("attention", ATTENTION),
        ("mlp", MLP),
        ("linear", ATTENTION + MLP),
        ("all", ("model.embed_tokens.weight", *ATTENTION, *MLP)),
        ({"include": ["*q_proj*"]}, tuple(name for name in ATTENTION if "q_proj" in name)),
        ({"include": ["*self_attn*"], "exclude": ["*.0.*"]}, tuple(name for name in ATTENTION if ".1." in name)),
        ({"exclude": ["*mlp*"]}, ATTENTION),
        ("norms", NORMS),
        ("vectors", NORMS),
        ("embeddings", EMBEDDINGS),
        ("everything", tuple(SHAPES)),
        ({"role": "everything", "exclude": ["*mlp*"]}, (*EMBEDDINGS, *ATTENTION, *NORMS)),
        ({"include": ["*norm*"]}, NORMS),
        ({"include": ["model.layers.*"]}, ATTENTION + MLP),
        ({"include": ["model.layers.*", "*norm*"]}, ATTENTION + MLP + NORMS),
    ],
)
def test_selections(raw, names):
    assert sorted(weight.name for weight in parse_selection(raw).select(WEIGHTS)) == sorted(names)


STACKS = {
    name: describe(name, (8, 8))
    for name in (
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.mlp.up_proj.weight",
        "model.layers.1.mlp.up_proj.weight",
        "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight",
        "vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight",
        "vision_tower.vision_model.head.probe.weight",
        "audio_tower.layers.0.self_attn.q_proj.weight",
    )
}


@pytest.mark.parametrize(
    ("raw", "places"),
    [
        ({"stack": "model"}, [0, 1, 2]),
        ({"stack": "vision_tower"}, [3, 4]),
        ({"stack": "vision_model"}, [3, 4]),
        ({"stack": "vision_tower.vision_model.encoder.layers"}, [3, 4]),
        ({"role": "attention", "stack": "vision_tower"}, [3]),
        ({"role": "attention"}, [0, 3, 6]),
        ({"role": "mlp", "stack": "model", "exclude": ["*.1.*"]}, [1]),
        ({"stack": "audio_tower", "include": ["*q_proj*"]}, [6]),
    ],
)
def test_selections_of_a_stack(raw, places):
    names = list(STACKS)
    assert {w.name for w in parse_selection(raw).select(STACKS)} == {names[place] for place in places}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vision", "no stack is called `vision`; the run has audio_tower, model, vision_tower"),
        ("vision_towr", "did you mean `vision_tower`"),
        ("layers.0", "no stack is called `layers.0`"),
    ],
)
def test_a_stack_that_is_not_there_is_an_error_that_lists_those_that_are(name, message):
    with pytest.raises(Unanswerable) as caught:
        parse_selection({"stack": name}).select(STACKS)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "raw",
    ["mlp", {"stack": "decoder"}, {"role": "mlp", "stack": "decoder"}, {"include": ["*q*"], "exclude": ["*.0.*"]}],
)
def test_a_selection_is_stated_as_it_was_read(raw):
    assert parse_selection(raw).plain == raw


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"include": ["*o_proj*"]}, "`*o_proj*` matches no weight of the run; it has "),
        ({"include": ["*Q_PROJ*"]}, "`*Q_PROJ*` matches no weight of the run"),
        ({"include": ["*q_proj*"], "exclude": ["*bias*"]}, "`*bias*` matches no weight of the run"),
        ({"exclude": ["*norm*"]}, "`*norm*` matches only tensors that are not selected anyway"),
        ("biases", "no weight matches `weights: biases`; it has "),
        ({"include": ["*q_proj*"], "exclude": ["*q_proj*"]}, "no weight matches `weights: include *q_proj*; exclude"),
    ],
)
def test_what_selects_nothing(raw, message):
    with pytest.raises(Unanswerable) as caught:
        parse_selection(raw).select(WEIGHTS)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("atention", "did you mean `attention`"),
        ({}, "found a mapping for weights"),
        ({"inclde": ["x"]}, "unknown key `inclde`.*did you mean `include`"),
        ({"include": "x"}, "`include` is a list of globs; found `x`"),
        ({"role": "atention"}, "found `atention` for `role`; allowed: attention, .*, everything; did you mean"),
        ({"role": ["mlp"]}, "found a list for `role`"),
        ({"stack": ""}, "`stack` is a name, such as `decoder`"),
        ({"stack": 3}, "`stack` is a name, such as `decoder`; found `3`"),
        ({"role": "mlp", "include": ["x"]}, "`include` names weights of any role"),
        ({"include": []}, "`include` is a list of globs"),
        ({"include": [3]}, "a glob is a text; found `3`"),
        (None, "found nothing for weights"),
    ],
)
def test_refusals(raw, message):
    with pytest.raises(Refusal, match=message):
        parse_selection(raw)


ODD = {
    name: replace(describe(name, shape, (dtype,)), lent="lent" in name)
    for name, shape, dtype in (
        ("transformer.h.0.attn.bias", (1, 1, 8, 8), "fp32"),
        ("transformer.h.0.attn.c_attn.bias", (24,), "bf16"),
        ("model.rotary_emb.inv_freq", (8,), "fp32"),
        ("model.embeddings.position_ids", (1, 8), "I64"),
        ("model.layers.0.mlp.experts.gate_up_proj", (4, 8, 8), "bf16"),
        ("model.layers.0.mlp.gate.weight", (4, 8), "bf16"),
        ("model.layers.0.mixer.A_log", (8,), "fp32"),
        ("model.scale", (), "fp32"),
        ("model.empty", (0,), "fp32"),
        ("lm_head.weight", (16, 8), "bf16"),
        ("model.lent.weight", (8, 8), "bf16"),
    )
}


@pytest.mark.parametrize(
    ("role", "places"),
    [
        ("everything", [1, 4, 5, 6, 7, 9, 10]),
        ("vectors", [1, 4, 6, 7]),
        ("biases", [1]),
        ("routers", [5]),
        ("heads", [9]),
        ("trained", [5, 9]),
        ("all", [5, 9, 10]),
    ],
)
def test_buffers_and_counters_are_no_weights(role, places):
    names = list(ODD)
    assert {w.name for w in parse_selection(role).select(ODD)} == {names[place] for place in places}


@pytest.mark.parametrize("raw", ["everything", "norms", {"include": ["*norm*"]}])
def test_figures_of_matrices_are_not_of_vectors(raw):
    with pytest.raises(Unanswerable, match="stable_rank is of matrices, and model.*norm.* is none; exclude such"):
        parse_selection(raw).matrices(WEIGHTS, "stable_rank")


@pytest.mark.parametrize(("count", "rest"), [(3, ""), (4, " and 1 more")])
def test_three_weights_are_named_and_the_rest_counted(count, rest):
    names = sorted(name for name in SHAPES if name in ATTENTION)[:count]
    weights = {name: WEIGHTS[name] for name in names}
    with pytest.raises(Unanswerable) as caught:
        parse_selection({"include": ["*nothing*"]}).select(weights)
    assert f"; it has {', '.join(names[:3])}{rest}" in str(caught.value)
    assert (" more" in str(caught.value)) == bool(rest)
