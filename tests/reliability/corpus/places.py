"""What lies where a file or directory should: pipes, directories, links, devices, sockets."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.reliability.corpus.case import Case, Kit, Outcome, nothing
from tests.reliability.corpus.project import Project

kit = Kit("places", "plain")

Put = Callable[[Path], object]


def _put(where: Callable[[Project], Path], what: Put) -> Callable[[Project], object]:
    def spoil(project: Project) -> None:
        path = where(project)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        what(path)

    return spoil


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


THINGS: dict[str, Put] = {
    "a-pipe": os.mkfifo,
    "a-directory": Path.mkdir,
    "a-socket": _socket,
    "a-link-to-nowhere": lambda path: path.symlink_to("nowhere"),
    "a-link-in-a-circle": lambda path: path.symlink_to(path),
    "a-device": lambda path: path.symlink_to("/dev/zero"),
    "a-link-outside": lambda path: path.symlink_to("/etc/hostname"),
    "a-sparse-terabyte": _sparse,
}


OPENED = ("a-link-outside", "a-sparse-terabyte")
"""Regular files: it takes opening them to see what they are."""

LOST = ("a-link-to-nowhere", "a-link-in-a-circle")
SUITES = {"a-directory": Outcome.NOTHING, "a-link-outside": Outcome.INVALID, "a-sparse-terabyte": Outcome.INVALID}


def cases() -> Iterator[Case]:
    """Every case."""
    for what, put in THINGS.items():
        found = Outcome.ERROR if what in OPENED else Outcome.USAGE
        yield kit(
            f"{what}-for-the-weights", _put(lambda p: p.weights(20), put), found, "opd/checkpoint-20/model.safetensors"
        )
        yield kit(f"{what}-for-w0", _put(lambda p: p.weights(0), put), found, "opd/base/model.safetensors")
        config = _put(lambda p: p.at(20) / "config.json", put)
        yield kit(f"{what}-for-the-config", config, Outcome.ERROR, "opd/checkpoint-20/config.json")
        state = _put(lambda p: p.at(20) / "trainer_state.json", put)
        if what in LOST:
            yield kit(f"{what}-for-the-state", state, Outcome.LEFT_OUT, "checkpoint-20", "no trainer_state.json")
        else:
            yield kit(f"{what}-for-the-state", state, Outcome.USAGE, "opd/checkpoint-20/trainer_state.json")
        suite = _put(lambda p: p.suite, put)
        yield kit(f"{what}-for-the-suite", suite, SUITES.get(what, Outcome.USAGE), arguments=("suites/mine.yaml",))
    yield kit(
        "the-run-is-a-weights-file",
        nothing,
        Outcome.USAGE,
        "opd/checkpoint-10/model.safetensors",
        run="opd/checkpoint-10/model.safetensors",
    )
    yield kit("the-run-is-a-config", nothing, Outcome.USAGE, "opd/base/config.json", run="opd/base/config.json")
    yield kit("the-run-is-a-suite", nothing, Outcome.USAGE, "suites/mine.yaml", run="suites/mine.yaml")
    yield kit("the-run-is-a-device", nothing, Outcome.USAGE, "/dev/null", run="/dev/null")
    yield kit("the-run-is-a-pipe", lambda p: os.mkfifo(p.root / "pipe"), Outcome.USAGE, "pipe", run="pipe")
    yield kit("the-run-is-the-project", nothing, Outcome.USAGE, run=".")
    yield kit("the-run-is-one-checkpoint", nothing, Outcome.USAGE, "opd/checkpoint-10", run="opd/checkpoint-10")
    yield kit("the-run-with-a-slash", nothing, Outcome.SAME, run="opd/")
    yield kit("two-runs-in-one-value", nothing, Outcome.USAGE, "opd,opd", run="opd,opd")
    yield kit("a-tilde", nothing, Outcome.USAGE, "~no-such-user/opd", run="~no-such-user/opd")
    yield kit("a-newline-in-the-path", nothing, Outcome.USAGE, "opd\\n", run="opd\n::error::x")
    yield kit("a-null-character-in-the-path", nothing, Outcome.USAGE, run="opd\0")
    yield kit("a-very-long-path", nothing, Outcome.USAGE, run="x" * 5000)
    base = "opd/base/model.safetensors"
    yield kit("the-base-is-a-file", nothing, Outcome.USAGE, base, arguments=(f"--geom-base={base}",))
    yield kit(
        "the-base-is-nowhere", nothing, Outcome.USAGE, "W0: nowhere (--geom-base)", arguments=("--geom-base=./nowhere",)
    )
    yield kit("the-reference-is-a-file", nothing, Outcome.USAGE, base, arguments=(f"--geom-reference={base}",))
