"""The ``geomcheck`` command: one module per subcommand, with `add_to` for the parser."""

from __future__ import annotations

from collections.abc import Sequence

from geomcheck.cli.interruption import Interruption

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default that of the process.

    Returns the exit code: the command's own, else 0; 4 with a message on stderr; after Ctrl-C or another signal that
    ends a process 128 and its number, 130 for Ctrl-C. The process itself ends then, where the command line is its own.
    """
    with Interruption() as interruption:
        code = 0
        try:
            from geomcheck.cli.program import run  # takes a second, in which Ctrl-C should be heard

            code = run(arguments)
        except KeyboardInterrupt as interrupt:
            interruption.tell(interrupt)
    if interruption.signal is None:
        return code
    if arguments is None:
        interruption.end_process()
    return interruption.code
