"""The shared library that injects faults, and how a process arms it."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from pathlib import Path

SOURCE = Path(__file__).with_name("interpose.c")


class Kind(IntEnum):
    """What happens at the chosen call; the numbers are those of ``enum fault``."""

    COUNT = 0  # nothing
    KILL = 1  # SIGKILL before it
    TORN = 2  # SIGKILL when half of its bytes are written, or right after it
    FULL = 3  # ENOSPC, from then on, for every call that needs room
    EIO = 4  # EIO from then on
    EIO_ONCE = 5
    INTERRUPT = 6  # SIGINT before it
    SHORT = 7  # half of its bytes are transferred, without an error
    STOP = 8  # SIGSTOP before it, until somebody sends SIGCONT


class Calls(IntFlag):
    """Which calls are counted."""

    WRITES = 1
    READS = 2


@dataclass(frozen=True)
class Fault:
    """A fault at call number `at` (from 1) among `calls` on paths below `directory`."""

    kind: Kind
    directory: str
    at: int = 0
    calls: Calls = Calls.WRITES


def compiler() -> str | None:
    """A C compiler, if there is one."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def build(directory: Path) -> Path:
    """The library, compiled into `directory`."""
    target = directory / "interpose.so"
    command = [str(compiler()), "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(target), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return target


def arm(fault: Fault, *, state: str, log: str) -> None:
    """Start counting in this process, which has the library preloaded; `state` is a file of 16 zero bytes."""
    started = ctypes.CDLL(None).fault_arm(
        state.encode(),
        log.encode(),
        fault.directory.encode(),
        int(fault.calls),
        int(fault.kind),
        ctypes.c_long(fault.at),
    )
    if started != 0:
        raise OSError(f"cannot arm {fault}")


def obey_permissions() -> None:
    """Give up what lets root read and write what it may not."""
    if ctypes.CDLL(None).fault_obey_permissions() != 0:
        raise OSError("cannot give up privileges")
