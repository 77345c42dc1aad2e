"""Which checkpoints an expectation looks at."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from geomcheck.diagnostics.declaration import Unit
from geomcheck.record.points import MATCHING_PROGRESS, Point, fraction, locate, matches, nearest, training_steps
from geomcheck.suite.language.quantities import Refusal, Refusals, did_you_mean, quantity, share_text, spelled, unquoted
from geomcheck.suite.verdict import Unanswerable

PLACES = {
    "all": "Every checkpoint.",
    "first": "The earliest checkpoint of the run.",
    "last": "The latest checkpoint of the run.",
    "previous": "The checkpoint before the one that is looked at.",
    "reference": "The reference run at matching progress.",
}
"""The words for checkpoints, with their meanings."""

SHOWN = 12
"""Checkpoints that a sentence lists."""

SAME_PROGRESS = 0.005
"""How far a checkpoint may be, in progress, from a step of a training of another length, to be judged by that step's
band: what rounding to whole steps leaves. Figures grow along a run, and are others some steps later."""

_SAME = {
    "first": ("start", "begin", "beginning", "initial", "earliest", "0"),
    "last": ("end", "final", "latest", "newest", "finish", "-1", "best"),
    "previous": ("prev", "before"),
    "reference": ("ref", "good", "good_run"),
    "all": ("every", "each", "any", "always", "*", "everywhere"),
}
"""Other words for the words for checkpoints."""

_ALLOWED = "`first`, `last`, `{step: N}`, `{progress: 20%}`"
_IN_SPAN = {"from": "{{from: {}, ...}}", "to": "{{..., to: {}}}"}


@dataclass(frozen=True)
class Place:
    """One checkpoint: the ``first``, the ``last``, a step, or the one nearest a progress.

    `word` is ``previous`` or ``reference`` only in metric parameters: the checkpoint before the one that is looked at,
    or the reference run's at matching progress.
    """

    word: str | None = None
    step: int | None = None
    progress: str | None = None

    @property
    def text(self) -> str:
        """For people: ``last``, ``step 300``, ``progress 20%``."""
        if self.step is not None:
            return f"step {self.step}"
        return f"progress {self.progress}" if self.progress else str(self.word)

    @property
    def short(self) -> str:
        """In a word, as `parse_short` reads it: ``last``, ``300``, ``20%``."""
        return self.word or self.progress or str(self.step)

    @property
    def phrase(self) -> str:
        """The text within a sentence: ``the last``, ``step 300``."""
        return f"the {self.word}" if self.word else self.text

    @property
    def canonical(self) -> Any:
        """The value as a metric parameter spells it."""
        if self.step is not None:
            return {"step": self.step}
        return {"progress": self.progress} if self.progress else self.word

    @property
    def rank(self) -> float | None:
        """Where in a run, 0..1, as far as that is known without the run."""
        if self.progress:
            return fraction(self.progress)
        return {"first": 0.0, "last": 1.0}.get(self.word or "")

    def index(self, points: Sequence[Point]) -> int:
        """The index of this checkpoint; of two that are equally near a progress, the earlier.

        Raises Unanswerable where the run has no such step, or none near such a progress.
        """
        index = locate(points, self.canonical, 0)
        if index is not None:
            return index
        if self.progress is None:
            raise Unanswerable(f"{no_checkpoint_at([self], points)} (or select by `progress`)")
        point = nearest(points, fraction(self.progress))
        raise Unanswerable(
            f"no checkpoint is near {self.text}: the nearest is step {point.step} at {point.progress:.0%} (at most "
            f"{MATCHING_PROGRESS * 100:.0f} points away)"
        )

    def is_beyond(self, points: Sequence[Point]) -> bool:
        """Whether this is a share of the training that the run did not reach."""
        share = 0.0 if self.progress is None else fraction(self.progress)
        return share > points[-1].progress and not matches(points[-1], share)

    def bound(self, points: Sequence[Point], *, opens: bool) -> int:
        """The index at which a span opens here, or closes. Where there is no such checkpoint, the span goes as far as
        there is one within it. Raises as `index`."""
        index = locate(points, self.canonical, 0)
        if index is not None:
            return index
        within = [i for i, point in enumerate(points) if self._is_passed(point) == opens]
        return (within[0] if opens else within[-1]) if within else self.index(points)

    def _is_passed(self, point: Point) -> bool:
        """Whether a checkpoint lies after this step or progress, which it is not."""
        return point.progress >= fraction(self.progress) if self.progress else point.step > (self.step or 0)


@dataclass(frozen=True)
class Training:
    """The training that the steps of a suite are of.

    Attributes:
        steps: of the whole; 0 where that is not known.
        marks: the steps at which the suite judges it.
    """

    steps: int = 0
    marks: tuple[int, ...] = ()

    def is_other(self, points: Sequence[Point]) -> bool:
        """Whether these checkpoints are known to be of a training of another length."""
        return self.steps not in (0, training_steps(points))

    def indices(self, places: Sequence[Place], points: Sequence[Point]) -> dict[Place, int | None]:
        """The index of the checkpoint that each place names; None where there is none.

        A run of another length that has fewer of the suite's steps than of the shares of the training that these are
        is looked at by these shares instead.
        """
        found = {place: locate(points, place.canonical, 0) for place in places}
        if not self.is_other(points):
            return found
        own = {point.step for point in points}
        shares = sum(_at_share(step / self.steps, points) is not None for step in self.marks)
        if shares <= len(own.intersection(self.marks)):
            return found
        steps = [place for place in places if place.step is not None]
        return found | {place: _at_share((place.step or 0) / self.steps, points) for place in steps}


UNKNOWN = Training()


def _at_share(share: float, points: Sequence[Point]) -> int | None:
    point = nearest(points, share)
    return points.index(point) if abs(point.progress - share) <= SAME_PROGRESS + 1e-9 else None


@dataclass(frozen=True)
class At:
    """A selection of checkpoints: everything between `start` and `stop`, both included.

    `single` marks a selection of one checkpoint, which `start` names; a step of it is one of `training`.
    """

    start: Place
    stop: Place
    single: bool = False
    training: Training = field(default=UNKNOWN, compare=False)

    @property
    def text(self) -> str:
        """For people: ``all``, ``last``, ``checkpoints from step 100 to the last``."""
        if self.single:
            return self.start.text
        if self == ALL:
            return "all"
        return f"checkpoints from {self.start.phrase} to {self.stop.phrase}"

    def indices(self, points: Sequence[Point]) -> dict[Place, int | None]:
        """The index of the one checkpoint, by its place, where there is one; nothing of a span."""
        return self.training.indices([self.start], points) if self.single else {}

    def lacking(self, points: Sequence[Point]) -> list[Place]:
        """The steps that a span names and a run does not have."""
        ends = () if self.single else (self.start, self.stop)
        return [place for place in ends if place.step is not None and locate(points, place.canonical, 0) is None]

    def select(self, points: Sequence[Point]) -> list[Point]:
        """The selected checkpoints, ascending, as far as a span's ends are there.

        Raises Unanswerable where the one checkpoint is missing, or the span is empty.
        """
        if self.single:
            index = self.indices(points)[self.start]
            return [points[self.start.index(points) if index is None else index]]
        first, last = self.start.bound(points, opens=True), self.stop.bound(points, opens=False)
        if first > last:
            raise Unanswerable(
                f"`at` selects no checkpoint: none lies between {self.start.text} and {self.stop.text} (steps "
                f"{points[last].step} and {points[first].step} lie around)"
            )
        return list(points[first : last + 1])


@dataclass(frozen=True)
class Places:
    """Checkpoints named one by one, as ``bands`` names them; steps are those of `training`."""

    places: tuple[Place, ...]
    training: Training = field(default=UNKNOWN, compare=False)
    single = False

    @property
    def text(self) -> str:
        """For people: ``steps 30, 60``, or ``step 30, progress 50%``."""
        if len(self.places) > 1 and all(place.step is not None for place in self.places):
            return f"steps {', '.join(str(place.step) for place in self.places)}"
        return ", ".join(place.text for place in self.places)

    def lacking(self, points: Sequence[Point]) -> list[Place]:
        """Those that a run does not have."""
        return [place for place, index in self.indices(points).items() if index is None]

    def indices(self, points: Sequence[Point]) -> dict[Place, int | None]:
        """The index of each checkpoint, by its place."""
        return self.training.indices(self.places, points)

    def locate(self, points: Sequence[Point]) -> dict[Place, Point]:
        """The checkpoints of a run that are among these, in the order of `places`.

        Raises Unanswerable where it has none of them, or one checkpoint for two places.
        """
        located, lacking = self.indices(points), self.lacking(points)
        if len(lacking) == len(self.places) > 1:
            raise Unanswerable(no_checkpoint_at(lacking, points))
        if len(lacking) == len(self.places):
            lacking[0].index(points)
        found: dict[Point, Place] = {}
        for place, index in located.items():
            if index is None:
                continue
            point = points[index]
            if point in found:
                raise Unanswerable(f"{found[point].text} and {place.text} are one checkpoint, step {point.step}")
            found[point] = place
        return {place: point for point, place in found.items()}

    def locate_all(self, points: Sequence[Point]) -> list[Point]:
        """The checkpoints of a run that must have every one of these, in their order. Raises Unanswerable."""
        for place in self.lacking(points):
            place.index(points)
        return list(self.locate(points).values())

    def select(self, points: Sequence[Point]) -> list[Point]:
        """The checkpoints of a run, ascending by step. Raises as `locate`."""
        return sorted(self.locate(points).values(), key=lambda point: point.step)


def no_checkpoint_at(places: Sequence[Place], points: Sequence[Point]) -> str:
    """That a run lacks these steps and shares of the training, and which it has."""
    steps = [str(place.step) for place in places if place.step is not None]
    shares = [place.progress for place in places if place.progress]
    lacking = [f"at step{'s' * (len(steps) > 1)} {', '.join(steps)}"] if steps else []
    lacking += [f"near {' or '.join(shares)} of the training"] if shares else []
    has = [f"{point.step} ({point.progress:.0%})" if shares else str(point.step) for point in points]
    some = has if len(has) <= SHOWN else [*has[: SHOWN - 1], "...", has[-1]]
    return f"the run has no checkpoint {', nor '.join(lacking)}; it has {', '.join(some)}"


FIRST, LAST, PREVIOUS = Place("first"), Place("last"), Place("previous")
ALL = At(FIRST, LAST)


def parse_place(raw: Any, *, others: Sequence[str] = (), allowed: str = _ALLOWED, form: str = "{}") -> Place:
    """Read ``first``, ``last``, ``{step: N}`` or ``{progress: P%}``, and `others`, words that only parameters know.

    Raises Refusal, which quotes `allowed`, and in `form` what may have been meant.
    """
    words = ("first", "last", *others)
    *some, final = [f"`{word}`" for word in others] or [""]
    allowed += f"{''.join(f', {word}' for word in some)} or {final}" if final else ""
    if isinstance(raw, str):
        if raw in words:
            return Place(raw)
        raise Refusal(f"`{raw}` is not a checkpoint; allowed: {allowed}{_meant(raw, form, words)}")
    if not isinstance(raw, dict) or len(raw) != 1:
        hint = "; for several checkpoints, write `{from: ..., to: ...}` or `bands`" if isinstance(raw, list) else ""
        hint = _meant(str(raw), form, words) if isinstance(raw, int | float) else hint
        hint = "; it is one of them, not several" if isinstance(raw, dict) and raw else hint
        raise Refusal(f"found {spelled(raw)} for a checkpoint; allowed: {allowed}{hint}")
    ((key, value),) = raw.items()
    if key == "step":
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise Refusal(f"a step is an integer >= 0; found {spelled(value)}{_meant_step(value)}", path=("step",))
        return Place(step=value)
    if key == "progress":
        return Place(progress=_progress(value))
    hint = (
        "; epochs are not counted: the last checkpoint of an epoch has a step" if str(key).startswith("epoch") else ""
    )
    hint = f"; did you mean `{key}`, without braces?" if key in words and value is None else hint
    hint = hint or did_you_mean(key, ("step", "progress"))
    raise Refusal(f"unknown key `{key}` for a checkpoint; allowed: {allowed}{hint}")


def parse_short(text: str) -> Place:
    """Read what `Place.short` is. Raises Refusal."""
    if text.endswith("%"):
        return parse_place({"progress": text})
    return parse_place({"step": int(text)} if text.isdecimal() else text)


def parse_at(raw: Any) -> At:
    """Read the value of ``at``. Raises Refusal."""
    if raw == "all":
        return ALL
    if isinstance(raw, dict) and ("from" in raw or "to" in raw):
        return _parse_span(raw)
    if isinstance(raw, str) and raw.lower() in _SAME["all"]:
        raise Refusal(f"`{raw}` is not a checkpoint; did you mean `all`?")
    place = parse_place(raw, allowed=f"`all`, {_ALLOWED} or `{{from: ..., to: ...}}`")
    return At(place, place, single=True)


def _parse_span(raw: dict[str, Any]) -> At:
    unknown = [key for key in raw if key not in ("from", "to")]
    if unknown:
        raise Refusal(f"unknown key `{unknown[0]}` beside `from` and `to`")
    ends = []
    with Refusals() as refusals:
        for key, default in (("from", FIRST), ("to", LAST)):
            with refusals.at(key):
                ends.append(parse_place(raw[key], form=_IN_SPAN[key]) if key in raw else default)
    start, stop = ends
    if _after(start, stop):
        raise Refusal(f"`from` ({start.text}) comes after `to` ({stop.text})")
    return At(start, stop)


def _after(start: Place, stop: Place) -> bool:
    if start.step is not None and stop.step is not None:
        return start.step > stop.step
    return start.rank is not None and stop.rank is not None and start.rank > stop.rank


def _progress(raw: Any) -> str:
    with Refusal.at("progress"):
        value = quantity(raw, Unit.FRACTION).value
    if not 0 <= value <= 1:
        meant = isinstance(raw, int | float) and 1 < value <= 100
        hint = f"; did you mean `{raw}%`?" if meant else ""
        raise Refusal(f"progress goes from 0% to 100%; found {spelled(raw)}{hint}", path=("progress",))
    return share_text(value)


def _meant(raw: str, form: str, words: tuple[str, ...]) -> str:
    """A hint of what `raw` may mean as a checkpoint: another word, a share of the training, a step."""
    if (
        word := next((word for word, others in _SAME.items() if word in words and raw.lower() in others), None)
    ) is None:
        step = re.fullmatch(r"(?:\w*?(?:step|checkpoint|ckpt|iter)\w*?[-_: =]*)?(\d+)", raw.strip(), re.IGNORECASE)
        place = f"{{step: {step[1]}}}" if step else ""
        return (
            f"; did you mean `{form.format(place)}`?"
            if place
            else _meant_progress(raw, form) or did_you_mean(raw, words)
        )
    return f"; did you mean `{word}`?"


def _meant_step(raw: Any) -> str:
    span = re.fullmatch(r"\s*(\d+)\s*(?:-|–|\.\.+|to|:)\s*(\d+)\s*", raw) if isinstance(raw, str) else None
    if span:
        return f"; a span is written `{{from: {{step: {span[1]}}}, to: {{step: {span[2]}}}}}`"
    return "; for several checkpoints, write `bands`" if isinstance(raw, list) else unquoted(raw)


def _meant_progress(raw: str, form: str) -> str:
    try:
        place = Place(progress=_progress(raw))
    except Refusal:
        return ""
    return f"; did you mean `{form.format(f'{{progress: {place.progress}}}')}`?"
