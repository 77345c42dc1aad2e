"""A parser as something to fuzz, and what must hold of it whatever it is given."""

from __future__ import annotations

import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType

from geomcheck.errors import GeomcheckError
from tests.reliability.fuzz.watch import Watch

SECONDS = 5.0
"""Of a processor, for one input. Inputs have at most `MAX_BYTES`."""

MAX_BYTES = 16 * 2**10
MEGABYTES = 512
"""What one input may add to the memory that the process has ever had."""

MESSAGE = 4000
"""Characters that a line of a message may have."""


@dataclass(frozen=True)
class Target:
    """A parser.

    Attributes:
        name: for the command line, and for the directory of its findings.
        parse: gets an input and an empty directory that is its own; raises `errors` or nothing.
        seeds: good inputs, from good writers, by name.
        errors: what may come out, besides geomcheck's own errors.
    """

    name: str
    parse: Callable[[bytes, Path], object]
    seeds: Callable[[], Mapping[str, bytes]]
    errors: tuple[type[Exception], ...] = ()


class Broken(Exception):
    """A parser did with an input what it must not do with any; `kind` tells it from others."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class _TooSlow(BaseException):
    """Time is up. No `except Exception` on the way may hide that."""


@cache
def _watch() -> Watch:
    return Watch()


def check(target: Target, content: bytes, scratch: Path, *, seconds: float = SECONDS) -> str:
    """Parse `content` as `target` does; returns what became of it in a word.

    Args:
        scratch: a directory to work in. Nothing outside may be opened.
        seconds: how long a processor may be at it.

    Raises:
        Broken: something other than geomcheck's own errors came out, it took too long or too much, a message was
            endless, or something was opened, started or asked for outside of `scratch`.
    """
    before = _peak_megabytes()
    outcome = "read"
    with _watch().watched(scratch) as seen, _deadline(seconds):
        try:
            target.parse(content, scratch)
        except (GeomcheckError, *target.errors) as error:
            outcome = "refused"
            _require_short(error)
        except _TooSlow:
            raise Broken("slow", f"more than {seconds} s for {len(content)} bytes") from None
        except Exception as error:
            raise Broken(_where(error), "".join(traceback.format_exception(error))) from error
    if seen:
        raise Broken(f"reaches {seen[0].split()[0]}", "; ".join(seen[:5]))
    if (grown := _peak_megabytes() - before) > MEGABYTES:
        raise Broken("memory", f"{grown} MB for {len(content)} bytes")
    return outcome


def _require_short(error: Exception) -> None:
    lines = str(error).splitlines()
    longest = max(lines, key=len, default="")
    if len(longest) > MESSAGE or len(str(error)) > 50 * MESSAGE:
        raise Broken("endless message", f"{len(longest)} of {len(str(error))} characters: {longest[:300]}")


def _where(error: Exception) -> str:
    """The type of an error, and the place in the package that let it out."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/geomcheck/" in frame.filename]
    place = f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "outside"
    return f"{type(error).__name__} at {place}"


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    def ring(signum: int, frame: FrameType | None) -> None:
        raise _TooSlow

    old = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)


def _peak_megabytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (2**20 if sys.platform == "darwin" else 2**10)
