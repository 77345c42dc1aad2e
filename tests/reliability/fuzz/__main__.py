"""The fuzzer's command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.reliability.fuzz.drive import coverage_guided, fuzz
from tests.reliability.fuzz.targets import TARGETS


def main() -> int:
    """Fuzz parsers, and print a line for each; 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.fuzz", description=main.__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--seconds", type=float, default=60.0, help="per target (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="for findings (default: %(default)s)")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.targets) - TARGETS.keys())
    if unknown:
        parser.error(f"no target {unknown[0]}; there are {', '.join(TARGETS)}")
    print("guided by coverage (atheris)" if coverage_guided() else "blind: atheris is not installed", flush=True)
    found = 0
    for outcome in fuzz(arguments.targets or list(TARGETS), arguments.seconds, arguments.out):
        found += len(outcome.findings)
        print(outcome.line(), flush=True)
    print(f"{found} findings" + (f", inputs and logs in {arguments.out}" if found else ""))
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
