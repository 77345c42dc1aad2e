"""The project that a session or a command works in, as pytest finds it, and where measurements are remembered there."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

import pytest

from geomcheck.errors import UsageError

OURS = "geomcheck"

ALONE = ("--noconftest", "--assert=plain", "--capture=no", "-p", "geomcheck.plugin")
"""Options of pytest with which it reads an ini file, and changes nothing in the process."""

PLUGINS = ("addopts", "pythonpath", "required_plugins", "minversion")
"""What an ini file says of plugins and modules, which a command does not load."""


class _Finder:
    """A plugin that takes pytest's configuration once it is read, and lets no session start."""

    def __init__(self) -> None:
        self.config: pytest.Config | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> int:
        """Keep the configuration, and say that this was all."""
        self.config = config
        return 0


def configuration() -> pytest.Config:
    """What pytest, started in the working directory, would take for its ini file and rootdir. Loads no conftest and no
    plugin but geomcheck's. Raises UsageError where the ini file cannot be read."""
    finder, said = _Finder(), io.StringIO()
    with _no_other_plugins(), redirect_stderr(said):
        pytest.main([*ALONE, *(f"--override-ini={name}=" for name in PLUGINS)], plugins=[finder])
    if finder.config is None:
        why = " ".join(said.getvalue().split()).removeprefix("ERROR: ")
        raise UsageError(f"pytest's configuration here cannot be read: {why}")
    return finder.config


@contextmanager
def _no_other_plugins() -> Iterator[None]:
    """Let the environment name no plugin, and no option of one."""
    names = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    try:
        yield
    finally:
        del os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"]
        os.environ.update(before)


def cache_directory(config: pytest.Config) -> Path:
    """Where measurements are remembered, unless the user names a place: in pytest's cache directory.

    Raises:
        UsageError: pytest's cache is turned off.
    """
    if not config.pluginmanager.hasplugin("cacheprovider"):
        raise UsageError("pytest's cache is turned off")
    return pytest_cache(config) / "d" / OURS  # as `pytest.Cache.mkdir` has it


def pytest_cache(config: pytest.Config) -> Path:
    """pytest's own cache directory."""
    return config.rootpath / Path(os.path.expandvars(config.getini("cache_dir"))).expanduser()


def make_cache(config: pytest.Config) -> None:
    """Make `cache_directory`; in pytest's with what keeps it out of repositories and backups. Raises OSError."""
    own, directory = pytest_cache(config), cache_directory(config)
    is_new = not own.exists()
    directory.mkdir(parents=True, exist_ok=True)
    if is_new:
        (own / ".gitignore").write_text("# Created by geomcheck for pytest.\n*\n", encoding="utf-8")
        (own / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n", encoding="utf-8")
