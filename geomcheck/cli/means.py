"""What a command works with: values of the options that pytest has too, of the project that it is run in."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from geomcheck.api import How, has_weights, silent
from geomcheck.checkpoints import BaseWeights
from geomcheck.cli.options import inputs
from geomcheck.gate.candidates import named_suite
from geomcheck.gate.configuration import configuration
from geomcheck.gate.values import Values
from geomcheck.measurement import Progress, Resources
from geomcheck.report.safe import printable
from geomcheck.report.text.progress import shown
from geomcheck.report.text.screen import Screen
from geomcheck.suite import Suite, load_suite


class Means:
    """The means of one command for `runs`, paths of directories and records. Raises UsageError where pytest's ini file
    cannot be read."""

    def __init__(self, options: argparse.Namespace, runs: Sequence[str]) -> None:
        self._options = options
        self._runs = runs
        self.values = Values(configuration(), vars(options), "--")

    @cached_property
    def base(self) -> BaseWeights | None:
        """W0, where the command line names one, or else the ini file; that of the ini file need not be here for records
        alone. Raises UsageError."""
        return self.values.base() if self._options.base or any(map(has_weights, self._runs)) else None

    @cached_property
    def suites(self) -> list[Suite]:
        """The suites that are named: those of the project by their names, shipped ones, files. Raises SuiteError."""
        return [load_suite(named_suite(self.values.config, source)) for source in self._options.suite]

    def inputs(self, *own: Path) -> list[tuple[str, Path]]:
        """Every file and directory that is read, with what it is; `own` are the W0 that the runs bring."""
        options, given = vars(self._options), [self.base.source.path] if self.base else []
        suites = self.suites if "suite" in options else []
        return inputs(self._runs, bases=[*given, *own], suites=suites, reference=options.get("reference"))

    @contextmanager
    def resources(self) -> Iterator[Resources]:
        """What measuring may use; the cache is open as long as the context lasts. Raises UsageError."""
        resources = self.values.resources()
        with closing(self.values.cache(self.inputs(), self.note)) as cache:
            yield replace(resources, cache=cache)

    @contextmanager
    def measuring(self) -> Iterator[How]:
        """How to measure the runs, as `geomcheck.measure` takes it, with `resources`. Raises UsageError."""
        with self.resources() as resources:
            yield How(
                workers=resources.workers,
                device=resources.device,
                cache=resources.cache,
                dequantize=self._options.dequantize,
                incomplete=self.values.incomplete,
                show=self.show,
            )

    def note(self, text: str) -> None:
        """Tell something on stderr that is no error, unless the user wants quiet."""
        if not self._options.quiet:
            print(printable(f"geomcheck: note: {text}"), file=sys.stderr)

    def show(self, run: str) -> AbstractContextManager[Progress]:
        """Progress on stderr, unless the user wants quiet."""
        return silent(run) if self._options.quiet else shown(run, Screen(colour=True))
