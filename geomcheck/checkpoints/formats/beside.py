"""What lies beside the files that are read: further weights are never passed over in silence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from geomcheck.checkpoints.changes import equal
from geomcheck.checkpoints.constraint import CHANNEL_FILE
from geomcheck.checkpoints.formats.pickled import PickledDirectory
from geomcheck.checkpoints.inside import storage_root
from geomcheck.checkpoints.source import WeightSource
from geomcheck.errors import RunError

WEIGHTS = re.compile(r".*\.(?:safetensors|bin|pt|pth|ckpt|distcp)")

STATES = re.compile(
    r"(?:.*[_.-])?(?:optim\w*|lr|sched\w*|scaler|rng|random|args|trainer|trainer_state|extra_state|train_state|recipe"
    r"|recipe_state|training_state|engine_state|dataloader|dataset|data|sampler|tokenizer|vocab|loss|metrics?|logs?|history"
    r"|common|stats|config|metadata|replay|rollout)(?:[_.-].*)?",
    re.IGNORECASE,
)
"""The stems of files with states of a training, and of tokenizers; none of them is called a model."""

COPIES = {
    re.compile(r"pytorch_model_fsdp(?:_[0-9]+)?(?:_rank[0-9]+)?\.bin"): "accelerate's copy for resuming",
    re.compile(r"model_world_size_[0-9]+_rank_[0-9]+\.pt"): "ranks of another world size, or of the same save",
    re.compile(r"consolidated(?:[.-].*)?\.(?:safetensors|pth)"): "the publisher's own format",
    re.compile(r"adapter_model.*"): "the adapter that the model was merged with",
}
"""Files that hold the same weights once more, by the way in which frameworks and publishers save."""

PLACES = re.compile(
    r"(?:pytorch_model_fsdp|optimizer|global_step|iter|checkpoint|step|epoch|pissa)\w*|(?:checkpoint|step|epoch)[-_=].*"
    r"|huggingface|dist_ckpt|model|extra|base|release|critic|value|ref\w*|runs|logs",
    re.IGNORECASE,
)
"""Directories below a checkpoint's weights that hold the same once more, a training's state, or another checkpoint."""

HEADS = re.compile(r"value_head\.(?:safetensors|bin)")
"""A value head of LLaMA-Factory's: no part of the model that is compared."""

SAMPLED = 8
"""How many matrices tell whether a published model is there twice."""

_PICKLES = re.compile(r"pytorch_model(?:-[0-9]+-of-[0-9]+)?\.bin")


def beside(source: WeightSource, *, published: bool = False) -> Iterator[str]:
    """What to say of files beside those that `source` reads: copies, value heads, and directories with further weights.

    A snapshot of the Hugging Face cache is as its publisher meant it to be.

    Args:
        source: the tensors as they are stored.
        published: whether this is W0, which often is there in two formats.

    Raises:
        RunError: there are weights of which nothing is known: a second model, or a part of this one.
    """
    directory = source.path
    if not directory.is_dir() or storage_root(directory) != directory.resolve():
        return
    read = {file.name for file in source.files if file.parent == directory}
    for name in sorted(entry.name for entry in directory.iterdir() if WEIGHTS.fullmatch(entry.name)):
        if name in read or name == CHANNEL_FILE or _is_state(name):
            continue
        copy = next((what for names, what in COPIES.items() if names.fullmatch(name)), None)
        if HEADS.fullmatch(name):
            yield f"{name}, a value head, is not compared with W0"
        elif copy is not None:
            yield f"{name} is not read: {copy}"
        elif published and _PICKLES.fullmatch(name) and _is_twin(source):
            yield f"{name} is not read: the same model as a pickle"
        else:
            first = min((file for file in read if WEIGHTS.fullmatch(file)), default="the weights that are read")
            raise RunError(
                f"{directory / name}: weights beside {first}, which is read: a second model, or a part of this one. "
                "Remove the file if it is stale or a copy; if it is a part, save the model as one"
            )
    below = [] if published else [entry for entry in sorted(directory.iterdir()) if _holds_weights(entry)]
    if below:
        yield f"not read are the weights in {', '.join(f'{entry.name}/' for entry in below)}"


def _holds_weights(entry: Path) -> bool:
    """Whether a directory of unknown use holds weights."""
    if PLACES.fullmatch(entry.name) or entry.is_symlink() or not entry.is_dir():
        return False
    try:
        return any(WEIGHTS.fullmatch(file.name) and not _is_state(file.name) for file in entry.iterdir())
    except OSError:  # not ours to look into
        return False


def _is_twin(source: WeightSource) -> bool:
    """Whether the pickles beside a model hold the same one, by some of its matrices."""
    pickles = PickledDirectory(source.path)
    matrices = [name for name, stored in sorted(source.weights.items()) if len(stored.shape) > 1]
    sample = matrices[:: max(1, len(matrices) // SAMPLED)]
    there = pickles.weights
    return bool(sample) and all(n in there and equal(source.read(n), pickles.read(n)) for n in sample)


def _is_state(name: str) -> bool:
    stem = name.rpartition(".")[0]
    return "model" not in stem.lower().replace("model_optim", "") and STATES.fullmatch(stem) is not None
