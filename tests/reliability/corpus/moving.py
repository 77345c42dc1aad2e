"""A run that changes between the moment when it is surveyed and the moment when it is read."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator

from tests.reliability.corpus.case import Case, Kit, Outcome
from tests.reliability.corpus.project import Project

kit = Kit("moving", "plain")

CHANGED = "changed or removed since it was opened; is the run still being written?"
NAMED = {
    "pickle": "pytorch_model.bin",
    "ranks": "model_world_size_2_rank_1.pt",
    "dcp": "__1_0.distcp",
    "adapter": "adapter_model.safetensors",
    "slices": "shard-00001-model-00001-of-00001.safetensors",
    "shards": "model-00002-of-00003.safetensors",
}


def _cut(project: Project) -> None:
    os.truncate(project.weights(20), 100)


def _grow(project: Project) -> None:
    with project.weights(20).open("ab") as file:
        file.write(bytes(4096))


def _rewrite(project: Project) -> None:
    content = project.weights(20).read_bytes()
    project.weights(20).unlink()
    project.weights(20).write_bytes(content)


def _touch_all(moment: float):
    def spoil(project: Project) -> None:
        for path in project.run.rglob("*"):
            os.utime(path, (moment, moment))

    return spoil


def cases() -> Iterator[Case]:
    """Every case."""
    here = "opd/checkpoint-20/model.safetensors"
    yield kit("a-file-vanishes", lambda p: p.weights(20).unlink(), Outcome.ERROR, here, CHANGED, moving=True)
    yield kit("a-file-is-cut", _cut, Outcome.ERROR, here, CHANGED, moving=True)
    yield kit("a-file-grows", _grow, Outcome.ERROR, here, CHANGED, moving=True)
    yield kit("a-file-is-written-again", _rewrite, Outcome.ERROR, here, CHANGED, moving=True)
    yield kit("w0-vanishes", lambda p: shutil.rmtree(p.base), Outcome.ERROR, "opd/base/model.safetensors", moving=True)
    yield kit("a-checkpoint-vanishes", lambda p: shutil.rmtree(p.at(20)), Outcome.ERROR, "checkpoint-20", moving=True)
    yield kit("the-run-vanishes", lambda p: shutil.rmtree(p.run), Outcome.ERROR, "opd/", moving=True)
    yield kit(
        "a-checkpoint-arrives", lambda p: shutil.copytree(p.at(30), p.run / "checkpoint-40"), Outcome.SAME, moving=True
    )
    yield kit(
        "a-directory-grows",
        lambda p: [(p.at(20) / f"{i}.tmp").write_text("x") for i in range(99)],
        Outcome.SAME,
        moving=True,
    )
    yield kit("the-suite-vanishes", lambda p: p.suite.unlink(), Outcome.SAME, moving=True)
    for seed, file in NAMED.items():
        spoil = lambda p, name=file: (p.at(20) / name).unlink()  # noqa: E731
        yield Kit("moving", seed)(f"{seed}-a-file-vanishes", spoil, Outcome.ERROR, file, CHANGED, moving=True)
        spoil = lambda p, name=file: os.truncate(p.at(20) / name, 64)  # noqa: E731
        yield Kit("moving", seed)(f"{seed}-a-file-is-cut", spoil, Outcome.ERROR, file, CHANGED, moving=True)
    for what, moment in {"1970": 0.0, "the-future": time.time() + 10**8, "one-moment": 1.6e9}.items():
        yield kit(f"times-of-{what}", _touch_all(moment), Outcome.SAME)
