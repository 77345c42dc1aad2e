"""Suites as pytest files, expectations as pytest items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Protocol, cast

import pytest

from geomcheck.errors import GeomcheckError, NoBaseline, SuiteError
from geomcheck.gate.candidates import Collection, item_name
from geomcheck.gate.project import is_suite
from geomcheck.gate.values import Values
from geomcheck.record import Record
from geomcheck.report.facts import SessionFacts
from geomcheck.report.safe import printable
from geomcheck.report.text import verdicts as text
from geomcheck.suite import Expectation, Missing, Suite, Verdict, unmeasured
from geomcheck.suite.early import Decision, judge_as


class Provider(Protocol):
    """Where suite files and their items find suites, and what was measured."""

    def collection_of(self, file: Path) -> Collection | None:
        """How a suite file is collected; None for a file that is no suite of this session."""

    def suite_of(self, file: Path) -> Suite:
        """The suite of a file. Raises SuiteError."""

    def record_of(self, file: Path, run: str) -> Record:
        """The record of a run, for a suite. Raises RunError."""

    def decision_of(self, file: Path, run: str, expectation: str) -> Decision | None:
        """What an expectation of a suite on a run was decided by, where that was not every weight."""

    def reference_record(self) -> Record | None:
        """The record of the reference run, if there is one. Raises RunError, NoBaseline."""


class Violated(Exception):
    """An expectation does not hold, or could not be judged."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.message)
        self.verdict = verdict


class SuiteFile(pytest.File):
    """A suite file with the runs that it judges."""

    def __init__(self, *, runs: Sequence[str], source: Provider, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.runs = runs
        self.source = source

    def collect(self) -> Iterator[pytest.Item]:
        """One item per run and expectation; a suite with errors is a collection error (exit 2)."""
        try:
            suite = self.source.suite_of(self.path)
        except SuiteError as error:
            hint = f"\n{self.path.name}: if this is no suite, let geom_suites name others"
            raise self.CollectError(printable(f"{error}{'' if is_suite(self.path) else hint}")) from None
        for run, expectation in product(self.runs, suite.expectations):
            name = item_name(expectation, run, self.runs)
            known = {"suite": suite, "run": run, "expectation": expectation, "source": self.source}
            yield ExpectationItem.from_parent(self, name=name, nodeid=f"{self.nodeid}::{name}", **known)


def facts(verdict: Verdict, run: str, suite: Suite) -> SessionFacts:
    """A verdict with what it is of, in plain builtins."""
    return {"run": run, "suite": suite.name, "path": suite.path, **verdict.to_dict()}


def failing(config: pytest.Config) -> tuple[str, ...]:
    """The outcomes that fail a session."""
    return ("failed", "error", *(("warned",) if config.option.geom_fail_on == "warn" else ()))


class ExpectationItem(pytest.Item):
    """One expectation on one run."""

    def __init__(self, *, suite: Suite, run: str, expectation: Expectation, source: Provider, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.suite = suite
        self.run = run
        self.expectation = expectation
        self.source = source
        self.verdict: Verdict | None = None
        self.add_marker("geom")

    def runtest(self) -> None:
        """Judge the expectation. Raises Violated."""
        try:
            record = self.source.record_of(self.path, self.run)
            reference = self.source.reference_record() if self.expectation.compares else None
        except NoBaseline as error:
            self.verdict = unmeasured(self.expectation, str(error), outcome="info")
        except GeomcheckError as error:
            self.verdict = unmeasured(self.expectation, str(error))
        else:
            missing = cast(Missing, Values.of_session(self.config).of("missing-checkpoints"))
            decision = self.source.decision_of(self.path, self.run, self.expectation.id)
            self.verdict = judge_as(decision, self.expectation, record, reference, missing=missing)
        self.user_properties += text.properties(self.verdict, printable(self.run))
        if self.verdict.outcome in failing(self.config):
            raise Violated(self.verdict)
        if self.verdict.outcome == "info" and not self.verdict.observed:
            pytest.skip(self.verdict.message)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The verdict in words."""
        if isinstance(excinfo.value, Violated):
            return text.failure(excinfo.value.verdict.to_dict())
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """The suite's line, so that annotations point at it."""
        return self.suite.file, self.expectation.position.line - 1, self.name
