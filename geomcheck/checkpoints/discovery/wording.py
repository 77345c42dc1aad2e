"""The messages of discovery: on directories that are no run, on checkpoints left out, and on oddities."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from geomcheck.checkpoints.discovery.layouts import LAYOUTS, MISSPELT
from geomcheck.checkpoints.discovery.steps import Steps, is_step, parts, recognise
from geomcheck.checkpoints.formats import held
from geomcheck.checkpoints.formats.unread import listing, recognised
from geomcheck.checkpoints.run import SkippedStep
from geomcheck.checkpoints.scores import STATE, TrainerState
from geomcheck.urls import named

NAMES_SHOWN = 4


def nothing_found(directory: Path) -> str:
    """Why `directory` is no run, and what may have been meant."""
    message = f"the run {directory} holds no checkpoint directory and no model; found {listing(directory)}"
    models = parts(directory)
    if is_step(directory.resolve()):
        inside = f", or at {models[0]} to judge that alone" if models else ""
        return f"{message}. This is one checkpoint: point at the directory above it{inside}"
    misspelt = [entry.name for entry in sorted(directory.iterdir()) if MISSPELT.fullmatch(entry.name)]
    if misspelt:
        return f"{message}. verl writes global_step_N, not {misspelt[0]}: rename the directories"
    nested = [entry for entry in sorted(directory.iterdir()) if entry.is_dir() and recognise(entry)]
    if nested:
        return f"{message}. Did you mean {nested[0]}?"
    known = recognised([directory], by_name=True)
    if known:
        return f"{message}. {known}"
    models = [entry for entry in models if not entry.is_symlink()] or models
    if models and all(re.search(r"[0-9]", entry.name) for entry in models):
        return (
            f"{message}. {models[0].name} holds a model, but its name gives no step that is known: rename each to "
            "checkpoint-STEP, with the optimizer steps that were done"
        )
    if models:
        return (
            f"{message}. {models[0].name} holds a model, but its name gives no step: point at {models[0]} to judge "
            "that alone, or rename each to checkpoint-STEP, with the optimizer steps that were done"
        )
    examples = dict.fromkeys(layout.example for layout in LAYOUTS if not layout.spare)
    return f"{message}. Read are such as {', '.join(examples)}"


def incomplete_run(directory: Path, absent: Sequence[SkippedStep], *, any_complete: bool) -> str:
    """Why a run is refused for its incomplete checkpoints."""
    what = "holds incomplete checkpoints" if any_complete else "holds no complete checkpoint"
    remedy = "wait for the save, or remove them" if any_complete else "wait for the first save"
    listed = "\n".join(f"  {line}" for line in _grouped(absent)) or "  only W0 is there"
    return f"the run {directory} {what}; {remedy}:\n{listed}"


def omissions(absent: Sequence[SkippedStep], *, last: int, name: str) -> tuple[str, ...]:
    """What to say of the directories that are `absent`; first of one that would have been the last checkpoint, instead
    of the one called `name` at step `last`."""
    newest = max(absent, key=lambda entry: entry.step, default=None)
    if newest is None or newest.step <= last:
        return tuple(f"left out {line}" for line in _grouped(absent))
    others = [entry for entry in absent if entry is not newest]
    first = f"the LAST checkpoint, {newest.name}, is left out: {newest.reason}. Judged as the last is {name}"
    return (first, *(f"left out {line}" for line in _grouped(others)))


def notes(directory: Path, steps: Steps, states: Mapping[str, TrainerState]) -> Iterator[str]:
    """Other oddities that a reader should know of; `states` are ``trainer_state.json`` by checkpoint name, in order."""
    numbers = {path.name: step for step, path in steps.directories}
    for name, state in states.items():
        if state.step is not None and state.step != numbers[name]:
            yield f"{name}: its {STATE} says global_step {state.step}; was it renamed?"
    for key, instead in (("global_step", "the directory's name counts"), ("max_steps", "it is not used")):
        for odd, group in _alike((state.odd.get(key), name) for name, state in states.items()):
            yield f"{_some(group)}: {STATE} says {key} {odd}, which is no number of steps; {instead}"
    if held([directory]):
        where = named(directory)
        yield f"{where}: the model in the run's own directory is taken for the final one, and is no further point"
    for entry in sorted(steps.place.iterdir()):
        if MISSPELT.fullmatch(entry.name):
            yield f"{entry.name} is ignored: verl writes global_step_N"
    known = {path.resolve() for _, path in steps.directories if path.is_dir()}
    others = [e.name for e in parts(steps.place) if e.resolve() not in known and e.name not in steps.layout.bases]
    if others:
        yield f"not judged, as no checkpoint of this run is called so: {', '.join(others)}"
    if steps.layout.remark:
        yield steps.layout.remark


def _grouped(absent: Iterable[SkippedStep]) -> list[str]:
    """A line per reason, in the order of steps."""
    ordered = sorted(absent, key=lambda entry: (entry.reason, entry.step))
    lines = []
    for reason, group in groupby(ordered, key=lambda entry: entry.reason):
        lines.append(f"{_some([entry.name for entry in group])}: {reason}")
    return lines


def _alike(found: Iterable[tuple[str | None, str]]) -> Iterator[tuple[str, list[str]]]:
    """What is odd about some checkpoints, with their names."""
    names: dict[str, list[str]] = {}
    for odd, name in found:
        if odd is not None:
            names.setdefault(odd, []).append(name)
    yield from names.items()


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"{', '.join(names[:NAMES_SHOWN])}{more}"
