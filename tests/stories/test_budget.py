"""A session with ``--geom-budget``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import geomcheck
from geomcheck.suite.early import Sampling
from tests.files import tree
from tests.runs import age, write_run

SUITE = """
geomcheck: 1
name: mine
expect:
  - {id: support, metric: update_support, above: 1%}
  - {id: alignment, metric: subspace_alignment, k: 4, above: 0.1, at: first}
  - {id: rank, metric: stable_rank, above: 100%}
  - {id: angle, metric: principal_angle, k: 2, fold: median, below: 60 deg}
  - {id: each, metric: spectral_share, per: weight, allow: 50%, below: 90%}
  - {id: course, metric: stable_rank, trend: flat, tolerance: 100%}
""".replace("above: 100%}", "above: 1.01}")

VIOLATED = """
geomcheck: 1
name: mine
expect:
  - {id: rank, metric: stable_rank, above: 20}
"""

LIKE = """
geomcheck: 1
name: mine
expect:
  - {id: alike, metric: stable_rank, like: reference, tolerance: 80%}
"""

Session = Callable[..., pytest.RunResult]


def write_many(directory: Path, seed: int = 0, layers: int = 12) -> Path:
    """A run of four small matrices in each of `layers`."""
    chance = torch.Generator().manual_seed(seed)
    names = [f"model.layers.{layer}.self_attn.{which}_proj.weight" for layer in range(layers) for which in "qkvo"]
    base = {name: torch.randn(24, 24, generator=torch.Generator().manual_seed(9)) / 8 for name in names}
    ways = {name: torch.randn(24, 24, generator=chance) for name in names}
    checkpoints = {
        step: {
            name: base[name] + 1e-4 * step * ways[name] + 3e-4 * torch.randn(24, 24, generator=chance) for name in names
        }
        for step in (10, 20)
    }
    return age(write_run(directory, base, checkpoints))


@pytest.fixture
def session(pytester: pytest.Pytester, write_suite: Callable[..., Path]) -> Session:
    """``pytest --geom-run=many --geom-budget=...`` on a run of 48 weights, with a suite and without a cache."""
    write_many(pytester.path / "many")

    def run(
        *arguments: str, suite: str = SUITE, budget: str = "10m", path: str = "many", spread: bool = False
    ) -> pytest.RunResult:
        write_suite(suite)
        given = ("--geom-suite=mine", *(("--geom-budget=" + budget,) if budget else ()), "--geom-json=verdicts.json")
        cache = () if any(argument.startswith("--geom-cache") for argument in arguments) else ("--geom-cache=off",)
        start = pytester.runpytest_subprocess if spread else pytester.runpytest_inprocess
        return start(f"--geom-run={path}", *given, *cache, *arguments)

    return run


def verdicts(pytester: pytest.Pytester) -> dict[str, Any]:
    document = json.loads((pytester.path / "verdicts.json").read_text())
    return {own["id"]: own for run in document["runs"] for suite in run["suites"] for own in suite["expectations"]}


def test_a_clear_run_is_decided_on_some_of_its_weights(session: Session, pytester: pytest.Pytester) -> None:
    result = session("-k", "not course")
    assert result.ret == 0
    found = verdicts(pytester)
    assert found.pop("support")["decided"] == {"words": "exact"}
    for own in found.values():
        decided = own["decided"]
        assert decided["weights"] < decided["of"] == 48
        assert decided["words"] in own["message"]
        assert own["weights"]["measured"] == decided["weights"]
    result.stdout.fnmatch_lines(["*decided at 99% on * of 48 weights*"])
    result.stdout.fnmatch_lines(
        ["note: 4 verdicts on a part of the weights, none of which is wrong with 99% prob*; 1 exact"]
    )


def test_the_same_inputs_give_the_same_verdicts(session: Session, pytester: pytest.Pytester) -> None:
    session()
    first = verdicts(pytester)
    session("--geom-workers=1")
    assert verdicts(pytester) == first


def test_what_needs_every_weight_is_exact(session: Session, pytester: pytest.Pytester) -> None:
    assert session("-k", "course").ret == 0
    assert verdicts(pytester)["course"]["decided"] == {"words": "exact"}


def test_a_violation_is_decided_early_and_measured_whole_with_lf(session: Session, pytester: pytest.Pytester) -> None:
    result = session(suite=VIOLATED)
    assert result.ret == 1
    assert verdicts(pytester)["rank"]["decided"]["weights"] < 48
    result.stdout.fnmatch_lines(["stable_rank left value > 20 *; decided at 99% on * of 48 weights"])
    assert session("--lf", suite=VIOLATED).ret == 1
    assert verdicts(pytester)["rank"]["decided"] == {"words": "exact"}
    assert verdicts(pytester)["rank"]["weights"]["measured"] == 48


def test_lf_keeps_to_the_budget_where_no_expectation_failed(session: Session, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_other="def test_other(): assert False")
    assert pytester.runpytest_inprocess("test_other.py").ret == 1
    assert session("--lf", suite=VIOLATED).ret == 1
    assert verdicts(pytester)["rank"]["decided"]["weights"] < 48


def test_what_is_not_decided_in_time_is_an_error(session: Session, pytester: pytest.Pytester) -> None:
    result = session("-k", "rank", budget="0.000001")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["*the time was up when the entries of 0 of 48 weights were compared, and before all are * give more time"]
    )
    assert {own["outcome"] for own in verdicts(pytester).values()} == {"error"}


def test_a_time_that_ends_among_the_weights_says_what_is_open_and_why_and_the_next_session_goes_on(
    session: Session, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = f"""{VIOLATED}  - {{id: hill, metric: hill_exponent, k: 4, below: 1000, at: last}}
  - {{id: course, metric: stable_rank, trend: flat, tolerance: 100%}}
"""
    cache = f"--geom-cache={pytester.path / 'memory'}"
    with monkeypatch.context() as patch:
        patch.setattr(Sampling, "seconds_left", property(lambda own: 0.0 if own.decisions else 60.0))
        assert session(cache, suite=suite).ret == 1
    found = verdicts(pytester)
    assert {name: own["outcome"] for name, own in found.items()} == {
        "rank": "failed",
        "hill": "error",
        "course": "error",
    }
    assert " of 48 weights, and it is decided by all of them alone; give more time" in (found["course"]["message"])
    assert (
        "and these do not decide it at 99%; give more time, or measure the rest with --lf (what was measured is"
        in (found["hill"]["message"])
    )
    session(cache, suite=suite)
    assert {name: own["outcome"] for name, own in verdicts(pytester).items()} == {
        "rank": "failed",
        "hill": "passed",
        "course": "passed",
    }


def test_each_of_several_runs_is_judged_within_the_budget(session: Session, pytester: pytest.Pytester) -> None:
    write_many(pytester.path / "other", seed=3)
    assert session("--geom-run=other", "-k", "rank").ret == 0
    runs = json.loads((pytester.path / "verdicts.json").read_text())["runs"]
    found = {run["name"]: own["decided"] for run in runs for suite in run["suites"] for own in suite["expectations"]}
    assert found.keys() == {"many", "other"}
    assert all(decided["weights"] < decided["of"] == 48 for decided in found.values())


def test_a_partial_record_says_so_and_is_not_judged_as_a_whole(session: Session, pytester: pytest.Pytester) -> None:
    assert session("--geom-record=part.parquet", "--geom-report=page.html", "-k", "angle").ret == 0
    assert "of 48 weights" in (pytester.path / "page.html").read_text()
    result = session("-k", "angle", path="part.parquet", budget="")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*the record is partial*"])
    result.stdout.fnmatch_lines(["note: many: partial: all that was asked for is measured of * of 48 weights*"])


def test_a_record_is_judged_exactly(session: Session, pytester: pytest.Pytester) -> None:
    assert session("--geom-record=whole.parquet", budget="").ret == 0
    assert session(path="whole.parquet", budget="0.001").ret == 0
    assert all(own["decided"] == {"words": "exact"} for own in verdicts(pytester).values())


def test_workers_of_xdist_give_the_same_verdicts(session: Session, pytester: pytest.Pytester) -> None:
    session("-k", "rank or angle")
    alone = verdicts(pytester)
    session("-k", "rank or angle", "-n1", spread=True)
    assert verdicts(pytester).keys() == alone.keys()
    assert all("weights" in own["decided"] for own in verdicts(pytester).values())


def test_a_reference_is_compared_with_as_a_whole(session: Session, pytester: pytest.Pytester) -> None:
    write_many(pytester.path / "good", seed=1)
    assert session("--geom-reference=good", suite=LIKE).ret == 0
    assert verdicts(pytester)["alike"]["decided"]["weights"] < 48


def test_what_was_measured_is_remembered(session: Session, pytester: pytest.Pytester) -> None:
    place = f"--geom-cache={pytester.path / 'memory'}"
    session(place, suite=VIOLATED)
    early = verdicts(pytester)
    session(place, suite=VIOLATED)
    assert verdicts(pytester) == early
    session(place, suite=VIOLATED, budget="")
    assert verdicts(pytester)["rank"]["decided"] == {"words": "exact"}


def test_a_band_of_stable_rank_is_decided_by_ceilings_which_no_record_holds(
    session: Session, pytester: pytest.Pytester
) -> None:
    band = VIOLATED.replace("above: 20", "below: 9")
    assert session("--geom-record=part.parquet", suite=band).ret == 0
    assert verdicts(pytester)["rank"]["decided"]["words"].startswith("certain after 16 of 48 weights")
    assert "stable_rank_ceiling" not in geomcheck.read_record(pytester.path / "part.parquet").measured_metrics()


def test_nothing_is_written_into_the_run(session: Session, pytester: pytest.Pytester) -> None:
    before = tree(pytester.path / "many")
    session()
    assert tree(pytester.path / "many") == before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--geom-budget=0"], "nothing can be measured in no time"),
        (["--geom-budget=-1"], "give a time such as 10m"),
        (["--geom-budget=10 minutes"], "did you mean --geom-budget=10m?"),
        (["--geom-budget=10m", "--geom-confidence=100%"], "only every weight gives that"),
        (["--geom-budget=10m", "--geom-confidence=99"], "did you mean --geom-confidence=99%?"),
        (["--geom-confidence=99%"], "is for --geom-budget"),
    ],
)
def test_a_value_that_is_none_is_wrong_usage(session: Session, options: list[str], says: str) -> None:
    result = session(*options, budget="")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert says in result.stderr.str()
