"""Find W0: the rules, in their order."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from geomcheck.checkpoints.changes import equal
from geomcheck.checkpoints.discovery.layouts import LAYOUTS
from geomcheck.checkpoints.discovery.steps import places
from geomcheck.checkpoints.formats import held, open_weights
from geomcheck.checkpoints.formats.adapter_config import named_base
from geomcheck.checkpoints.formats.unread import explain
from geomcheck.checkpoints.hub import cached, fetched, is_hub_id
from geomcheck.checkpoints.inside import storage_root
from geomcheck.checkpoints.remote import located
from geomcheck.checkpoints.run import BaseWeights, Run
from geomcheck.checkpoints.source import WeightSource
from geomcheck.diagnostics.formats import FORMATS
from geomcheck.errors import RunError, UsageError
from geomcheck.files import require_readable
from geomcheck.urls import cut_short, is_url

MODEL_PLACES = (".", "release", "huggingface", "model/huggingface", "model/consolidated", "model")
"""Where weights may lie in a model directory that is no step directory."""

HOW_ADAPTERS = "base_model_name_or_path of the run's adapter"
HOW_SUITES = "the suite's base"
BY_A_FILE = (HOW_ADAPTERS, HOW_SUITES)
"""Rules by which a file names a directory, which may be any on this machine: errors do not list what lies there."""


def open_base(path: str | Path, how: str) -> BaseWeights:
    """Open W0.

    Args:
        path: a model directory, one checkpoint, the URL of one, or a Hub id (``org/name@revision``), which is taken
            from the local cache or else downloaded. A directory goes before a Hub id of the same name.
        how: which rule named it.

    Raises:
        UsageError: it is no directory with weights, or no model that the Hub gives; or a file names a URL.
        RunError: what is at a URL cannot be listed.
    """
    require_readable(path, f"W0 ({how})")
    if is_url(path) and how in BY_A_FILE:
        raise UsageError(f"W0: {path} ({how}) is a URL, and no file opens one; give it with --geom-base")
    directory = located(path)
    if not directory.exists() and is_hub_id(str(path)):
        return BaseWeights(open_weights(fetched(str(path), how)), f"{how}: {path} of the Hugging Face Hub")
    if not directory.is_dir():
        raise UsageError(f"W0: {directory} ({how}) is not a directory{cut_short(directory)}")
    return _open_directory(directory, how)


def at_hand(name: str, how: str) -> BaseWeights | None:
    """Open W0 by a path or a Hub id if it is on this machine; nothing is downloaded. Raises UsageError if it is a
    directory without weights."""
    if os.path.isdir(name):
        return _open_directory(Path(name), how)
    if is_hub_id(name) and (snapshot := cached(name)) is not None:
        return BaseWeights(open_weights(snapshot), f"{how}: {name} of the Hugging Face Hub's cache")
    return None


def own_base(directory: Path, names: Iterable[str], zero: WeightSource | None = None) -> BaseWeights | None:
    """W0 as the run itself provides it: its step `zero`, or one of the directories `names` in it. Raises RunError if
    such a directory holds no weights that are read."""
    if zero is not None:
        return BaseWeights(zero, "the run's step-0 checkpoint")
    for name in names:
        if (directory / name).is_dir():
            return BaseWeights(open_weights(directory / name, root=storage_root(directory)), f"{name}/ in the run")
    return None


def find_base(run: Run, *, given: BaseWeights | None = None, suite: str | None = None) -> BaseWeights:
    """W0 by the first rule that applies: `given` by the user, the path in the suite, the run's own, its adapter's.

    Raises:
        UsageError: none applies, or the one that applies is not a model directory.
    """
    if given is None and suite is not None:
        given = open_base(suite, HOW_SUITES)
    base = given or run.own_base
    if base is not None:
        _require_untrained(run, base)
        _require_adapted(run, base)
        return base
    names = _named_by_adapters(run)
    if len(names) > 1:
        raise UsageError(f"run {run.path}: its adapters name several base models ({', '.join(sorted(names))})")
    if names:
        base = _of_adapter(run, names.pop())
        _require_untrained(run, base)
        return base
    raise UsageError(
        f"run {run.path}: no W0 to compare with. Give one of:\n"
        "  1. --geom-base=PATH, a model directory, one checkpoint, a URL, or a Hub id (org/name@revision)\n"
        "  2. base: PATH in the suite\n"
        f"  3. a step-0 checkpoint (such as checkpoint-0) or base/ directory in {run.path}\n"
        "  4. base_model_name_or_path of an adapter (this run holds no adapter that names one)"
        + "".join(f"\n{omission}" for omission in run.omissions)
    )


def _open_directory(directory: Path, how: str) -> BaseWeights:
    where = _model_places(directory)
    if held(where) is None:
        raise UsageError(f"W0: {directory} ({how}): {explain(directory, where, listed=how not in BY_A_FILE)}")
    return BaseWeights(open_weights(directory, places=where), how)


def _model_places(directory: Path) -> list[Path]:
    """Where the weights of a model may lie in `directory`, which may be a step's."""
    layouts = [layout for layout in LAYOUTS if layout.directory.fullmatch(directory.resolve().name)]
    of_steps = [place for layout in layouts for place in places(layout, 0, directory, root=storage_root(directory))]
    return of_steps or [directory / place for place in MODEL_PLACES]


def _require_untrained(run: Run, base: BaseWeights) -> None:
    """Refuse a W0 that the run itself trained: its update would be zero, and pass every upper bound."""
    where, root = base.source.path.resolve(), run.path.resolve()
    for checkpoint in run.checkpoints:
        same = checkpoint.source.path.samefile(where)
        if same or (where.is_relative_to(root) and checkpoint.name in where.relative_to(root).parts):
            raise UsageError(f"W0: {base.source.path} ({base.how}) is {checkpoint.name} of the run that is checked")
    if where == root:
        raise UsageError(f"W0: {base.source.path} ({base.how}) is the final model of the run that is checked")


def _require_adapted(run: Run, base: BaseWeights) -> None:
    """Refuse a W0 other than the model that the run's adapters name, where that is at hand to compare.

    B A is the same over any W0, so no figure would tell. A named model that cannot be read is not compared.
    """
    ours = base.source
    for name in sorted(_named_by_adapters(run)):
        try:
            named = at_hand(name, HOW_ADAPTERS)
            odd = None if named is None else _disagreement(run, ours, named.source)
        except (RunError, UsageError):
            continue
        if named is not None and odd is not None:
            raise UsageError(
                f"W0 ({ours.path}, {base.how}) is not the model that the run's adapter was trained on: {odd} is "
                f"another in {named.source.path}, which base_model_name_or_path in adapter_config.json names. Give "
                "that one, or correct the name"
            )


def _disagreement(run: Run, ours: WeightSource, theirs: WeightSource) -> str | None:
    """A weight that an adapter of the run changes and that two models do not have in common; None where there is none.

    Weights are compared in the coarser of both formats. Quantized ones are not: such a model may be named, and the one
    that it was made from be given. Raises RunError.
    """
    same_repository = ours.path.parent == theirs.path.parent and ours.path.parent.name == "snapshots"
    if ours.path.samefile(theirs.path) or same_repository:  # of the Hub's cache: another revision was asked for
        return None
    for name in _adapted(run, ours.weights.keys() & theirs.weights.keys()):
        if not {ours.weights[name].dtype, theirs.weights[name].dtype} <= set(FORMATS):
            continue
        if not equal(ours.read(name), theirs.read(name)):
            return name
    return None


def _adapted(run: Run, names: Iterable[str]) -> list[str]:
    """Which of `names` of W0 an adapter changes; a bare model's lack the first parts of what the adapter calls them."""
    parts = (name.split(".") for name in run.checkpoints[0].source.weights)
    tails = {".".join(name[start:]) for name in parts for start in range(len(name))}
    return sorted(tails.intersection(names))


def _named_by_adapters(run: Run) -> set[str]:
    """The base models that the run's adapters name."""
    root = storage_root(run.path)
    return {name for c in run.checkpoints if (name := named_base(c.source.path, root)) is not None}


def _of_adapter(run: Run, name: str) -> BaseWeights:
    """The base model that an adapter names, if it is on this machine: a file of a run never starts a download."""
    found = at_hand(name, HOW_ADAPTERS)
    if found is not None:
        return found
    raise UsageError(
        f"run {run.path}: its adapter names {name[:200]!r} as the base model, which is neither a directory here nor in "
        "the local Hugging Face cache. Give W0 with --geom-base=PATH, or, to download it, with "
        f"--geom-base={name if is_hub_id(name) else 'ORG/NAME'}"
    )
