"""From a path to a run: which directories are checkpoints, in which order, and where W0 is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from geomcheck.checkpoints.formats.adapter import holds_adapter, open_adapter
from geomcheck.checkpoints.formats.safetensors import INDEX, SINGLE, SafetensorsDirectory, holds_safetensors
from geomcheck.checkpoints.inside import read_json
from geomcheck.checkpoints.run import BaseModel, Checkpoint, Run
from geomcheck.checkpoints.source import WeightSource
from geomcheck.errors import RunError, UsageError

_STEP_DIRECTORY = re.compile(r"checkpoint-([0-9]{1,15})")
_MAX_STATE_BYTES = 64 * 2**20


def open_run(path: str | Path) -> Run:
    """Open a run directory: lists its checkpoints, reads no weights.

    Args:
        path: a directory with ``checkpoint-N`` directories, as transformers and TRL write it.

    Raises:
        UsageError: there is no such directory, or no checkpoint in it.
        RunError: two directories claim one step, or a checkpoint holds no weights.
    """
    directory = Path(path)
    if not directory.is_dir():
        what = "is a file, not a run directory" if directory.exists() else "does not exist"
        raise UsageError(f"the run {directory} {what}")
    steps = _step_directories(directory)
    trained = [(step, found) for step, found in steps if step > 0]
    if not trained:
        raise UsageError(_nothing_found(directory))
    states = {step: _trainer_state(found, root=directory) for step, found in trained}
    total = _total_steps(states, last=trained[-1][0])
    return Run(
        name=directory.resolve().name,
        path=directory,
        checkpoints=tuple(
            Checkpoint(found.name, step, min(1.0, step / total), _weights(found, root=directory))
            for step, found in trained
        ),
        own_base=_own_base(directory, steps),
        notes=tuple(_renamed(states)),
    )


def open_base(path: str | Path, how: str) -> BaseModel:
    """Open a model directory as W0; `how` says which rule named it.

    Raises:
        UsageError: it is not a directory with weights.
    """
    directory = Path(path)
    if not directory.is_dir():
        raise UsageError(f"W0: {directory} ({how}) is not a directory")
    if not holds_safetensors(directory):
        raise UsageError(f"W0: {directory} ({how}) holds neither {SINGLE} nor {INDEX}; found {_listing(directory)}")
    return BaseModel(SafetensorsDirectory(directory), how)


def find_base(run: Run, *, given: BaseModel | None = None, suite: str | None = None) -> BaseModel:
    """W0 by the first rule that applies: `given` by the user, the path in the suite, the run's own.

    Raises:
        UsageError: none applies, or the one that applies is not a model directory.
    """
    if given is not None:
        _require_untrained(run, given)
        return given
    if suite is not None:
        base = open_base(suite, "the suite's base")
        _require_untrained(run, base)
        return base
    if run.own_base is not None:
        return run.own_base
    raise UsageError(
        f"run {run.path}: no W0 to compare with. Give one of:\n"
        "  1. --geom-base=PATH, a model directory or one checkpoint\n"
        "  2. base: PATH in the suite\n"
        f"  3. a checkpoint-0 or base/ directory in {run.path}\n"
        "  4. base_model_name_or_path of an adapter (not looked up yet)"
    )


def _require_untrained(run: Run, base: BaseModel) -> None:
    """Refuse one of the run's own checkpoints as W0: its update would be zero, and pass every upper bound."""
    for checkpoint in run.checkpoints:
        if checkpoint.source.path.samefile(base.source.path):
            raise UsageError(f"W0: {base.source.path} ({base.how}) is {checkpoint.name} of the run that is checked")


def _step_directories(directory: Path) -> list[tuple[int, Path]]:
    """(step, directory) of every ``checkpoint-N``, ascending by step."""
    found: dict[int, Path] = {}
    for entry in sorted(directory.iterdir()):
        match = _STEP_DIRECTORY.fullmatch(entry.name)
        if match is None or not entry.is_dir():
            continue
        step = int(match.group(1))
        twin = found.get(step) or next((other for other in found.values() if other.samefile(entry)), None)
        if twin is not None:
            raise RunError(f"{directory}: {twin.name} and {entry.name} are one step, or one directory; keep one")
        found[step] = entry
    return sorted(found.items())


def _weights(checkpoint: Path, *, root: Path) -> WeightSource:
    if not checkpoint.resolve().is_relative_to(root.resolve()):
        raise RunError(f"{checkpoint}: links to {checkpoint.resolve()}, outside the run; copy it instead")
    if holds_adapter(checkpoint) and not holds_safetensors(checkpoint):
        return open_adapter(checkpoint, root=root)
    if not holds_safetensors(checkpoint):
        raise RunError(
            f"{checkpoint}: neither {SINGLE} nor {INDEX}; found {_listing(checkpoint)}. {_advice(checkpoint)}"
        )
    return SafetensorsDirectory(checkpoint, root=root)


def _advice(checkpoint: Path) -> str:
    """What to do about a checkpoint that holds no safetensors model."""
    others = ("*.bin", "*.pt", "*.distcp", "pytorch_model_fsdp*", "global_step*")
    if any(next(checkpoint.glob(pattern), None) for pattern in others):
        return "This layout is not read yet: save the model with save_pretrained, as safetensors"
    return "The save was not finished: complete this checkpoint, or remove it"


def _own_base(directory: Path, steps: list[tuple[int, Path]]) -> BaseModel | None:
    if steps and steps[0][0] == 0:
        return BaseModel(_weights(steps[0][1], root=directory), "the run's step-0 checkpoint")
    if (directory / "base").is_dir():
        return BaseModel(_weights(directory / "base", root=directory), "base/ in the run")
    return None


def _trainer_state(checkpoint: Path, *, root: Path) -> dict[str, Any]:
    """``trainer_state.json`` of a checkpoint; empty where there is none."""
    path = checkpoint / "trainer_state.json"
    if not path.exists():
        return {}
    return read_json(path, root.resolve(), max_bytes=_MAX_STATE_BYTES)


def _total_steps(states: dict[int, dict[str, Any]], *, last: int) -> int:
    """Steps of the whole training: ``max_steps`` of the last checkpoint, or its own step."""
    planned = states[last].get("max_steps")
    return planned if type(planned) is int and planned >= last else last


def _renamed(states: dict[int, dict[str, Any]]) -> list[str]:
    return [
        f"checkpoint-{step}: its trainer_state.json says global_step {state['global_step']}; was it renamed?"
        for step, state in states.items()
        if state.get("global_step", step) != step
    ]


def _nothing_found(directory: Path) -> str:
    message = f"the run {directory} holds no checkpoint-N directory; found {_listing(directory)}"
    if _STEP_DIRECTORY.fullmatch(directory.resolve().name):
        return f"{message}. This is one checkpoint: point at the directory above it"
    nested = sorted(child.name for child in directory.iterdir() if child.is_dir() and any(child.glob("checkpoint-*")))
    return f"{message}. Did you mean {directory / nested[0]}?" if nested else message


def _listing(directory: Path) -> str:
    names = sorted(entry.name for entry in directory.iterdir())
    shown = ", ".join(names[:6]) or "nothing"
    return f"{shown}, ... ({len(names)} entries)" if len(names) > 6 else shown
