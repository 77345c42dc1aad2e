"""What the good runs of a calibrated suite had: the suite carries it under ``calibrated``.

Bands say how far a run may be from the good ones, and mean something only for a run of the same model from the same W0.
So another W0, other weights, or an adapter in place of a whole model is an error of every expectation, with one cause.
A key that is deleted is no longer held. The figures of the good runs are there so that more runs can be added.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from geomcheck._text import and_more, plural
from geomcheck.checkpoints.formats import adapter
from geomcheck.checkpoints.weights import Weight
from geomcheck.diagnostics import load_metrics
from geomcheck.record import Record, Request, digests
from geomcheck.record.points import training_steps
from geomcheck.suite.language.places import Place, Training, parse_short
from geomcheck.suite.language.quantities import Refusal, did_you_mean, spelled
from geomcheck.suite.language.selection import DEFAULT, Selection
from geomcheck.suite.sampling import FROZEN
from geomcheck.suite.verdict import Unanswerable

ADAPTER, MODEL = "adapter", "whole model"
LIVE = "live parameters"
"""The layout of a model that is being trained, which does not tell whether an adapter will be saved."""

EXAMPLE = {"w0": "bf16 blake3:0123456789abcdef", "weights": "14 0123456789abcdef", "layout": MODEL, "steps": 150}

MAX_RUNS = 1000
LARGEST = 1e100
"""No figure of a good run is larger; squares of larger ones overflow."""
_W0 = re.compile(rf"([a-z0-9, ]+) ({digests.PATTERN}{{16}})")
_WEIGHTS = re.compile(r"(\d{1,9}) ([0-9a-f]{16})")
_ROW = re.compile(r"  (?P<place>\S{1,32}) \[(?P<band>[^\[\]]{1,128})\] (?P<figures>[-+.\deinfa ]+)")

_KEYS: dict[str, str] = {
    "w0": "Storage formats and content of W0: a run from another W0 is an error.",
    "weights": "Number, and names and shapes, of the weights: a run that has others is an error.",
    "layout": "What was trained: a run of the other kind is an error.",
    "steps": "Steps of the whole training. A run of another length is judged by progress where it lacks a step.",
    "rule": "From the spread of the runs to a band, as `geomcheck calibrate --update` applies it again.",
    "runs": "The good runs, each with the start of the digest of its last checkpoint.",
    "figures": "Of each expectation at each checkpoint: the band as it was written, and the figure of each run.",
}

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        **{
            key: {"type": "string", "description": about, "examples": [EXAMPLE.get(key, "...")]}
            for key, about in _KEYS.items()
        },
        "layout": {"enum": [ADAPTER, MODEL], "description": _KEYS["layout"]},
        "steps": {"type": "integer", "minimum": 1, "description": _KEYS["steps"], "examples": [150]},
        "runs": {
            "type": "array",
            "items": {"type": "string"},
            "description": _KEYS["runs"],
            "examples": [["seed-1 (blake3:0123456789ab)"]],
        },
    },
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Row:
    """At one checkpoint: the band as the suite's text had it (its two ends), and the figure of each good run."""

    place: Place
    band: str
    figures: tuple[float, ...]


@dataclass(frozen=True)
class Figures:
    """Of one expectation: what its figures are of, in words, and a row for each checkpoint."""

    of: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True)
class GoodRuns:
    """What the good runs of a calibration had; what is empty is not held.

    Attributes:
        w0: formats of W0 (of the selected weights, with commas between), and its content: see `content_of`.
        weights: number of the selected weights, and their names and shapes: see `shapes_of`.
        layout: `ADAPTER` or `MODEL`.
        steps: of the whole training; 0 where the runs differ.
        rule: from spreads to bands, as `geomcheck calibrate` spells it.
        runs: names, each with the start of its content.
        figures: by id of the expectation.
        selection: the weights that all this is about.
        names: of such weights, as far as the suite names them.
    """

    w0: str = ""
    weights: str = ""
    layout: str = ""
    steps: int = 0
    rule: str = ""
    runs: tuple[str, ...] = ()
    figures: Mapping[str, Figures] = field(default_factory=dict)
    selection: Selection = DEFAULT
    names: frozenset[str] = frozenset()

    @classmethod
    def of(cls, records: Sequence[Record], selection: Selection, *, across_bases: bool = False) -> GoodRuns:
        """What comparable records have in common. Raises Unanswerable where none of their weights are selected."""
        first = records[0]
        lengths = {training_steps(record.points) for record in records}
        return cls(
            w0="" if across_bases else content_of(first, selection),
            weights=shapes_of(selection.select(first.weights)),
            layout=layout_of(first),
            steps=lengths.pop() if len(lengths) == 1 else 0,
            selection=selection,
        )

    @property
    def training(self) -> Training:
        """The training of the good runs, with the steps at which they were looked at."""
        rows = (row for figures in self.figures.values() for row in figures.rows)
        return Training(self.steps, tuple(sorted({row.place.step for row in rows if row.place.step is not None})))

    def requests(self, record: Record) -> dict[str, set[Request]]:
        """What must be measured so that W0 is known: which weights changed, which costs no factorization."""
        if not self.w0:
            return {}
        request = Request.of(load_metrics()[FROZEN], {})
        try:
            return {weight.name: {request} for weight in self.selection.select(record.weights)}
        except Unanswerable:
            return {}

    def difference(self, record: Record) -> str:
        """In what `record` is no run of the calibrated recipe, and what to do next; empty where it is one."""
        try:
            chosen = self.selection.select(record.weights)
        except Unanswerable as error:
            return f"not the weights of the calibration: {error}"
        return self._other_weights(chosen) or self._other_layout(record) or self._other_w0(record, chosen)

    def _other_weights(self, chosen: Sequence[Weight]) -> str:
        if not self.weights or shapes_of(chosen) == self.weights:
            return ""
        count = int(self.weights.partition(" ")[0])
        lacking = sorted(self.names - {weight.name for weight in chosen})
        lacks = f" (it lacks {lacking[0]}{and_more(len(lacking))})" if lacking else ""
        here = f"has {len(chosen)} ({self.selection.text}){lacks}, and the good runs had {count}"
        here = here if len(chosen) != count or lacks else f"has {count} of other names or shapes"
        return f"not the weights of the calibration: this run {here}; {_advice('weights', 'a run of the same model')}"

    def _other_layout(self, record: Record) -> str:
        here = layout_of(record)
        if not self.layout or here in ("", self.layout):
            return ""
        return (
            f"not what was trained in the calibration: this run is of {_an(here)}, and the good runs are of "
            f"{_an(self.layout)}; {_advice('layout', f'a run of {_an(self.layout)}')}"
        )

    def _other_w0(self, record: Record, chosen: Sequence[Weight]) -> str:
        if not self.w0:
            return ""
        formats, _, content = self.w0.rpartition(" ")
        unknown = [weight.name for weight in chosen if weight.name not in record.w0]
        if unknown:
            return (
                f"not known to be from the W0 of the calibration: the record does not hold the content of W0 of "
                f"{unknown[0]}{and_more(len(unknown))}; measure the run again with this suite, or {_delete('w0')}"
            )
        here, _, found = content_of(record, self.selection).rpartition(" ")
        if here != formats:
            return (
                f"not known to be from the W0 of the calibration: {record.origin.path} is stored as {here}, and that "
                f"W0 as {formats}, so that their contents cannot be compared; {_advice('w0', f'W0 as {formats}')}"
            )
        if found == content:
            return ""
        if not digests.comparable(found, content):
            return (
                f"not known to be from the W0 of the calibration: the content of {record.origin.path} is {found}, and "
                f"the suite has {content}: {digests.UNLIKE}; calibrate again, and measure again what older records "
                f"hold, or {_delete('w0')}"
            )
        return (
            f"not the W0 of the calibration: {record.origin.path} has the content {found}, and the good runs started "
            f"from {content}; {_advice('w0', 'the W0 that this run should have started from (--geom-base)')}"
        )

    @classmethod
    def parse(cls, raw: Any) -> GoodRuns:
        """From the mapping of a suite. Raises Refusal."""
        if not isinstance(raw, dict):
            raise Refusal(f"expected what `geomcheck calibrate` writes; found {spelled(raw)}")
        for key, value in raw.items():
            with Refusal.at(key):
                _require(key, value)
        figures = cls._parse_figures(raw["figures"]) if "figures" in raw else {}
        runs = tuple(raw.get("runs", ()))
        odd = next((row for each in figures.values() for row in each.rows if len(row.figures) != len(runs)), None)
        if odd is not None:
            raise Refusal(f"{odd.place.text} has {len(odd.figures)} figures, and there are {plural(len(runs), 'run')}")
        return cls(**{**raw, "runs": runs, "figures": figures})

    @classmethod
    def _parse_figures(cls, raw: str) -> dict[str, Figures]:
        """From lines: ``id: what they are of``, and under it ``  place [low, high] figure ...`` for each checkpoint."""
        found: dict[str, Figures] = {}
        name = ""
        with Refusal.at("figures"):
            for number, line in enumerate(raw.splitlines(), start=1):
                row = _ROW.fullmatch(line)
                if row is not None and name:
                    figures = tuple(_number(text, number) for text in row["figures"].split())
                    rows = (*found[name].rows, Row(parse_short(row["place"]), row["band"], figures))
                    found[name] = Figures(found[name].of, rows)
                elif ": " in line and not line.startswith(" "):
                    name, _, of = line.partition(": ")
                    found[name] = Figures(of, ())
                else:
                    raise Refusal(f"line {number} is no line that `geomcheck calibrate` writes: {spelled(line[:60])}")
        return found

    @cached_property
    def text(self) -> list[str]:
        """The lines of the mapping, as `parse` reads them, without its key."""
        lines = [
            f"{key}: {value}" for key in ("w0", "weights", "layout", "steps", "rule") if (value := getattr(self, key))
        ]
        if self.runs:
            lines += ["runs:", *(f"  - {_quoted(run)}" for run in self.runs)]
        if self.figures:
            lines.append("figures: |")
            for name, figures in self.figures.items():
                lines.append(f"  {name}: {figures.of}")
                lines += [
                    f"    {r.place.short} [{r.band}] {' '.join(f'{x:.9g}' for x in r.figures)}" for r in figures.rows
                ]
        return lines


def content_of(record: Record, selection: Selection) -> str:
    """Formats and content of W0, of the selected weights as far as the record knows them: by the algorithm of the
    record's digests, so that it says the same as another record's only where both took one."""
    known = [weight for weight in selection.select(record.weights) if weight.name in record.w0]
    formats = sorted({weight.dtypes[0] for weight in known})
    digits = _digest(f"{weight.name}={record.w0[weight.name]}" for weight in known)
    names = {digests.algorithm(record.w0[weight.name]) for weight in known}
    content = digests.named(digits) if names == {digests.ALGORITHM} else digits
    return f"{', '.join(formats)} {content}"


def shapes_of(weights: Sequence[Weight]) -> str:
    """Number of weights, and the digest of their names and shapes."""
    return f"{len(weights)} {_digest(f'{weight.name}={weight.shape}' for weight in weights)}"


def layout_of(record: Record) -> str:
    """`ADAPTER` or `MODEL`; empty of a training that goes on in memory."""
    if record.layout == LIVE:
        return ""
    return ADAPTER if record.layout == adapter.LAYOUT else MODEL


def _digest(lines: Iterable[str]) -> str:
    return hashlib.blake2b("\n".join(sorted(lines)).encode(), digest_size=8).hexdigest()


def _advice(key: str, instead: str) -> str:
    return f"give {instead}, calibrate again, or {_delete(key)}"


def _delete(key: str) -> str:
    return f"delete `{key}` under `calibrated` in the suite to hold it no longer"


def _an(layout: str) -> str:
    return "an adapter" if layout == ADAPTER else "a whole model"


def _require(key: str, value: Any) -> None:
    """Raise Refusal where `value` is none of this key of the mapping."""
    if key not in _KEYS:
        raise Refusal(f"unknown key; allowed: {', '.join(_KEYS)}{did_you_mean(key, tuple(_KEYS))}")
    text = value if isinstance(value, str) else ""
    right = {
        "w0": _W0.fullmatch(text) is not None,
        "weights": _WEIGHTS.fullmatch(text) is not None,
        "layout": value in (ADAPTER, MODEL),
        "steps": isinstance(value, int) and not isinstance(value, bool) and value > 0,
        "runs": isinstance(value, list) and len(value) <= MAX_RUNS and all(isinstance(run, str) for run in value),
    }
    if not right.get(key, isinstance(value, str)):
        example = f"such as `{EXAMPLE[key]}`; " if key in EXAMPLE else ""
        raise Refusal(f"expected what `geomcheck calibrate` writes, {example}found {spelled(value)}")


def _number(text: str, line: int) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not abs(number) <= LARGEST:
        raise Refusal(f"line {line}: {spelled(text[:32])} is no number")
    return number


def _quoted(text: str) -> str:
    clean = "".join(character if character.isprintable() else "?" for character in text)
    return "'" + clean.replace("'", "''") + "'"
