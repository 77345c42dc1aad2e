"""What is remembered of the observations of a training: figures and channels, never the weights."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from geomcheck.checkpoints import Weight
from geomcheck.checkpoints.run import share_done
from geomcheck.errors import RunError, Undefined, UsageError
from geomcheck.files import replacing
from geomcheck.live.loop.plan import WeightPlan, signature
from geomcheck.measurement.measured import W0, Measured, Snapshot
from geomcheck.measurement.trajectory import Channel, PastCheckpoints
from geomcheck.own import is_own, require_own
from geomcheck.record import UNKNOWN, Point, Request, digests
from geomcheck.record.routes import RouteTaken

logger = logging.getLogger("geomcheck.training")

FORMAT = 1
_FACTS = "facts"
_KEPT = re.compile(r"[0-9]{1,15}\.safetensors")


@dataclass(frozen=True)
class ObservedWeight:
    """What one observation found of one weight.

    Attributes:
        measured: figures of the new checkpoint, and those of earlier ones that it changes.
        channels: of the new checkpoint, by (k, side).
        unchanged: whether the weight equals W0 there.
    """

    measured: Measured
    channels: Mapping[tuple[int, str], Channel]
    unchanged: bool


@dataclass(frozen=True)
class Step:
    """One observation.

    Attributes:
        asked: what was asked of each weight, to tell whether a later observation continues this one.
        weights: by name; what is not here is observed no longer.
        skipped: weights that cannot be measured, with the reason.
        vectors: of norms, biases and the like, the digests in W0 and now: the same where the value is W0's.
    """

    point: Point
    asked: str
    weights: Mapping[str, ObservedWeight]
    skipped: Mapping[str, str] = field(default_factory=dict)
    vectors: Mapping[str, tuple[str, str]] = field(default_factory=dict)


class History:
    """The observations so far.

    Memory: K x in of every observed weight, observation and channel that is compared with, and the figures.

    Args:
        directory: where each observation is kept for a training that is resumed; None for nowhere.

    Raises:
        UsageError: it is a link, or no directory.
    """

    def __init__(self, directory: Path | None = None) -> None:
        if directory is not None:
            require_own(directory)
        self._directory = directory
        self.steps: list[Step] = []

    @property
    def points(self) -> tuple[Point, ...]:
        """The checkpoints that were observed."""
        return tuple(step.point for step in self.steps)

    @property
    def observed(self) -> tuple[str, ...]:
        """The weights that were measured at every observation, in their order."""
        return tuple(self.steps[-1].weights) if self.steps else ()

    @property
    def skipped(self) -> dict[str, str]:
        """The weights that could not be measured at some observation, with the reason."""
        return {name: reason for step in self.steps for name, reason in step.skipped.items()}

    def kept(self, name: str) -> PastCheckpoints:
        """What is known of the earlier checkpoints of a weight."""
        seen = [step.weights[name] for step in self.steps]
        channels = {(i, *place): c for i, one in enumerate(seen) for place, c in one.channels.items()}
        return PastCheckpoints(len(seen), channels, frozenset(i for i, one in enumerate(seen) if one.unchanged))

    def measured(self, name: str) -> Measured:
        """All that was found of a weight that is still observed."""
        found = Measured()
        for step in self.steps:
            found.update(step.weights[name].measured)
        return found

    def contents(self, weights: Iterable[Weight]) -> dict[str, tuple[int, ...]]:
        """`Record.contents` of these weights, of those whose content was seen at every observation, and that are the
        training's own."""
        weights = tuple(weights)
        lent = {weight.name for weight in weights if weight.lent}
        seen = {name: self.measured(name).digests for name in self.observed if name not in lent}
        for name in set.intersection(*(set(step.vectors) for step in self.steps)) - seen.keys():
            seen[name] = {W0: self.steps[0].vectors[name][0]}
            seen[name] |= {("run", index): step.vectors[name][1] for index, step in enumerate(self.steps)}
        numbers: dict[str, int] = {}

        def number(name: str, snapshot: Snapshot) -> int:
            digest = seen.get(name, {}).get(snapshot)
            return UNKNOWN if digest is None else numbers.setdefault(digest, len(numbers))

        places: dict[str, Snapshot] = {"W0": W0, **{p.name: ("run", i) for i, p in enumerate(self.points)}}
        return {place: tuple(number(weight.name, snapshot) for weight in weights) for place, snapshot in places.items()}

    def add(self, step: Step) -> None:
        """Remember an observation, and write it down.

        Raises:
            RunError: it does not belong to those so far: W0 is no longer what it was.
            UsageError: it cannot be written down.
        """
        for name, seen in step.weights.items() if self.steps else ():
            if seen.measured.digests[W0] != self.steps[-1].weights[name].measured.digests[W0]:
                raise RunError(
                    f"{name} of W0 is not what it was at step {self.steps[-1].point.step}: give the W0 that the record "
                    f"began with, or remove {self._directory} to begin another"
                )
        self.steps.append(step)
        if self._directory is not None:
            _write(step, self._directory / f"{step.point.step}.safetensors")

    def require_later(self, point: Point) -> None:
        """Raise UsageError where `point` does not come after the last observation."""
        if point.step < 1 or (self.steps and point.step <= self.steps[-1].point.step):
            why = f" after step {self.steps[-1].point.step}" if self.steps else ": steps count from 1"
            raise UsageError(f"step {point.step} cannot be observed{why}")

    def resume(self, last: int | None, asked: WeightPlan, *, total_steps: int) -> None:
        """Take up the observations of an interrupted training, up to step `last`, and drop what came later.

        Without `last`, or where nothing fitting was kept, it starts anew, and the log says why.

        Args:
            total_steps: of the training as it is now, by which all progress counts.
        """
        self.steps = []
        files = self._files()
        if last is not None:
            try:
                self.steps = _resumed([file for step, file in files if step <= last], asked, total_steps)
            except RunError as error:
                why = "what was kept of the steps before cannot be used"
                logger.warning("the record starts anew at step %d: %s: %s", last, why, error)
        for step, file in files:
            if last is None or step > last or not self.steps:
                file.unlink(missing_ok=True)

    def _files(self) -> list[tuple[int, Path]]:
        """What was kept, with its step, ascending. Whatever else lies there is left alone."""
        if self._directory is None or not self._directory.is_dir():
            return []
        return sorted(
            (int(file.stem), file) for file in self._directory.iterdir() if _KEPT.fullmatch(file.name) and is_own(file)
        )


def _resumed(files: Sequence[Path], asked: WeightPlan, total_steps: int) -> list[Step]:
    """The observations in `files`, in a training that takes `total_steps`.

    Raises RunError where they are damaged, answer something else, or go by the progress of a training of other length.
    """
    steps = [_read(file) for file in files]
    kept = (digest for step in steps for one in step.weights.values() for digest in one.measured.digests.values())
    if any(digests.algorithm(digest) != digests.ALGORITHM for digest in kept):
        raise RunError(f"they were kept by an older geomcheck, and {digests.UNLIKE}")
    other = next((step for step in steps if step.asked != signature(asked)), None)
    if other is not None:
        raise RunError(f"at step {other.point.step} other figures, or figures of other weights, were asked for")
    for index, step in enumerate(steps):
        if any(("run", index) not in one.measured.digests for one in step.weights.values()):
            raise RunError("an observation in between is missing")
    points = [replace(step.point, progress=share_done(step.point.step, total_steps)) for step in steps]
    by_progress = any('"progress"' in request.params for requests in asked.values() for request in requests)
    if by_progress and points != [step.point for step in steps]:
        raise RunError(f"the training now takes {total_steps} steps, and figures go by its progress")
    return [replace(step, point=point) for step, point in zip(steps, points, strict=True)]


def _write(step: Step, file: Path) -> None:
    """One file: the channels as tensors, everything else as JSON in one more."""
    facts = {
        "format": FORMAT,
        "point": asdict(step.point),
        "asked": step.asked,
        "skipped": dict(step.skipped),
        "vectors": {name: list(digests) for name, digests in step.vectors.items()},
        "weights": [_facts(name, weight) for name, weight in step.weights.items()],
    }
    tensors = {
        f"{number}/{k}/{side}": channel.contiguous()
        for number, weight in enumerate(step.weights.values())
        for (k, side), channel in weight.channels.items()
        if isinstance(channel, Tensor)
    }
    tensors[_FACTS] = torch.frombuffer(bytearray(json.dumps(facts).encode()), dtype=torch.uint8)
    with replacing(file) as partial:
        save_file(tensors, partial)


def _facts(name: str, weight: ObservedWeight) -> dict[str, Any]:
    """What is known of a weight, but for its channels, as JSON; `_weight` reads it."""
    measured = weight.measured
    return {
        "name": name,
        "unchanged": weight.unchanged,
        "answers": [
            [index, request.metric, request.params, answer] for (index, request), answer in measured.answers.items()
        ],
        "digests": [[*place, digest] for place, digest in measured.digests.items()],
        "routes": {
            str(index): {quantity: [route.how, route.certificate] for quantity, route in routes.items()}
            for index, routes in measured.routes.items()
        },
        "sketches": {str(index): kept.hex() for index, kept in measured.sketches.items()},
        "reasons": [[k, side, str(why)] for (k, side), why in weight.channels.items() if isinstance(why, Undefined)],
    }


def _read(file: Path) -> Step:
    """Raises RunError where it is not what `_write` wrote."""
    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 (no mapping)
        facts = json.loads(tensors.pop(_FACTS).numpy().tobytes())
        if facts["format"] != FORMAT:
            raise ValueError(f"format {facts['format']}")
        channels: dict[int, dict[tuple[int, str], Channel]] = {}
        for key, tensor in tensors.items():
            number, k, side = key.split("/")
            channels.setdefault(int(number), {})[int(k), side] = tensor
        weights = {
            entry["name"]: _weight(entry, channels.get(number, {})) for number, entry in enumerate(facts["weights"])
        }
        vectors = {name: (before, now) for name, (before, now) in facts.get("vectors", {}).items()}
        return Step(Point(**facts["point"]), facts["asked"], weights, facts["skipped"], vectors)
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise RunError(f"{file}: damaged ({error}); remove it to start anew") from error


def _weight(entry: Mapping[str, Any], channels: Mapping[tuple[int, str], Channel]) -> ObservedWeight:
    measured = Measured(
        answers={(index, Request(metric, params)): answer for index, metric, params, answer in entry["answers"]},
        digests={(kind, index): digest for kind, index, digest in entry["digests"]},
        routes={
            int(index): {quantity: RouteTaken(*route) for quantity, route in routes.items()}
            for index, routes in entry["routes"].items()
        },
        sketches={int(index): bytes.fromhex(kept) for index, kept in entry.get("sketches", {}).items()},
    )
    undefined = {(k, side): Undefined(reason) for k, side, reason in entry["reasons"]}
    return ObservedWeight(measured, {**channels, **undefined}, entry["unchanged"])
