"""What can be judged while a run goes on: by cases, and by the promise that a settled verdict stays."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geomcheck.checkpoints import comparable, open_account, open_base, open_run
from geomcheck.checkpoints.weights import describe
from geomcheck.diagnostics import load_metrics
from geomcheck.errors import Position
from geomcheck.measurement.survey import survey
from geomcheck.record.points import is_trivial, locate
from geomcheck.record.record import Figure, Origin, Point, Record, Row, columns_of
from geomcheck.record.request import Request
from geomcheck.suite import Expectation, judge, load_suite
from geomcheck.suite.conditions.band import within
from geomcheck.suite.conditions.bands import Bands
from geomcheck.suite.conditions.like import Like, Unlike
from geomcheck.suite.conditions.profile import Profile
from geomcheck.suite.conditions.regime import Regime
from geomcheck.suite.conditions.trend import Trend
from geomcheck.suite.conditions.within import Within
from geomcheck.suite.due import due, judge_so_far
from geomcheck.suite.language.places import ALL, FIRST, LAST, At, Place
from geomcheck.suite.language.quantities import Quantity, Scale, Tolerance
from geomcheck.suite.language.selection import Selection
from tests.confined import LEARNED, Confined, family

WEIGHTS = [f"model.layers.{layer}.self_attn.{side}_proj.weight" for layer in (0, 1) for side in "qk"]
HERE = Position("suite.yaml", 1, 1)


def points_at(*progress):
    return tuple(Point(f"checkpoint-{p}", p, p / 100) for p in progress)


@pytest.fixture
def expectation(load):
    def made(keys, id="it"):
        lines = "".join(f"    {line}\n" for line in keys.splitlines())
        (expectation,) = load(f"  - id: {id}\n    metric: stable_rank\n{lines}").expectations
        return expectation

    return made


CASES = [  # keys, checkpoints so far, what is judged now, closed, waits for
    ("below: 9", (10, 30), "all", False, "later checkpoints, to the last"),
    ("below: 9\nat: first", (), None, False, "the first checkpoint"),
    ("below: 9\nat: first", (10,), "first", True, ""),
    ("below: 9\nat: last", (10, 30), None, False, "the last checkpoint"),
    ("below: 9\nat: {step: 30}", (10,), None, False, "step 30"),
    ("below: 9\nat: {step: 30}", (10, 30), "step 30", True, ""),
    ("below: 9\nat: {step: 20}", (10, 30), "step 20", True, ""),  # passed, and not there: the verdict says so
    ("below: 9\nat: {progress: 20%}", (4,), None, False, "20% of the training"),
    ("below: 9\nat: {progress: 20%}", (4, 19), None, False, "20% of the training"),
    ("below: 9\nat: {progress: 20%}", (4, 19, 20), "progress 20%", True, ""),
    ("below: 9\nat: {progress: 20%}", (4, 19, 60), "progress 20%", True, ""),
    ("below: 9\nat: {progress: 0%}", (10,), "progress 0%", True, ""),
    ("below: 9\nat: {from: {step: 30}}", (10, 20), None, False, "step 30"),
    (
        "below: 9\nat: {from: {step: 30}}",
        (10, 30),
        "checkpoints from step 30 to the last",
        False,
        "later checkpoints, to the last",
    ),
    (
        "below: 9\nat: {from: {step: 30}, to: {progress: 50%}}",
        (30, 40),
        "checkpoints from step 30 to the last",
        False,
        "later checkpoints, to progress 50%",
    ),
    (
        "below: 9\nat: {from: {step: 30}, to: {progress: 50%}}",
        (30, 40, 90),
        "checkpoints from step 30 to progress 50%",
        True,
        "",
    ),
    ("trend: rising", (10,), None, False, "a second checkpoint"),
    ("trend: rising", (10, 20), "all", False, "later checkpoints, to the last"),
    ("like: reference\ntolerance: 1", (10,), "all", False, "later checkpoints, to the last"),
    (
        "bands: [{step: 10, within: [1, 2]}, {progress: 20%, within: [2, 3]}, {step: 40, within: [2, 3]}]",
        (10, 19),
        "step 10",
        False,
        "20% of the training, step 40",
    ),
    (
        "bands: [{step: 10, within: [1, 2]}, {progress: 20%, within: [2, 3]}]",
        (10, 20),
        "step 10, progress 20%",
        True,
        "",
    ),
]


@pytest.mark.parametrize(("keys", "so_far", "now", "closed", "waits_for"), CASES)
def test_what_is_due(expectation, keys, so_far, now, closed, waits_for):
    stated = expectation(keys)
    found = due(stated, points_at(*so_far), finished=False)
    assert (found.now and found.now.at.text, found.closed, found.waits_for) == (now, closed, waits_for)
    assert found.standing(None) == "not due yet"
    done = due(stated, points_at(*so_far), finished=True)
    assert (done.now, done.closed, done.waits_for) == (stated, True, "")


@pytest.mark.parametrize(
    ("keys", "so_far", "now", "waits_for"),
    [
        ("above: 50%\nat: first", (10,), None, "a second checkpoint"),
        ("above: 50%\nat: first", (10, 20), "first", "the last checkpoint, which the figures depend on"),
        ("above: 50%\nto: previous", (10,), None, "a second checkpoint"),
        ("above: 50%\nto: previous", (10, 20), "all", "later checkpoints, to the last"),
        ("above: 50%\nto: first\nat: {from: {step: 10}}", (10, 20), "checkpoints from step 10", "later checkpoints"),
        ("above: 50%\nto: {progress: 50%}", (10, 20), None, "50% of the training"),
        ("above: 50%\nto: {progress: 50%}", (10, 70), "all", "later checkpoints, to the last"),
        ("trend: rising\nto: first", (10, 20), None, "a second checkpoint"),
        ("trend: rising\nto: first", (10, 20, 30), "all", "later checkpoints, to the last"),
    ],
)
def test_checkpoints_that_are_parameters(load, keys, so_far, now, waits_for):
    lines = "".join(f"    {line}\n" for line in keys.splitlines())
    (stated,) = load(f"  - id: it\n    metric: subspace_alignment\n    k: 4\n{lines}").expectations
    found = due(stated, points_at(*so_far), finished=False)
    assert found.waits_for.startswith(waits_for)
    assert (found.now and found.now.at.text.startswith(now)) == now if now is None else found.now is not None


@pytest.mark.parametrize("keys", ["at: {progress: 20%}\nbelow: 9", "like: reference\ntolerance: 1"])
def test_nothing_goes_by_progress_where_the_length_is_not_known(expectation, keys):
    found = due(expectation(keys), points_at(10, 100), finished=False, scaled=False)
    assert found.now is None
    assert "the length of the training is not known" in found.waits_for
    assert due(expectation(keys), points_at(10, 100), finished=True, scaled=False).now is not None


def test_a_checkpoint_at_four_percent_is_not_the_one_at_twenty(expectation, make_record):
    stated = expectation("at: {progress: 20%}\nbelow: 9")
    early = record_of(World(steps=(4,), seed=0), [("stable_rank", {})])
    assert "no checkpoint is near progress 20%" in judge(stated, early).message
    assert judge_so_far(stated, early, finished=False).standing == "not due yet"


@pytest.mark.parametrize(
    ("keys", "figures", "standing", "outcome"),
    [
        ("below: 5", (4, 6, 4), "settled", "failed"),
        ("below: 5", (4, 4, 4), "provisional", "passed"),
        ("below: 5\nat: {to: {step: 20}}", (4, 4, 9), "settled", "passed"),
        ("trend: rising", (1, 2, 1.5), "settled", "failed"),
        ("trend: rising\ntolerance: 1", (1, 2, 1.5), "provisional", "passed"),
        ("trend: rising", (1, 1, 1), "provisional", "failed"),  # has not moved yet, and still may
        ("trend: falling", (3, 2, 1), "provisional", "passed"),
        ("trend: falling", (3, 2, 2.5), "settled", "failed"),
        ("trend: flat\ntolerance: 10%", (1, 2, 1), "provisional", "failed"),  # the mean may grow
        ("below: 5\nlevel: warn", (4, 6, 4), "settled", "warned"),
    ],
)
def test_standing(expectation, make_record, keys, figures, standing, outcome):
    steps = (10, 20, 30)
    record = make_record({("stable_rank", "value"): lambda step, _: figures[steps.index(step)]}, steps=steps)
    found = judge_so_far(expectation(keys), record, finished=False)
    assert (found.standing, found.verdict.outcome) == (standing, outcome)
    assert judge_so_far(expectation(keys), record, finished=True).standing == "settled"


def test_a_frozen_weight_is_in_the_mean_from_the_start_and_keeps_no_violation_open(load, make_record):
    (stated,) = load("  - id: it\n    metric: update_norm\n    above: 1\n").expectations
    shape = {"frozen": lambda step, name: name == WEIGHTS[0], "steps": (10, 20)}
    record = make_record({("update_norm", "value"): 0.5}, **shape)
    assert judge_so_far(stated, record, finished=False).standing == "settled"


def test_groups_that_never_changed_so_far_keep_the_verdict_open(expectation, make_record):
    stated = expectation("below: 5\nper: weight\nallow: 25%")
    figures = {("stable_rank", "value"): lambda step, name: 9.0 if name == WEIGHTS[0] else 4.0}
    still = make_record(figures, steps=(10, 20), frozen=lambda step, name: name not in WEIGHTS[:2])
    found = judge_so_far(stated, still, finished=False)
    assert (found.verdict.outcome, found.standing) == ("error", "provisional")
    assert "k_proj.weight (and 1 more) never changed, and has no stable_rank" in found.verdict.message
    whole = make_record(figures, steps=(10, 20, 30), frozen=lambda step, name: name not in WEIGHTS[:2] and step < 30)
    assert judge_so_far(stated, whole, finished=True).verdict.outcome == "passed"


def test_figures_against_the_last_checkpoint_are_provisional(load, make_record):
    (stated,) = load("  - id: it\n    metric: subspace_alignment\n    above: 50%\n    at: first\n").expectations
    record = make_record({("subspace_alignment", "value"): lambda step, _: 0.1 if step < 20 else None}, steps=(10, 20))
    found = judge_so_far(stated, record, finished=False)
    assert (found.verdict.outcome, found.standing) == ("failed", "provisional")


def test_an_error_that_later_movement_may_mend_is_provisional(load, make_record):
    (stated,) = load("  - id: it\n    metric: update_norm\n    above: 1\n    at: first\n").expectations
    record = make_record({("update_norm", "value"): 0.0}, steps=(10, 20), frozen=lambda step, name: True)
    found = judge_so_far(stated, record, finished=False)
    assert (found.verdict.outcome, found.standing) == ("error", "provisional")


def test_scores_may_come_later_than_their_checkpoint(suite_file, tmp_path):
    run = family(tmp_path, own=Confined(scores={0: 0.1, 10: 0.3}, constraint=LEARNED, steps=(10, 20)))
    keys = "metric: functional_sufficiency, score: eval_accuracy, free: free, random: random-0, above: 85%"
    suite = load_suite(suite_file(f"geomcheck: 1\nexpect:\n  - {{id: it, {keys}, at: {{step: 20}}}}\n"))
    record = survey(*comparable(open_run(run), open_base(run / "base", "given")))
    found = judge_so_far(suite.expectations[0], record, finished=False)
    assert (found.verdict.outcome, found.standing) == ("error", "provisional")
    (run / "scores.json").write_text('{"20": {"eval_accuracy": 0.31}}')
    record.account = open_account(run)
    found = judge_so_far(suite.expectations[0], record, finished=False)
    assert (found.verdict.outcome, found.standing) == ("failed", "settled")
    (unstarted,) = load_suite(suite_file(f"geomcheck: 1\nexpect:\n  - {{id: it, {keys}}}\n")).expectations
    assert due(unstarted, record.points, finished=False).waits_for == "the last checkpoint"
    (everywhere,) = load_suite(suite_file(f"geomcheck: 1\nexpect:\n  - {{id: it, {keys}, at: all}}\n")).expectations
    assert judge_so_far(everywhere, record, finished=False).standing == "settled"


STAYS = {"failed": ("failed", "error"), "passed": ("passed", "error"), "error": ("error",)}
"""What the whole run may come to, by what was settled before."""


@dataclass(frozen=True)
class World:
    """A run whose figures are drawn by `seed`; weights stay at W0 until the checkpoint with the index in `thaw`."""

    steps: tuple[int, ...]
    seed: int
    thaw: tuple[int, ...] = (0, 0, 0, 0)
    drift: float = 0.0

    def figure(self, step, *what):
        """Drawn anew for each checkpoint, partner and weight, and growing along the run by `drift`."""
        return random.Random(f"{self.seed} {step} {what}").choice((1.0, 1.5, 2.0)) + self.drift * step / 100


METRICS = {  # with the parameters that a checkpoint may be
    "stable_rank": [{}],
    "update_norm": [{}],
    "frozen_share": [{}],
    "subspace_alignment": [
        {"to": to} for to in ("first", "last", "previous", {"step": 30}, {"progress": "50%"}, {"progress": "20%"})
    ],
    "subspace_energy": [{"from": place} for place in ("first", {"progress": "20%"})],
}


def filled(name, params):
    metric = load_metrics()[name]
    return {p.name: params.get(p.name, p.default) for p in metric.parameters}


def record_of(world, asked, count=None, run="world"):
    """The record of the first `count` checkpoints: what is `asked`, as a measurement of these alone gives it."""
    points = points_at(*world.steps)[:count]
    weights = {name: describe(name, (64, 64)) for name in WEIGHTS}
    record = Record(run, f"/runs/{run}", "hf", points, Origin("/base", "given"), weights)
    rows = []
    for name, params in [*asked, ("frozen_share", {})]:
        metric = load_metrics()[name]
        record.versions[name] = metric.version
        for index, point in enumerate(points):
            if is_trivial(metric, params, points, index):
                continue
            for weight, thaw in zip(WEIGHTS, world.thaw, strict=True):
                figure = figure_of(world, metric, params, points, index, weight, index < thaw)
                rows.append(Row(point.step, weight, Request.of(metric, params), metric.stat(params), figure))
    record.columns = columns_of(rows)
    return record


def figure_of(world, metric, params, points, index, weight, unchanged):
    if metric.name == "frozen_share":
        return Figure(value=float(unchanged))
    if unchanged:
        return Figure(value=0.0) if metric.when_unchanged else Figure(undefined="it did not change")
    partners = [locate(points, params[p.name], index) for p in metric.parameters if p.kind == "checkpoint"]
    if None in partners:
        return Figure(undefined="there is no such checkpoint")
    return Figure(value=world.figure(points[index].step, metric.name, [points[i].step for i in partners], weight))


LEVEL = st.sampled_from([0.0, 0.5, 1.2, 1.5, 1.7, 2.5, 4.0])
STEPS = st.lists(st.integers(1, 20).map(lambda n: 5 * n), min_size=2, max_size=6, unique=True).map(sorted).map(tuple)
PLACE = st.one_of(
    st.sampled_from([FIRST, LAST]),
    st.integers(1, 20).map(lambda n: Place(step=5 * n)),
    st.integers(0, 20).map(lambda n: Place(progress=f"{5 * n}%")),
)
ONE = PLACE.map(lambda place: At(place, place, single=True))
SPAN = st.one_of(st.just(ALL), st.builds(At, PLACE, st.just(LAST)), st.builds(At, st.just(FIRST), PLACE))
SCALE = Scale(load_metrics()["stable_rank"].unit)
TOLERANCE = st.builds(Tolerance, st.sampled_from([0.0, 0.2, 0.5, 1.0]), st.booleans())
BAND = st.tuples(LEVEL, LEVEL).map(sorted).map(lambda edges: within(*map(Quantity, edges), SCALE))
TREND = st.builds(Trend, st.sampled_from(["rising", "falling", "flat"]), TOLERANCE, st.just(SCALE))
LIKE = st.one_of(st.builds(kind, TOLERANCE, st.just(SCALE)) for kind in (Like, Unlike))
BANDS = st.lists(st.tuples(PLACE, BAND), min_size=1, max_size=3, unique_by=lambda pair: pair[0]).map(
    lambda pairs: Bands(dict(pairs), SCALE)
)


@st.composite
def figure_expectations(draw, conditions):
    condition = draw(conditions)
    metric = draw(st.sampled_from(sorted(METRICS)))
    places = SPAN if isinstance(condition, Trend) else st.one_of(SPAN, ONE)
    per = draw(st.sampled_from(["run", "layer", "module", "weight"]))
    return Expectation(
        id="it",
        metric=metric,
        params=filled(metric, draw(st.sampled_from(METRICS[metric]))),
        condition=condition,
        at=condition.own_places if isinstance(condition, Bands) else draw(places),
        per=per,
        fold=draw(st.sampled_from(["mean", "median", "max", "min", "p95"])),
        weights=Selection(),
        allow=0.0 if per == "run" else draw(st.sampled_from([0.0, 0.25, 0.5, 0.75])),
        position=HERE,
    )


def regime_expectations():
    """Of profiles that the figures of a `World` are sometimes nearest to."""
    centres = [{"update_support": v, "principal_angle": v, "spectral_shift": v} for v in (0.5, 1.4, 2.5)]
    profiles = tuple(Profile(name, c, reach=0.3) for name, c in zip(("a", "b", "c"), centres, strict=True))
    condition = st.sampled_from("abc").map(lambda name: Regime(name, profiles))
    fixed = {
        "id": st.just("it"),
        "metric": st.just("regime"),
        "weights": st.just(Selection()),
        "position": st.just(HERE),
    }
    return st.builds(Expectation, condition=condition, at=st.one_of(SPAN, ONE), **fixed)


@st.composite
def worlds(draw):
    steps = draw(STEPS)
    thaw = draw(st.one_of(st.just((0,) * 4), st.tuples(*[st.integers(0, len(steps))] * 4)))
    return World(steps, draw(st.integers(0, 10**6)), thaw, draw(st.sampled_from([0.0, 0.0, 2.0, 8.0, -1.0])))


KINDS = {
    "band": figure_expectations(BAND.map(Within)),
    "bands": figure_expectations(BANDS),
    "trend": figure_expectations(TREND),
    "like": figure_expectations(LIKE),
    "regime": regime_expectations(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_settled_stays(kind):
    """A settled violation is one of the whole run, whatever comes; a settled pass passes, or cannot be judged."""

    @settings(max_examples=200, deadline=None)
    @given(KINDS[kind], worlds(), worlds())
    def stays(expectation, world, other):
        asked = [(q.metric.name, q.params) for q in expectation.questions()]
        reference = record_of(other, asked, run="reference")
        whole = record_of(world, asked)
        end = judge_so_far(expectation, whole, finished=True, reference=reference)
        assert (end.standing, end.verdict) == ("settled", judge(expectation, whole, reference))
        for count in range(len(world.steps) + 1):
            record = record_of(world, asked, count)
            found = judge_so_far(expectation, record, finished=False, reference=reference)
            if found.standing == "settled":
                assert end.verdict.outcome in STAYS[found.verdict.outcome]
            else:
                assert found.due.waits_for or found.verdict.counts.frozen

    stays()
