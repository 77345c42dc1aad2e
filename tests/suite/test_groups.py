from __future__ import annotations

from dataclasses import replace

SCOPED = {
    "model.layers.3.self_attn.q_proj.weight": (64, 64),
    "visual.blocks.3.attn.q_proj.weight": (64, 64),
    "visual.merger.mlp.fc1.weight": (64, 64),
}
VALUES = {("stable_rank", "value"): lambda step, name: 20.0 if name.startswith("visual.blocks") else 2.0}
LINEAR = "metric: stable_rank\nabove: 1\nat: last\nweights: linear\n"


def test_layers_of_vision_and_language_are_groups_of_their_own(make_record, judge) -> None:
    verdict = judge(f"{LINEAR}per: layer", make_record(VALUES, shapes=SCOPED))
    found = {observed.group: observed.value for observed in verdict.observed}
    assert found == {"model layer 3": 2, "visual layer 3": 20, "outside layers": 2}
    assert list(found) == ["model layer 3", "visual layer 3", "outside layers"]


BERT = {f"encoder.layer.{layer}.attention.self.query.weight": (64, 64) for layer in range(3)}
COLLAPSED = {("stable_rank", "value"): lambda step, name: 1.0 if ".layer.1." in name else 9.0}


def test_layers_of_bert_are_groups(make_record, judge) -> None:
    verdict = judge(f"{LINEAR}per: layer".replace("above: 1", "within: [5, 15]"), make_record(COLLAPSED, shapes=BERT))
    assert verdict.outcome == "failed"
    assert {o.group: o.holds for o in verdict.observed} == {"layer 0": True, "layer 1": False, "layer 2": True}


STACKS = {f"{stack}.layers.{n}.mlp.up_proj.weight": (64, 64) for stack in ("model", "mtp") for n in (0, 1)}


def test_stacks_that_count_from_0_each_are_kept_apart(make_record, judge) -> None:
    values = {("stable_rank", "value"): lambda step, name: 1.0 if name.startswith("mtp.layers.0") else 9.0}
    keys = f"{LINEAR}per: layer".replace("above: 1", "within: [4, 15]")
    verdict = judge(keys, make_record(values, shapes=STACKS))
    assert {o.group: o.value for o in verdict.observed} == {
        "model layer 0": 9,
        "model layer 1": 9,
        "mtp layer 0": 1,
        "mtp layer 1": 9,
    }
    assert verdict.outcome == "failed"


def test_a_layer_of_a_reference_without_the_other_stack_is_the_same_layer(make_record, judge) -> None:
    values = {("stable_rank", "value"): lambda step, name: 9.0}
    keys = "metric: stable_rank\nlike: reference\ntolerance: 1\nat: last\nper: layer\nweights: {stack: model}"
    alone = {name: shape for name, shape in STACKS.items() if name.startswith("model")}
    verdict = judge(keys, make_record(values, shapes=STACKS), make_record(values, shapes=alone))
    assert verdict.outcome == "passed", verdict.message


def test_per_layer_is_an_error_where_no_weight_has_a_layer(make_record, judge) -> None:
    values = {("stable_rank", "value"): lambda step, name: 9.0}
    record = make_record(values, shapes={"encoder.one.weight": (64, 64), "encoder.two.weight": (64, 64)})
    verdict = judge(f"{LINEAR}per: layer", record)
    assert verdict.outcome == "error"
    assert verdict.message == (
        "cannot judge stable_rank: `per: layer` finds no layers: none of the 2 selected weights lies in one (such as "
        "encoder.one.weight); select weights of layers, or judge `per: module` or `per: weight`"
    )
    assert judge(f"{LINEAR}per: module", record).outcome == "passed"


def test_a_projection_that_could_not_be_split_is_a_warning_where_it_is_judged(make_record, judge) -> None:
    record = make_record(VALUES, shapes=SCOPED)
    name = "model.layers.3.self_attn.q_proj.weight"
    record.weights[name] = replace(record.weights[name], fused="its split is not known for mystery")
    assert judge(LINEAR, record).warnings == (
        f"{name} holds several projections, measured as one matrix, whose figures are not those of its parts: "
        "its split is not known for mystery",
    )
    second = "visual.merger.mlp.fc1.weight"
    record.weights[second] = replace(record.weights[second], fused="nor this one's")
    assert judge(LINEAR, record).warnings[0].startswith(f"{name} (and 1 more) holds several projections")
    others = "metric: stable_rank\nabove: 1\nat: last\nweights: {include: ['visual.blocks*']}\n"
    assert judge(others, record).warnings == ()


def test_a_part_without_a_figure_at_some_checkpoint_is_a_warning(make_record, judge) -> None:
    late = "model.layers.3.self_attn.q_proj.weight"
    whole = make_record(VALUES, shapes=SCOPED)
    partly = make_record(VALUES, shapes=SCOPED, frozen=lambda step, name: step == 100 and name == late)
    keys = "metric: stable_rank\nabove: 1\nweights: linear"
    assert judge(f"{keys}\nper: layer", whole).warnings == ()
    assert judge(f"{keys}\nper: run", partly).warnings == ()
    assert judge(f"{keys}\nper: layer", partly).warnings == (
        "1 layer had not changed at every judged checkpoint, and could not be judged there",
    )
