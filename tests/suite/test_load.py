import contextlib
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geomcheck.errors import SuiteError, UsageError
from geomcheck.suite import load_suite, shipped_suites
from geomcheck.suite.loading import shipped

ROOT = Path(__file__).parents[2]

CONTRACT = """\
# yaml-language-server: $schema=geomcheck-suite.schema.json
geomcheck: 1                       # format version, required
name: opd
about: On-policy distillation, Qwen3-8B, arXiv 2606.07082 (Table 1, Figures 2-5).
applies_to: ["*opd*", "!tiny-*"]   # run directory names; ! excludes
weights: attention                 # attention | mlp | linear (default) | all, or {include: [globs], exclude: [globs]}
expect:
  - id: stable-rank-band           # slug; node id is suites/opd.yaml::stable-rank-band
    metric: stable_rank
    within: [20, 30]

  - id: locked-from-the-start
    metric: subspace_alignment
    k: 16
    above: 0.5
    at: first

  - id: rotation
    metric: principal_angle        # degrees; a bare number without unit is refused
    k: 12.5%                       # 512 of 4096: an integer, or a share of min(out, in)
    stat: median                   # max | mean | median | p95 of the k angles; side: left | right | both
    near: 1 deg
    tolerance: 0.5 deg
    at: last

  - id: rlvr-support
    metric: update_support
    below: 30%
    at: last
    level: warn
"""

PARENT = """\
geomcheck: 1
name: parent
weights: attention
base: ./base
defaults: {principal_angle: {k: 16}}
expect:
  - {id: band, metric: stable_rank, within: [20, 30], at: last}
  - {id: close, metric: stable_rank, near: 25, tolerance: 10%}
  - {id: turn, metric: principal_angle, below: 1 deg}
"""


@pytest.fixture
def family(suite_file):
    """Write a parent and a child; load the child."""

    def loaded(child: str, parent: str = PARENT):
        suite_file(parent, "parent.yaml")
        return load_suite(suite_file("geomcheck: 1\nextends: parent.yaml\n" + child, "child.yaml"))

    return loaded


def test_the_contracts_example_loads_as_written(suite_file):
    suite = load_suite(suite_file(CONTRACT))
    assert suite.name == "opd"
    assert suite.about.startswith("On-policy distillation")
    assert [expectation.condition.text for expectation in suite.expectations] == [
        "20 <= value <= 30",
        "value > 0.5",
        "1 deg +- 0.5 deg",
        "value < 30%",
    ]
    assert [expectation.at.text for expectation in suite.expectations] == ["all", "first", "last", "last"]
    assert suite.expectations[2].params == {"k": "12.5%", "excess_over": "none", "side": "both", "stat": "median"}
    assert suite.expectations[3].level == "warn"
    assert [expectation.position.line for expectation in suite.expectations] == [8, 12, 18, 26]


@pytest.mark.parametrize(
    ("patterns", "run", "applies"),
    [
        ('["*opd*", "!tiny-*"]', "my-opd-3", True),
        ('["*opd*", "!tiny-*"]', "tiny-opd", False),
        ('["*opd*"]', "sft", False),
        ('["!tiny-*"]', "sft", True),
        ('["*"]', "anything", True),
    ],
)
def test_applies_to(suite_file, patterns, run, applies):
    text = f"geomcheck: 1\napplies_to: {patterns}\nexpect:\n  - {{id: a, metric: stable_rank, above: 2}}\n"
    assert load_suite(suite_file(text)).applies(run) is applies


class TestExtends:
    def test_expectations_are_inherited_and_overridden_by_id(self, family):
        suite = family("expect:\n  - {id: band, within: [10, 40]}\n  - {id: new, metric: update_norm, above: 1}\n")
        assert [e.id for e in suite.expectations] == ["band", "close", "turn", "new"]
        assert suite.expectations[0].condition.text == "10 <= value <= 40"
        assert suite.expectations[0].at.text == "last"
        assert suite.name == "child"
        assert suite.weights.role == "attention"

    def test_another_condition_replaces_the_old_one_and_its_tolerance(self, family):
        suite = family("expect:\n  - {id: close, above: 3}\n")
        assert suite.expectations[1].condition.text == "value > 3"

    def test_a_tolerance_alone_is_overridden_alone(self, family):
        assert family("expect:\n  - {id: close, tolerance: 2}\n").expectations[1].condition.text == "25 +- 2"

    def test_another_metric_takes_over_no_condition(self, family):
        suite = family("expect:\n  - {id: band, metric: update_norm, above: 1}\n  - {id: turn, regime: opd}\n")
        assert suite.expectations[0].condition.text == "value > 1"
        assert suite.expectations[0].at.text == "last"
        assert suite.expectations[2].metric == "regime"

    def test_nothing_new_is_needed(self, family):
        assert len(family("name: same").expectations) == 3

    def test_a_base_is_relative_to_the_file_that_names_it(self, family, tmp_path):
        assert family("name: same").base == str(tmp_path / "base")

    def test_defaults_reach_inherited_expectations(self, family):
        assert family("name: same").expectations[2].params["k"] == 16
        suite = family("defaults: {principal_angle: {k: 12.50%, stat: max}}\n")
        assert suite.expectations[2].params["k"] == "12.5%"
        assert suite.expectations[2].params["stat"] == "max"

    def test_problems_name_the_file_they_are_in(self, family, tmp_path):
        parent = PARENT.replace("[20, 30]", "[30, 20]")
        with pytest.raises(SuiteError) as caught:
            family("expect:\n  - {id: close, near: x}\n", parent)
        files = [Path(problem.position.path).name for problem in caught.value.problems]
        assert files == ["child.yaml", "parent.yaml"]

    def test_an_unreadable_parent_is_the_only_problem(self, family):
        with pytest.raises(SuiteError) as caught:
            family("expect:\n  - {id: band, within: [1, 2]}\n", "geomcheck: [\n")
        (problem,) = caught.value.problems
        assert problem.position.path.endswith("parent.yaml")

    def test_circles_are_refused(self, suite_file):
        suite_file("geomcheck: 1\nextends: b.yaml\n", "a.yaml")
        path = suite_file("geomcheck: 1\nextends: a.yaml\n", "b.yaml")
        with pytest.raises(SuiteError, match=r"a\.yaml:2:10: `extends`: a suite cannot extend itself: .*b\.yaml -> "):
            load_suite(path)

    def test_a_missing_parent_lists_the_shipped_suites(self, suite_file, monkeypatch, tmp_path):
        monkeypatch.setattr(shipped, "shipped_suites", lambda: {"opd": tmp_path / "opd.yaml"})
        path = suite_file("geomcheck: 1\nextends: opdd\n")
        with pytest.raises(SuiteError) as caught:
            load_suite(path)
        assert str(caught.value).endswith(
            ":2:10: `extends`: no suite 'opdd': neither a file nor a shipped suite (opd); did you mean `opd`?"
        )

    @pytest.mark.parametrize(
        ("written", "there"), [("mine", "mine.yaml"), ("mine", "mine.yml"), ("./mine", "mine.yml")]
    )
    def test_a_forgotten_suffix_is_suggested(self, suite_file, written, there):
        suite_file("geomcheck: 1\n", there)
        path = suite_file(f"geomcheck: 1\nextends: {written}\n")
        suffix = Path(there).suffix
        with pytest.raises(SuiteError, match=rf":2:10: `extends`: no suite .*; did you mean `{written}{suffix}`\?$"):
            load_suite(path)


class TestDefaults:
    def test_unknown_names_are_refused(self, refusals):
        found = refusals(
            """\
            geomcheck: 1
            defaults:
              stable_rnk: {}
              principal_angle: {kk: 3, k: 100%}
              top_energy: 3
              stable_rank: {k: 3}
            expect:
              - {id: a, metric: stable_rank, above: 2}
            """
        )
        assert [problem.split(": ")[0] for problem in found] == ["3:3", "4:21", "4:31", "5:15", "6:17"]
        assert "unknown metric `stable_rnk` in `defaults`" in found[0]
        assert "unknown key `kk` in `defaults` of principal_angle; allowed: k, excess_over, side, stat" in found[1]
        assert found[4].endswith("unknown key `k` in `defaults` of stable_rank: it has no parameters")

    def test_a_wrong_default_is_reported_once(self, refusals):
        text = "geomcheck: 1\ndefaults: {top_energy: {k: 0}}\nexpect:\n"
        text += "".join(f"  - {{id: {name}, metric: top_energy, above: 1%}}\n" for name in "abc")
        assert len(refusals(text)) == 1


def test_what_an_expectation_says_wins_over_defaults(suite_file):
    text = "geomcheck: 1\ndefaults: {top_energy: {k: 4}}\nexpect:\n"
    text += "  - {id: a, metric: top_energy, above: 1%}\n  - {id: b, metric: top_energy, k: 8, above: 1%}\n"
    a, b = load_suite(suite_file(text)).expectations
    assert (a.params["k"], b.params["k"]) == (4, 8)


def test_expectations_are_a_list(refusals):
    assert refusals("geomcheck: 1\nexpect:\n  band: {metric: stable_rank, above: 2}\n") == [
        "3:3: `expect`: expected a list of `- id: ...`; found a mapping; write `- id: band` where `band:` is"
    ]


@pytest.mark.parametrize("text", ["geomcheck: 1\n", "geomcheck: 1\nexpect: []\n"])
def test_a_suite_that_expects_nothing_is_refused(refusals, text):
    assert refusals(text) == ["1:1: the suite expects nothing; add expectations under `expect`"]


def test_the_format_version_is_required(refusals):
    assert refusals("name: x # geomcheck:\nexpect: [{id: a, metric: stable_rank, above: 2}]\n") == [
        "1:1: the suite needs `geomcheck`: version of the suite format"
    ]


@pytest.mark.parametrize("version", ["true", "'1'", "2", "1.5"])
def test_other_versions_are_refused(refusals, version):
    (problem,) = refusals(f"geomcheck: {version}\nexpect: [{{id: a, metric: stable_rank, above: 2}}]\n")
    assert "unknown format version" in problem


def test_a_hub_id_stays_as_it_is(suite_file):
    text = "geomcheck: 1\nbase: Qwen/Qwen3-8B@main\nexpect: [{id: a, metric: stable_rank, above: 2}]\n"
    assert load_suite(suite_file(text)).base == "Qwen/Qwen3-8B@main"


def test_a_name_is_made_of_the_files(suite_file):
    path = suite_file("geomcheck: 1\nexpect: [{id: a, metric: stable_rank, above: 2}]\n", "My Suite.yaml")
    assert load_suite(path).name == "my-suite"


def test_paths_are_shown_relative_to_the_working_directory(suite_file, monkeypatch, tmp_path):
    path = suite_file("geomcheck: 1\n", "suites/mine.yaml")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SuiteError, match=r"^suites/mine\.yaml:1:1: "):
        load_suite(path)


class TestSources:
    def test_shipped_suites_load_by_name(self):
        for name, path in shipped_suites().items():
            assert load_suite(name).file == path.resolve()

    def test_an_unknown_name_lists_what_is_shipped(self, monkeypatch, tmp_path):
        monkeypatch.setattr(shipped, "shipped_suites", lambda: {"opd": tmp_path, "sft": tmp_path})
        message = "no suite 'odp': neither a file nor a shipped suite (opd, sft); did you mean `opd`?"
        with pytest.raises(UsageError, match=re.escape(message)):
            load_suite("odp")

    def test_a_forgotten_suffix_is_suggested(self, suite_file, monkeypatch, tmp_path):
        suite_file("geomcheck: 1\n", "mine.yaml")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UsageError, match=r"no suite 'mine': neither .*; did you mean `mine\.yaml`\?$"):
            load_suite("mine")

    def test_a_suite_of_the_project_is_suggested(self, monkeypatch, tmp_path):
        (tmp_path / "suites").mkdir()
        (tmp_path / "suites" / "mine.yml").write_text("geomcheck: 1\n")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UsageError, match=r"no suite 'mine': neither .*; did you mean `suites/mine\.yml`\?$"):
            load_suite("mine")

    def test_a_missing_path(self, tmp_path):
        with pytest.raises(UsageError, match=r"no suite file .*x\.yaml; shipped suites: "):
            load_suite(tmp_path / "x.yaml")

    @pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
    def test_what_cannot_be_a_path(self, name):
        with pytest.raises(UsageError, match="neither a file nor a shipped suite"):
            load_suite(name)

    def test_a_directory(self, tmp_path):
        with pytest.raises(UsageError, match="is a directory; give a suite file"):
            load_suite(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(st.integers(0, len(CONTRACT)), st.integers(0, 12), st.text(alphabet="[]{}:,-&*!#%'\" \n0a1.\0|>?", max_size=6))
def test_a_mutated_suite_loads_or_says_why(tmp_path, start, length, inserted):
    path = tmp_path / "mutated.yaml"
    path.write_text(CONTRACT[:start] + inserted + CONTRACT[start + length :], encoding="utf-8")
    with contextlib.suppress(SuiteError):
        assert load_suite(path).expectations


@pytest.mark.parametrize("name", sorted(shipped_suites()))
def test_shipped_suites_are_valid_and_say_why(name):
    suite = load_suite(name)
    assert suite.about
    assert all(expectation.why for expectation in suite.expectations)


@pytest.mark.parametrize("method", ["opd", "sft", "rlvr"])
def test_the_papers_suites_and_the_tiny_ones_never_claim_one_run(method):
    paper, tiny = load_suite(method), load_suite(ROOT / "suites" / f"tiny-{method}.yaml")
    for run in (f"tiny-{method}", f"tiny-{method}-seed-3", f"qwen3-8b-{method}", method):
        assert paper.applies(run) != tiny.applies(run)


def test_the_wheel_has_the_shipped_suites_and_no_suite_of_a_fixture() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packed = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    names = {Path(source).stem for source in packed if source.endswith(".yaml")}
    assert names == set(shipped_suites())
    assert {"opd", "sft", "rlvr"} <= names
    assert not any(name.startswith("tiny-") for name in names)
