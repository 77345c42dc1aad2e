"""The hooks of a session with ``--geom-run``. They delegate: `Gate` decides, `report` words it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from geomcheck._text import plural
from geomcheck.api import measure
from geomcheck.errors import GeomcheckError, UsageError
from geomcheck.files import displayed, working_in
from geomcheck.gate.arguments import collect_suites
from geomcheck.gate.candidates import asked, real
from geomcheck.gate.diagnosis import diagnoses
from geomcheck.gate.exchange import Exchange
from geomcheck.gate.items import ExpectationItem, Provider, SuiteFile, facts, failing
from geomcheck.gate.ledger import Ledger
from geomcheck.gate.outputs import Found, Outputs
from geomcheck.gate.project import require_known_settings
from geomcheck.gate.session import Demand, Gate
from geomcheck.gate.settings import open_gate
from geomcheck.options import empty, miswritten, typed
from geomcheck.record import Record
from geomcheck.report.causes import Causes
from geomcheck.report.ci import github
from geomcheck.report.ci.pytest_html import extras
from geomcheck.report.facts import SessionFacts
from geomcheck.report.findings import Diagnosis
from geomcheck.report.safe import printable
from geomcheck.report.text import summary
from geomcheck.report.text import verdicts as text
from geomcheck.report.text.findings import findings
from geomcheck.report.text.progress import shown
from geomcheck.report.text.screen import Line, Screen
from geomcheck.suite import unmeasured

DEFAULT_REPORTED = "fE"
"""What pytest lists in its short summary: failures and errors."""

HOOKS = pytest.StashKey["ControllerHooks | WorkerHooks"]()


def activate(config: pytest.Config) -> None:
    """Register the hooks of a session that has a run to check.

    Raises:
        pytest.UsageError: no such run, no base, no suite, an output inside a run, a bad option value.
    """
    hooks: ControllerHooks | WorkerHooks
    if hasattr(config, "workerinput"):
        exchange = Exchange(Path(config.workerinput["geomcheck"]))
        hooks, config.args = WorkerHooks(exchange), exchange.arguments
    else:
        try:
            if problem := miswritten(typed(config)) or empty(config.option):
                raise UsageError(problem)
            require_known_settings(config)
            with working_in(config.invocation_params.dir):
                wanted = asked(config)
                gate = open_gate(config, wanted.candidates)
                hooks = ControllerHooks(config, gate, Ledger(gate, wanted.directories))
                collect_suites(config, wanted)
        except (GeomcheckError, OSError) as error:
            raise pytest.UsageError(f"geomcheck: {printable(str(error))}") from None
    config.stash[HOOKS] = hooks
    config.pluginmanager.register(hooks, "geomcheck-gate")


def recorded(config: pytest.Config) -> Record:
    """The record of the session's first run, measured."""
    with working_in(config.invocation_params.dir):
        return config.stash[HOOKS].first_record()


class Hooks:
    """What controller and workers share: suites are collected, and judged on records."""

    def __init__(self, source: Provider, collected: set[Path]) -> None:
        self.source = source
        self.collected = collected

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> SuiteFile | None:
        """Collect the candidate suites; one that judges no run has no items, a broken one says so."""
        plan = self.source.collection_of(file_path)
        if plan is None:
            return None
        ignored = not plan.named and parent.session.gethookproxy(file_path.parent).pytest_ignore_collect(
            collection_path=file_path, config=parent.config
        )
        runs = () if ignored else plan.runs
        return SuiteFile.from_parent(parent, path=file_path, nodeid=plan.node_id, runs=runs, source=self.source)

    @pytest.hookimpl(tryfirst=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> pytest.CollectReport | None:
        """Look into a suite outside the rootdir: ``--lf`` passes over files that are not where their node id says."""
        if not isinstance(collector, SuiteFile) or collector.config.rootpath / collector.nodeid == collector.path:
            return None
        report: pytest.CollectReport = collector.config.pluginmanager.getplugin("runner").pytest_make_collect_report(
            collector
        )
        return report

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note the files that were collected."""
        found = {node.path for node in report.result or () if isinstance(node, pytest.File | pytest.Item)}
        self.collected |= found | {real(path) for path in found}

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Judge each expectation once, where links let pytest find its suite at several places."""
        ours = {item.nodeid: item for item in reversed(items) if isinstance(item, ExpectationItem)}
        items[:] = [item for item in items if ours.get(item.nodeid, item) is item]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Attach the verdict, in plain builtins: so it reaches the controller of pytest-xdist."""
        report = yield
        if isinstance(item, ExpectationItem) and item.verdict is not None:
            found = facts(item.verdict, item.run, item.suite)
            report.__dict__["geomcheck"] = found
            if report.failed and item.config.getoption("htmlpath", None):
                report.__dict__["extras"] = [*getattr(report, "extras", []), *extras(found)]
        return report


class WorkerHooks(Hooks):
    """In a worker of pytest-xdist: the records are those that the controller measured."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange, set())
        self._exchange = exchange
        self.first_record = exchange.first_record

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self) -> None:
        """Tell the controller which files were collected, before it hears of the tests in them."""
        self._exchange.note_collected(self.collected)


class ControllerHooks(Hooks):
    """In the main process: measures, collects verdicts, writes outputs, decides the exit status."""

    def __init__(self, config: pytest.Config, gate: Gate, ledger: Ledger) -> None:
        super().__init__(gate, ledger.collected)
        self.ledger = ledger
        self.config = config
        self.gate = gate
        self.screen = Screen.of(config)
        self.errors: list[str] = []
        self._verdicts: dict[tuple[str, str, str], SessionFacts] = {}
        self._exchange_directory: Path | None = None
        self._complaints: list[str] = []
        self._cut_short = False
        self.finished = False
        self._outputs = Outputs(config, gate)

    @property
    def verdicts(self) -> list[SessionFacts]:
        """The last of each expectation, in the order of the gate's demands, whatever order workers finished in."""
        return [self._verdicts[demand.key] for demand in self.gate.demands if demand.key in self._verdicts]

    def pytest_report_header(self) -> list[str]:
        """What is checked against what."""
        return text.header(self.gate.reported(), self.screen)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: Sequence[str]) -> None:
        """Note what a worker collected, and is to run."""
        assert self._exchange_directory is not None
        self.collected |= Exchange(self._exchange_directory).collected
        self.ledger.selected |= set(ids)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note what is to run."""
        self.ledger.selected |= {item.nodeid for item in session.items}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note also, for the outputs, what is wrong with a suite."""
        super().pytest_collectreport(report)
        if report.failed:
            self.errors.append(str(report.longrepr))

    def first_record(self) -> Record:
        """The record of the first run: what its suites ask, or everything where no suite judges it."""
        if self.gate.measurements:
            measurement = self.gate.measurements[0]
            if not measurement.done:
                self._measure(self.gate.demands)
            return measurement.result()
        subject, used = next(iter(self.gate.subjects.values())), self.gate.resources
        return subject.record or measure(
            subject.run or subject.path,
            base=self.gate.given_base,
            workers=used.workers,
            device=used.device,
            cache=used.cache.directory,
            dequantize=self.gate.dequantize,
        )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Measure before the first test: output is not captured here, so progress shows."""
        option = self.config.option
        starts = option.continue_on_collection_errors or not session.testsfailed
        if starts and not option.collectonly:
            if self._exchange_directory is None:
                self._measure(self.ledger.demands)
            else:
                self._measure(self.gate.demands)
                Exchange.publish(self._exchange_directory, self.gate)
        return (yield)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker of pytest-xdist which runs there are and where records will be."""
        if self._exchange_directory is None:
            self._exchange_directory = Path(tempfile.mkdtemp(prefix="geomcheck-"))
            Exchange.announce(self._exchange_directory, self.gate, self.config)
        node.workerinput["geomcheck"] = str(self._exchange_directory)
        here = self.config.invocation_params.dir
        if node.gateway.spec.popen and Path.cwd() != here:  # it started where a conftest has gone since
            node.gateway.remote_exec(f"import os\nos.chdir({str(here)!r})").waitclose()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the verdict that a report carries, and let the report show it."""
        verdict = getattr(report, "geomcheck", None)
        if verdict is not None and report.when == "call":
            counted = _counted(verdict, report)
            self._keep(counted)
            if counted["outcome"] == verdict["outcome"]:
                text.explain(report, verdict, self.screen)
        elif verdict is None and not report.passed:
            for demand in (demand for demand in self.gate.demands if demand.node_id == report.nodeid):
                why, expectation = _not_judged(report), demand.expectation
                verdict = unmeasured(expectation, why, outcome="error" if report.failed else "info")
                self._keep(facts(verdict, demand.run, demand.suite))

    def _keep(self, verdict: SessionFacts) -> None:
        """Keep a verdict in place of an earlier one, where a plugin runs what failed again."""
        self._verdicts[verdict["run"], verdict["path"], verdict["id"]] = verdict

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note Ctrl-C, and what it kept, which is told with the summary and not in pytest's line; collection errors and
        ``--maxfail``, of pytest-xdist too, come by here, and leave verdicts."""
        self._cut_short = type(excinfo.value) in (KeyboardInterrupt, pytest.exit.Exception)
        self._complaints += vars(excinfo.value).pop("__notes__", [])

    def pytest_internalerror(self) -> None:
        """Note that the session crashed."""
        self._cut_short = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the outputs; a session that judged nothing must not look like a pass, nor one that was cut short."""
        if self._cut_short:
            self._complaints.append("cut short: no verdicts, record or report are written")
        elif not self.config.option.collectonly:
            verdicts = self.verdicts
            with working_in(self.config.invocation_params.dir):
                if exitstatus != pytest.ExitCode.USAGE_ERROR:  # pytest says which argument it did not find
                    self._complaints += self.ledger.uncollected()
                if exitstatus == pytest.ExitCode.OK:
                    self._complaints += self.ledger.unjudged(verdicts)
                    if self._complaints:
                        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
                red = [verdict for verdict in verdicts if verdict["outcome"] in failing(self.config)]
                self.gate.diagnoses = diagnoses(self.gate, red)
                _tell_junit(self.config, self.gate.diagnoses)
                lost = self._outputs.write(Found(self.gate, verdicts, self.errors))
            if lost:
                self._complaints += [f"an output could not be written: {why}" for why in lost]
                session.exitstatus = max(session.exitstatus, pytest.ExitCode.TESTS_FAILED)
            self.finished = True
            _quieten(self.config)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
        """What is wrong, one line per expectation, what was left out, and where the outputs are: before any failure,
        which pytest's own reporter writes before all hooks that are no wrappers."""
        if self.config.option.collectonly:
            return (yield)
        self._write_summary(terminalreporter)
        for complaint in self._complaints:
            for line in self.screen.sentence(f"geomcheck: {complaint}", hang=2):
                Line(line, colour="red", bold=True).write(terminalreporter)
        with working_in(self.config.invocation_params.dir):
            annotations = _annotations(self.config, self.verdicts, self.errors)
        for line in annotations:
            terminalreporter.write_line(line)
        return (yield)

    def _write_summary(self, terminal: pytest.TerminalReporter) -> None:
        """Write it; ``-q`` leaves out the lines per expectation."""
        session, verdicts, screen = self.gate.reported(), self.verdicts, self.screen
        if not verdicts:
            terminal.write_sep("=", "geomcheck: nothing was checked", red=True, bold=True)
            return
        causes = Causes.of(verdicts, session.diagnoses)
        wrong = findings(session, list(causes), screen)
        told = summary.tables(session, verdicts, causes, screen) if screen.verbosity >= 0 else []
        told += summary.remarks(session, verdicts, self._outputs.written, screen)
        if self.finished:
            failed = terminal.stats.get("failed", [])
            brief = screen.verbosity < 1 and self.config.option.tbstyle in ("auto", "no")
            room = text.LINES - len(wrong) - len(told) - len(failed) if brief else None
            left = text.arrange(failed, causes, session.diagnoses, screen, room=room)
            if left and self.config.option.tbstyle == "auto":
                told.append(Line(f"The texts of {plural(left, 'more failure')} are shown with -v."))
            if brief and _shorten(terminal):
                told.append(Line(f"The node ids of {plural(len(failed), 'failure')} are listed with -rf."))
        for title, lines, colour in (("geomcheck: what is wrong", wrong, "red"), ("geomcheck", told, "")):
            if lines:
                terminal.write_sep("=", title, **({colour: True, "bold": True} if colour else {}))
            for line in lines:
                line.write(terminal)

    def pytest_unconfigure(self) -> None:
        """Close the cache, and remove what was laid out for workers."""
        self.gate.resources.cache.close()
        if self._exchange_directory is not None:
            shutil.rmtree(self._exchange_directory, ignore_errors=True)

    def _measure(self, wanted: Sequence[Demand]) -> None:
        with working_in(self.config.invocation_params.dir):
            self.gate.measure(wanted, lambda subject: shown(subject.name, self.screen))


def _not_judged(report: pytest.TestReport) -> str:
    """Why a test was not run, in the words of pytest or of a plugin."""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2]
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        return f"it was not judged: {crash.message.splitlines()[0]} ({displayed(Path(crash.path))}:{crash.lineno})"
    return f"it was not judged: {(report.longreprtext.strip().splitlines() or ['no reason given'])[-1]}"


def _counted(verdict: SessionFacts, report: pytest.TestReport) -> SessionFacts:
    """A verdict as pytest counts its test: xfail, or another plugin, may have overruled it."""
    mark, outcome = getattr(report, "wasxfail", None), verdict["outcome"]
    marked = f"marked xfail{f': {mark}' if mark else ''}"
    if outcome in ("failed", "error") and not report.failed:
        why = "another plugin overruled it" if mark is None else marked
        outcome, remark = "warned", f"violated, and does not fail the session ({why})"
    elif outcome not in ("failed", "error") and report.longreprtext.startswith("[XPASS(strict)]"):
        outcome, remark = "failed", f"the session fails for its mark: {report.longreprtext.strip()}"
    elif outcome == "passed" and mark is not None:
        remark = f"it holds, though {marked}"
    else:
        return verdict
    return {**verdict, "outcome": outcome, "warnings": [*verdict["warnings"], remark]}


def _tell_junit(config: pytest.Config, diagnoses: Mapping[str, Diagnosis]) -> None:
    """Add the findings to the properties of the file that ``--junitxml`` names, which is written after this."""
    for plugin in config.pluginmanager.get_plugins():
        if not hasattr(plugin, "add_global_property"):
            continue
        add: Callable[[str, str], None] = plugin.add_global_property
        for run, diagnosis in diagnoses.items():
            for one in diagnosis.explaining:
                add("geom_finding", printable(f"{run}: {one.headline} (explains {', '.join(one.ids)})"))
            if diagnosis.problem:
                add("geom_no_diagnosis", printable(f"{run}: {diagnosis.problem}"))


def _quieten(config: pytest.Config) -> None:
    """With ``-q``, expectations have their line in the short summary alone; ``--tb`` brings their text back.

    Where anything else failed too, everything is shown: tracebacks of other tests are not ours to hide.
    """
    reporter: pytest.TerminalReporter | None = config.pluginmanager.getplugin("terminalreporter")
    if reporter is not None and reporter.verbosity < 0 and config.option.tbstyle == "auto":
        ours = all(hasattr(report, "geomcheck") for report in reporter.stats.get("failed", []))
        if ours and not reporter.stats.get("error"):
            config.option.tbstyle = "no"


def _shorten(terminal: pytest.TerminalReporter) -> bool:
    """Leave out pytest's own list of many failures, where the summary has them all and nobody asked for it."""
    failed = terminal.stats.get("failed", [])
    many = len(failed) > summary.LISTED and all(hasattr(report, "geomcheck") for report in failed)
    if terminal.verbosity or not many or terminal.config.option.reportchars != DEFAULT_REPORTED:
        return False
    terminal.reportchars = terminal.reportchars.replace("f", "")
    return True


def _annotations(config: pytest.Config, verdicts: Sequence[SessionFacts], errors: Sequence[str]) -> list[str]:
    """Lines that GitHub Actions turns into annotations of the suites; none elsewhere.

    Failures are left to the plugin that annotates every failed test, where that is installed; it knows no warnings.
    """
    if not github.wanted():
        return []
    covered = config.pluginmanager.hasplugin(github.ANNOTATING_PLUGIN)
    left = [verdict for verdict in verdicts if verdict["outcome"] == "warned"] if covered else verdicts
    return [*github.of_errors(errors), *github.of_verdicts(left)]
