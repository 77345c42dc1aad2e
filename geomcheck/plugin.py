"""The pytest plugin: options, and nothing else until ``--geom-run`` asks for it.

This module is imported at every start of pytest, so it imports neither torch nor pydantic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from argparse import Namespace

    from geomcheck.record import Record

SHOWING = ("help", "version", "markers", "showfixtures", "show_fixtures_per_test", "cacheshow")
"""pytest's options, by their names in its namespace, under which it shows something and runs no test."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the options and ini values of geomcheck."""
    group = parser.getgroup("geomcheck", "geometry of training (geomcheck)")
    group.addoption(
        "--geom-run",
        action="append",
        default=[],
        metavar="PATH",
        help="run to check: a directory of checkpoints, or a record file (repeatable)",
    )
    group.addoption(
        "--geom-suite",
        action="append",
        default=[],
        metavar="NAME-OR-PATH",
        help="suite to apply, whatever its applies_to: a shipped name (opd) or a file (repeatable)",
    )
    group.addoption(
        "--geom-base",
        metavar="PATH",
        help="where W0 comes from: a model directory, one checkpoint, or a Hub id (org/name@revision)",
    )
    group.addoption(
        "--geom-reference",
        metavar="PATH",
        help="run or record that `like: reference` compares with",
    )
    group.addoption(
        "--geom-incomplete",
        choices=("skip", "error"),
        help="checkpoints that are not complete: leave them out and say so, or refuse the run (default: skip)",
    )
    group.addoption(
        "--geom-missing-baseline",
        choices=("error", "info"),
        help="a record that --geom-reference names and that is not there: refuse the session, or judge the rest and "
        "say what was not judged (default: error)",
    )
    group.addoption("--geom-record", metavar="PATH", help="write every per-weight measurement here (Parquet)")
    group.addoption("--geom-json", metavar="PATH", help="write the verdicts here")
    group.addoption("--geom-report", metavar="PATH", help="write a self-contained HTML report here")
    group.addoption(
        "--geom-workers",
        metavar="N|ray",
        help="local workers (default: as many as processors and memory allow), or your Ray cluster",
    )
    group.addoption(
        "--geom-device",
        metavar="auto|cpu|cuda[:N]",
        help="where to compute (default: auto, a GPU where there is one)",
    )
    group.addoption(
        "--geom-cache",
        metavar="PATH|off",
        help="directory that remembers what was measured, by content (default: in pytest's cache directory)",
    )
    group.addoption("--geom-cache-size", metavar="SIZE", help="what that directory may hold (default: 20GB)")
    group.addoption(
        "--geom-dequantize",
        action="store_true",
        help="make fp32 of fp8 weights and their scales, and measure those",
    )
    group.addoption(
        "--geom-fail-on",
        choices=("error", "warn"),
        default="error",
        help="lowest level of a violated expectation that fails the session (default: error)",
    )
    parser.addini("geom_suites", "suite files, as globs (default: suites/*.yaml suites/*.yml)", type="args", default=[])
    parser.addini("geom_base", "where W0 comes from, unless --geom-base is given")
    parser.addini("geom_incomplete", "skip or error, unless --geom-incomplete is given")
    parser.addini("geom_missing_baseline", "error or info, unless --geom-missing-baseline is given")
    parser.addini("geom_workers", "local workers or ray, unless --geom-workers is given")
    parser.addini("geom_device", "where to compute, unless --geom-device is given")
    parser.addini("geom_cache", "cache directory (from the rootdir) or off, unless --geom-cache is given")
    parser.addini("geom_cache_size", "what the cache may hold, unless --geom-cache-size is given")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """With ``--geom-run`` and no path arguments, collect the suites and nothing else."""
    if _judges(early_config.known_args_namespace):
        from geomcheck.gate.arguments import add_suites

        add_suites(early_config, args)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Start the gate when there is a run to check: last, when it is known what the terminal can show."""
    config.addinivalue_line("markers", "geom: an expectation about the geometry of a run (geomcheck)")
    if _judges(config.option):
        from geomcheck.gate.hooks import activate

        activate(config)
    elif not config.option.geom_run:
        _refuse_idle_options(config)


def _judges(options: Namespace) -> bool:
    return bool(options.geom_run) and not any(getattr(options, name, None) for name in SHOWING)


def _refuse_idle_options(config: pytest.Config) -> None:
    """Refuse options of the command line that do nothing without a run: such a session checks nothing, and passes."""
    idle = [str(a).partition("=")[0] for a in config.invocation_params.args if str(a).startswith("--geom-")]
    if idle:
        raise pytest.UsageError(f"geomcheck: {idle[0]} does nothing without --geom-run=PATH; name the run to check")


@pytest.fixture(scope="session")
def geom_record(request: pytest.FixtureRequest) -> Record:
    """Everything measured of the run given with ``--geom-run``, for tests written in Python."""
    if not request.config.option.geom_run:
        raise pytest.UsageError("the fixture geom_record needs a run: pytest --geom-run=PATH")
    from geomcheck.gate.hooks import recorded

    record: Any = recorded(request.config)
    return record
