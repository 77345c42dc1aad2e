"""What pytest is told to collect, so that it finds every suite that is to judge a run."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import pytest

from geomcheck.gate.candidates import Asked, path_of, real

MISREAD = re.compile(r"^[-@]|\[|::")
"""What makes pytest, or a worker of pytest-xdist, read more than a path."""


def collect_suites(config: pytest.Config, asked: Asked) -> None:
    """Have pytest collect what the user named and every suite; the suites alone, where the user named no path.

    A suite whose path pytest would misread, or that lies where pytest does not go, is given by a link.
    """
    here, named = config.invocation_params.dir, [str(argument) for argument in config.option.file_or_dir]
    files = [candidate.file for candidate in asked.candidates]
    arguments, outright = [], set()
    for argument in named:
        path, selected = path_of(argument, here)
        if real(path) in files:
            outright.add(real(path))
            argument = f"{_readable(config, real(path))}{selected}"
        arguments.append(argument)
    for file in (file for file in files if file not in outright):
        around = [directory for directory in asked.directories if file.is_relative_to(directory)]
        if not around:
            arguments.append(_readable(config, file))
        elif not any(_entered(config, directory, file) for directory in around):
            arguments.append(_link(config, file))
    config.args, config.args_source = arguments, pytest.Config.ArgsSource.ARGS


def _entered(config: pytest.Config, directory: Path, file: Path) -> bool:
    """Whether pytest goes from a `directory` that it collects down to a file."""
    between = [parent for parent in file.parents if parent != directory and parent.is_relative_to(directory)]
    return not any(config.hook.pytest_ignore_collect(collection_path=place, config=config) for place in between)


def _readable(config: pytest.Config, file: Path) -> str:
    """A suite file in a way that pytest reads as a path."""
    ways = (str(file), os.path.relpath(file, config.invocation_params.dir))
    return next((way for way in ways if not MISREAD.search(way)), None) or _link(config, file)


def _link(config: pytest.Config, file: Path) -> str:
    """A link to a file, under a plain name in a directory that goes when the session ends."""
    directory = tempfile.TemporaryDirectory(prefix="geomcheck-")
    config.add_cleanup(directory.cleanup)
    link = Path(directory.name).resolve() / "suite.yaml"
    link.symlink_to(file)
    return str(link)
