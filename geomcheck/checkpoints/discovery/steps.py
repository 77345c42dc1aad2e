"""Find step directories: the outermost that match, none below them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from geomcheck.checkpoints.discovery.layouts import COMPANIONS, LAYOUTS, SELF, Layout
from geomcheck.checkpoints.formats import held
from geomcheck.checkpoints.formats.unread import half_written
from geomcheck.checkpoints.inside import read_json
from geomcheck.errors import RunError, UsageError

MAX_PLACE = 255
"""Longest place that a checkpoint may name, in characters: that of one file name."""

MAX_CONTENTS_BYTES = 2**20


@dataclass(frozen=True)
class Steps:
    """The step directories of one layout.

    Attributes:
        layout: as it was recognised.
        place: the directory that holds them: the run, or one below it.
        directories: (step, path) in ascending order. A path may be something else than a directory.
    """

    layout: Layout
    place: Path
    directories: tuple[tuple[int, Path], ...]


def find_steps(root: Path) -> Steps | None:
    """The step directories of the run in `root`; None where there are none. Raises UsageError where there are several
    versions of a run, or several layouts, or one that cannot be a run; RunError where two directories claim one step.
    """
    found = recognise(root)
    frameworks = {steps.layout.framework for steps in found}
    found = [steps for steps in found if steps.layout.yields_to not in frameworks]
    found = [steps for steps in found if not steps.layout.spare] or found
    if len(found) > 1:
        listed = "\n".join(f"  {s.place}: {s.directories[0][1].name} ({s.layout.framework})" for s in found)
        raise UsageError(f"the run {root} holds more than one run or layout; point at one of them:\n{listed}")
    if found and found[0].layout.refused:
        raise UsageError(f"the run {root}: {found[0].directories[0][1]}: {found[0].layout.refused}")
    if found:
        _require_distinct(found[0])
    return found[0] if found else None


def recognise(root: Path) -> list[Steps]:
    """Every layout of which `root` holds step directories, each directory claimed once."""
    found: list[Steps] = []
    for layout in LAYOUTS:
        for place in _places_of_steps(layout, root):
            steps = _matching(layout, place)
            claimed = any(other.place == place and other.layout.directory == layout.directory for other in found)
            if not claimed and any(path.is_dir() for _, path in steps) and _proven(layout, place, steps):
                found.append(Steps(layout, place, steps))
    return found


def is_step(path: Path) -> bool:
    """Whether `path` is a step directory, or the place in one where weights lie, by its name."""
    for layout in LAYOUTS:
        for where in (Path(template.format(step=0)) for template in layout.weights):
            above = path
            for part in reversed(where.parts):
                above = above.parent if above.name == part else Path()
            if layout.directory.fullmatch(above.name):
                return True
    return False


def places(layout: Layout, step: int, directory: Path, *, root: Path, part: str = "") -> tuple[Path, ...]:
    """Where the weights of a checkpoint may lie, best first.

    Where the layout's own places hold none, that is one directory in it, whatever it is called (an adapter's name):
    the only one that holds weights and is no companion of the policy, or the one that is called `part`.

    Raises RunError if the checkpoint's own list of contents cannot be read, or points out of it; UsageError where
    several directories hold weights.
    """
    if part:
        return (directory / part,)
    declared = directory / layout.contents
    if layout.contents and declared.exists():
        return _declared(declared, root)
    own = own_places(layout, step, directory)
    if held(own) is not None or half_written(own) is not None:
        return own
    within = parts(directory)
    if len(within) > 1:
        listed = " and ".join(place.name for place in within)
        raise UsageError(
            f"{directory}: holds {listed}, each with weights, and no model itself; name the one that is judged after "
            f"the run, as in --geom-run={directory.parent / within[0].name}"
        )
    return tuple(within) or own


def own_places(layout: Layout, step: int, directory: Path) -> tuple[Path, ...]:
    """Where the layout has the weights of a checkpoint, best first."""
    return tuple(directory / template.format(step=step) for template in layout.weights)


def parts(directory: Path) -> list[Path]:
    """The directories in a checkpoint that hold weights, but for companions of the policy."""
    if not directory.is_dir():
        return []
    return [e for e in sorted(directory.iterdir()) if not COMPANIONS.fullmatch(e.name) and _holds_weights(e)]


def _holds_weights(place: Path) -> bool:
    try:
        return held([place]) is not None
    except OSError:  # not ours to look into
        return False


def _declared(file: Path, root: Path) -> tuple[Path, ...]:
    """The place that verl's ``ckpt_contents.json`` names for the model."""
    content = read_json(file, root, max_bytes=MAX_CONTENTS_BYTES).get("contents")
    contents = content if isinstance(content, dict) else {}
    model = contents.get("model")
    adapters = _paths(contents.get("peft_adapters"))
    if isinstance(model, dict):
        adapters += _paths(model.get("peft_adapter_path"))
    if adapters := list(dict.fromkeys(adapters)):  # the model is the base then, untouched
        if len(adapters) > 1:
            raise RunError(f"{file}: names several adapters, {' and '.join(adapters)}; leave the one that is judged")
        return (_inside(file, adapters[0], root),)
    path = model.get("path") if isinstance(model, dict) else None
    if not isinstance(path, str):
        raise RunError(f"{file}: names no place for the model (contents.model.path)")
    place = _inside(file, path, root)
    return (place, place / "huggingface", place / "dist_ckpt")


def _paths(named: object) -> list[str]:
    """The places in a part of verl's list of contents: a path, an entry with one, or several of these."""
    if isinstance(named, str):
        return [named]
    if isinstance(named, dict):
        own = named.get("path")
        return [own] if isinstance(own, str) else [path for value in named.values() for path in _paths(value)]
    return [path for value in named for path in _paths(value)] if isinstance(named, list) else []


def _inside(file: Path, path: str, root: Path) -> Path:
    """The place that a file of a checkpoint calls `path`. Raises RunError where that leads out of it."""
    if not 0 < len(path) <= MAX_PLACE or not path.isprintable():
        raise RunError(f"{file}: {path[:MAX_PLACE]!a} is no place for the model")
    place = file.parent / path
    if Path(path).is_absolute() or ".." in Path(path).parts or not place.resolve().is_relative_to(root):
        raise RunError(f"{file}: places the model in {path!r}, outside the checkpoint")
    return place


def _places_of_steps(layout: Layout, root: Path) -> list[Path]:
    found = [root] if SELF in layout.below else []
    found += [place for below in layout.below if below != SELF for place in sorted(root.glob(below))]
    return [place for place in found if place.is_dir()]


def _matching(layout: Layout, place: Path) -> tuple[tuple[int, Path], ...]:
    matches = ((layout.directory.fullmatch(entry.name), entry) for entry in sorted(place.iterdir()))
    return tuple(sorted((int(match.group(1)), entry) for match, entry in matches if match))


def _proven(layout: Layout, place: Path, steps: tuple[tuple[int, Path], ...]) -> bool:
    """Whether the surroundings tell this layout from others with the same names."""
    beside = not layout.beside or (place / layout.beside).exists()
    return beside and (not layout.inside or any((path / layout.inside).exists() for _, path in steps))


def _require_distinct(steps: Steps) -> None:
    """Refuse two directories for one step, and one directory under two steps."""
    seen: list[tuple[int, Path]] = []
    for step, path in steps.directories:
        if not path.is_dir():
            continue
        twin = next((other for known, other in seen if known == step or other.samefile(path)), None)
        if twin is not None:
            raise RunError(f"{steps.place}: {twin.name} and {path.name} are one step, or one directory; keep one")
        seen.append((step, path))
