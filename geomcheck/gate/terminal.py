"""What a session does to pytest's own terminal output, and what it adds for GitHub."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from geomcheck.report.ci import github
from geomcheck.report.facts import SessionFacts


def quieten(config: pytest.Config) -> None:
    """With ``-q``, expectations have their line in the short summary alone; ``--tb`` brings their text back.

    Where anything else failed too, everything is shown: tracebacks of other tests are not ours to hide.
    """
    reporter: pytest.TerminalReporter | None = config.pluginmanager.getplugin("terminalreporter")
    if reporter is not None and reporter.verbosity < 0 and config.option.tbstyle == "auto":
        ours = all(hasattr(report, "geomcheck") for report in reporter.stats.get("failed", []))
        if ours and not reporter.stats.get("error"):
            config.option.tbstyle = "no"


def annotation_lines(config: pytest.Config, verdicts: Sequence[SessionFacts], errors: Sequence[str]) -> list[str]:
    """Lines that GitHub Actions turns into annotations of the suites; none elsewhere.

    Verdicts are left to the plugin that annotates every failed test, where that is installed.
    """
    if not github.wanted():
        return []
    covered = config.pluginmanager.hasplugin(github.ANNOTATING_PLUGIN)
    return [*github.of_errors(errors), *github.of_verdicts([] if covered else verdicts)]
