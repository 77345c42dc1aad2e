"""Explain checkpoints that no reader opens, and how to make them readable."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from geomcheck.checkpoints.formats.safetensors import INDEX, SINGLE


@dataclass(frozen=True)
class Unread:
    """A kind of checkpoint without a reader.

    Attributes:
        names: globs, one of which matches in the directory.
        what: its name, for people.
        remedy: what to do.
    """

    names: tuple[str, ...]
    what: str
    remedy: str


def zero_to_fp32(tag: str) -> str:
    """What puts the ZeRO partitions of one step together. Without the tag it would be those of the last step."""
    return (
        f"run `python zero_to_fp32.py . OUT/checkpoint-STEP -t {tag} --safe_serialization` where zero_to_fp32.py lies, "
        "once for each step, and check OUT"
    )


UNREAD = (
    Unread(
        ("global_step*_universal", "latest_universal", "zero/*/fp32.pt"),
        "a universal checkpoint of DeepSpeed, one file per weight and state, which only DeepSpeed reads",
        "go back to the checkpoint that ds_to_universal.py made it of (global_stepN without _universal)",
    ),
    Unread(
        ("zero_to_fp32.py", "*zero_pp_rank_*", "global_step*/*zero_pp_rank_*"),
        "DeepSpeed ZeRO partitions, which only DeepSpeed puts together",
        zero_to_fp32("global_stepN"),
    ),
    Unread(
        ("mp_rank_[0-9]*/", "iter_*/mp_rank_[0-9]*/"),
        "Megatron's legacy torch format, which needs Megatron's own classes",
        "start Megatron with `--load RUN --ckpt-step N --ckpt-convert-format torch_dist --ckpt-convert-save OUT`, once "
        "for each iteration N, and check OUT/torch_dist, where it writes them",
    ),
    Unread(
        ("mcore_batch_*.safetensors", "hf_batch_*.safetensors"),
        "an export that was interrupted (mbridge)",
        "export this checkpoint again, or remove it",
    ),
    Unread(
        ("*.gguf", "gptq_model*", "*-awq-*", "quantize_config.json"),
        "a quantized model, whose rounding is larger than most updates",
        "point at the checkpoint before quantization",
    ),
    Unread(
        ("*.bin", "*.pt", "*.pth", "*.distcp", ".metadata", "pytorch_model_fsdp*", "*.safetensors"),
        "no layout that is read",
        "save the model with save_pretrained, as safetensors",
    ),
)
"""The first that matches explains a directory; the last speaks for every file that may hold weights."""


def explain(directory: Path, places: Sequence[Path], *, listed: bool = True) -> str:
    """What the checkpoint holds instead of readable weights, and what to do, in a sentence or two; with the names in it
    only where they may be `listed`."""
    missing = "no weights that are read" + (f"; found {listing(directory)}" if listed else "")
    odd = next((place / SINGLE for place in places if os.path.lexists(place / SINGLE)), None)
    if odd is not None:
        return f"{odd}: {_nature(odd)}, where a file with weights is expected; copy the file here"
    lost = half_written(places)
    if lost is not None:
        return f"{missing}: {lost}. Copy the checkpoint again, or remove it"
    known = recognised(dict.fromkeys([directory, *places]))
    if known:
        return f"{missing}. {known}"
    return f"{missing}. The save was not finished, or the weights were removed: complete it, or remove the directory"


def recognised(places: Iterable[Path], *, by_name: bool = False) -> str:
    """What lies in one of `places` and what to do, as a sentence; empty where nothing is known of it. `by_name` leaves
    out what any file with weights is."""
    there = list(places)
    kinds = UNREAD[:-1] if by_name else UNREAD
    kind = next((kind for kind in kinds if any(_matches(place, kind.names) for place in there)), None)
    return f"This is {kind.what}: {kind.remedy}" if kind else ""


def half_written(places: Iterable[Path]) -> str | None:
    """Why, by the names in it, a save in one of `places` is unfinished; None where nothing shows that."""
    for place in places:
        if (place / ".metadata.tmp").exists():
            return f"{place.name}/.metadata.tmp is still there"
        if _matches(place, ("*.distcp",)) and not (place / ".metadata").exists():
            return "its shards lack .metadata, which is written last"
        sharded = _matches(place, ("model-*-of-*.safetensors",)) and not (place / SINGLE).exists()
        if sharded and not (place / INDEX).exists():
            return f"its shards lack {INDEX}, which is written last"
    return None


def listing(directory: Path) -> str:
    """The first names in a directory, for messages."""
    names = sorted(entry.name for entry in directory.iterdir())
    shown = ", ".join(names[:6]) or "nothing"
    return f"{shown}, ... ({len(names)} entries)" if len(names) > 6 else shown


def _nature(path: Path) -> str:
    """The kind of something that is no regular file."""
    if path.is_symlink() and not path.exists():
        return "a link that leads nowhere"
    kinds = {"a directory": Path.is_dir, "a pipe": Path.is_fifo, "a socket": Path.is_socket}
    return next((kind for kind, holds in kinds.items() if holds(path)), "no regular file")


def _matches(directory: Path, globs: Iterable[str]) -> bool:
    return any(next(directory.glob(pattern), None) is not None for pattern in globs)
