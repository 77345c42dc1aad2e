"""What is refused when a suite is loaded: the sentence, and where it points."""

import pytest

GRAMMAR = [
    ("metric: stable_rnk\nabove: 3", "5:13: unknown metric `stable_rnk`; did you mean `stable_rank`? (all: geomcheck"),
    ("metric: nope\nabove: 3", "5:13: unknown metric `nope`; metrics: update_sparsity, "),
    ("above: 3", "4:5: expectation `it` needs `metric` (or `regime` or `trains`); metrics: "),
    (
        "metric: stable_rank\nabov: 3\nbelow: 9",
        "6:5: unknown key `abov` in expectation `it`; allowed: id, at, weights, level, only_with, why, metric, per, "
        "fold, allow, within, bands, above, below, near, trend, like, unlike, normal, tolerance; did you mean `above`?",
    ),
    ("metric: stable_rank\nk: 3\nabove: 3", "6:5: unknown key `k` in expectation `it`"),
    ("metric: stable_rank\nabove: true", "6:12: `above`: found `true`; expected a plain number such as `25`"),
    ("metric: stable_rank\nabove: 30%", "6:12: `above`: `30%` has the unit `%`; expected a plain number"),
    ("metric: stable_rank\nabove: .inf", "6:12: `above`: `inf` is not a finite number"),
    ("metric: stable_rank\nabove:", "`above`: found nothing"),
    ("metric: stable_rank\nwithin: [1, x]", "6:17: `within`: `x` is not a number"),
    ("metric: stable_rank\nwithin: 20", "6:13: `within`: expected two values, `[low, high]`; found `20`"),
    (
        "metric: principal_angle\nnear: 1\ntolerance: 50%",
        "6:11: `near`: `1` has no unit; write `1 deg`, `1°` or `0.0175 rad`",
    ),
    ("metric: principal_angle\nnear: 1 deg\ntolerance: 0.5", "7:16: `tolerance`: `0.5` has no unit; write `0.5 deg`"),
    ("metric: principal_angle\nbelow: 1 deg\nstat: avg", "7:11: `stat`: found `avg`; allowed: max, mean, median, p95"),
    ("metric: principal_angle\nbelow: 1 deg\nk: 100%", "7:8: `k`: `100%` is not above 0% and below 100%; allowed: "),
    ("metric: hill_exponent\nabove: 1\nk: 1", "7:8: `k`: found `1`; allowed: an integer >= 2, or a share"),
    (
        "metric: low_magnitude_overlap\nabove: 0.5\nalpha: 3",
        "7:12: `alpha`: 3 is out of range; allowed: from 0.01 to 0.99",
    ),
    ("metric: subspace_alignment\nabove: 0.5\nat: first\nto: lst", "8:9: `to`: `lst` is not a checkpoint; allowed: "),
    ("metric: stable_rank\nabove: 3\nlevel: eror", "7:12: `level`: found `eror`; allowed: error, warn, info; did you"),
    ("metric: stable_rank\nabove: 3\nper: layers", "7:10: `per`: found `layers`; allowed: run, layer, module, weight"),
    ("metric: stable_rank\nabove: 3\nfold: avg", "7:11: `fold`: found `avg`; allowed: mean, median, max, min, p95"),
    ("metric: stable_rank\nabove: 3\nwhy: 5", "7:10: `why`: expected a text; found `5`"),
    ("metric: stable_rank\nabove: 3\nat: {step: x}", "7:16: `at`: a step is an integer >= 0; found `x`"),
    ("metric: stable_rank\nabove: 3\nweights: {include: [3]}", "7:25: `weights`: a glob is a text; found `3`"),
    ("metric: stable_rank\nabove: 3\nweights:", "`weights`: found nothing"),
    ("regime: ppo", "5:13: `regime`: found `ppo`; allowed: sft, opd, rlvr"),
    (
        "regime: opd\nper: layer",
        "6:5: unknown key `per` in expectation `it`; allowed: id, at, weights, level, only_with, why, regime",
    ),
]

CONDITIONS = [
    (
        "metric: stable_rank",
        "4:5: expectation `it` has no condition; one of: within, bands, above, below, near, trend, like",
    ),
    (
        "metric: stable_rank\nwithin: [1, 2]\nabove: 3",
        "7:5: expectation `it` has several conditions, `within` and `above`; keep one (only `above` and `below` go "
        "together)",
    ),
    (
        "metric: stable_rank\nabove: 3\ntolerance: 1",
        "7:5: `tolerance` goes with near, trend, like, unlike, not with `above`",
    ),
    ("metric: stable_rank\nnear: 3", "6:5: `near` needs a `tolerance`: an amount, or a percentage such as `10%`"),
    ("metric: stable_rank\ntrend: flat", "6:5: `trend` needs a `tolerance`"),
    ("metric: stable_rank\nlike: reference", "6:5: `like` needs a `tolerance`"),
    ("metric: stable_rank\nregime: opd", "6:5: `regime` stands instead of `metric`; remove one"),
    ("regime: opd\nmetric: stable_rank\nabove: 3", "5:5: `regime` stands instead of `metric`; remove one"),
    ("metric: stable_rank\nabov: 3", "6:5: unknown key `abov` in expectation `it`; allowed: "),
    ("metric: stable_rank\nWithin: [1, 2]", "did you mean `within`?"),
    ("metric: stable_rank\nlike: other\ntolerance: 1", "6:11: `like`: found `other`; allowed: reference"),
    ("metric: stable_rank\nnear: 3\ntolerance: -1", "7:16: `tolerance`: `-1`: a tolerance is not negative"),
    ("metric: stable_rank\ntrend: flat\ntolerance: -1", "7:16: `tolerance`: `-1`: a tolerance is not negative"),
    ("metric: principal_angle\ntrend: flat\ntolerance: 1 deg", "7:16: `tolerance`: `1 deg` has the unit `deg`"),
]

CANNOT_FAIL = [
    (
        "metric: stable_rank\nabove: 3\nonly_with: reference",
        "7:16: stable_rank is not compared with a reference run here: `only_with: reference` changes nothing; remove",
    ),
    ("trains: linear\nonly_with: reference", "6:16: trains is not compared with a reference run here"),
    ("metric: update_support\nwithin: [0, 1]", "6:5: `0 <= value <= 1` cannot fail: every figure has 0 <= value <= 1"),
    ("metric: update_support\nwithin: [0%, 100%]", "`0% <= value <= 100%` cannot fail: every figure has 0% <= value"),
    (
        "metric: stable_rank\nabove: 0.5",
        "6:12: the lower bound `0.5` cannot fail: every figure has 1 <= value; leave it out",
    ),
    ("metric: principal_angle\nnear: 45 deg\ntolerance: 45 deg", "6:5: `45 deg +- 45 deg` cannot fail"),
    (
        "metric: update_support\nlike: reference\ntolerance: 1",
        "7:16: a tolerance of 100 points is as wide as the range: two figures are at most 100 points apart",
    ),
    ("metric: stable_rank\nwithin: [30, 20]", "can never hold: the lower bound is above the upper one"),
    ("metric: update_support\nabove: 1", "6:5: `value > 1` can never hold: every figure has 0 <= value <= 1"),
    ("metric: update_support\nbelow: 0", "6:5: `value < 0` can never hold"),
    (
        "metric: update_support\nbelow: 30",
        "6:12: the upper bound `30` (that is 3000%) cannot fail: every figure has 0% <= value <= 100%; did you mean "
        "`30%`?",
    ),
    ("metric: stable_rank\nabove: 3\nallow: 5%", "7:5: `allow` tolerates a share of groups, and a run is one group"),
    (
        "metric: stable_rank\nabove: 3\nper: layer\nallow: 100%",
        "8:12: `allow`: `allow` is a share of the groups, from 0%",
    ),
    ("metric: stable_rank\nabove: 3\nper: weight\nfold: mean", "8:5: `fold` has nothing to fold with `per: weight`"),
    (
        "metric: stable_rank\ntrend: rising\nat: last",
        "7:5: a trend needs two checkpoints or more, and `at: last` selects",
    ),
    (
        "metric: subspace_alignment\nabove: 0.5\nat: last",
        "7:5: subspace_alignment at last with `to: last` compares a checkpoint with itself",
    ),
    (
        "metric: subspace_alignment\nabove: 0.5\nat: {progress: 20%}\nto: {progress: 20.0%}",
        "subspace_alignment at progress 20% with `to: progress 20%` compares a checkpoint with itself",
    ),
    ("metric: subspace_alignment\nabove: 0.5\nto: previous\nat: first", "has nothing to compare with; judge a later"),
    (
        "metric: update_sparsity\nabove: 50%\neta: 0.00390625",
        "7:5: `eta: 0.00390625` after a cast to bf16: adjacent bf16 numbers are at least 2^-8 apart",
    ),
]


@pytest.mark.parametrize(("keys", "message"), GRAMMAR + CONDITIONS + CANNOT_FAIL)
def test_refusals(refusals, keys, message):
    lines = keys.splitlines()
    (problem,) = refusals("  - id: it\n" + "".join(f"    {line}\n" for line in lines))
    assert message in problem


@pytest.mark.parametrize(
    "keys",
    [
        "metric: update_support\nabove: 0\nbelow: 100%",
        "metric: low_magnitude_overlap\nexcess_over: shuffled\nwithin: [0, 1]",
        "metric: update_sparsity\nabove: 50%\neta: 0.1\ncast: none",
        "metric: subspace_alignment\nabove: 0.5",
        "metric: subspace_alignment\nabove: 0.5\nat: last\nto: previous",
        "metric: stable_rank\ntrend: rising",
        "metric: spectral_shift\nnear: 1e-4\ntolerance: 50%",
    ],
)
def test_what_is_allowed(load, keys):
    (expectation,) = load("  - id: it\n" + "".join(f"    {line}\n" for line in keys.splitlines())).expectations
    assert expectation.id == "it"


def test_all_problems_come_at_once_in_file_order(refusals):
    found = refusals(
        """\
        geomcheck: 2
        name: Not a slug
        extend: opd
        applies_to: "*"
        expect:
          - id: a
            metric: stable_rank
            abov: 3
            fold: avg
          - 5
          - id: a
            metric: nope
            above: 1
          - metric: stable_rank
            above: 3
        """
    )
    assert [problem.split(": ")[0] for problem in found] == [
        "1:12",
        "2:7",
        "3:1",
        "4:13",
        "8:5",
        "9:11",
        "10:5",
        "11:9",
        "12:13",
        "14:5",
    ]
    assert found[0].endswith("`geomcheck`: unknown format version `2`; this geomcheck reads `geomcheck: 1`")
    assert found[2].endswith("defaults, extends, expect, normal, calibrated; did you mean `extends`?")
    assert found[6].endswith("an expectation is a mapping with `id` and `metric`; found `5`")
    assert found[7].endswith("`id: a` is given twice: here and in line 6; ids are unique")
    assert found[9].endswith("this expectation needs `id`: name of the expectation, unique in the suite")


def test_a_share_above_100_is_no_forgotten_percent_sign(refusals):
    (problem,) = refusals("  - {id: it, metric: update_support, below: 300}\n")
    assert problem.endswith("every figure has 0% <= value <= 100%; leave it out")


def test_an_unknown_metric_hides_no_error_in_common_keys(refusals):
    keys = (
        "id: It\nmetric: nope\nk: 3\nat: nowhere\nper: layers\nfold: avg\nlevel: eror\nweights: mpl\nwhy: 5\nallow: 2"
    )
    lines = keys.splitlines()
    found = refusals("  - " + "".join(f"    {line}\n" for line in lines).lstrip())
    assert [problem.split(": ")[0] for problem in found] == [
        "4:9",
        "5:13",
        "7:9",
        "8:10",
        "9:11",
        "10:12",
        "11:14",
        "12:10",
        "13:12",
    ]
    assert found[1].startswith("5:13: unknown metric `nope`")


@pytest.mark.parametrize("about", ["level: info", "metric: stable_rank\nregime: opd"])
def test_what_is_about_nothing_known_hides_none_either(refusals, about):
    lines = [*about.splitlines(), "at: nowhere"]
    found = refusals("  - id: it\n" + "".join(f"    {line}\n" for line in lines))
    assert len(found) == 2
    assert "`at`: `nowhere` is not a checkpoint" in found[1]


def test_a_missing_condition_is_reported_beside_other_unknown_keys(refusals):
    found = refusals("  - id: it\n    metric: stable_rank\n    foo: 3\n")
    assert [problem.split(": ")[0] for problem in found] == ["4:5", "6:5"]
    assert "has no condition" in found[0]


@pytest.mark.parametrize(
    ("keys", "percent"),
    [
        ("metric: update_support\nbelow: 30%", True),
        ("metric: update_support\nbelow: 0.3", False),
        ("metric: update_support\nwithin: [0.1, 30%]", True),
        ("metric: update_support\nnear: 0.3\ntolerance: 5%", False),
        ("metric: spectral_shift\nbelow: 1%", True),
        ("metric: update_support\ntrend: rising", True),
        ("metric: update_support\nlike: reference\ntolerance: 0.05", True),
        ("metric: spectral_shift\ntrend: rising", False),
        ("metric: principal_angle\ntrend: rising", False),
        ("metric: stable_rank\nlike: reference\ntolerance: 5%", False),
    ],
)
def test_figures_are_percentages_where_the_suite_writes_them_so_or_the_metric_is_a_share(load, keys, percent):
    lines = "".join(f"    {line}\n" for line in keys.splitlines())
    (expectation,) = load(f"  - id: it\n{lines}").expectations
    assert expectation.condition.percent is percent


def test_parameters_are_filled_in_and_canonical(load):
    text = """\
      - id: a
        metric: principal_overlap
        alpha: 30%
        above: 10%
      - id: b
        metric: principal_overlap
        rank: 64
        above: 10%
      - id: c
        metric: subspace_energy
        from: {progress: 0.20}
        above: 10%
    """
    a, b, c = load(text).expectations
    assert a.params == b.params == {"alpha": 0.3, "rank": 64, "excess_over": "none"}
    assert a.questions()[0].request == b.questions()[0].request
    assert c.params == {"k": 16, "from": {"progress": "20%"}}


def test_the_fold_is_the_papers(load):
    a, b = load(
        "  - {id: a, metric: update_support, above: 1%}\n  - {id: b, metric: stable_rank, above: 2}"
    ).expectations
    assert (a.fold, b.fold) == ("weighted", "mean")
