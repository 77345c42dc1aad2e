"""The first lines after a session that fails: what is wrong with its runs, before any figure and any text of a failure.

What is wrong with several runs alike is told once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from geomcheck._text import plural
from geomcheck.report.causes import Cause
from geomcheck.report.facts import grouped
from geomcheck.report.findings import MOST, Explained
from geomcheck.report.session import Reported, Session
from geomcheck.report.text.diagnosis import reasons, sentence
from geomcheck.report.text.screen import Line, Screen, some

MARGIN = " " * 5


def findings(session: Session, causes: Sequence[Cause], screen: Screen) -> list[Line]:
    """The findings of every run that explain a verdict, and why verdicts could not be judged beside.

    ``-q`` leaves the sentences with what they explain, ``-v`` tells all in full.
    """
    runs = [run for run in session.each_once if run.diagnosis and run.diagnosis.explaining]
    most = None if screen.verbosity > 0 else MOST
    told = ((run, one) for run in runs if run.diagnosis for one in run.diagnosis.explaining[:most])
    alike = grouped((one.headline, (run, one)) for run, one in told)
    lines: list[Line] = []
    known: set[tuple[str, ...]] = set()
    for index, found in enumerate(alike.values()):
        full = screen.verbosity > 0 or (screen.verbosity == 0 and index < MOST)
        several = len(session.each_once) > 1
        lines += _group(found, screen, full=full, several=several, known=known if screen.verbosity < 1 else set())
    for run in runs:
        lines += _left(run, most)
    return lines + [line for cause in causes for line in _cause(cause, screen)]


def _group(
    found: Sequence[tuple[Reported, Explained]],
    screen: Screen,
    *,
    full: bool,
    several: bool,
    known: set[tuple[str, ...]],
) -> Iterator[Line]:
    """A finding of one run, or of several. What to do is left out where it is `known` from an earlier one."""
    (run, one), *_ = found
    finding, number = one.finding, f"{one.number}" if len(found) == 1 else f"{one.number}-{found[-1][1].number}"
    name = run.name if several and len(found) == 1 else ""
    for line in sentence(finding, number, run=name, width=screen.width):
        yield Line(line, bold=True)
    ids = list(dict.fromkeys(name for _, explained in found for name in explained.ids))
    names = some([run.name for run, _ in found], screen)
    if not full:
        of_runs = f" in {names}" if len(found) > 1 else ""
        for part in screen.wrapped(f"explains {some(ids, screen)}{of_runs}", indent=len(MARGIN)):
            yield Line(MARGIN + part)
        return
    advice = (*finding.causes, finding.next_step, finding.source)
    more = {"runs": names if len(found) > 1 else "", "explains": some(ids, screen)}
    for line in reasons(finding, width=screen.width, more=more, advice=advice not in known):
        yield Line(line)
    known.add(advice)
    for text in dict.fromkeys(text for _, explained in found for text in explained.refusals):
        for part in screen.sentence(f"{MARGIN}refused   {text}", hang=15):
            yield Line(part)


def _left(run: Reported, most: int | None) -> Iterator[Line]:
    """How many findings of a run are left, and of what kinds."""
    assert run.diagnosis is not None
    told = run.diagnosis.explaining[:most]
    if rest := [one for one in run.diagnosis.found if one not in told]:
        kinds = ", ".join(dict.fromkeys(one.finding.kind for one in rest))
        yield Line(f"{MARGIN}and {plural(len(rest), 'more finding')} ({kinds}): geomcheck diagnose {run.path}")


def _cause(cause: Cause, screen: Screen) -> Iterator[Line]:
    for line in screen.sentence(cause.headline, hang=len(MARGIN)):
        yield Line(line, bold=True)
    ids = some([facts["id"] for facts in cause.stopped], screen)
    for line in screen.wrapped(f"stops {ids}", indent=len(MARGIN)):
        yield Line(MARGIN + line)
