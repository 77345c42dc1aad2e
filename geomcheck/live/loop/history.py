"""What a watched training remembers of its observations: figures and channels, never the weights."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from geomcheck.checkpoints.run import share_done
from geomcheck.errors import RunError, Undefined
from geomcheck.files import replacing
from geomcheck.measurement.measured import W0, Measured
from geomcheck.measurement.trajectory import Channel, PastCheckpoints
from geomcheck.record import Point, Request
from geomcheck.record.routes import RouteTaken

FORMAT = 1
_FACTS = "facts"


@dataclass(frozen=True)
class Followed:
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
        followed: by name of the weight; what is not here is watched no longer.
        skipped: weights that cannot be measured, with the reason.
    """

    point: Point
    asked: str
    followed: Mapping[str, Followed]
    skipped: Mapping[str, str] = field(default_factory=dict)


class History:
    """The observations so far.

    Memory: K x in of every watched weight, observation and channel that is compared with, and the figures.

    Args:
        directory: where each observation is kept for a training that is resumed; None for nowhere.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self.steps: list[Step] = []

    @property
    def points(self) -> tuple[Point, ...]:
        """The checkpoints that were observed."""
        return tuple(step.point for step in self.steps)

    @property
    def watched(self) -> tuple[str, ...]:
        """The weights that were measured at every observation, in their order."""
        return tuple(self.steps[-1].followed) if self.steps else ()

    @property
    def skipped(self) -> dict[str, str]:
        """The weights that could not be measured at some observation, with the reason."""
        return {name: reason for step in self.steps for name, reason in step.skipped.items()}

    def kept(self, name: str) -> PastCheckpoints:
        """What is known of the earlier checkpoints of a weight."""
        followed = [step.followed[name] for step in self.steps]
        channels = {(i, *place): c for i, one in enumerate(followed) for place, c in one.channels.items()}
        return PastCheckpoints(len(followed), channels, frozenset(i for i, one in enumerate(followed) if one.unchanged))

    def measured(self, name: str) -> Measured:
        """All that was found of a weight that is still watched."""
        found = Measured()
        for step in self.steps:
            found.update(step.followed[name].measured)
        return found

    def require_continued(self, step: Step) -> None:
        """Refuse an observation that does not belong to those so far.

        Raises:
            RunError: W0 is no longer what it was.
        """
        if not self.steps:
            return
        before = self.steps[-1].followed
        for name, followed in step.followed.items():
            if followed.measured.digests[W0] != before[name].measured.digests[W0]:
                raise RunError(
                    f"{name} of W0 is not what it was at step {self.steps[-1].point.step}: give the W0 that the record "
                    f"began with, or remove {self._directory} to begin another"
                )

    def add(self, step: Step) -> None:
        """Remember an observation, and write it down. Raises UsageError where that cannot be written."""
        self.steps.append(step)
        if self._directory is not None:
            _write(step, self._directory / _file_name(step.point))

    def resume(self, last: int, asked: str, *, total_steps: int, by_progress: bool) -> None:
        """Take up the observations of an interrupted training, up to step `last`; drop what came later.

        Args:
            total_steps: of the training as it is now, by which all progress counts.
            by_progress: whether figures depend on where in the training a checkpoint lies.

        Raises:
            RunError: they are damaged, something else was asked of them, or their figures were of a training of
                another length.
        """
        self.steps = []
        if self._directory is None or not self._directory.is_dir():
            return
        files = sorted(self._directory.glob("*.safetensors"), key=_step_of)
        steps = [_read(file) for file in files if _step_of(file) <= last]
        other = next((step for step in steps if step.asked != asked), None)
        if other is not None:
            raise RunError(f"at step {other.point.step} other figures, or figures of other weights, were asked for")
        if any(
            ("run", index) not in one.measured.digests
            for index, step in enumerate(steps)
            for one in step.followed.values()
        ):
            raise RunError("an observation in between is missing")
        self.steps = [_rescaled(step, total_steps) for step in steps]
        if by_progress and self.points != tuple(step.point for step in steps):
            raise RunError(f"the training now takes {total_steps} steps, and figures go by its progress")
        _drop(file for file in files if _step_of(file) > last)

    def forget(self) -> None:
        """Start anew."""
        self.steps = []
        if self._directory is not None and self._directory.is_dir():
            _drop(self._directory.glob("*.safetensors"))


def _rescaled(step: Step, total_steps: int) -> Step:
    return replace(step, point=replace(step.point, progress=share_done(step.point.step, total_steps)))


def _file_name(point: Point) -> str:
    return f"{point.step}.safetensors"


def _step_of(file: Path) -> int:
    return int(file.stem) if file.stem.isdecimal() else 0


def _drop(files: Iterable[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)


def _write(step: Step, file: Path) -> None:
    """One file: the channels as tensors, everything else as JSON in one more."""
    tensors: dict[str, Tensor] = {}
    weights = []
    for number, (name, followed) in enumerate(step.followed.items()):
        reasons = []
        for (k, side), channel in followed.channels.items():
            if isinstance(channel, Undefined):
                reasons.append([k, side, str(channel)])
            else:
                tensors[f"{number}/{k}/{side}"] = channel.contiguous()
        weights.append(_plain(name, followed) | {"reasons": reasons})
    facts = {
        "format": FORMAT,
        "point": asdict(step.point),
        "asked": step.asked,
        "skipped": dict(step.skipped),
        "weights": weights,
    }
    tensors[_FACTS] = torch.frombuffer(bytearray(json.dumps(facts).encode()), dtype=torch.uint8)
    with replacing(file) as partial:
        save_file(tensors, partial)


def _plain(name: str, followed: Followed) -> dict[str, Any]:
    measured = followed.measured
    return {
        "name": name,
        "unchanged": followed.unchanged,
        "answers": [
            [index, request.metric, request.params, answer] for (index, request), answer in measured.answers.items()
        ],
        "digests": [[*place, digest] for place, digest in measured.digests.items()],
        "routes": {
            str(index): {quantity: [route.how, route.certificate] for quantity, route in routes.items()}
            for index, routes in measured.routes.items()
        },
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
        followed = {
            entry["name"]: _followed(entry, channels.get(number, {})) for number, entry in enumerate(facts["weights"])
        }
        return Step(Point(**facts["point"]), facts["asked"], followed, facts["skipped"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{file}: damaged ({error}); remove it to start anew") from error


def _followed(entry: Mapping[str, Any], channels: Mapping[tuple[int, str], Channel]) -> Followed:
    measured = Measured(
        answers={(index, Request(metric, params)): answer for index, metric, params, answer in entry["answers"]},
        digests={(kind, index): digest for kind, index, digest in entry["digests"]},
        routes={
            int(index): {quantity: RouteTaken(*route) for quantity, route in routes.items()}
            for index, routes in entry["routes"].items()
        },
    )
    undefined = {(k, side): Undefined(reason) for k, side, reason in entry["reasons"]}
    return Followed(measured, {**channels, **undefined}, entry["unchanged"])
