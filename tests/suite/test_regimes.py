import math

import pytest

from geomcheck.suite.conditions.profile import PAPER, classify


def figures(support, angle, shift):
    return {"update_support": support, "principal_angle": angle, "spectral_shift": shift}


@pytest.mark.parametrize("profile", PAPER, ids=lambda profile: profile.name)
def test_a_profile_is_its_own_regime(profile):
    found = classify(profile.centres)
    assert found.name == profile.name
    assert found.distances[profile.name] == 0
    assert found.margin > 0.3


def test_distance_is_the_mean_of_decades():
    found = classify(figures(0.484, 10.0, 1e-4))
    assert found.distances["opd"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("odd", [0.0, -1.0, math.nan, math.inf])
def test_what_has_no_logarithm_is_like_nothing(odd):
    found = classify(figures(odd, 1.0, 1e-4))
    assert found.name is None
    assert found.margin == 0
    assert found.describe().startswith("outside all profiles")


def test_far_from_all_is_outside():
    found = classify(figures(0.4, 60.0, 1e-1))
    assert found.name is None
    assert found.describe().startswith("outside all profiles (nearest sft, ")


@pytest.fixture
def like_opd(make_record):
    return make_record(
        {("update_support", "value"): 0.45, ("principal_angle", "both.median"): 1.1, ("spectral_shift", "value"): 1e-4}
    )


def test_the_expectation_passes_with_its_evidence(judge, like_opd):
    verdict = judge("regime: opd", like_opd)
    assert verdict.outcome == "passed"
    assert verdict.metric == "regime"
    assert verdict.at == "last"
    assert verdict.condition == "regime is opd (at most 0.5 decades from its profile)"
    assert verdict.decisive == verdict.observed[0]
    assert verdict.percent is False
    assert verdict.message == (
        "regime is opd; at step 300: opd (0.02 decades from its profile, margin 0.52 over rlvr); update_support 0.45 "
        "(opd: 0.484), principal_angle 1.1 deg (opd: 1 deg), spectral_shift 0.0001 (opd: 0.0001)"
    )


def test_the_expectation_fails_with_what_it_looks_like(judge, like_opd):
    verdict = judge("regime: sft\nat: all", like_opd)
    assert verdict.outcome == "failed"
    assert verdict.message.startswith("regime expected sft; at step 100: opd (0.02 decades")
    assert [o.holds for o in verdict.observed] == [False] * 3


def test_the_checkpoint_furthest_from_the_profile_decides(judge, make_record):
    record = make_record(
        {
            ("update_support", "value"): lambda step, _: 0.45 if step < 300 else 0.484,
            ("principal_angle", "both.median"): lambda step, _: 60.0 if step == 200 else 1.0,
            ("spectral_shift", "value"): 1e-4,
        }
    )
    verdict = judge("regime: opd\nat: all", record)
    assert verdict.outcome == "failed"
    assert verdict.decisive == verdict.observed[1]
    assert verdict.message.startswith("regime expected opd; at step 200: ")


def test_it_asks_for_all_its_evidence(load, like_opd):
    suite = load("  - {id: a, regime: opd}")
    (requests,) = {frozenset(wanted) for wanted in suite.requests(like_opd).values()}
    assert {request.metric for request in requests} == {"update_support", "principal_angle", "spectral_shift"}
