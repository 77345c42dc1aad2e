"""Judgements on hand-built records: what holds, what does not, and what cannot be told."""

import json
import math
from dataclasses import replace

import pytest

from geomcheck.record.record import Figure, Record
from geomcheck.record.request import Request
from geomcheck.suite import unmeasured

from .conftest import ATTENTION, SHAPES

RANK = "stable_rank"


def ramp(step, name):
    """22, 24, 26 in q_proj, one more in k_proj."""
    return 20 + step / 50 + ("k_proj" in name)


@pytest.fixture
def ramping(make_record):
    return make_record({(RANK, "value"): ramp})


JUDGED = [
    ("within: [20, 30]", "passed", "keeps 20 <= value <= 30 at 3 checkpoints: 22.5 to 26.5 (mean of 4 weights)"),
    ("within: [20, 25]", "failed", "left 20 <= value <= 25 at step 300: 26.5 (mean of 4 weights)"),
    ("below: 24", "failed", "left value < 24 at 2 of 3 checkpoints, furthest at step 300: 26.5 (mean of 4 weights)"),
    ("below: 24\nat: first", "passed", "keeps value < 24 at step 100: 22.5 (mean of 4 weights)"),
    ("below: 24\nlevel: warn", "warned", "left value < 24"),
    ("below: 24\nlevel: info", "info", "left value < 24"),
    ("above: 26.5\nat: last", "failed", "left value > 26.5 at step 300: 26.5 (mean of 4 weights)"),
    ("above: 26.49999\nat: last", "passed", "keeps value > 26.49999 at step 300: 26.5"),
    ("below: 26.49999\nat: last", "failed", "left value < 26.49999 at step 300: 26.5"),
    ("near: 26\ntolerance: 2%\nat: last", "passed", "keeps 26 +- 2% of it at step 300: 26.5"),
    ("above: 26\nat: last\nfold: max", "passed", "keeps value > 26 at step 300: 27 (max of 4 weights)"),
    ("above: 26\nat: last\nfold: min", "failed", "left value > 26 at step 300: 26 (min of 4 weights)"),
    (
        "above: 26.2\nat: last\nper: module",
        "failed",
        "left value > 26.2 in 1 of 2 modules, furthest in q_proj at step 300: 26 (mean in each module, 4 weights "
        "in all)",
    ),
    (
        "above: 26.2\nat: last\nper: module\nallow: 50%",
        "passed",
        "keeps value > 26.2 in all but 1 of 2 modules (50%, allowed 50%), furthest in q_proj at step 300: 26 (mean in "
        "each module, 4 weights in all)",
    ),
    (
        "above: 25\nat: last\nper: module\nallow: 50%",
        "passed",
        "keeps value > 25 in all 2 modules at step 300: 26 to 27",
    ),
    ("above: 26.2\nat: last\nper: layer", "passed", "keeps value > 26.2 in all 2 layers at step 300: 26.5"),
    (
        "above: 26.2\nat: last\nper: weight\nallow: 49%",
        "failed",
        "left value > 26.2 in 2 of 4 weights (50%, allowed 49%), furthest in "
        "model.layers.0.self_attn.q_proj.weight at step 300: 26 (4 weights)",
    ),
    ("trend: rising", "passed", "is rising: 22.5 at step 100, 26.5 at step 300 (mean of 4 weights)"),
    ("trend: falling", "failed", "is not falling at step 200: 24.5 after 22.5 (mean of 4 weights)"),
    (
        "trend: falling\ntolerance: 50%",
        "failed",
        "is not falling (rises up to 50% tolerated): 22.5 at step 100, 26.5 at step 300 (mean of 4 weights)",
    ),
    (
        "trend: flat\ntolerance: 17%",
        "passed",
        "is flat within 17%: (max - min) / |mean| is 16.33%, with 22.5 to 26.5 at 3 checkpoints (mean of 4 weights)",
    ),
    (
        "trend: flat\ntolerance: 10%\nper: layer",
        "failed",
        "is not flat within 10% in 2 of 2 layers, as in layer 0: (max - min) / |mean| is 16.33%, with 22.5 to 26.5 at "
        "3 checkpoints",
    ),
]


@pytest.mark.parametrize(("keys", "outcome", "message"), JUDGED)
def test_judgements(judge, ramping, keys, outcome, message):
    verdict = judge(f"metric: {RANK}\n{keys}", ramping)
    assert verdict.outcome == outcome
    assert message in verdict.message
    assert verdict.message.startswith(RANK)
    assert verdict.counts.measured == 4


def test_observed_and_worst(judge, ramping):
    verdict = judge(f"metric: {RANK}\nbelow: 24\nper: layer", ramping)
    assert [(o.group, o.step, o.value, o.holds) for o in verdict.observed] == [
        ("layer 0", 100, 22.5, True),
        ("layer 0", 200, 24.5, False),
        ("layer 0", 300, 26.5, False),
        ("layer 1", 100, 22.5, True),
        ("layer 1", 200, 24.5, False),
        ("layer 1", 300, 26.5, False),
    ]
    assert [(w.step, w.weight, w.value) for w in verdict.worst[:3]] == [
        (300, "model.layers.0.self_attn.k_proj.weight", 27.0),
        (300, "model.layers.1.self_attn.k_proj.weight", 27.0),
        (300, "model.layers.0.self_attn.q_proj.weight", 26.0),
    ]
    assert verdict.bounds == (None, 24.0)


def test_worst_of_a_violation_are_those_beyond_the_middle_on_its_side(judge, ramping):
    """The band is of the mean: no single weight is held against it."""
    k_proj = ["model.layers.0.self_attn.k_proj.weight", "model.layers.1.self_attn.k_proj.weight"]
    q_proj = ["model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.q_proj.weight"]
    last = f"metric: {RANK}\nat: last"
    assert [w.weight for w in judge(f"{last}\nbelow: 26.2", ramping).worst] == k_proj
    assert [w.weight for w in judge(f"{last}\nbelow: 26.8", ramping).worst] == k_proj + q_proj
    assert [w.weight for w in judge(f"{last}\nabove: 26", ramping).worst] == q_proj + k_proj
    assert [w.weight for w in judge(f"{last}\nbelow: 30", ramping).worst] == k_proj + q_proj
    assert len(judge(f"metric: {RANK}\ntrend: rising", ramping).worst) == 4


def test_a_frozen_layer_is_the_worst_where_it_lowers_the_mean(judge, make_record):
    norm = lambda step, name: 0.0 if "layers.1" in name else 1.0 + (0.5 if "q_proj" in name else 0.0)  # noqa: E731
    record = make_record({("relative_update_norm", "value"): norm}, frozen=lambda _, name: "layers.1" in name)
    verdict = judge("metric: relative_update_norm\nwithin: [0.9, 1.1]\nat: last", record)
    assert verdict.outcome == "failed"
    assert {worst.weight for worst in verdict.worst} == {name for name in ATTENTION if "layers.1" in name}


def test_worst_of_groups_are_in_those_that_violate(judge, make_record):
    record = make_record({(RANK, "value"): lambda s, n: 20.0 if "layers.1" in n else 10.0 + ("q_proj" in n)})
    verdict = judge(f"metric: {RANK}\nabove: 15\nper: layer\nat: last", record)
    assert [worst.weight for worst in verdict.worst] == [ATTENTION[1], ATTENTION[0]]
    single = judge(f"metric: {RANK}\nabove: 15\nper: weight\nat: last", record)
    assert [(worst.weight, worst.outside) for worst in single.worst] == [(ATTENTION[1], True), (ATTENTION[0], True)]


def test_two_checkpoints_are_enough_for_a_trend(judge, make_record):
    record = make_record({(RANK, "value"): lambda step, name: step / 100}, steps=(100, 200))
    assert judge(f"metric: {RANK}\ntrend: rising", record).outcome == "passed"
    assert judge(f"metric: {RANK}\ntrend: falling", record).outcome == "failed"


def test_worst_of_a_trend_are_those_that_break_it(judge, make_record):
    record = make_record({(RANK, "value"): lambda s, n: 20 - s / 50 if n == ATTENTION[1] else 20 + s / 500})
    verdict = judge(f"metric: {RANK}\ntrend: rising", record)
    assert [w.weight for w in verdict.worst] == [ATTENTION[1]]


@pytest.mark.parametrize(
    ("keys", "decisive"),
    [
        ("below: 24", (300, None, 26.5, False)),
        ("within: [22, 40]", (100, None, 22.5, True)),
        ("above: 23\nper: module", (100, "q_proj", 22.0, False)),
        ("above: 23\nper: module\nallow: 50%", (100, "q_proj", 22.0, False)),
        ("trend: rising", (300, None, 26.5, True)),
        ("trend: falling", (200, None, 24.5, False)),
        ("trend: flat\ntolerance: 5%", (300, None, 26.5, False)),
    ],
)
def test_decisive(judge, ramping, keys, decisive):
    verdict = judge(f"metric: {RANK}\n{keys}", ramping)
    assert verdict.decisive in verdict.observed
    step, group, value, holds = decisive
    assert verdict.to_dict()["decisive"] == {"step": step, "group": group, "value": value, "holds": holds}


def test_a_trend_that_may_be_broken_by_some(judge, make_record):
    record = make_record({(RANK, "value"): lambda s, n: 20 + s / 50 * (-1 if "k_proj" in n else 1)})
    verdict = judge(f"metric: {RANK}\ntrend: rising\nper: module\nallow: 50%", record)
    assert verdict.outcome == "passed"
    assert verdict.message == (
        "stable_rank is rising in all but 1 of 2 modules (50%, allowed 50%), not in k_proj at step 200: 16 after 18 "
        "(mean in each module, 4 weights in all)"
    )


def late_in(names, first):
    """Frozen: the weights whose name contains one of `names`, before step `first`."""
    return lambda step, name: step < first and any(part in name for part in names)


@pytest.mark.parametrize(
    ("first", "outcome", "reason"), [(200, "passed", ""), (300, "error", "has a figure at only one judged checkpoint")]
)
def test_a_trend_in_a_part_needs_two_figures_of_it(judge, make_record, first, outcome, reason):
    record = make_record({(RANK, "value"): ramp}, frozen=late_in(["layers.1."], first))
    verdict = judge("metric: stable_rank\ntrend: rising\nper: layer", record)
    assert verdict.outcome == outcome
    assert reason in verdict.message


@pytest.mark.parametrize(("first", "broken"), [(300, ATTENTION[1:]), (200, ATTENTION)])
def test_a_weight_with_one_figure_breaks_no_trend(judge, make_record, first, broken):
    """All fall at the last step, where the first weight has its only figure, or its second."""
    record = make_record(
        {(RANK, "value"): lambda s, n: {100: 18, 200: 19, 300: 17}[s]}, frozen=late_in([ATTENTION[0]], first)
    )
    verdict = judge("metric: stable_rank\ntrend: rising", record)
    assert (verdict.outcome, verdict.decisive.step) == ("failed", 300)
    assert {worst.weight for worst in verdict.worst} == set(broken)


def test_at_most_five_weights_are_the_worst(judge, make_record):
    record = make_record({(RANK, "value"): ramp})
    assert len(judge("metric: stable_rank\nabove: 60\nweights: linear", record).worst) == 5


def test_a_standstill_is_the_decisive_trend_beside_a_plateau(judge, make_record):
    """Both are zero off in amount; only one breaks the trend."""
    record = make_record({(RANK, "value"): lambda s, n: 20 + (s == 300) * ("q_proj" in n)})
    verdict = judge(f"metric: {RANK}\ntrend: rising\nper: module", record)
    assert verdict.decisive.group == "k_proj"
    assert "is not rising in 1 of 2 modules, as in k_proj: 20 at step 100, 20 at step 300" in verdict.message


def test_weighted_by_size(judge, make_record):
    record = make_record({("update_support", "value"): lambda step, name: 0.3 if "q_proj" in name else 0.6})
    assert judge("metric: update_support\nbelow: 50%", record).observed[0].value == pytest.approx(0.4)


def test_percent_is_shown_as_it_was_written(judge, make_record):
    record = make_record({("update_support", "value"): 0.45})
    assert (
        "left value < 30% at 3 of 3 checkpoints, furthest at step 100: 45%"
        in judge("metric: update_support\nbelow: 30%", record).message
    )
    assert (
        "left value < 0.3 at 3 of 3 checkpoints, furthest at step 100: 0.45"
        in judge("metric: update_support\nbelow: 0.3", record).message
    )


UNANSWERABLE = [
    ("metric: stable_rank\nabove: 3\nat: {step: 7}", "no checkpoint at step 7; it has 100, 200, 300"),
    (
        "metric: subspace_alignment\nabove: 0.5\nk: 32",
        "k = 32 spans the whole of model.layers.0.self_attn.k_proj.weight, which is 32 x 64: the figure would be the "
        "same whatever happened; at most 31 is possible there",
    ),
    ("metric: principal_energy\nk: 64\nabove: 0.5", "k = 64 spans the whole of model.layers.0.self_attn.k_proj.weight"),
    ("metric: principal_angle\nabove: 1 deg\nk: 99%", "k = 32 (99%) spans the whole of"),
    (
        "metric: subspace_alignment\nabove: 0.5\nat: {progress: 98%}",
        "at step 300 compares that checkpoint with itself, and `at` (progress 98%) selects no other",
    ),
    ("metric: subspace_alignment\nabove: 0.5\nto: {step: 7}", "`to`: the run has no checkpoint at step 7"),
    ("metric: stable_rank\nabove: 3\nweights: {include: ['*o_proj*']}", "`*o_proj*` matches no weight of the run"),
    ("metric: update_norm\nabove: 3", "the record of run 'run-opd' holds no update_norm; measured: frozen_share"),
    ("metric: stable_rank\nlike: reference\ntolerance: 5%", "needs a reference run; give one with --geom-reference"),
    (
        "metric: stable_rank\ntrend: rising\nat: {from: {progress: 90%}}",
        "`at` (checkpoints from progress 90% to the last) leaves 1",
    ),
    ("regime: opd", "holds no update_support"),
]


@pytest.mark.parametrize(("keys", "message"), UNANSWERABLE)
@pytest.mark.parametrize("level", ["error", "info"])
def test_what_cannot_be_judged_is_an_error_whatever_the_level(judge, ramping, keys, message, level):
    verdict = judge(f"{keys}\nlevel: {level}", ramping)
    assert verdict.outcome == "error"
    assert message in verdict.message
    assert verdict.message.startswith(f"cannot judge {verdict.metric}: ")
    assert verdict.decisive is None
    assert verdict.to_dict()["decisive"] is None


@pytest.mark.parametrize(("keys", "message"), [case for case in UNANSWERABLE if "holds no" not in case[1]])
def test_nothing_is_requested_for_what_no_measurement_answers(load, ramping, keys, message):
    lines = "".join(f"    {line}\n" for line in keys.splitlines())
    suite = load(f"  - id: it\n{lines}")
    assert suite.requests(ramping) == {} or "reference" in message


class TestFewCheckpoints:
    @pytest.mark.parametrize("keys", ["metric: stable_rank\ntrend: rising", "metric: subspace_alignment\nabove: 0.5"])
    def test_one_checkpoint_cannot_be_compared(self, judge, make_record, keys):
        record = make_record({(RANK, "value"): 3.0, ("subspace_alignment", "value"): 1.0}, steps=[100])
        verdict = judge(keys, record)
        assert verdict.outcome == "error"
        assert "the run has only one (step 100)" in verdict.message

    def test_none(self, judge, make_record):
        record = make_record(steps=[100])
        record.points = ()
        assert "the run has no checkpoints" in judge("metric: stable_rank\nabove: 3", record).message


class TestAlignment:
    def test_the_trivial_checkpoint_is_not_judged(self, judge, make_record):
        record = make_record({("subspace_alignment", "value"): lambda step, _: None if step == 300 else 0.7})
        verdict = judge("metric: subspace_alignment\nabove: 0.5", record)
        assert verdict.outcome == "passed"
        assert [o.step for o in verdict.observed] == [100, 200]

    def test_previous_begins_at_the_second(self, judge, make_record):
        record = make_record(
            {
                ('subspace_alignment {"k":16,"side":"right","to":"previous"}', "value"): lambda step, _: (
                    None if step == 100 else 0.7
                )
            }
        )
        verdict = judge("metric: subspace_alignment\nto: previous\nabove: 0.5", record)
        assert [o.step for o in verdict.observed] == [200, 300]

    def test_other_parameters_are_another_measurement(self, judge, make_record):
        record = make_record({("subspace_alignment", "value"): 0.7})
        verdict = judge("metric: subspace_alignment\nk: 8\nabove: 0.5", record)
        assert verdict.outcome == "error"
        assert "was not measured" in verdict.message


class TestFrozen:
    def q_only(self, step, name):
        return "k_proj" in name

    def test_frozen_weights_are_counted_and_not_folded(self, judge, make_record):
        record = make_record(
            {(RANK, "value"): lambda s, n: Figure(undefined="W_t equals W0") if "k_proj" in n else 25.0},
            frozen=self.q_only,
        )
        verdict = judge("metric: stable_rank\nwithin: [20, 30]", record)
        assert verdict.outcome == "passed"
        assert (verdict.counts.measured, verdict.counts.frozen) == (2, 2)
        assert "mean of 2 weights" in verdict.message

    def test_all_frozen_is_an_error(self, judge, make_record):
        record = make_record({("update_sparsity", "value"): 1.0}, frozen=lambda s, n: True)
        verdict = judge("metric: update_sparsity\nabove: 50%", record)
        assert verdict.outcome == "error"
        assert "none of the 4 selected weights ever changed" in verdict.message
        assert (verdict.counts.measured, verdict.counts.frozen) == (4, 4)

    @pytest.mark.parametrize(
        ("keys", "outcome", "message"),
        [
            ("metric: update_support\nabove: 1%\nper: layer", "failed", "furthest in layer 0 at step 100: 0%"),
            ("metric: update_support\nwithin: [24%, 26%]", "passed", "25% (mean weighted by size of 4 weights"),
            ("metric: update_norm\nabove: 0.5\nfold: min", "failed", "0"),
            ("metric: stable_rank\nabove: 3", "passed", "mean of 2 weights"),
            ("metric: stable_rank\nabove: 3\nper: layer", "error", "layer 0 never changed, and has no stable_rank"),
            ("metric: stable_rank\nabove: 3\nper: weight\nallow: 60%", "error", "(and 1 more) never changed"),
            ("metric: stable_rank\nabove: 3\nper: module", "passed", "25 (mean in each module, 2 weights in all)"),
        ],
    )
    def test_a_frozen_layer_has_the_figures_that_are_defined_for_it(self, judge, make_record, keys, outcome, message):
        def value(moving):
            return lambda s, n: moving if "layers.1." in n else 0.0

        record = make_record(
            {
                ("update_support", "value"): value(0.5),
                ("update_norm", "value"): value(1.0),
                (RANK, "value"): lambda s, n: 25.0 if "layers.1." in n else Figure(undefined="W_t equals W0"),
            },
            frozen=lambda s, n: "layers.0." in n,
        )
        verdict = judge(keys, record)
        assert (verdict.outcome, message in verdict.message) == (outcome, True), verdict.message

    def test_frozen_share_folds_over_all(self, judge, make_record):
        record = make_record(frozen=self.q_only)
        verdict = judge("metric: frozen_share\nbelow: 60%", record)
        assert verdict.outcome == "passed"
        assert verdict.observed[0].value == 0.5
        assert (verdict.counts.measured, verdict.counts.frozen) == (4, 2)

    def test_unchanged_at_one_checkpoint_is_left_out_there(self, judge, make_record):
        record = make_record(
            {(RANK, "value"): lambda s, n: 20.0 + ("k_proj" in n)}, frozen=lambda s, n: s == 100 and "k_proj" in n
        )
        verdict = judge("metric: stable_rank\nabove: 3", record)
        assert [o.value for o in verdict.observed] == [20.0, 20.5, 20.5]
        by_weight = judge("metric: stable_rank\nabove: 3\nper: weight", record)
        assert by_weight.warnings == (
            "2 weights had not changed at every judged checkpoint, and could not be judged there",
        )

    def test_metrics_of_unchanged_weights_keep_them(self, judge, make_record):
        late = lambda s, n: s == 100 and "k_proj" in n  # noqa: E731
        record = make_record({("update_norm", "value"): lambda s, n: 0.0 if late(s, n) else 2.0}, frozen=late)
        verdict = judge("metric: update_norm\nabove: 0.9", record)
        assert (verdict.outcome, verdict.observed[0].value) == ("passed", 1.0)

    def test_a_checkpoint_without_change_has_no_upper_bound_to_keep(self, judge, make_record):
        record = make_record({("update_norm", "value"): 0.0}, frozen=lambda s, n: s == 100)
        verdict = judge("metric: update_norm\nbelow: 1\nat: first", record)
        assert verdict.outcome == "error"
        assert "no selected weight has changed at step 100: there is no update to judge there" in verdict.message

    @pytest.mark.parametrize(
        ("figure", "keys", "binding", "idle", "span"),
        [
            (("stable_rank", "value", 20.0), "", "below: 63", "below: 1000", "1 <= value <= 64"),
            (('top_energy {"k":62}', "value", 0.98), "k: 62", "above: 97%", "above: 96%", "96.88% <= value <= 100%"),
            (
                ('subspace_alignment {"k":62,"side":"right","to":"last"}', "value", 0.98),
                "k: 62",
                "above: 97%",
                "above: 93%",
                "96.77% <= value <= 100%",
            ),
            (("update_spectrum", "s16", 0.1), "index: s16", "below: 24.9%", "below: 25.1%", "0% <= value <= 25%"),
            (("update_spectrum", "s01", 0.2), "index: s01", "above: 12.6%", "above: 12.4%", "12.5% <= value <= 100%"),
            (
                ('principal_angle {"excess_over":"none","k":40}', "both.mean", 9.0),
                "k: 40\nstat: mean",
                "below: 53 deg",
                "below: 55 deg",
                "value <= 54 deg",
            ),
            (
                ('principal_angle {"excess_over":"none","k":48}', "both.median", 0.0),
                "k: 48",
                "near: 0 deg\ntolerance: 0 deg\nat: first",
                "below: 1 deg",
                "value <= 0 deg",
            ),
        ],
    )
    def test_a_bound_that_the_shapes_already_keep_is_an_error(
        self, judge, make_record, figure, keys, binding, idle, span
    ):
        """Of 64 x 64 matrices: the largest 62 of 64 squares are 96.9% of their sum, whatever they are."""
        key, stat, value = figure
        record = make_record({(key, stat): value}, shapes={ATTENTION[0]: (64, 64)})
        metric = key.partition(" ")[0]
        verdict = judge(f"metric: {metric}\n{keys}\n{idle}", record)
        assert verdict.outcome == "error"
        assert "cannot fail: every figure has" in verdict.message
        assert span in verdict.message
        verdict = judge(f"metric: {metric}\n{keys}\n{binding}", record)
        assert verdict.outcome == ("error" if span == "value <= 0 deg" else "passed")  # nothing binds a constant

    def test_how_flat_a_trend_may_be_depends_on_the_number_of_its_figures(self, judge, make_record):
        """(max - min) / mean of three figures goes up to 3: 150% can fail, 300% cannot."""
        record = make_record({(RANK, "value"): lambda s, n: {100: 1.0, 200: 1.0, 300: 10.0}[s]})
        assert judge("metric: stable_rank\ntrend: flat\ntolerance: 250%", record).outcome == "passed"
        assert judge("metric: stable_rank\ntrend: flat\ntolerance: 150%", record).outcome == "failed"
        verdict = judge("metric: stable_rank\ntrend: flat\ntolerance: 300%", record)
        assert verdict.outcome == "error"
        assert "cannot fail: of 3 figures it is at most 300%" in verdict.message

    def test_a_checkpoint_without_change_is_an_error(self, judge, make_record):
        record = make_record({(RANK, "value"): 20.0}, frozen=lambda s, n: s == 100)
        verdict = judge("metric: stable_rank\nabove: 3", record)
        assert verdict.outcome == "error"
        assert "no selected weight has changed at step 100" in verdict.message


class TestBrokenRecords:
    def test_undefined_figures(self, judge, make_record):
        record = make_record(
            {(RANK, "value"): lambda s, n: Figure(undefined="too small") if "k_proj" in n and s == 200 else 20.0}
        )
        verdict = judge("metric: stable_rank\nabove: 3", record)
        assert verdict.outcome == "error"
        assert verdict.message.endswith(
            "stable_rank is undefined for model.layers.0.self_attn.k_proj.weight at step 200: too small (and 1 more "
            "figure)"
        )
        assert judge("metric: stable_rank\nabove: 3\nat: last", record).outcome == "passed"

    def test_missing_figures(self, judge, make_record):
        record = make_record({(RANK, "value"): lambda s, n: None if n == ATTENTION[0] and s == 200 else 20.0})
        assert f"no stable_rank of {ATTENTION[0]} at step 200" in judge("metric: stable_rank\nabove: 3", record).message

    @pytest.mark.parametrize(("steps", "where"), [((100, 200, 300), ""), ((200, 300), " at step 200")])
    def test_a_weight_that_was_not_measured(self, judge, make_record, steps, where):
        share = lambda s, n: None if n == ATTENTION[0] and s in steps else 0.0  # noqa: E731
        record = make_record({(RANK, "value"): 20.0, ("frozen_share", "value"): share})
        assert judge("metric: stable_rank\nabove: 3", record).message == (
            f"cannot judge stable_rank: the record has no figures of {ATTENTION[0]}{where}; measure the run with this "
            "suite"
        )

    def test_skipped_weights(self, judge, make_record):
        record = make_record({(RANK, "value"): 20.0}, skipped={ATTENTION[0]: "NaN in checkpoint-200"})
        verdict = judge("metric: stable_rank\nabove: 3", record)
        assert verdict.outcome == "error"
        assert f"{ATTENTION[0]} cannot be measured: NaN in checkpoint-200; repair the run" in verdict.message
        assert verdict.counts.skipped == 1
        assert judge("metric: stable_rank\nabove: 3\nweights: {include: ['*.1.*attn*']}", record).outcome == "passed"

    @pytest.mark.parametrize("metric", [RANK, "frozen_share"])
    def test_another_definition(self, judge, make_record, metric):
        record = make_record({(RANK, "value"): 20.0})
        record.versions[metric] = 99
        verdict = judge("metric: stable_rank\nabove: 3", record)
        assert verdict.outcome == "error"
        assert f"holds {metric} by definition 99, and this geomcheck judges by definition 1" in verdict.message

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("condition", ["above: 3", "below: 3", "within: [2, 9]", "near: 3\ntolerance: 50%"])
    def test_what_is_not_finite_never_passes(self, judge, make_record, value, condition):
        record = make_record({(RANK, "value"): lambda s, n: value if n == ATTENTION[0] else 3.5})
        verdict = judge(f"metric: stable_rank\n{condition}\nfold: max", record)
        assert verdict.outcome == "error"
        assert f"the record holds {value}" in verdict.message


class TestReference:
    def reference(self, make_record, value=20.0, **kwargs):
        return make_record({(RANK, "value"): value}, run="good", **kwargs)

    def test_like(self, judge, ramping, make_record):
        keys = "metric: stable_rank\nlike: reference\ntolerance: 20%"
        reference = self.reference(make_record, steps=(50, 100, 150))
        verdict = judge(keys, ramping, reference)
        assert verdict.outcome == "failed"
        assert verdict.condition == "reference +- 20%"
        assert verdict.message == (
            "stable_rank left reference +- 20% at 2 of 3 checkpoints, furthest at step 300: 26.5 (mean of 4 weights); "
            "the reference has 20 at step 150"
        )
        assert [o.holds for o in verdict.observed] == [True, False, False]
        assert [o.reference for o in verdict.observed] == [20.0, 20.0, 20.0]
        assert verdict.to_dict()["decisive"] == {
            "step": 300,
            "group": None,
            "value": 26.5,
            "holds": False,
            "reference": 20.0,
        }
        assert judge(f"{keys}\nat: first", ramping, reference).outcome == "passed"

    def test_worst_weights_differ_most_from_their_own_reference(self, judge, ramping, make_record):
        reference = self.reference(make_record, lambda s, n: ramp(s, n) + 5 * (n == ATTENTION[3]))
        verdict = judge("metric: stable_rank\nlike: reference\ntolerance: 1%", ramping, reference)
        assert verdict.worst[0].weight == ATTENTION[3]

    def test_only_weights_unlike_their_own_reference_are_worst(self, judge, ramping, make_record):
        reference = self.reference(make_record, lambda s, n: ramp(s, n) + 5 * (n == ATTENTION[3]))
        keys = "metric: stable_rank\nlike: reference\ntolerance: 10%"
        verdict = judge(keys, ramping, reference)
        assert verdict.outcome == "passed"
        assert [w.weight for w in verdict.worst] == [ATTENTION[3]]
        assert len(judge(keys, ramping, ramping).worst) == 4

    def test_a_weight_that_the_reference_froze_is_never_the_worst(self, judge, ramping, make_record):
        reference = self.reference(make_record, 90.0, frozen=late_in([ATTENTION[0]], 400))
        verdict = judge("metric: stable_rank\nlike: reference\ntolerance: 10%", ramping, reference)
        assert {worst.weight for worst in verdict.worst} == set(ATTENTION[1:])
        assert verdict.warnings == (f"this run and the reference froze different weights, such as {ATTENTION[0]}",)

    def test_a_part_that_the_reference_froze_cannot_be_compared(self, judge, ramping, make_record):
        reference = self.reference(make_record, frozen=late_in(["layers.1."], 300))
        verdict = judge("metric: stable_rank\nlike: reference\ntolerance: 90%\nper: layer", ramping, reference)
        assert verdict.outcome == "error"
        assert "the reference has no figure of layer 1 at step 100" in verdict.message

    def test_shapes_must_match(self, judge, ramping, make_record):
        reference = self.reference(make_record, shapes={**SHAPES, ATTENTION[0]: (64, 32)})
        verdict = judge("metric: stable_rank\nlike: reference\ntolerance: 50%", ramping, reference)
        assert verdict.outcome == "error"
        assert f"the shapes of {ATTENTION[0]} differ: (64, 64) against (64, 32)" in verdict.message

    def test_some_may_be_unlike(self, judge, ramping, make_record):
        reference = self.reference(make_record, lambda s, n: ramp(s, n) + 5 * (n == ATTENTION[3]))
        keys = "metric: stable_rank\nat: last\nlike: reference\ntolerance: 1%\nper: layer\nallow: 50%"
        verdict = judge(keys, ramping, reference)
        assert verdict.outcome == "passed"
        assert verdict.message == (
            "stable_rank keeps reference +- 1% in all but 1 of 2 layers (50%, allowed 50%), furthest in layer 1 at "
            "step 300: 26.5 (mean in each layer, 4 weights in all); the reference has 29 at step 300"
        )

    def test_amounts_of_percentages_are_points(self, judge, make_record):
        run = make_record({("update_support", "value"): 0.45})
        reference = make_record({("update_support", "value"): 0.3}, run="good")
        verdict = judge("metric: update_support\nlike: reference\ntolerance: 0.05\nat: last", run, reference)
        assert verdict.percent
        assert verdict.message == (
            "update_support left reference +- 5 points at step 300: 45% (mean weighted by size of 4 weights); the "
            "reference has 30% at step 300"
        )

    def test_progress_must_match(self, judge, ramping, make_record):
        reference = self.reference(make_record, steps=(50, 150))
        verdict = judge("metric: stable_rank\nlike: reference\ntolerance: 50%", ramping, reference)
        assert verdict.outcome == "error"
        assert (
            "reference 'good': no checkpoint matches step 200 (progress 67%): the nearest is step 50 at 33%, "
            "33 points away (at most 5)" in verdict.message
        )

    def test_weights_must_match(self, judge, ramping, make_record):
        shapes = {name: shape for name, shape in SHAPES.items() if name != ATTENTION[0]}
        reference = self.reference(make_record, shapes=shapes)
        verdict = judge("metric: stable_rank\nlike: reference\ntolerance: 50%", ramping, reference)
        assert f"reference 'good' has other weights: only this run has {ATTENTION[0]}" in verdict.message

    def test_definitions_must_match(self, judge, ramping, make_record):
        reference = self.reference(make_record)
        reference.versions[RANK] = 99
        verdict = judge("metric: stable_rank\nlike: reference\ntolerance: 50%", ramping, reference)
        assert "the record of run 'good' holds stable_rank by definition 99" in verdict.message

    def test_requests(self, load, ramping, make_record):
        suite = load(
            "  - {id: a, metric: stable_rank, like: reference, tolerance: 5%, at: {step: 200}}\n"
            "  - {id: b, metric: update_norm, above: 1}\n"
        )
        rank, norm = Request(RANK), Request("update_norm")
        assert suite.requests(ramping) == {name: {rank, norm} for name in ATTENTION}
        reference = self.reference(make_record, steps=(10, 20))
        assert suite.reference_requests(reference) == {name: {rank} for name in ATTENTION}
        assert [expectation.compares for expectation in suite.expectations] == [True, False]


class TestRounding:
    def test_a_warning_where_rounding_explains_the_update(self, judge, make_record):
        record = make_record(
            {(RANK, "value"): 25.0, ("rounding_share", "value"): lambda s, n: 0.3 if s == 100 else 0.01}
        )
        verdict = judge("metric: stable_rank\nwithin: [20, 30]", record)
        assert verdict.outcome == "passed"
        assert verdict.warnings == (
            "storage rounding explains 30% of the update at step 100 (mean over the weights): stable_rank describes "
            "the rounding as much as the training; prefer fp32 checkpoints",
        )
        assert judge("metric: stable_rank\nwithin: [20, 30]\nat: last", record).warnings == ()

    @pytest.mark.parametrize("share", [0.1, lambda step, name: None])
    def test_no_warning_up_to_a_tenth_or_where_it_was_not_measured(self, judge, make_record, share):
        record = make_record({(RANK, "value"): 25.0, ("rounding_share", "value"): share})
        verdict = judge("metric: stable_rank\nwithin: [20, 30]", record)
        assert (verdict.outcome, verdict.warnings) == ("passed", ())

    def test_where_it_was_not_measured_it_is_estimated(self, judge, make_record):
        def of_bf16(dtype: str) -> Record:
            figures = {RANK: 25.0, "relative_update_norm": 0.002, "rounding_share": lambda step, name: None}
            record = make_record({(metric, "value"): figure for metric, figure in figures.items()})
            return replace(record, weights={n: replace(w, dtypes=(dtype,)) for n, w in record.weights.items()})

        (warning,) = judge("metric: stable_rank\nwithin: [20, 30]", of_bf16("bf16")).warnings
        assert warning.startswith("storage rounding explains about 69% of the update at step ")
        assert judge("metric: stable_rank\nwithin: [20, 30]", of_bf16("fp32")).warnings == ()

    def test_other_metrics_are_not_warned_of(self, judge, make_record):
        record = make_record({("update_norm", "value"): 2.0, ("rounding_share", "value"): 0.9})
        assert judge("metric: update_norm\nabove: 1", record).warnings == ()


def test_unmeasured(load, ramping):
    (expectation,) = load("  - {id: a, metric: stable_rank, above: 3}").expectations
    verdict = unmeasured(expectation, "checkpoint-200 is truncated")
    assert verdict.outcome == "error"
    assert verdict.message == "cannot judge stable_rank: checkpoint-200 is truncated"


def test_to_dict_is_the_contract(judge, ramping):
    verdict = judge(f"metric: {RANK}\nbelow: 24\nat: last\nwhy: it locks", ramping)
    found = verdict.to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert {
        key: found[key] for key in ("id", "metric", "params", "condition", "at", "per", "fold", "level", "allow")
    } == {
        "id": "it",
        "metric": RANK,
        "params": {},
        "condition": "value < 24",
        "at": "last",
        "per": "run",
        "fold": "mean",
        "level": "error",
        "allow": 0.0,
    }
    assert found["outcome"] == "failed"
    assert found["observed"] == [{"step": 300, "group": None, "value": 26.5, "holds": False}]
    assert found["decisive"] == found["observed"][0]
    assert found["percent"] is False
    k_proj = "model.layers.0.self_attn.k_proj.weight"
    assert found["worst"][0] == {"step": 300, "weight": k_proj, "value": 27.0, "outside": None}
    assert found["weights"] == {"measured": 4, "frozen": 0, "skipped": 0}
    assert found["bounds"] == {"low": None, "high": 24.0}
    assert (found["why"], found["unit"], found["warnings"]) == ("it locks", "number", [])
    assert found["position"]["line"] == 4


def test_a_sum_that_overflows_fails_and_is_null_with_a_reason(judge, make_record):
    record = make_record({(RANK, "value"): 1.7e308})
    found = judge(f"metric: {RANK}\nabove: 24\nat: last", record).to_dict()
    assert found["outcome"] == "failed"
    assert found["observed"][0]["value"] is None
    assert found["observed"][0]["reason"] == "inf is not a finite number"


class TestAnEarlyEnd:
    """A run that ended at 30 of 150 steps is not what `last` means; every verdict there says so."""

    @pytest.fixture
    def short(self, make_record):
        record = make_record(
            {(RANK, "value"): 25.0, ("subspace_alignment", "value"): lambda s, n: (s < 30 and 0.7) or None},
            steps=(10, 20, 30),
        )
        record.points = tuple(replace(point, progress=point.step / 150) for point in record.points)
        return record

    @pytest.mark.parametrize(
        ("keys", "warns"),
        [
            ("metric: stable_rank\nabove: 3\nat: last", True),
            ("metric: stable_rank\nbelow: 3\nat: last", True),
            ("metric: subspace_alignment\nabove: 0.5\nat: {step: 10}", True),
            ("metric: stable_rank\nabove: 3", False),
            ("metric: stable_rank\nabove: 3\nat: {step: 30}", False),
        ],
    )
    def test_it_is_named_where_the_last_checkpoint_is(self, judge, short, keys, warns):
        verdict = judge(keys, short)
        said = "`last` is not the end of the training: the run ended at step 30, 20% of the training that was planned"
        assert verdict.outcome in ("passed", "failed")
        assert (said in verdict.warnings) is warns

    def test_a_progress_that_the_run_never_reached_is_an_error(self, judge, short):
        verdict = judge("metric: stable_rank\nabove: 3\nat: {progress: 100%}", short)
        assert verdict.outcome == "error"
        assert "no checkpoint is near progress 100%: the nearest is step 30 at 20%" in verdict.message

    def test_a_run_that_came_within_five_points_of_its_plan_has_ended(self, judge, short):
        short.points = tuple(replace(point, progress=point.step / 31) for point in short.points)
        assert judge("metric: stable_rank\nabove: 3\nat: last", short).warnings == ()
