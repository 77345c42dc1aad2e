"""The pytest plugin: options, and nothing else until ``--geom-run`` asks for it.

This module is imported at every start of pytest, so it imports neither torch nor pydantic.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

from geomcheck.options import idle, misspelt, register, typed

if TYPE_CHECKING:
    from argparse import Namespace

    from geomcheck.record import Record

SHOWING = ("help", "version", "markers", "showfixtures", "show_fixtures_per_test", "cacheshow")
"""pytest's options, by their names in its namespace, under which it shows something and runs no test."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the options and ini values of geomcheck."""
    register(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Refuse misspelt options, before pytest does without a suggestion."""
    if problem := misspelt(typed(early_config)):
        raise pytest.UsageError(f"geomcheck: {problem}")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Start the gate when there is a run to check: last, when it is known what the terminal can show.

    Options that do nothing without a run are refused: such a session would check nothing, and pass.
    """
    config.addinivalue_line("markers", "geom: an expectation about the geometry of a run (geomcheck)")
    if _judges(config.option):
        from geomcheck.gate.hooks import activate

        activate(config)
    elif not config.option.geom_run and (flag := idle(typed(config))):
        raise pytest.UsageError(f"geomcheck: {flag} does nothing without --geom-run=PATH; name the run to check")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, int | None, int | None]:
    """Let no session pass that ended before it judged its run, as after ``pytest.exit(returncode=0)`` of a conftest."""
    status = yield
    if status != pytest.ExitCode.OK or not _judges(config.option) or hasattr(config, "workerinput"):
        return status
    gate = config.pluginmanager.get_plugin("geomcheck-gate")
    if config.option.collectonly or getattr(gate, "finished", False):
        return status
    print("geomcheck: the session ended before the run was judged, which is no pass", file=sys.stderr)
    return pytest.ExitCode.NO_TESTS_COLLECTED


def _judges(options: Namespace) -> bool:
    return bool(options.geom_run) and not any(getattr(options, name, None) for name in SHOWING)


@pytest.fixture(scope="session")
def geom_record(request: pytest.FixtureRequest) -> Record:
    """Everything measured of the run given with ``--geom-run``, for tests written in Python."""
    if not request.config.option.geom_run:
        pytest.skip("geom_record needs a run: pytest --geom-run=PATH")
    from geomcheck.gate.hooks import recorded

    return recorded(request.config)
