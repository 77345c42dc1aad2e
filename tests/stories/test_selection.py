"""pytest's own ways to select and to stop, on expectations of two runs and on ordinary tests that fail alike."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.runs import simple_run
from tests.stories.conftest import HEALTHY, STRICT

FAILING = {("strict", "support", "opd"), ("strict", "support", "opd-2"), ("strict", "norm", "opd-2")}

TWIN = """
import pytest
pytestmark = pytest.mark.geom
FAILING = {failing!r}

@pytest.fixture(params=["opd", "opd-2"], scope="module")
def run(request):
    return request.param
"""

TEST = """
def {name}(run):
    assert ({suite!r}, {name!r}, run) not in FAILING
"""

LISTENER = """
import json
import os
from pathlib import Path

SEEN = []

def pytest_runtest_logreport(report):
    if report.when == "call":
        file, name = report.nodeid.rsplit("/", 1)[-1].split("::")
        SEEN.append([Path(file).stem.removeprefix("test_"), name, report.outcome])

def pytest_sessionfinish(session):
    if not hasattr(session.config, "workerinput"):
        Path("seen.json").write_text(json.dumps(SEEN))
        SEEN.clear()
"""

Ended = tuple[int, list[list[str]]]
"""The exit code of a session, and every test that it ran, in order."""


class Twins:
    """A project with two suites for two runs, and one with ordinary tests of the same names that fail alike."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self._pytester = pytester
        self._gate, self._plain = pytester.path / "gate", pytester.path / "plain"
        simple_run(self._gate / "ckpts" / "opd")
        simple_run(self._gate / "ckpts" / "opd-2", scale=1e-2)
        loose = STRICT.replace("below: 1", "below: 0.2")
        for suite, text, names in (("healthy", HEALTHY, ("support", "rank")), ("strict", loose, ("support", "norm"))):
            tests = "".join(TEST.format(suite=suite, name=name) for name in names)
            self.write(suite, text, TWIN.format(failing=FAILING) + tests)
        for project in (self._gate, self._plain):
            (project / "conftest.py").write_text(LISTENER)
            (project / "pytest.ini").write_text("[pytest]\npython_functions = support rank norm\nmarkers = geom\n")

    def write(self, suite: str, text: str, tests: str) -> None:
        """Write a suite, and the tests that stand for it."""
        for path, content in (
            (self._gate / f"suites/{suite}.yaml", text),
            (self._plain / f"tests/test_{suite}.py", tests),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def end(self, *arguments: str) -> tuple[Ended, Ended]:
        """Run both; ``{strict}`` in an argument stands for the file."""
        gate = self.gate(*(argument.format(strict="suites/strict.yaml") for argument in arguments))
        return gate, self._end(self._plain, *(argument.format(strict="tests/test_strict.py") for argument in arguments))

    def gate(self, *arguments: str) -> Ended:
        """Run the suites."""
        return self._end(self._gate, "--geom-run=ckpts/opd", "--geom-run=ckpts/opd-2", *arguments)

    def _end(self, project: Path, *arguments: str) -> Ended:
        (project / "seen.json").unlink(missing_ok=True)
        here = Path.cwd()
        os.chdir(project)
        try:
            spread = "-n1" in arguments
            run = self._pytester.runpytest_subprocess if spread else self._pytester.runpytest_inprocess
            result = run(*arguments)
            self.outcomes = result.parseoutcomes()
        finally:
            os.chdir(here)
        return int(result.ret), json.loads((project / "seen.json").read_text())


@pytest.fixture
def twins(pytester: pytest.Pytester) -> Twins:
    return Twins(pytester)


def test_one_story_through_every_selection(twins: Twins) -> None:
    """Each step of the story starts from what the one before left in pytest's cache."""
    (code, seen), plain = twins.end()
    assert (code, seen) == plain
    assert code == 1
    assert {(suite, *name.rstrip("]").split("[")) for suite, name, outcome in seen if outcome == "failed"} == FAILING
    for arguments in (
        ["--lf"],
        ["--lf", "-k", "norm"],
        ["--ff"],
        ["--nf"],
        ["--sw"],
        ["--sw"],
        ["--sw", "--sw-skip"],
        ["--deselect={strict}::support[opd]"],
        ["--deselect={strict}"],
        ["--deselect={strict}", "--lf"],
        ["-k", "support"],
        ["-k", "opd-2 and not rank"],
        ["-m", "geom"],
        ["-m", "not geom"],
        ["--ignore={strict}"],
        ["--ignore-glob=*strict*"],
        ["-x"],
        ["-x", "--lf"],
        ["--maxfail=2"],
        ["{strict}"],
        ["{strict}::norm"],
        ["{strict}::support[opd-2]"],
        ["{strict}::support[opd-2]", "{strict}::norm[opd]"],
        ["--collect-only", "-q"],
        ["--lf", "--lfnf=none"],
        ["--cache-clear"],
        ["--lf"],
    ):
        gate, plain = twins.end(*arguments)
        assert gate == plain, arguments


def test_the_story_on_workers(twins: Twins) -> None:
    for arguments in ([], ["--lf"], ["-k", "norm"], ["--maxfail=1"], ["--deselect={strict}"], ["{strict}::norm"]):
        gate, plain = twins.end("-n1", *arguments)
        assert gate == plain, arguments


@pytest.mark.parametrize("workers", [(), ("-n1",)])
def test_the_story_with_a_broken_file(twins: Twins, workers: tuple[str, ...]) -> None:
    twins.write("broken", "geomcheck: 1\nexpect: none\n", "import nowhere\n")
    for arguments in ([], ["--continue-on-collection-errors"], ["--continue-on-collection-errors", "--lf"]):
        gate, plain = twins.end(*arguments, *workers)
        assert gate == plain, arguments


def test_a_failure_outside_the_rootdir_is_found_again(twins: Twins, tmp_path_factory: pytest.TempPathFactory) -> None:
    """``--lf`` looks for the files of node ids below the rootdir, and passes over all others once it has found one."""
    outside = tmp_path_factory.mktemp("elsewhere") / "outside.yaml"
    outside.write_text(STRICT)
    everything = ("suites", f"--geom-suite={outside}")
    twins.gate(*everything)
    failed = twins.outcomes["failed"]
    twins.gate(*everything, "--lf")
    assert (failed, twins.outcomes["failed"]) == (5, 5)
