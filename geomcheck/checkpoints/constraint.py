"""The constraint that a checkpoint of projected training records: ``geomcheck_constraint.json``.

The channel itself, V by canonical weight name with shape (in, k) in fp32, lies beside it in `CHANNEL_FILE`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from geomcheck.checkpoints.inside import read_json
from geomcheck.errors import RunError
from geomcheck.files import replacing

CONSTRAINT_FILE = "geomcheck_constraint.json"
CHANNEL_FILE = "geomcheck_channel.safetensors"

FORMAT = 1
MAX_BYTES = 64 * 2**10
LONGEST_SOURCE = 4096

Drawn = Literal["learned", "random"]
How = Literal["gradient", "step"]
Unselected = Literal["free", "frozen"]


@dataclass(frozen=True)
class Constraint:
    """The constraint under which a checkpoint was trained.

    Attributes:
        channel: whether V was learned from a run, or drawn at random as a control.
        k: columns of V, at least 1.
        start_step: optimizer steps done when the constraint began.
        how: whether the gradient was projected or the optimizer's step.
        unselected: what the weights outside the constraint did.
        seed: of the random draw; None of a learned channel.
        source: where V was taken from, for people.
        weights: number of constrained weights, at least 1.

    Raises:
        ValueError: a value is of another type or out of range.
    """

    channel: Drawn
    k: int
    start_step: int
    how: How
    unselected: Unselected
    seed: int | None
    source: str
    weights: int

    def __post_init__(self) -> None:
        for key, words in (("channel", Drawn), ("how", How), ("unselected", Unselected)):
            _require_one_of(key, getattr(self, key), get_args(words))
        for key, least in (("k", 1), ("start_step", 0), ("weights", 1)):
            _require_count(key, getattr(self, key), least)
        if self.channel == "random":
            _require_count("seed", self.seed, 0)
        elif self.seed is not None:
            raise ValueError(f"seed is {self.seed!r}, but a learned channel has none (null)")
        source = self.source
        if not isinstance(source, str) or not source.isprintable() or not 1 <= len(source) <= LONGEST_SOURCE:
            raise ValueError(f"source is {str(source)[:80]!a}, not a line of 1 to {LONGEST_SOURCE} characters")

    @classmethod
    def read(cls, directory: str | Path, *, root: str | Path | None = None) -> Constraint | None:
        """The constraint of a checkpoint, None where it has none.

        Args:
            directory: of the checkpoint.
            root: links may lead to no place outside this directory; by default the checkpoint's own.

        Raises:
            RunError: there is such a file, but it is damaged, too large, or of another format.
        """
        path = Path(directory) / CONSTRAINT_FILE
        if not os.path.lexists(path):
            return None
        return _parse(path, read_json(path, Path(root or directory).resolve(), max_bytes=MAX_BYTES))

    def write(self, directory: str | Path) -> None:
        """Write the file into a checkpoint's directory. Raises UsageError where it cannot be written."""
        with replacing(Path(directory) / CONSTRAINT_FILE) as partial:
            partial.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n", encoding="utf-8")


def _parse(path: Path, content: Mapping[str, Any]) -> Constraint:
    held, keys = dict(content), {"format", *Constraint.__dataclass_fields__}
    if type(held.get("format")) is not int or held["format"] != FORMAT:
        raise RunError(f"{path}: format {str(held.get('format'))[:40]!a}; this geomcheck reads format {FORMAT}")
    odd = sorted(held.keys() ^ keys)
    if odd:
        what = "lacks" if odd[0] in keys else "has an unknown"
        raise RunError(f"{path}: {what} key {odd[0][:80]!a}; write it with Constraint.write")
    del held["format"]
    try:
        return Constraint(**held)
    except ValueError as error:
        raise RunError(f"{path}: {error}") from error


def _require_one_of(key: str, value: object, allowed: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{key} is {str(value)[:80]!a}, not one of {', '.join(allowed)}")


def _require_count(key: str, value: object, least: int) -> None:
    if type(value) is not int or value < least:
        raise ValueError(f"{key} is {str(value)[:80]!a}, not a whole number from {least}")
