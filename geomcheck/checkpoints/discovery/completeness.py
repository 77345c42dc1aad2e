"""Which checkpoints are complete, by what frameworks write last and by names, without reading weights.

A damaged file in a checkpoint that says it is complete stays an error: nothing here hides it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from geomcheck.checkpoints.discovery.layouts import IN_PROGRESS, Marker
from geomcheck.checkpoints.discovery.steps import Steps, places
from geomcheck.checkpoints.formats import held
from geomcheck.checkpoints.formats.unread import half_written
from geomcheck.checkpoints.inside import require_regular
from geomcheck.checkpoints.run import SkippedStep
from geomcheck.errors import RunError

MAX_TRACKER_BYTES = 64
PRUNED = "pruned: the framework kept the step's data state, and no weights"


def left_out(steps: Steps, root: Path, part: str = "") -> dict[Path, SkippedStep]:
    """The step directories that are no complete checkpoints, with the reason; of each, the directory `part` is judged.

    Raises RunError if a tracker file cannot be read, or a directory lies outside the run; UsageError as `places`.
    """
    saved = _last_saved(steps, root)
    found = {}
    for step, directory in steps.directories:
        reason = _reason(steps, step, directory, saved, root, part)
        if reason:
            deliberate = reason in (PRUNED, steps.layout.zero)
            found[directory] = SkippedStep(directory.name, reason, step, incomplete=not deliberate)
    return found


def vouched(steps: Steps, directory: Path, root: Path) -> bool:
    """Whether a step directory that is not left out carries its framework's mark of a finished save. Raises RunError if
    a tracker file cannot be read."""
    marker = steps.layout.marker
    return (marker is not None and (directory / marker.file).exists()) or _last_saved(steps, root) is not None


def never_arrived(steps: Steps, root: Path) -> Iterator[SkippedStep]:
    """The checkpoint that the tracker vouches for, where only earlier ones are there."""
    saved = _last_saved(steps, root)
    if saved is not None and saved > max(step for step, _ in steps.directories):
        yield SkippedStep(f"step {saved}", f"saved last, says {steps.layout.tracker}, but not here", saved)


def in_progress(place: Path) -> Iterator[SkippedStep]:
    """Directories that a framework renames once their save is finished."""
    for entry in sorted(place.iterdir()):
        if IN_PROGRESS.fullmatch(entry.name):
            yield SkippedStep(
                entry.name, "still being written, or abandoned half-way", int(re.split("[-_]", entry.name)[-1])
            )


def _reason(steps: Steps, step: int, directory: Path, saved: int | None, root: Path, part: str) -> str | None:
    """Why a step directory is no complete checkpoint; None where it counts as one."""
    layout = steps.layout
    if not directory.is_dir():
        return "not a directory" if directory.exists() else "a link that leads nowhere"
    if root not in directory.resolve().parents:
        raise RunError(f"{directory}: links to {directory.resolve()}, outside the run or to all of it; copy it instead")
    names = {entry.name for entry in directory.iterdir()}
    if not names:
        return "empty"
    if saved is not None and step > saved:
        return f"{layout.tracker} says that step {saved} was saved last: not finished, or left by an earlier run"
    if step == 0 and layout.zero:
        return layout.zero
    if "data.pt" in names and (layout.inside not in names if layout.inside else names == {"data.pt"}):
        return PRUNED
    if layout.marker is not None and (directory / layout.marker.file).exists():
        return None
    if layout.marker is not None and _should_have(layout.marker, steps, step, directory):
        return f"no {layout.marker.file}, which is written last: the save was not finished"
    where = places(layout, step, directory, root=root, part=part)
    best = held(where)
    return half_written([best[0]] if best else where)


def _should_have(marker: Marker, steps: Steps, step: int, directory: Path) -> bool:
    """Whether a complete checkpoint here has the marker. A W0 that was laid there by hand need not."""
    if marker.unless and any(directory.glob(marker.unless)):
        return False
    if marker.always:
        return True
    return step > 0 and any((other / marker.file).exists() for _, other in steps.directories)


def _last_saved(steps: Steps, root: Path) -> int | None:
    """The last step that the run's tracker file vouches for; None where there is no tracker."""
    path = steps.place / steps.layout.tracker
    if not steps.layout.tracker or not path.exists():
        return None
    try:
        text = require_regular(path, root, max_bytes=MAX_TRACKER_BYTES).read_bytes().decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: not readable ({error}), so that no checkpoint is known to be complete") from error
    if text == "release":
        return -1
    if not re.fullmatch("[0-9]{1,15}", text):
        raise RunError(f"{path}: says {text!r}, where the last saved step is expected; correct or remove the file")
    return int(text)
