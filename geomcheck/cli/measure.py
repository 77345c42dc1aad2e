"""``geomcheck measure``: a run in, a record out."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import geomcheck
from geomcheck.checkpoints import find_base, open_base
from geomcheck.cli.options import add_command, inputs
from geomcheck.files import require_writable
from geomcheck.options import option
from geomcheck.report.safe import printable


def add_to(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    cache = replace(option("cache"), otherwise="none")
    add_command(
        commands,
        "measure",
        run,
        "measure a run once, to judge its record anywhere",
        *("base", "suite", "reference", "workers", "device", cache, "dequantize"),
        run="directory of checkpoints",
        output="record to write (Parquet)",
    )


def run(options: argparse.Namespace) -> None:
    """Measure and write the record. Raises GeomcheckError."""
    output = Path(options.output)
    suites = [geomcheck.load_suite(source) for source in options.suite]
    opened = geomcheck.open_run(options.run)
    of_suites = next((suite.base for suite in suites if suite.base is not None), None)
    given = open_base(options.base, "the given base") if options.base is not None else None
    base = find_base(opened, given=given, suite=of_suites)
    read = inputs([options.run], bases=[base.source.path], suites=suites, reference=options.reference)
    require_writable(output, inputs=read)
    record = geomcheck.measure(
        opened,
        base=base,
        suites=suites,
        reference=options.reference,
        workers=options.workers,
        device=options.device,
        cache=None if options.cache == "off" else options.cache,
        dequantize=options.dequantize,
    )
    geomcheck.write_record(record, output)
    print(f"{output}: {len(record.points)} checkpoints, {len(record.measured_weights())} weights measured")
    for note in record.notes:
        print(printable(f"  note: {note}"))
    for name, reason in record.skipped.items():
        print(f"  left out {name}: {reason}")
