"""The hooks of a session with ``--geom-run``. They delegate: `Gate` decides, `report` words it."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from geomcheck.errors import GeomcheckError, UsageError
from geomcheck.gate.arguments import CANDIDATES
from geomcheck.gate.exchange import Exchange
from geomcheck.gate.items import ExpectationItem, SuiteFile
from geomcheck.gate.progress import shown
from geomcheck.gate.session import Gate, Pairing
from geomcheck.gate.subjects import Subject, open_subject, open_subjects
from geomcheck.measurement import Record, write_record
from geomcheck.report import document, markdown, text
from geomcheck.suite import Expectation

HOOKS = pytest.StashKey["ControllerHooks | WorkerHooks"]()


def activate(config: pytest.Config) -> None:
    """Register the hooks of a session that has a run to check.

    Raises:
        pytest.UsageError: no such run, no base, no suite, an output inside a run, a bad option value.
    """
    config.addinivalue_line("markers", "geom: an expectation about the geometry of a run (geomcheck)")
    hooks: ControllerHooks | WorkerHooks
    if hasattr(config, "workerinput"):
        hooks = WorkerHooks(Exchange(Path(config.workerinput["geomcheck"])))
    else:
        try:
            hooks = ControllerHooks(config, _open_gate(config))
        except GeomcheckError as error:
            raise pytest.UsageError(f"geomcheck: {error}") from None
    config.stash[HOOKS] = hooks
    config.pluginmanager.register(hooks, "geomcheck-gate")


def recorded(config: pytest.Config) -> Record:
    """The record of the session's first run, measured."""
    hooks = config.stash[HOOKS]
    return hooks.first_record()


class Hooks:
    """What controller and workers share."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Attach the verdict, in plain builtins: so it reaches the controller of pytest-xdist."""
        report = yield
        if isinstance(item, ExpectationItem) and item.verdict is not None:
            where = {"run": item.run, "suite": item.suite.name, "path": item.suite.path}
            report.__dict__["geomcheck"] = where | item.verdict.to_dict()
        return report


class WorkerHooks(Hooks):
    """In a worker of pytest-xdist: suites are collected, and judged on records that the controller measured."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> SuiteFile | None:
        """Collect the suites that the controller paired with runs."""
        runs = self.exchange.runs(file_path)
        if runs is None:
            return None
        return SuiteFile.at(file_path, parent, runs=runs, records=self.exchange)

    def first_record(self) -> Record:
        """The record of the first run."""
        return self.exchange.first_record()


class ControllerHooks(Hooks):
    """In the main process: measures, collects verdicts, writes outputs, decides the exit status."""

    def __init__(self, config: pytest.Config, gate: Gate) -> None:
        self.config = config
        self.gate = gate
        self.verdicts: list[dict[str, Any]] = []
        self._exchange_directory: Path | None = None
        self._outputs = {
            option: Path(value)
            for option in ("geom_json", "geom_record")
            if (value := config.getoption(option)) is not None
        }
        for option, path in self._outputs.items():
            self._refuse_inside_run(option, path)

    def pytest_report_header(self) -> list[str]:
        """What is checked against what."""
        return text.header(self.gate)

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> SuiteFile | None:
        """Collect the candidate suites; one that judges no run has no items, a broken one says so."""
        pairing = self.gate.pairings.get(file_path.resolve())
        if pairing is None:
            return None
        return SuiteFile.at(file_path, parent, runs=pairing.runs, records=self)

    def record(self, file: Path, run: str) -> Record:
        """The record of a run, for a suite. Raises RunError."""
        return self.gate.measurement(self.gate.pairings[file.resolve()], run).result()

    def reference(self) -> Record | None:
        """The record of the reference run. Raises RunError."""
        return self.gate.reference.result() if self.gate.reference else None

    def first_record(self) -> Record:
        """The record of the first run. Raises RunError, or UsageError where no suite judges it."""
        if not self.gate.measurements:
            raise UsageError("geom_record: no suite judges the run, so nothing says what to measure")
        measurement = self.gate.measurements[0]
        if not measurement.done:
            self._measure(self._everything())
        return measurement.result()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Measure before the first test: output is not captured here, so progress shows."""
        if not self.config.option.collectonly and not session.testsfailed:
            if self._exchange_directory is None:
                self._measure(_selected(session, self.gate))
            else:
                self._measure(self._everything())
                Exchange.publish(self._exchange_directory, self.gate)
        return (yield)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker of pytest-xdist which runs there are and where records will be."""
        if self._exchange_directory is None:
            self._exchange_directory = Path(tempfile.mkdtemp(prefix="geomcheck-"))
            Exchange.announce(self._exchange_directory, self.gate)
        node.workerinput["geomcheck"] = str(self._exchange_directory)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the verdict that a report carries."""
        verdict = getattr(report, "geomcheck", None)
        if verdict is not None and report.when == "call":
            self.verdicts.append(verdict)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the outputs; a session that judged nothing must not look like a pass."""
        if not self.config.option.collectonly:
            self.verdicts.sort(key=self._order)
            self._write_outputs()
            if not self.verdicts and exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """One line per expectation, what was left out, and where the outputs are."""
        if not self.config.option.collectonly:
            text.write_summary(terminalreporter, self.gate, self.verdicts, self._outputs)

    def pytest_unconfigure(self) -> None:
        """Remove what was laid out for workers."""
        if self._exchange_directory is not None:
            shutil.rmtree(self._exchange_directory, ignore_errors=True)

    def _measure(self, wanted: Sequence[tuple[Pairing, str, Expectation]]) -> None:
        self.gate.measure(wanted, lambda subject: shown(subject.name))

    def _everything(self) -> list[tuple[Pairing, str, Expectation]]:
        return [
            (pairing, run, expectation)
            for pairing in self.gate.pairings.values()
            if pairing.suite is not None
            for run in pairing.runs
            for expectation in pairing.suite.expectations
        ]

    def _order(self, verdict: Mapping[str, Any]) -> tuple[int, int, int]:
        """Runs as given, suites as collected, expectations as written: whatever order workers finished in."""
        runs = list(self.gate.subjects)
        suites = [pairing.suite for pairing in self.gate.pairings.values() if pairing.suite is not None]
        paths = [suite.path for suite in suites]
        ids = [e.id for e in suites[paths.index(verdict["path"])].expectations]
        return runs.index(verdict["run"]), paths.index(verdict["path"]), ids.index(verdict["id"])

    def _write_outputs(self) -> None:
        if "geom_json" in self._outputs:
            verdicts = document.document(self.gate, self.verdicts)
            document.write(self._outputs["geom_json"], json.dumps(verdicts, indent=1, allow_nan=False))
        if "geom_record" in self._outputs:
            records = [measurement.record for measurement in self.gate.measurements if measurement.record]
            for path, record in _record_paths(self._outputs["geom_record"], records):
                write_record(record, path)
        markdown.append_step_summary(self.verdicts)

    def _refuse_inside_run(self, option: str, path: Path) -> None:
        for subject in self.gate.subjects.values():
            if subject.directory is not None and path.resolve().is_relative_to(subject.directory):
                flag = "--" + option.replace("_", "-")
                raise UsageError(f"{flag}={path} lies inside the run {subject.path}, which is never written to")


def _open_gate(config: pytest.Config) -> Gate:
    option = config.option
    reference: Subject | None = open_subject(option.geom_reference) if option.geom_reference else None
    return Gate(
        open_subjects(option.geom_run),
        config.stash[CANDIDATES],
        base=option.geom_base or config.getini("geom_base") or None,
        reference=reference,
        workers=_workers(option.geom_workers or config.getini("geom_workers")),
    )


def _workers(value: str | None) -> int | None:
    if not value:
        return None
    if not value.isdecimal() or int(value) < 1:
        raise UsageError(f"--geom-workers={value}: give a whole number of local workers, 1 or more")
    return int(value)


def _selected(session: pytest.Session, gate: Gate) -> list[tuple[Pairing, str, Expectation]]:
    """The expectations that are left after -k, -m and --lf."""
    return [
        (gate.pairings[item.suite_path.resolve()], item.run, item.expectation)
        for item in session.items
        if isinstance(item, ExpectationItem)
    ]


def _record_paths(path: Path, records: Sequence[Record]) -> list[tuple[Path, Record]]:
    """One record goes to `path`; several are told apart by their run's name."""
    if len(records) == 1:
        return [(path, records[0])]
    return [(path.with_stem(f"{path.stem}-{index}-{r.run}"), r) for index, r in enumerate(records, 1)]
