"""Work that makes much which lasts, and no garbage: the headers and figures of tens of thousands of weights."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lasting() -> Iterator[None]:
    """Python's collector of cyclic garbage waits: it would look through all that was made again and again."""
    waits = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if waits:
            gc.enable()
