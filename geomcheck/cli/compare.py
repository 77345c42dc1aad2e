"""``geomcheck compare``: two runs side by side."""

from __future__ import annotations

import argparse
import json
import math
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from geomcheck._lazy import late
from geomcheck.api import How
from geomcheck.checkpoints import BaseWeights
from geomcheck.cli.means import Means
from geomcheck.cli.options import JSON, MEASURING, WEIGHTS, add_command, selection
from geomcheck.comparison import Comparison, Pair, compare
from geomcheck.errors import GeomcheckError
from geomcheck.report.findings import headline
from geomcheck.report.safe import printable
from geomcheck.report.text.screen import aligned
from geomcheck.suite.language.quantities import Scale

if TYPE_CHECKING:
    from geomcheck import diagnosis
else:
    diagnosis = late("geomcheck.diagnosis")

LAYERS = 5
MULTIPLE = 10
WIDTH = 96


def add_to(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    theirs = "run directory or record; differences are B minus A"
    about = "hold two runs side by side, metric by metric"
    add_command(commands, "compare", run, about, WEIGHTS, *MEASURING, JSON, a="run directory or record", b=theirs)


def run(options: argparse.Namespace) -> None:
    """Compare and print. Raises GeomcheckError."""
    means = Means(options, [options.a, options.b])
    with means.measuring() as how:
        found = compare(options.a, options.b, base=means.base, weights=selection(options.weights), **how)
        diagnosed = [_diagnosed(source, means.base, how) for source in (options.a, options.b)]
    if options.json:
        findings = {name: of and [one.to_dict() for one in of] for name, of in zip("ab", diagnosed, strict=True)}
        print(json.dumps({**found.to_dict(), "findings": findings}, indent=1, allow_nan=False))
    else:
        print(printable("\n".join([*_lines(found), *_findings(*diagnosed)])))


def _diagnosed(source: str, base: BaseWeights | None, how: How) -> tuple[diagnosis.Finding, ...] | None:
    """The findings of a run or a record; None where its files cannot be read for them, which loses no comparison."""
    try:
        return diagnosis.diagnose(source, base=base, **how)
    except GeomcheckError as error:
        print(f"geomcheck: note: no diagnosis of {source}: {printable(str(error))}", file=sys.stderr)
        return None


def _findings(ours: Sequence[diagnosis.Finding] | None, theirs: Sequence[diagnosis.Finding] | None) -> list[str]:
    """What is wrong with one of the runs and not with the other, then what is with both."""
    found = zip(("A alone", "B alone", "both"), diagnosis.apart(ours or (), theirs or ()), strict=True)
    lines = [(f"  {where:7}  ", headline(one)) for where, of in found for one in of]
    told = (
        textwrap.wrap(text, WIDTH, initial_indent=start, subsequent_indent=" " * len(start), break_long_words=False)
        for start, text in lines
    )
    return ["", "what the weights show by themselves", *(line for text in told for line in text)] if lines else []


def _lines(found: Comparison) -> Iterator[str]:
    yield f"A  {found.a}"
    yield f"B  {found.b}"
    for note in found.notes:
        yield from textwrap.wrap(f"note: {note}", WIDTH, subsequent_indent="  ", break_long_words=False)
    for part in (_metrics(found), _layers(found), _overlap(found), _unanswered(found)):
        if part:
            yield ""
            yield from part


def _metrics(found: Comparison) -> list[str]:
    if not found.rows:
        return []
    rows = [["metric", "A", "B", "B - A", "relative", "largest"]]
    for row in found.rows:
        last, scale = row.pairs[-1], Scale(row.metric.unit, percent=row.metric.is_share)
        difference = f"{last.difference * (100 if scale.percent else 1):+.3g}"
        figures = [scale.show(last.ours), scale.show(last.theirs), difference, _share(last)]
        rows.append([row.metric.name, *figures, f"{_share(row.widest)} at {row.widest.step}"])
    ends = max((row.pairs[-1] for row in found.rows), key=lambda pair: pair.step)
    count = max(len(row.pairs) for row in found.rows)
    about = [
        f"At the last of {count} checkpoints with matching progress, step {ends.step} of A and {ends.other_step} of B",
        "(or the last where a figure is not fixed); `largest` over all of them, with the step of A.",
    ]
    return [*aligned(rows, right=range(1, 6)), "", *about]


def _layers(found: Comparison) -> list[str]:
    rows = [["layers that moved most differently", "A", "B", "B / A"]]
    rows += [[p.layer, f"{p.ours:.3g}", f"{p.theirs:.3g}", f"{p.ratio:.3g}"] for p in found.layers[:LAYERS]]
    return aligned(rows, right=range(1, 4)) if found.layers else []


def _overlap(found: Comparison) -> list[str]:
    rows = [["what the updates share", "value", "by chance"]]
    for shared in found.shared:
        form = ".1%" if shared.metric.is_share else ".3f"
        by_chance = "" if shared.chance is None else format(shared.chance, form)
        error = "" if shared.error is None else f" +- {shared.error:.2g}"
        rows.append([shared.metric.name, format(shared.value, form) + error, by_chance])
    return aligned(rows, right=range(1, 4)) if found.shared else []


def _unanswered(found: Comparison) -> list[str]:
    sentences = [f"not compared: {what}: {why}" for what, why in found.unanswered]
    return [line for sentence in sentences for line in textwrap.wrap(sentence, WIDTH, subsequent_indent="  ")]


def _share(pair: Pair) -> str:
    """The relative difference; as a multiple where percentages stop reading well."""
    if not math.isfinite(pair.relative):
        return "from 0"
    return f"{pair.relative:+.1%}" if abs(pair.relative) < MULTIPLE else f"x {1 + pair.relative:.3g}"
