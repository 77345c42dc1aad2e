"""Keep freed memory instead of returning it to the system after every product."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT = 1 << 30


def keep_freed_memory() -> None:
    """Let this process reuse the memory of large tensors that it frees, where the C library is glibc.

    Otherwise every tensor above 32 MiB, and many below, is mapped and zeroed anew, page by page: up to a fifth of the
    time of a measurement. The peak does not change.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        mallopt(_MMAP_THRESHOLD, _KEPT)
        mallopt(_TRIM_THRESHOLD, _KEPT)
