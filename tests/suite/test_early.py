"""What is decided before every weight is measured, and by what."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from geomcheck.errors import UsageError
from geomcheck.record import Record
from geomcheck.suite import Suite
from geomcheck.suite.early import Decision, judge_as, parse_budget
from geomcheck.suite.early.claims import Claim, Population
from geomcheck.suite.early.doubt import Doubt
from geomcheck.suite.early.frame import frame
from geomcheck.suite.early.sampling import in_random_order
from geomcheck.suite.early.wager import Wager

NAMES = [f"model.layers.{layer}.self_attn.{which}_proj.weight" for layer in range(25) for which in "qkvo"]
SHAPES = dict.fromkeys(NAMES, (64, 64))


@pytest.fixture
def decide(load: Callable[..., Suite], make_record: Callable[..., Record]) -> Callable[..., tuple[bool | None, int]]:
    """Whether an expectation was decided to hold, and by how many of the 100 weights, in a random order."""

    def decided(
        keys: str,
        values: Mapping[str, float],
        *,
        noted: Mapping[tuple[str, str], float] | None = None,
        limits: Mapping[str, float] | None = MappingProxyType({}),
        **more: Any,
    ) -> tuple[bool | None, int]:
        (expectation,) = load(f"- {{id: it, {keys}}}").expectations
        request = expectation.questions()[0].request
        metric = f"{request.metric} {request.params}"
        figures = {**(noted or {}), (metric, "value"): lambda _, name: values[name]}
        whole = make_record(figures, shapes=SHAPES, **more)
        start = replace(whole, columns={key: c for key, c in whole.columns.items() if key[0] != request})
        framed = frame(expectation, start, None)
        if framed is None:
            return None, len(NAMES)
        doubt = Doubt(framed, start, None, alpha=0.001)
        for seen, name in enumerate(random.Random(1).sample(framed.names, len(framed.names)), 1):
            doubt.see(name, {point.step: values[name] for point in whole.points})
            if seen == 8 and doubt.decision(0.99) is None and doubt.awaits_limits:
                assert limits is not None, "asked for ceilings"
                doubt.limit({(point.step, name): limit for point in whole.points for name, limit in limits.items()})
            if seen < len(framed.names) and doubt.decision(0.99) is not None:
                return doubt.holds, seen
        return None, len(NAMES)

    return decided


def around(middle: float, *, spread: float = 0.02, **others: float) -> dict[str, float]:
    figures = {name: middle + spread * np.sin(place) for place, name in enumerate(NAMES)}
    return {**figures, **{NAMES[int(place.removeprefix("w"))]: value for place, value in others.items()}}


ALIGNMENT = "metric: subspace_alignment, k: 4, at: first"


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("above: 0.5", True),
        ("below: 0.5", False),
        ("within: [0.5, 0.99]", True),
        ("within: [0.1, 0.5]", False),
        ("near: 0.8, tolerance: 0.18", True),
        ("near: 0.3, tolerance: 0.1", False),
        ("bands: [{step: 100, within: [0.5, 0.99]}]", True),
        ("bands: [{step: 100, within: [0.1, 0.5]}]", False),
        ("above: 0.5, fold: weighted", True),
        ("within: [0.75, 0.9], fold: median", True),
        ("below: 0.75, fold: median", False),
        ("above: 0.5, fold: p95", True),
        ("above: 0.6, per: weight, allow: 20%", True),
        ("above: 0.9, per: weight, allow: 20%", False),
        ("above: 0.3, per: module", True),
        ("above: 0.9, per: module", False),
    ],
)
def test_a_clear_case_is_decided_early(decide, condition: str, holds: bool) -> None:
    at = ALIGNMENT.removesuffix(", at: first") if "bands" in condition else ALIGNMENT
    decided, weights = decide(f"{at}, {condition}", around(0.8))
    assert decided is holds
    assert weights < 80


@pytest.mark.parametrize(
    "condition",
    [
        "below: 0.9, fold: max",
        "above: 0.7, fold: min",
        "above: 0.7, per: weight",
        "above: 0.799",
        "near: 0.8, tolerance: 0.001",
        "below: 0.9, fold: p95, per: layer",
    ],
)
def test_a_case_that_one_weight_can_turn_is_not(decide, condition: str) -> None:
    decided, weights = decide(f"{ALIGNMENT}, {condition}", around(0.8))
    assert decided is None or weights > 90


def test_one_bad_weight_under_a_mean_near_its_bound_keeps_it_open(decide) -> None:
    assert decide(f"{ALIGNMENT}, below: 0.31", around(0.3, spread=0.001))[1] > 90
    assert decide(f"{ALIGNMENT}, below: 0.31", around(0.3, spread=0.001, w7=1.0, w8=1.0))[1] > 90


def test_one_violation_decides_where_none_is_allowed(decide) -> None:
    bad = {f"w{place}": 0.1 for place in range(0, 100, 10)}
    holds, weights = decide(f"{ALIGNMENT}, above: 0.7, per: weight", around(0.8, **bad))
    assert holds is False
    assert weights < 40
    assert decide(f"{ALIGNMENT}, above: 0.7, fold: min", around(0.8, **bad))[0] is False


def test_figures_without_a_bound_are_all_needed_for_a_mean_and_not_for_a_median(decide) -> None:
    figures = {name: 2.0 + place / 1000 for place, name in enumerate(NAMES)}
    hill = "metric: hill_exponent, k: 8, at: last"
    assert decide(f"{hill}, below: 3", figures) == (None, 100)
    assert decide(f"{hill}, below: 3, fold: median", figures)[1] < 40


def test_a_spectral_shift_is_at_most_the_relative_norm(decide) -> None:
    shifts, wanted = dict.fromkeys(NAMES, 0.001), "metric: spectral_shift, at: last, below: 0.3%"
    assert decide(wanted, shifts, noted={("relative_update_norm", "value"): 0.9})[1] > 90
    assert decide(wanted, shifts, noted={("relative_update_norm", "value"): 0.004})[1] < 40


@pytest.mark.parametrize(
    ("condition", "spared", "holds"),
    [
        ("within: [2, 6]", 40, True),
        ("below: 6", 90, True),
        ("above: 8", 90, False),
        ("below: 6, fold: weighted", 90, True),
        ("below: 6, fold: max", 90, True),
        ("below: 6, per: weight", 90, True),
        ("below: 6, per: layer", 90, True),
        ("below: 6, fold: p95, per: layer", 90, True),
    ],
)
def test_a_stable_rank_is_decided_by_ceilings_that_are_learned_later(
    decide, condition: str, spared: int, holds: bool
) -> None:
    ranks = around(5.0, spread=0.5)
    ceilings = {name: 1.02 * rank for name, rank in ranks.items()}
    decided, weights = decide(f"metric: stable_rank, at: last, {condition}", ranks, limits=ceilings)
    assert (decided, 100 - weights >= spared) == (holds, True)
    assert decide(f"metric: stable_rank, at: last, {condition}", ranks)[1] > 60


def test_a_verdict_by_ceilings_does_not_claim_figures_of_layers_of_which_it_has_none(load, make_record) -> None:
    (expectation,) = load("- {id: it, metric: stable_rank, at: last, below: 6, per: layer}").expectations
    start = make_record({}, shapes=SHAPES)
    framed = frame(expectation, start, None)
    assert framed is not None
    doubt = Doubt(framed, start, None, alpha=0.001)
    for name in NAMES[:8]:  # of the first two layers
        doubt.see(name, {point.step: 5.0 for point in start.points})
    doubt.limit({(point.step, name): 5.5 for point in start.points for name in NAMES})
    decision = doubt.decision(0.99)
    assert decision is not None
    assert decision.decided is not None
    assert decision.decided.words == "certain after 8 of 100 weights, in 2 of 25 layers"
    assert Decision.of(decision.to_dict()) == decision


def test_ceilings_that_cannot_decide_are_not_asked_for(decide) -> None:
    ranks = around(5.0, spread=0.5)
    for condition in ("above: 2", "below: 4", "above: 2, per: weight", "above: 2, fold: min"):
        decide(f"metric: stable_rank, at: last, {condition}", ranks, limits=None)
    with pytest.raises(AssertionError, match="asked for ceilings"):
        decide("metric: stable_rank, at: last, below: 6", ranks, limits=None)


def test_weights_that_stand_still_are_not_waited_for(decide) -> None:
    still = lambda _, name: NAMES.index(name) >= 40  # noqa: E731
    holds, weights = decide(f"{ALIGNMENT}, above: 0.5", around(0.8), frozen=still)
    assert holds is True
    assert weights < 20


def test_a_wager_is_lost_where_the_claim_is_true() -> None:
    chance, ever = np.random.default_rng(0), 0
    for _ in range(2000):
        members = chance.permutation(np.where(np.arange(50) < 10, 0.8, -0.2))  # they add up to zero
        wager = Wager(np.full(50, 0.8))
        for place, value in enumerate(members.tolist()):
            wager.see(place, value)
        ever += wager.evidence >= 10
    assert ever <= 2000 * 0.1


def test_a_wager_is_lost_whenever_the_bounds_of_its_members_become_known() -> None:
    chance, ever = np.random.default_rng(1), 0
    figures = np.where(np.arange(50) < 10, 0.8, -0.2)
    for _ in range(2000):
        wager, when = Wager(np.full(50, 5.0)), chance.integers(40)
        for count, member in enumerate(chance.permutation(50).tolist()):
            if count == when:
                wager.limit(figures + 0.05)
            wager.see(member, figures[member])
        ever += wager.evidence >= 10
    assert 0 < ever <= 2000 * 0.1


def test_the_evidence_is_that_of_the_reference_code() -> None:
    """By `confseq.betting.diversified_betting_mart` (github.com/gostevehoward/confseq at 70b1ef3) for these 40 figures
    and a mean of 0.35 (``N=40, theta=0, trunc_scale=1``, bets ``2**-i / (1 - mu_t)``), after 1, 10, 20 and 30."""
    figures = (np.arange(40) * 17 % 40) / 100 + 0.1
    wager, capital = Wager(np.full(40, 1 - 0.35)), []
    for member, figure in enumerate(figures.tolist()):
        wager.see(member, figure - 0.35)
        capital.append(wager.capital)
    expected = [1.1090315934065934, 1.2654120925286914, 2.3381787055429815, 9.541104811025644]
    assert [capital[count - 1] for count in (1, 10, 20, 30)] == pytest.approx(expected, rel=1e-12)


def test_what_is_certain_is_told_from_what_is_likely() -> None:
    population = Population(np.zeros(4), np.ones(4), np.ones(4))
    claim = Claim(population, "mean", 0.5, "below")
    claim.see(0, 0.0)
    claim.see(1, 0.0)
    assert not claim.certain  # the rest may be 1
    claim.see(2, 0.9)
    assert claim.certain
    assert claim.proven(0.0)


@pytest.mark.parametrize(("how", "edge"), [("median", 2.5), ("p95", 9.5), ("max", 9.5), ("min", 0.5)])
def test_quantiles_are_those_of_the_exact_fold(how, edge: float) -> None:
    figures = [1.0, 2.0, 3.0, 4.0, 9.4]
    population = Population(np.zeros(5), np.full(5, np.inf), np.ones(5))
    for side in ("below", "above"):
        claim = Claim(population, how, edge, side)
        for place, figure in enumerate(figures):
            claim.see(place, figure)
        exact = {"median": 3.0, "p95": 8.32, "max": 9.4, "min": 1.0}[how]
        assert claim.certain == ((exact < edge) == (side == "below"))


def test_the_order_is_the_same_for_the_same_seed() -> None:
    assert in_random_order(NAMES, "a") == in_random_order(reversed(NAMES), "a")
    assert in_random_order(NAMES, "a") != in_random_order(NAMES, "b")
    assert sorted(in_random_order(NAMES, "a")) == sorted(NAMES)


def test_what_is_undecided_is_an_error(load, make_record) -> None:
    (expectation,) = load("- {id: it, metric: stable_rank, above: 2}").expectations
    verdict = judge_as(Decision(reason="the time was up"), expectation, make_record({("stable_rank", "value"): 3.0}))
    assert (verdict.outcome, verdict.observed) == ("error", ())
    assert verdict.message == "cannot judge stable_rank: the time was up"


def test_a_verdict_says_how_it_was_decided(load, make_record) -> None:
    (expectation,) = load("- {id: it, metric: stable_rank, above: 2}").expectations
    record = make_record({("stable_rank", "value"): 3.0})
    assert judge_as(None, expectation, record).to_dict()["decided"] == {"words": "exact"}


@pytest.mark.parametrize(
    ("written", "seconds"), [("10m", 600), ("90s", 90), ("90", 90), ("1.5h", 5400), ("0.5", 0.5), (".5m", 30)]
)
def test_a_budget_is_a_time(written: str, seconds: float) -> None:
    budget = parse_budget(written, None, option="--geom-budget=", beside="--geom-confidence=")
    assert (budget.seconds, budget.confidence) == (seconds, 0.99)


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("0", "nothing can be measured in no time"),
        ("0m", "nothing can be measured in no time"),
        ("-5", "give a time such as 10m"),
        ("nan", "give a time such as 10m"),
        ("inf", "give a time such as 10m"),
        ("1e3", "give a time such as 10m"),
        ("10 minutes", "did you mean --geom-budget=10m\\?$"),
        ("10min", "did you mean --geom-budget=10m\\?$"),
        ("5 Sec", "did you mean --geom-budget=5s\\?$"),
        ("1h30m", "seconds as a number$"),
        ("soon", "give a time such as 10m"),
        ("9" * 400, "nothing can be measured in no time"),
        ("١٠", "give a time such as 10m"),
    ],
)
def test_what_is_no_time_is_refused(written: str, says: str) -> None:
    with pytest.raises(UsageError, match="--geom-budget=") as refused:
        parse_budget(written, None, option="--geom-budget=", beside="--geom-confidence=")
    assert re.search(says, str(refused.value))


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("100%", "only every weight gives that"),
        ("1", "only every weight gives that"),
        ("0", "give 50% or more"),
        ("0%", "give 50% or more"),
        ("99", "did you mean --geom-confidence=99%?"),
        ("-1%", "give 50% or more"),
        ("nan", "--geom-confidence=nan"),
        ("high", "--geom-confidence=high"),
        ("150%", "--geom-confidence=150%"),
    ],
)
def test_what_is_no_confidence_is_refused(written: str, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_budget("10m", written, option="--geom-budget=", beside="--geom-confidence=")
    assert says in str(refused.value)


@pytest.mark.parametrize(("written", "confidence"), [("99%", 0.99), ("99.9%", 0.999), ("0.95", 0.95), ("50%", 0.5)])
def test_a_confidence_is_a_share(written: str, confidence: float) -> None:
    budget = parse_budget("10m", written, option="--geom-budget=", beside="--geom-confidence=")
    assert budget.confidence == pytest.approx(confidence)
