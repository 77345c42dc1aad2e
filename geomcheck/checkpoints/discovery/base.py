"""Where W0 comes from: the rules, in their order."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from geomcheck.checkpoints.discovery.layouts import LAYOUTS
from geomcheck.checkpoints.discovery.steps import places
from geomcheck.checkpoints.formats import held, open_weights
from geomcheck.checkpoints.formats.adapter_config import named_base
from geomcheck.checkpoints.formats.unread import explain
from geomcheck.checkpoints.hub import cached, fetched, is_hub_id
from geomcheck.checkpoints.inside import storage_root
from geomcheck.checkpoints.run import BaseModel, Run
from geomcheck.checkpoints.source import WeightSource
from geomcheck.errors import UsageError

MODEL_PLACES = (".", "release", "huggingface", "model/huggingface", "model/consolidated", "model")
"""Where the weights of a model directory lie that is no step directory."""


def open_base(path: str | Path, how: str) -> BaseModel:
    """Open W0.

    Args:
        path: a model directory, one checkpoint, or a Hub id (``org/name@revision``), which is taken from the local
            cache or else downloaded. A directory goes before a Hub id of the same name.
        how: which rule named it.

    Raises:
        UsageError: it is no directory with weights, or no model that the Hub gives.
    """
    directory = Path(path)
    if not str(path).isprintable():
        raise UsageError(f"W0: {str(path)!a} ({how}) has control characters; rename it")
    if not directory.exists() and is_hub_id(str(path)):
        return BaseModel(open_weights(fetched(str(path), how)), f"{how}: {path} of the Hugging Face Hub")
    if not directory.is_dir():
        raise UsageError(f"W0: {directory} ({how}) is not a directory")
    return _open_directory(directory, how)


def own_base(directory: Path, names: Iterable[str], zero: WeightSource | None = None) -> BaseModel | None:
    """W0 as the run itself provides it: its step `zero`, or one of the directories `names` in it.

    Raises:
        RunError: such a directory holds no weights that are read.
    """
    if zero is not None:
        return BaseModel(zero, "the run's step-0 checkpoint")
    for name in names:
        if (directory / name).is_dir():
            return BaseModel(open_weights(directory / name, root=storage_root(directory)), f"{name}/ in the run")
    return None


def find_base(run: Run, *, given: BaseModel | None = None, suite: str | None = None) -> BaseModel:
    """W0 by the first rule that applies: `given` by the user, the path in the suite, the run's own, its adapter's.

    Raises:
        UsageError: none applies, or the one that applies is not a model directory.
    """
    if given is None and suite is not None:
        given = open_base(suite, "the suite's base")
    if given is not None:
        _require_untrained(run, given)
        return given
    if run.own_base is not None:
        _require_untrained(run, run.own_base)
        return run.own_base
    name = _named_by_adapters(run)
    if name is not None:
        base = _of_adapter(run, name)
        _require_untrained(run, base)
        return base
    raise UsageError(
        f"run {run.path}: no W0 to compare with. Give one of:\n"
        "  1. --geom-base=PATH, a model directory, one checkpoint, or a Hub id (org/name@revision)\n"
        "  2. base: PATH in the suite\n"
        f"  3. a step-0 checkpoint (such as checkpoint-0) or base/ directory in {run.path}\n"
        "  4. base_model_name_or_path of an adapter (this run holds no adapter that names one)"
        + "".join(f"\n{omission}" for omission in run.omissions)
    )


def _open_directory(directory: Path, how: str) -> BaseModel:
    layouts = [layout for layout in LAYOUTS if layout.directory.fullmatch(directory.resolve().name)]
    of_steps = [place for layout in layouts for place in places(layout, 0, directory, root=storage_root(directory))]
    where = of_steps or [directory / place for place in MODEL_PLACES]
    if held(where) is None:
        raise UsageError(f"W0: {directory} ({how}): {explain(directory, where)}")
    return BaseModel(open_weights(directory, places=where), how)


def _require_untrained(run: Run, base: BaseModel) -> None:
    """Refuse what the run itself trained as W0: its update would be zero, and pass every upper bound."""
    where, root = base.source.path.resolve(), run.path.resolve()
    for checkpoint in run.checkpoints:
        same = checkpoint.source.path.samefile(where)
        if same or (where.is_relative_to(root) and checkpoint.name in where.relative_to(root).parts):
            raise UsageError(f"W0: {base.source.path} ({base.how}) is {checkpoint.name} of the run that is checked")
    if where == root:
        raise UsageError(f"W0: {base.source.path} ({base.how}) is the final model of the run that is checked")


def _named_by_adapters(run: Run) -> str | None:
    """The base model that the run's adapters name; None where they name none, or there are no adapters."""
    root = storage_root(run.path)
    names = {name for c in run.checkpoints if (name := named_base(c.source.path, root)) is not None}
    if len(names) > 1:
        raise UsageError(f"run {run.path}: its adapters name several base models ({', '.join(sorted(names))})")
    return names.pop() if names else None


def _of_adapter(run: Run, name: str) -> BaseModel:
    """The base model that an adapter names, if it is on this machine: a file of a run never starts a download."""
    how = "base_model_name_or_path of the run's adapter"
    if os.path.isdir(name):
        return _open_directory(Path(name), how)
    if is_hub_id(name) and (snapshot := cached(name)) is not None:
        return BaseModel(open_weights(snapshot), f"{how}: {name} of the Hugging Face Hub's cache")
    raise UsageError(
        f"run {run.path}: its adapter names {name[:200]!r} as the base model, which is neither a directory here nor in "
        "the local Hugging Face cache. Give W0 with --geom-base=PATH, or, to download it, with "
        f"--geom-base={name if is_hub_id(name) else 'ORG/NAME'}"
    )
