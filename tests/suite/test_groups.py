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
