"""What this process may use of the machine, as containers and affinity leave it: processors, memory, GPUs."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
UNKNOWN_MEMORY = 4 * 2**30

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT = 1 << 30

DEVICES = Path("/dev")
_GPUS = ("nvidiactl", "nvhost-gpu", "nvgpu", "dxg", "kfd")
"""What drivers of GPUs that PyTorch calls ``cuda`` put there: NVIDIA's, those of Jetson and of WSL, AMD's."""


def processors() -> int:
    """Processors that this process may keep busy, at least 1."""
    known = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(CGROUP / "cpu.max").partition(" ")
    if quota.isdecimal() and period.strip().isdecimal():
        known = min(known, int(quota) // int(period))
    return max(1, known)


def available_memory() -> int:
    """Bytes that can be had without swapping."""
    lines = _read(Path("/proc/meminfo")).splitlines()
    known = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    limit, used = _read(CGROUP / "memory.max").strip(), _read(CGROUP / "memory.current").strip()
    if limit.isdecimal() and used.isdecimal():
        known.append(max(0, int(limit) - int(used)))
    return min(known, default=UNKNOWN_MEMORY)


def may_have_gpu() -> bool:
    """Whether there may be a GPU that PyTorch calls ``cuda``; where not, it need not be imported to find out."""
    if sys.platform == "linux":
        return any((DEVICES / name).exists() for name in _GPUS)
    return sys.platform != "darwin"


def keep_freed_memory() -> None:
    """Let this process reuse the memory of large tensors that it frees, where the C library is glibc.

    Otherwise every tensor above 32 MiB, and many below, is mapped and zeroed anew, page by page: up to a fifth of the
    time of a measurement. What lies free between others is kept too, see `return_freed_memory`.
    """
    mallopt = _glibc("mallopt")
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _KEPT)
        mallopt(_TRIM_THRESHOLD, _KEPT)


def return_freed_memory() -> None:
    """Give the memory that is free in this process back to the system, where the C library is glibc.

    Tensors of many sizes, freed by several threads, leave gaps that fit nothing: as much again as what is in use. To be
    called when a weight that was factorized is done: to map its pages again takes a few hundredths of the time of the
    next.
    """
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _glibc(name: str) -> Callable[..., int] | None:
    """A function of the C library; None where there is none such, as in musl or beyond Linux."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
