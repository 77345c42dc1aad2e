"""``python -m tests.reliability``: one table of inputs tried, faults injected, fuzzing and mutants.

A section is a module ``tests.reliability.NAME`` with ``section(options: Options) -> Section``.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from importlib.util import find_spec

from tests.reliability.options import Options
from tests.reliability.table import Section, table

SECTIONS = ("corpus", "faults", "edges", "fuzz", "mutation")
"""In the order of the table."""


def main() -> int:
    """Print the table; 0 where every section ran and nothing came out otherwise than it must, 1 elsewhere."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.reliability",
        description="One table of inputs tried, faults injected, fuzzing and mutants.",
        epilog="Exit code: 0 where every section ran and nothing came out otherwise than it must; 1 elsewhere, so "
        "always with --only.",
    )
    parser.add_argument("--only", choices=SECTIONS, action="append", help="run these sections alone (repeatable)")
    parser.add_argument("--fuzz-seconds", type=float, default=5.0, help="per parser (default: %(default)s)")
    parser.add_argument("--faults-per-kind", type=int, metavar="N", help="inject each kind at N calls, not at all")
    arguments = parser.parse_args()
    options = Options(fuzz_seconds=arguments.fuzz_seconds, faults_per_kind=arguments.faults_per_kind)
    sections = [_section(name, options, arguments.only or SECTIONS) for name in SECTIONS]
    print("\n".join(table(sections)))
    return int(any(section.bad or section.not_run or not section.rows for section in sections))


def _section(name: str, options: Options, wanted: tuple[str, ...] | list[str]) -> Section:
    if name not in wanted:
        return Section(name, not_run="not asked for (--only)")
    module = f"tests.reliability.{name}"
    if find_spec(module) is None:
        return Section(name, not_run=f"there is no {module}")
    section: Section = importlib.import_module(module).section(options)
    return section


if __name__ == "__main__":
    sys.exit(main())
