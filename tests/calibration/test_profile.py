"""Profiles from runs: the real ones are told apart, and what is like none of them is said to be so."""

from __future__ import annotations

from pathlib import Path

import pytest

import geomcheck
from geomcheck.calibration import calibrate_profile
from geomcheck.errors import SuiteError, UsageError
from geomcheck.suite import classify, load_profiles
from geomcheck.suite.conditions.profile import EVIDENCE
from geomcheck.suite.conditions.regime import evidence_figures
from geomcheck.suite.language.places import LAST, At
from geomcheck.suite.language.selection import DEFAULT

FIXTURES = Path(__file__).parents[2] / "fixtures"
VALID = """profile: 1
name: dpo
reach: 0.2
centres: {update_support: 50%, principal_angle: 0.1 deg, spectral_shift: 1e-4}
"""


@pytest.mark.parametrize("regime", ["sft", "opd", "rlvr"])
def test_the_real_runs_are_told_apart_by_profiles_of_other_seeds(regime: str) -> None:
    profiles = load_profiles([FIXTURES / "profiles"])
    record = geomcheck.measure(FIXTURES / f"tiny-{regime}", metrics=[evidence.request for evidence in EVIDENCE])
    (figures,) = evidence_figures(record, DEFAULT, At(LAST, LAST, single=True)).values()
    found = classify(figures, profiles)
    assert found.name == regime
    assert found.margin > 0.3


def test_a_profile_of_runs_is_their_own_and_survives_its_file(good_runs: list[Path], tmp_path: Path) -> None:
    made = calibrate_profile(good_runs[:5], name="mine")
    made.write(tmp_path / "mine.yaml")
    (read,) = load_profiles([tmp_path / "mine.yaml"])
    assert read.name == "mine"
    assert read.centres == pytest.approx(made.profile.centres, rel=1e-3)
    assert read.reach == pytest.approx(made.profile.reach, rel=5e-3)
    record = geomcheck.measure(good_runs[5])
    (figures,) = evidence_figures(record, DEFAULT, At(LAST, LAST, single=True)).values()
    assert classify(figures, [read]).name == "mine"
    tenfold = {name: 10 * value for name, value in figures.items()}
    assert classify(tenfold, [read]).name is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("profile: 1", "profile: 2", r"p.yaml:1:10: `profile`: unknown format version `2`"),
        ("name: dpo", "name: DPO!", r"p.yaml:2:7: `name`: `DPO!` is not a slug"),
        ("reach: 0.2", "reach: -1", r"p.yaml:3:8: `reach`: expected decades"),
        ("reach: 0.2", "reach: yes", r"`reach`: expected decades"),
        ("0.1 deg", "0.1", r"p.yaml:4:\d+: `centres`: .* no unit"),
        ("50%", "0%", r"`centres`: a centre is above 0"),
        ("50%", "50", r"`centres`: `50` \(that is 5000%\) can never hold: .*; did you mean `50%`"),
        (", spectral_shift: 1e-4", "", r"`centres`: expected one figure of each of"),
        ("reach: 0.2", "raech: 0.2", r"unknown key `raech` in the profile"),
    ],
)
def test_bad_profile_files(tmp_path: Path, old: str, new: str, message: str) -> None:
    (tmp_path / "p.yaml").write_text(VALID)
    assert load_profiles([tmp_path / "p.yaml"])[0].name == "dpo"
    (tmp_path / "p.yaml").write_text(VALID.replace(old, new))
    with pytest.raises(SuiteError, match=message):
        load_profiles([tmp_path / "p.yaml"])


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a directory without profile files"):
        load_profiles([tmp_path])
    with pytest.raises(UsageError, match="no such file"):
        load_profiles(["nowhere.yaml"], beside=tmp_path)
    with pytest.raises(UsageError, match="regime 'sft' has two profiles: paper and paper"):
        load_profiles(["paper", "paper"])
