"""The files of several ranks: one missing, of another save, of another world; slices likewise."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from tests.reliability.corpus.case import Bytes, Case, Kit, Outcome, edited
from tests.reliability.corpus.project import Project
from tests.reliability.corpus.safetensors_files import header
from tests.runs import Q

ZERO, ONE = "model_world_size_2_rank_0.pt", "model_world_size_2_rank_1.pt"
SLICE = "shard-0000{}-model-00001-of-00001.safetensors"
OFFSETS = "DCP_SHARDING_INFO"


def _one(project: Project) -> Path:
    return project.at(20) / ONE


def _exchange(project: Project) -> None:
    aside = project.root / "aside"
    shutil.move(project.at(20) / ZERO, aside)
    shutil.move(_one(project), project.at(20) / ZERO)
    shutil.move(aside, _one(project))


def cases() -> Iterator[Case]:
    """Every case."""
    kit, here = Kit("ranks", "ranks"), "opd/global_step_20/actor"
    yield kit("a-missing-rank", lambda p: _one(p).unlink(), Outcome.ERROR, here, "rank 1")
    yield kit("the-first-rank-missing", lambda p: (p.at(20) / ZERO).unlink(), Outcome.ERROR, here, "rank 0")
    yield kit(
        "a-rank-too-many", lambda p: shutil.copy(_one(p), p.at(20) / ONE.replace("_1.", "_2.")), Outcome.ERROR, here
    )
    yield kit(
        "ranks-of-two-worlds",
        lambda p: shutil.copy(_one(p), p.at(20) / ONE.replace("size_2", "size_4")),
        Outcome.ERROR,
        here,
    )
    yield kit("one-rank-for-both", lambda p: shutil.copy(p.at(20) / ZERO, _one(p)), Outcome.ERROR, here)
    yield kit("two-ranks-exchanged", _exchange, Outcome.SAME)  # the DTensors know their place
    yield kit(
        "a-rank-of-another-step",
        lambda p: shutil.copy(p.at(10) / "actor" / ONE if False else p.run / "global_step_10/actor" / ONE, _one(p)),
        Outcome.OTHER,
    )
    edits: dict[str, Bytes] = {
        "empty": lambda c: b"",
        "cut": lambda c: c[: len(c) // 2],
        "nulls": lambda c: bytes(len(c)),
        "a-coordinate-lost": lambda c: c.replace(b"_coordinate_on_dim", b"_coordinate_in_dim"),
        "a-placement-renamed": lambda c: c.replace(b"placement_types\nShard", b"placement_types\nShare"),
        "a-name-flipped": lambda c: c.replace(b"q_proj", b"q_proi"),
    }
    for what, edit in edits.items():
        yield kit(f"a-rank-{what}", edited(_one, edit), Outcome.ERROR, here)
    yield kit("a-rank-of-whole-tensors", lambda p: torch.save({Q: torch.ones(32, 16)}, _one(p)), Outcome.ERROR, here)
    yield from _slices()


def _slices() -> Iterator[Case]:
    kit, here = Kit("slices", "slices"), "opd/epoch_0_step_20/model"
    for rank in (1, 2):
        name = SLICE.format(rank)
        yield kit(f"slice-{rank}-missing", lambda p, n=name: (p.at(20) / n).unlink(), Outcome.ERROR, "epoch_0_step_20")
        yield kit(f"slice-{rank}-cut", edited(lambda p, n=name: p.at(20) / n, lambda c: c[:-1]), Outcome.ERROR, here)

    def offsets(change) -> object:
        def edit(found) -> None:
            info = json.loads(found["__metadata__"][OFFSETS])
            change(info)
            found["__metadata__"][OFFSETS] = json.dumps(info)

        return edited(lambda p: p.at(20) / SLICE.format(2), header(edit))

    for what, change in {
        "missing": lambda info: info.pop(Q),
        "negative": lambda info: info[Q].update(saved_offsets=[-1, 0]),
        "overlapping": lambda info: info[Q].update(saved_offsets=[8, 0]),
        "with-a-gap": lambda info: info[Q].update(saved_offsets=[20, 0]),
        "huge": lambda info: info[Q].update(saved_offsets=[2**62, 0]),
        "of-floats": lambda info: info[Q].update(saved_offsets=[16.0, 0]),
        "of-one-dimension": lambda info: info[Q].update(saved_offsets=[16]),
        "a-list": lambda info: info.update({Q: [16, 0]}),
    }.items():
        yield kit(f"offsets-{what}", offsets(change), Outcome.ERROR, "epoch_0_step_20")
    lost = edited(lambda p: p.at(20) / SLICE.format(2), header(lambda found: found.pop("__metadata__")))
    yield kit("no-offsets", lost, Outcome.ERROR, here)
    name, other = SLICE.format(1), "model.safetensors"
    yield kit(
        "a-slice-called-a-model",
        lambda p: [(p.at(20) / SLICE.format(2)).unlink(), (p.at(20) / name).rename(p.at(20) / other)],
        Outcome.ERROR,
        here,
        "holds slices of tensors",
    )
    yield kit(
        "a-slice-of-another-step",
        lambda p: shutil.copy(p.run / "epoch_0_step_10/model" / name, p.at(20) / name),
        Outcome.OTHER,
    )
