"""More good runs for a calibrated suite, of which people have edited the text.

What `geomcheck calibrate` wrote is written anew, from the figures that the suite carries and those of the new runs, and
only that: a band that is no longer the one that was written, a ``why``, a level, an id or a comment of one's own stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack

from geomcheck.api import How, RunOrRecord, has_weights, measure, records_of
from geomcheck.calibration import calibration as written
from geomcheck.calibration.calibration import Calibrated, Calibration
from geomcheck.calibration.derive import calibrate
from geomcheck.calibration.figures import words_for
from geomcheck.calibration.normal import about, widened
from geomcheck.calibration.rules import BandRule
from geomcheck.calibration.spelled import rule_of
from geomcheck.calibration.statistics import PlacedBand
from geomcheck.checkpoints import BaseWeights
from geomcheck.errors import UsageError
from geomcheck.files import replacing
from geomcheck.record import Record
from geomcheck.suite import load_suite
from geomcheck.suite.good_runs import Figures, GoodRuns
from geomcheck.suite.language.document import Node, parse_document, read_document
from geomcheck.suite.language.places import Place, Places, parse_place
from geomcheck.suite.suite import Suite

_COMMENT = re.compile(r"(\s*)#\s(?:mean .* to \S+|the same in all \d+ runs)\s*")
"""What `calibrate` writes behind a band."""


@dataclass(frozen=True)
class Updated:
    """A suite's text with more runs; `kept` says what stays as it was written by hand, a sentence each."""

    path: Path
    text: str
    calibration: Calibration
    kept: tuple[str, ...]

    def write(self) -> None:
        """Replace the file, unless what would be written is no suite. Raises UsageError, SuiteError."""
        with replacing(self.path) as partial:
            partial.write_text(self.text, encoding="utf-8", newline="")
            load_suite(partial)


def add_runs(
    path: str | Path,
    runs: Sequence[RunOrRecord],
    *,
    base: BaseWeights | str | Path | None = None,
    rule: BandRule | None = None,
    keep_outlier: bool = False,
    **how: Unpack[How],
) -> Updated:
    """The suite at `path` with further good `runs`; nothing is written. Arguments as those of `calibrate`, but that the
    rule is by default the one that the suite names.

    Raises:
        UsageError: the suite carries no figures of its runs, a run is not of its recipe, is in it, or no good one.
        SuiteError: the suite is invalid.
        RunError: a run cannot be read or trusted.
    """
    file = Path(path)
    suite, root = load_suite(file), read_document(file, shown=str(path))
    good = suite.good
    if good is None or not good.figures or "calibrated" not in root.value:
        raise UsageError(
            f"{path} carries no figures of its good runs (`calibrated`), so that none can be added: calibrate all of "
            "them, or their records, into a new file"
        )
    past, kept = _still_of_the_same(suite, good)
    records = [
        measure(run, base=base, suites=[suite], **how) if has_weights(run) else records_of([run], base=base, **how)[0]
        for run in runs
    ]
    calibration = calibrate(
        records,
        rule=rule or rule_of(good.rule),
        weights=suite.weights,
        at=list(dict.fromkeys(row.place for figures in past.figures.values() for row in figures.rows)),
        name=suite.name,
        applies_to=suite.applies_to,
        across_bases=not good.w0,
        keep_outlier=keep_outlier,
        past=past,
    )
    calibration = replace(calibration, expectations=tuple(_with_normal(calibration, suite, len(past.runs), records)))
    editor = _Editor(file.read_bytes().decode("utf-8-sig").splitlines(keepends=True))
    _edit(editor, root, past, calibration)
    return Updated(file, editor.text(), calibration, (*kept, *editor.kept))


def _still_of_the_same(suite: Suite, good: GoodRuns) -> tuple[GoodRuns, list[str]]:
    """The good runs with the figures of those expectations that are still about the same, and a sentence on others."""
    by_id = {expectation.id: expectation for expectation in suite.expectations}
    figures: dict[str, Figures] = {}
    kept = []
    for name, found in good.figures.items():
        one = by_id.get(name)
        if one is None:
            kept.append(f"{name}: no expectation has this id any more, so that its figures are left out")
        elif words_for(one.metric, one.params, one.fold, one.weights) != found.of or one.per != "run":
            kept.append(
                f"{name}: stays as it is written, as it is about other figures than the good runs' ({found.of})"
            )
        elif isinstance(one.at, Places) and (lost := {*one.at.places} - {row.place for row in found.rows}):
            lost_places = ", ".join(sorted(place.text for place in lost))
            kept.append(f"{name}: stays as it is written, as the good runs' figures of {lost_places} are not there")
        else:
            figures[name] = found
    if not figures:
        raise UsageError(f"{suite.path}: no expectation is still about the figures of its good runs; calibrate again")
    return replace(good, figures=figures), kept


def _with_normal(calibration: Calibration, suite: Suite, runs: int, records: Sequence[Record]) -> Iterator[Calibrated]:
    """The expectations with what is normal for single weights, as far as the suite still says so."""
    normals = {expectation.id: expectation.normal for expectation in suite.expectations}
    for one in calibration.expectations:
        before = normals[one.id]
        normal = None if before is None else widened(before, runs, one.metric, records, calibration.weights)
        yield replace(one, normal=normal)


@dataclass
class _Editor:
    """The lines of a text, what is to stand in place of some of them, and what stays in words."""

    lines: list[str]
    changes: dict[int, tuple[int, list[str]]] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)

    def put(self, start: int, count: int, lines: Sequence[str]) -> None:
        """`lines` in place of `count` lines from the line with index `start`."""
        self.changes[start] = count, [f"{line}{self._end}" for line in lines]

    def block(self, key: Node) -> tuple[int, int]:
        """The index of the line of a key, and the number of lines of it and its value, deeper than it."""
        start, indent = key.key.line - 1, key.key.column - 1
        count = 1
        for number, line in enumerate(self.lines[start + 1 :], start=2):
            bare = line.strip()
            if bare and len(line) - len(line.lstrip()) <= indent:
                break
            count = number if bare else count
        return start, count

    def paragraph(self, first: str, lines: Sequence[str]) -> None:
        """`lines` in place of the comment that begins with the words `first` and goes on deeper; nothing without it."""
        start = next((n for n, line in enumerate(self.lines) if line.startswith(f"# {first}")), None)
        if start is not None:
            rest = self.lines[start + 1 :]
            count = 1 + next((n for n, line in enumerate(rest) if not line.startswith("#   ")), len(rest))
            self.put(start, count, lines)

    def text(self) -> str:
        """The lines after all changes."""
        lines = list(self.lines)
        for start in sorted(self.changes, reverse=True):
            count, new = self.changes[start]
            lines[start : start + count] = new
        return "".join(lines)

    @property
    def _end(self) -> str:
        return "\r\n" if self.lines and self.lines[0].endswith("\r\n") else "\n"


def _edit(editor: _Editor, root: Node, past: GoodRuns, calibration: Calibration) -> None:
    entries = root.value["expect"].value if "expect" in root.value else []
    by_id = {entry.text("id"): entry for entry in entries}
    for one in calibration.expectations:
        if (entry := by_id.get(one.id)) is None:
            editor.kept.append(f"{one.id}: stays as it is in the suite that is extended")
            continue
        _edit_bands(editor, entry, past.figures[one.id], one)
        _edit_why(editor, entry, past.figures[one.id], one)
    lost = past.figures.keys() - {one.id for one in calibration.expectations}
    editor.kept += [f"{name}: stays as it is, as its bands would cover all figures now" for name in sorted(lost)]
    n = len(calibration.runs)
    told = written.provenance(calibration.runs, calibration.base)
    across = "--across-bases" in "".join(editor.lines)
    editor.paragraph("Calibrated by", written.comment(told if across else told.removesuffix(f" {written.ACROSS}")))
    editor.paragraph("Each band is", written.comment(written.rule_in_words(calibration)))
    editor.paragraph("WARNING", [line for warning in calibration.warnings for line in written.warning_lines(warning)])
    editor.paragraph("Power:", written.comment(f"Power: not tried with N = {n} runs: geomcheck power SUITE RUN"))
    editor.paragraph("Normal for", written.comment(about(n)))
    held = root.value["calibrated"].value
    parts = parse_document("\n".join(written.good_lines(calibration)), shown="")
    lines = written.good_lines(calibration)
    for key in ("rule", "runs", "figures"):
        if key in held:
            start, count = _Editor(lines).block(parts.value[key])
            editor.put(*editor.block(held[key]), [f"  {line}" for line in lines[start : start + count]])
    normals = root.value["normal"].value if "normal" in root.value else {}
    for one in calibration.expectations:
        if one.id in normals and one.normal is not None:
            start, count = editor.block(normals[one.id])
            editor.put(start + 1, count - 1, [f"    {line}" for line in one.normal.text.splitlines()])


def _edit_bands(editor: _Editor, entry: Node, before: Figures, now: Calibrated) -> None:
    """Put the new bands where the old ones stand as they were written."""
    rows = {row.place: row.band for row in before.rows}
    bands = {band.place: band for band in now.bands}
    if "within" in entry.value:
        within = entry.value["within"]
        if _is(within, before.rows[0].band) and not now.is_constant and len(bands) > 1:
            start, _ = editor.block(within)
            editor.put(start, 1, list(written.condition_lines(now)))
        else:
            _edit_band(editor, within, before.rows[0].band, now.bands[0], now)
        return
    stated = entry.value["bands"].value if "bands" in entry.value else []
    for each in stated:
        place = _place(each.plain())
        if place in rows and place in bands:
            _edit_band(editor, each.value["within"], rows[place], bands[place], now)
        elif place in rows:
            editor.kept.append(f"{now.id} at {place.text}: stays as it is, as its band would cover all figures now")
    if not stated:
        editor.kept.append(f"{now.id}: stays as it is written by hand")


def _edit_band(editor: _Editor, within: Node, before: str, band: PlacedBand, now: Calibrated) -> None:
    """Put the new band in place of `within`, and its origin in the comment, if that is as it was written `before`."""
    index, column = within.position.line - 1, within.position.column - 1
    line = editor.lines[index]
    found = re.match(r"\[[^\[\]]*\]", line[column:])
    if found is None or not _is(within, before):
        at = f" at {band.place.text}" if len(now.bands) > 1 else ""
        instead = written.ends(band, now.metric)
        editor.kept.append(
            f"{now.id}{at}: stays as it was edited, {_spelled(within)}; by the rule it would be {instead}"
        )
        return
    rest = line[column + found.end() :].rstrip("\r\n")
    closed = re.match(r"[\s}]*", rest)
    end = closed.end() if closed else 0
    told = rest[len(rest[:end].rstrip()) :]
    tail = rest[:end].rstrip()
    comment = _COMMENT.fullmatch(told)
    stated = f"{line[:column]}{written.ends(band, now.metric)}{tail}"
    if comment:
        stated, told = f"{stated}  ".ljust(line.rindex("#")), f"# {written.origin(band, now.metric)}"
    editor.put(index, 1, [f"{stated}{told}"])


def _edit_why(editor: _Editor, entry: Node, before: Figures, now: Calibrated) -> None:
    """Write the reason anew, if it is the one that was written."""
    last = before.rows[-1]
    old = written.why(now.metric, last.place, min(last.figures), max(last.figures))
    if entry.text("why") == old:
        editor.put(*editor.block(entry.value["why"]), written.why_lines(now))


def _is(within: Node, band: str) -> bool:
    """Whether a band stands as it was written, however its numbers are spelled."""
    return bool(within.plain() == parse_document(f"band: [{band}]", shown="").plain()["band"])


def _spelled(within: Node) -> str:
    return f"[{', '.join(map(str, within.plain()))}]" if isinstance(within.value, list) else str(within.plain())


def _place(entry: Mapping[str, Any]) -> Place:
    where = {key: value for key, value in entry.items() if key != "within"}
    return parse_place(where.get("at", where))
