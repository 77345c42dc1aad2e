"""Ctrl-C, and the signals by which machines end a process: one line instead of a traceback, and an end at once."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import NoReturn

SIGNALS = {
    getattr(signal, name): word
    for name, word in (("SIGINT", "interrupted"), ("SIGTERM", "terminated"), ("SIGHUP", "hung up"))
    if hasattr(signal, name)
}


class Interruption:
    """A context in which these signals raise KeyboardInterrupt. A second one ends the process at once.

    Attributes:
        signal: the one that came, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, object] = {}

    @property
    def code(self) -> int:
        """The exit code of a process that a signal ends, as shells have it."""
        return 128 + (self.signal or signal.SIGINT)

    def __enter__(self) -> Interruption:
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if handler != signal.SIG_IGN and handler is not None:  # as under nohup, and in a shell's background
                with suppress(ValueError):  # not in the main thread
                    self._before[number] = signal.signal(number, self._came)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _came(self, number: int, _: FrameType | None) -> None:
        self.signal = number
        signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    def tell(self, interrupt: KeyboardInterrupt) -> None:
        """Say on stderr that it came to this, with the notes of the exception: what was kept."""
        from geomcheck.report.safe import printable  # this module is to be imported in no time

        self.signal = self.signal or signal.SIGINT
        said = "; ".join([SIGNALS[signal.Signals(self.signal)], *getattr(interrupt, "__notes__", ())])
        with suppress(OSError):  # the terminal may be gone
            print(f"geomcheck: {printable(said)}", file=sys.stderr, flush=True)

    def end_process(self) -> NoReturn:
        """End without waiting for threads, which may be at a large weight for minutes."""
        if ray := sys.modules.get("ray"):
            ray.shutdown()  # a cluster that this process has started
        with suppress(OSError):
            sys.stdout.flush()
        os._exit(self.code)
