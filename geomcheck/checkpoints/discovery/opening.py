"""Open a run directory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, get_args

from geomcheck.checkpoints.discovery import wording
from geomcheck.checkpoints.discovery.base import own_base
from geomcheck.checkpoints.discovery.completeness import in_progress, left_out, never_arrived, vouched
from geomcheck.checkpoints.discovery.layouts import Layout
from geomcheck.checkpoints.discovery.steps import Steps, find_steps, is_step, own_places, places, recognise
from geomcheck.checkpoints.formats import held, open_weights
from geomcheck.checkpoints.inside import storage_root
from geomcheck.checkpoints.remote import located
from geomcheck.checkpoints.run import Checkpoint, Run, share_done
from geomcheck.checkpoints.scores import STATE, Account, Scores, TrainerState, account_of, trainer_state
from geomcheck.checkpoints.source import WeightSource
from geomcheck.errors import NoCheckpoint, RunError, UsageError
from geomcheck.files import require_readable
from geomcheck.urls import cut_short

Incomplete = Literal["skip", "error"]
"""What to do with incomplete checkpoints: leave them out with a note, or refuse the run."""

MAX_STATES_BYTES = 4 * 2**30


def open_run(path: str | Path, *, incomplete: Incomplete = "skip", steps: int | None = None) -> Run:
    """Open a run directory: lists its checkpoints, reads no weights.

    Args:
        path: a directory as a training framework writes it (`layouts.LAYOUTS`), or a single trained model; or its URL,
            of which headers and weights are read by ranges. Where its checkpoints hold several models or adapters, the
            name of one follows: ``run/policy``.
        incomplete: with ``error``, a checkpoint that is not complete refuses the run instead of being left out.
        steps: length of the whole training, where the caller knows it better than the run's files.

    Raises:
        NoCheckpoint: there is no such directory, or no complete checkpoint in it.
        UsageError: it is a file, holds several runs, or an incomplete checkpoint with ``incomplete="error"``.
        RunError: two directories claim one step, or the weights of a checkpoint are in no format that is read.
    """
    if incomplete not in get_args(Incomplete):
        raise UsageError(f"incomplete={incomplete}: give {' or '.join(get_args(Incomplete))}")
    require_readable(path, "the run")
    directory = located(path)
    if not directory.is_dir():
        if directory.exists():
            raise UsageError(f"the run {directory} is a file, not a run directory")
        above, part = directory.parent, directory.name
        found = find_steps(above) if above.is_dir() and _is_part(above, part) else None
        if found is not None:
            return _trajectory(above, found, incomplete, steps, part)
        raise NoCheckpoint(f"the run {directory} does not exist{cut_short(directory)}")
    found = find_steps(directory)
    if found is not None:
        return _trajectory(directory, found, incomplete, steps)
    if is_step(directory.resolve()):
        raise UsageError(wording.nothing_found(directory))
    if not held([directory]):
        raise NoCheckpoint(wording.nothing_found(directory))
    return _single(directory)


def open_account(path: str | Path) -> Account:
    """The account of a run whose weights need not be there.

    Raises:
        NoCheckpoint: there is no such directory, or neither a checkpoint nor a score in it.
        UsageError: it holds several runs.
        RunError: two directories claim one step.
    """
    directory = located(path)
    if not directory.is_dir():
        raise NoCheckpoint(f"the run {directory} does not exist")
    steps = find_steps(directory)
    found = [(step, place) for step, place in (steps.directories if steps else ()) if place.is_dir()]
    account = account_of(directory, found)
    if not account.constraints and not account.scores and not account.faults:
        raise NoCheckpoint(f"the run {directory} holds no checkpoint directory and no scores")
    return account


def _is_part(run: Path, name: str) -> bool:
    """Whether a step directory of a run has a directory of that name with weights."""
    return any(held([path / name]) for steps in recognise(run) for _, path in steps.directories)


def _trajectory(directory: Path, steps: Steps, incomplete: Incomplete, length: int | None, part: str = "") -> Run:
    """The run that step directories make up, in a training of `length` steps; of each, the directory `part`."""
    layout, root = steps.layout, storage_root(directory)
    omitted = left_out(steps, root, part)
    absent = (*omitted.values(), *in_progress(steps.place), *never_arrived(steps, root))
    whole = [(step, found) for step, found in steps.directories if found not in omitted]
    trained = [(step, found) for step, found in whole if step >= layout.first]
    if not trained:
        raise NoCheckpoint(wording.incomplete_run(directory, absent, any_complete=False))
    if incomplete == "error" and any(entry.incomplete for entry in absent):
        raise UsageError(wording.incomplete_run(directory, absent, any_complete=True))

    def weights(step: int, found: Path) -> WeightSource:
        return open_weights(found, root=root, places=places(layout, step, found, root=root, part=part))

    zero = next((weights(step, found) for step, found in whole if step < layout.first), None)
    logged = Scores()
    _require_bounded([found / STATE for _, found in trained])
    states = {found.name: trainer_state(found, root, logged) for _, found in trained}
    _require_order(directory, states)
    last, name = trained[-1][0], trained[-1][1].name
    planned = _planned(states[name], last) if length is None else length - (1 - layout.first)
    total = last if planned is None else planned
    omissions = wording.omissions(absent, last=last, name=name)
    sources = {(step, found): weights(step, found) for step, found in trained}
    return Run(
        name="-".join(filter(None, (directory.resolve().name, part))),
        path=directory,
        checkpoints=tuple(
            Checkpoint(
                found.name,
                step,
                share_done(step, total, first=layout.first),
                sources[step, found],
                vouched=vouched(steps, found, root),
            )
            for step, found in trained
        ),
        own_base=own_base(directory, layout.bases, zero),
        notes=(*omissions, *wording.notes(directory, steps, states), *_parts_read(layout, sources)),
        framework=layout.framework,
        left_out=absent,
        omissions=omissions,
        planned=planned,
        first=layout.first,
        account=account_of(directory, trained, logged),
        part=part,
    )


def _require_bounded(states: Iterable[Path]) -> None:
    """Refuse more of a Trainer's states than can be read in minutes, of which many may be one file."""
    sizes = {path: path.stat().st_size for path in states if path.is_file()}
    if (total := sum(sizes.values())) > MAX_STATES_BYTES:
        raise RunError(
            f"{max(sizes, key=lambda path: sizes[path])}: the {STATE} of all checkpoints have {total} bytes, more than "
            f"the {MAX_STATES_BYTES} that are read; remove their log_history, or some checkpoints"
        )


def _parts_read(layout: Layout, sources: Mapping[tuple[int, Path], WeightSource]) -> list[str]:
    """A note on what is read where that is not the layout's own place. Raises UsageError where checkpoints differ."""
    inside = {
        source.path.relative_to(found).as_posix(): found.name
        for (step, found), source in sources.items()
        if not layout.contents and source.path not in own_places(layout, step, found)
    }
    if len(inside) > 1:
        listed = " and ".join(f"{name}/{place}" for place, name in inside.items())
        raise UsageError(f"its checkpoints hold weights in different places, {listed}: keep those of one model")
    return [f"read of each checkpoint is {place}/" for place in inside]


def _require_order(directory: Path, states: Mapping[str, TrainerState]) -> None:
    """Refuse checkpoints whose own state says that they were saved in another order."""
    said = {name: state.step for name, state in states.items() if state.step is not None}
    if list(said.values()) != sorted(said.values()):
        shown = ", ".join(f"{name} says {step}" for name, step in said.items())
        raise RunError(f"{directory}: its checkpoints were renamed: by trainer_state.json {shown}")


def _single(directory: Path) -> Run:
    """The run that one trained model makes, without its trajectory."""
    root, name = storage_root(directory), directory.resolve().name
    logged = Scores()
    state = trainer_state(directory, root, logged)
    step = state.step if state.step is not None and state.step > 0 else None
    said = state.odd.get("global_step", state.step)
    why = "is not recorded" if said is None else f"is {said} by its {STATE}, which is none,"
    return Run(
        name=name,
        path=directory,
        checkpoints=(Checkpoint("final", step or 1, 1.0, open_weights(directory, root=root)),),
        own_base=own_base(directory, ("base",)),
        notes=() if step else (f"{name}: a single model; its step {why} and counts as 1",),
        framework="a single model",
        account=account_of(directory, [(step or 1, directory)], logged),
    )


def _planned(state: TrainerState, last: int) -> int | None:
    """Steps of the whole training: ``max_steps`` in the state of the `last` checkpoint, if it can be true."""
    return state.planned if state.planned is not None and state.planned >= last else None
