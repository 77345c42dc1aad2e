"""The hooks of a session with ``--geom-run``. They delegate: `Gate` decides, `report` words it."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from geomcheck.api import measure
from geomcheck.checkpoints import BaseModel, open_base
from geomcheck.errors import GeomcheckError, UsageError
from geomcheck.files import replacing, require_writable
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
        except (GeomcheckError, OSError) as error:
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
        self.errors: list[str] = []
        self._exchange_directory: Path | None = None
        self._complaints: list[str] = []
        self._collected: set[Path] = set()
        self._outputs = {
            option: Path(value)
            for option in ("geom_json", "geom_record")
            if (value := config.getoption(option)) is not None
        }
        self._refuse_overwriting()
        for path in self._outputs.values():
            require_writable(path)
            if not config.option.collectonly:
                path.unlink(missing_ok=True)  # what an earlier session wrote must not pass for this one's

    def pytest_report_header(self) -> list[str]:
        """What is checked against what."""
        return text.header(self.gate)

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> SuiteFile | None:
        """Collect the candidate suites; one that judges no run has no items, a broken one says so."""
        pairing = self.gate.pairings.get(file_path.resolve())
        if pairing is None:
            return None
        self._collected.add(pairing.file)
        return SuiteFile.at(file_path, parent, runs=pairing.runs, records=self)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: Sequence[str]) -> None:
        """Note the suites that workers collected."""
        files = {name.split("::", maxsplit=1)[0].rsplit("/", maxsplit=1)[-1] for name in ids}
        self._collected |= {file for file in self.gate.pairings if file.name in files}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep what is wrong with suites, for the outputs."""
        if report.failed:
            self.errors.append(str(report.longrepr))

    def record(self, file: Path, run: str) -> Record:
        """The record of a run, for a suite. Raises RunError."""
        return self.gate.measurement(self.gate.pairings[file.resolve()], run).result()

    def reference(self) -> Record | None:
        """The record of the reference run. Raises RunError."""
        return self.gate.reference.result() if self.gate.reference else None

    def first_record(self) -> Record:
        """The record of the first run: what its suites ask, or everything where no suite judges it."""
        if not self.gate.measurements:
            subject = next(iter(self.gate.subjects.values()))
            return subject.record or measure(subject.path, base=self.config.option.geom_base)
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
            self._complaints += self._uncollected()
            if exitstatus == pytest.ExitCode.OK and (not self.verdicts or self._complaints):
                session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
            try:
                self._write_outputs()
            except (GeomcheckError, OSError) as error:
                self._complaints.append(f"an output could not be written: {error}")
                session.exitstatus = max(session.exitstatus, pytest.ExitCode.TESTS_FAILED)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """One line per expectation, what was left out, and where the outputs are."""
        if not self.config.option.collectonly:
            text.write_summary(terminalreporter, self.gate, self.verdicts, self._outputs)
            for complaint in self._complaints:
                terminalreporter.write_line(text.printable(f"geomcheck: {complaint}"), red=True, bold=True)

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

    def _uncollected(self) -> list[str]:
        """What to say of suites that the user named and pytest passed over."""
        return [
            f"{pairing.file} was named, but pytest did not collect it: its directory is one that pytest does not "
            "enter. Name the suite without a directory that contains it"
            for pairing in self.gate.pairings.values()
            if pairing.explicit and pairing.file not in self._collected
        ]

    def _write_outputs(self) -> None:
        if "geom_json" in self._outputs:
            verdicts = document.document(self.gate, self.verdicts, self.errors)
            with replacing(self._outputs["geom_json"]) as partial:
                partial.write_text(json.dumps(verdicts, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        if "geom_record" in self._outputs:
            records = [measurement.record for measurement in self.gate.measurements if measurement.record]
            if not records:
                raise UsageError(f"{self._outputs['geom_record']}: no run could be measured, so there is no record")
            for path, record in _record_paths(self._outputs["geom_record"], records):
                write_record(record, path)
        markdown.append_step_summary(self.verdicts, self.errors)

    def _refuse_overwriting(self) -> None:
        """Refuse outputs that would change what is judged, or one another."""
        flags = {option: "--" + option.replace("_", "-") for option in self._outputs}
        if len({path.resolve() for path in self._outputs.values()}) < len(self._outputs):
            raise UsageError(f"{' and '.join(flags.values())} name the same file")
        for option, path in self._outputs.items():
            for what, place in self.gate.inputs():
                if path.resolve().is_relative_to(place):
                    raise UsageError(f"{flags[option]}={path} would write to {what}, which is never written to")


def _open_gate(config: pytest.Config) -> Gate:
    option = config.option
    return Gate(
        open_subjects(option.geom_run),
        config.stash[CANDIDATES],
        base=_given_base(config),
        reference=_reference(option.geom_reference) if option.geom_reference else None,
        workers=_workers(option.geom_workers or config.getini("geom_workers")),
    )


def _given_base(config: pytest.Config) -> BaseModel | None:
    """W0 by the option, or else by the ini file, where a path counts from the rootdir."""
    if config.option.geom_base is not None:
        return open_base(config.option.geom_base, "--geom-base")
    in_ini = config.getini("geom_base")
    return open_base(config.rootpath / in_ini, "geom_base of the ini file") if in_ini else None


def _reference(path: str) -> Subject:
    try:
        return open_subject(path)
    except GeomcheckError as error:
        raise UsageError(f"--geom-reference: {error}") from None


def _workers(value: str | None) -> int | None:
    if not value:
        return None
    if not value.isdecimal() or len(value) > 6 or int(value) < 1:
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
    names = [re.sub(r"[^A-Za-z0-9_.-]+", "-", record.run) for record in records]
    return [(path.with_stem(f"{path.stem}-{i}-{names[i - 1]}"), record) for i, record in enumerate(records, 1)]
