"""Step directories: missing, twice, renamed, empty, links, of another run; and trainer states that contradict them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.reliability.corpus import seeds
from tests.reliability.corpus.case import Case, Kit, Outcome, nothing
from tests.reliability.corpus.project import Project
from tests.runs import write_model

kit = Kit("steps", "plain")


def _copy(step: int, name: str) -> Callable[[Project], object]:
    return lambda project: shutil.copytree(project.at(step), project.run / name)


def _rename(step: int, name: str) -> Callable[[Project], object]:
    return lambda project: project.at(step).rename(project.run / name)


def _state(step: int, content: str | None) -> Callable[[Project], object]:
    """Replace the trainer state of a checkpoint."""

    def spoil(project: Project) -> None:
        path = project.at(step) / "trainer_state.json"
        path.unlink() if content is None else path.write_text(content)

    return spoil


def _swap(project: Project) -> None:
    """checkpoint-10 and checkpoint-20 take each other's name, trainer state and all."""
    project.at(10).rename(project.run / "aside")
    project.at(20).rename(project.at(10))
    (project.run / "aside").rename(project.at(20))


def _swap_weights(project: Project) -> None:
    project.weights(10).rename(project.run / "aside")
    project.weights(20).rename(project.weights(10))
    (project.run / "aside").rename(project.weights(20))


def _replace(step: int, by: Callable[[Path, Project], object]) -> Callable[[Project], object]:
    """Put something else in the place of a checkpoint's directory."""

    def spoil(project: Project) -> None:
        shutil.rmtree(project.at(step))
        by(project.at(step), project)

    return spoil


def _outside(path: Path, project: Project) -> None:
    other = seeds.lay_out("plain", project.root / "elsewhere")
    path.symlink_to(other.at(20))


def _another_run(project: Project) -> None:
    """checkpoint-20 of a run that started from other weights."""
    write_model(project.at(20), {n: w.float() for n, w in seeds.layouts.model(seed=5).items()})


def _two_runs(project: Project) -> None:
    """Beside its own checkpoints, those of another model."""
    other = seeds.lay_out("real", project.root / "elsewhere")
    for step in (60, 90):
        shutil.copytree(other.at(step), project.at(step))


def _two(*spoils: Callable[[Project], object]) -> Callable[[Project], object]:
    return lambda project: [spoil(project) for spoil in spoils]


def cases() -> Iterator[Case]:
    """Every case."""
    yield from _directories()
    yield from _states()


def _directories() -> Iterator[Case]:
    yield kit("the-same-step-twice", _copy(20, "checkpoint-020"), Outcome.USAGE, "checkpoint-020", "checkpoint-20")
    yield kit(
        "a-copy-under-another-step",
        _copy(20, "checkpoint-25"),
        Outcome.ERROR,
        "checkpoint-20 and checkpoint-25 hold the same weights",
    )
    yield kit(
        "the-last-copied-as-the-next",
        _copy(30, "checkpoint-40"),
        Outcome.ERROR,
        "checkpoint-30 and checkpoint-40 hold the same weights",
    )
    yield kit("two-names-exchanged", _swap, Outcome.USAGE, "opd", "checkpoint-10 says 20, checkpoint-20 says 10")
    yield kit("two-files-exchanged", _swap_weights, Outcome.OTHER)
    yield kit("one-step-fewer", lambda project: shutil.rmtree(project.at(20)), Outcome.OTHER)
    yield kit("no-steps-at-all", lambda p: [shutil.rmtree(p.at(s)) for s in (10, 20, 30)], Outcome.USAGE, "opd")
    yield kit("no-run-at-all", lambda project: shutil.rmtree(project.run), Outcome.USAGE, "the run opd does not exist")
    yield kit(
        "an-empty-directory", _replace(20, lambda path, _: path.mkdir()), Outcome.LEFT_OUT, "checkpoint-20", "empty"
    )
    refuse = ("--geom-incomplete=error",)
    yield kit(
        "an-empty-directory-refused",
        _replace(20, lambda path, _: path.mkdir()),
        Outcome.USAGE,
        "checkpoint-20",
        "empty",
        arguments=refuse,
    )
    yield kit(
        "a-file-for-a-directory",
        _replace(20, lambda path, _: path.write_text("x")),
        Outcome.LEFT_OUT,
        "checkpoint-20",
        "not a directory",
    )
    yield kit(
        "a-link-that-leads-nowhere",
        _replace(20, lambda path, _: path.symlink_to("nowhere")),
        Outcome.LEFT_OUT,
        "checkpoint-20",
        "a link that leads nowhere",
    )
    yield kit(
        "a-link-in-a-circle", _replace(20, lambda path, _: path.symlink_to(path)), Outcome.LEFT_OUT, "checkpoint-20"
    )
    yield kit(
        "a-link-to-another-step",
        _replace(20, lambda path, p: path.symlink_to(p.at(10))),
        Outcome.USAGE,
        "checkpoint-10",
        "checkpoint-20",
    )
    yield kit(
        "a-link-to-the-run",
        _replace(20, lambda path, p: path.symlink_to(p.run)),
        Outcome.USAGE,
        "checkpoint-20: links to",
    )
    yield kit(
        "a-link-out-of-the-run", _replace(20, _outside), Outcome.USAGE, "checkpoint-20: links to", "copy it instead"
    )
    yield kit(
        "a-pipe-for-a-directory", _replace(20, lambda path, _: os.mkfifo(path)), Outcome.LEFT_OUT, "checkpoint-20"
    )
    yield kit("a-checkpoint-of-another-run", _another_run, Outcome.ERROR, "checkpoint-20 are different models")
    yield kit("half-of-another-run", _two_runs, Outcome.USAGE, "does not belong", "checkpoint-60")
    yield kit("step-directories-of-two-frameworks", _copy(20, "global_step_20"), Outcome.USAGE, "opd", "global_step_20")
    yield kit(
        "an-unfinished-save-beside",
        lambda p: (p.run / "tmp-checkpoint-40").mkdir(),
        Outcome.LEFT_OUT,
        "tmp-checkpoint-40",
        "still being written",
    )
    yield kit(
        "a-step-zero-like-the-first",
        _copy(10, "checkpoint-0"),
        Outcome.PART,
        "no selected weight has changed at step 10",
    )
    yield kit("an-enormous-step", _rename(30, "checkpoint-999999999999999"), Outcome.OTHER)
    yield kit("a-step-beyond-64-bits", _rename(30, "checkpoint-99999999999999999999"), Outcome.OTHER)
    yield kit("a-step-in-superscript", _rename(30, "checkpoint-3²"), Outcome.OTHER)
    yield kit("a-negative-step", _rename(30, "checkpoint--30"), Outcome.OTHER)
    yield kit("a-step-in-capitals", _rename(30, "CHECKPOINT-30"), Outcome.OTHER)
    yield kit(
        "a-base-that-is-a-checkpoint",
        lambda p: (shutil.rmtree(p.base), shutil.copytree(p.at(10), p.base)),
        Outcome.PART,
        "no selected weight has changed at step 10",
    )
    yield kit(
        "a-base-that-links-to-a-checkpoint",
        lambda p: (shutil.rmtree(p.base), p.base.symlink_to(p.at(30))),
        Outcome.USAGE,
        "opd/base",
        "is checkpoint-30 of the run",
    )
    yield kit(
        "a-base-named-in-the-run",
        nothing,
        Outcome.USAGE,
        "opd/checkpoint-10",
        "is checkpoint-10 of the run",
        arguments=("--geom-base=opd/checkpoint-10",),
    )
    yield kit("no-base", lambda project: shutil.rmtree(project.base), Outcome.USAGE, "no W0 to compare with")
    yield kit("an-empty-base", lambda p: (shutil.rmtree(p.base), p.base.mkdir()), Outcome.USAGE, "opd/base")
    yield kit("a-base-that-is-a-file", lambda p: (shutil.rmtree(p.base), p.base.write_text("")), Outcome.USAGE, "no W0")
    yield kit(
        "unrelated-files",
        lambda p: [(p.run / name).write_text("x") for name in ("notes.txt", ".lock", "a.yaml")],
        Outcome.SAME,
    )
    yield kit(
        "unrelated-directories",
        lambda p: [(p.run / n).mkdir() for n in ("logs", "checkpoint-best", "step")],
        Outcome.SAME,
    )
    yield kit(
        "optimizer-files-in-a-checkpoint",
        lambda p: [
            (p.at(20) / n).write_bytes(b"\x80\x02}.")
            for n in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin")
        ],
        Outcome.SAME,
    )


def _states() -> Iterator[Case]:
    said = json.dumps
    yield kit(
        "state-missing-from-one",
        _state(20, None),
        Outcome.LEFT_OUT,
        "checkpoint-20",
        "no trainer_state.json, which is written last",
    )
    yield kit("state-missing-from-all", _two(*(_state(step, None) for step in (10, 20, 30))), Outcome.SAME)
    where = "opd/checkpoint-20/trainer_state.json"
    for what, content in {
        "empty": "",
        "no-json": "{",
        "a-list": "[]",
        "not-utf8": '{"a": "\udcff"}',
        "deep": "[" * 99_999,
    }.items():
        spoil = lambda p, c=content: (p.at(20) / "trainer_state.json").write_bytes(c.encode(errors="surrogateescape"))  # noqa: E731
        yield kit(f"state-{what}", spoil, Outcome.USAGE, where)
    for what, step in {"later": 31, "earlier": 9}.items():
        yield kit(
            f"state-of-a-{what}-step",
            _state(20, said({"global_step": step, "max_steps": 30})),
            Outcome.USAGE,
            f"checkpoint-20 says {step}",
        )
    for what, value in {"a-text": '"20"', "nan": "NaN", "a-float": "20.0", "null": "null", "true": "true"}.items():
        yield kit(f"state-step-{what}", _state(20, f'{{"global_step": {value}, "max_steps": 30}}'), Outcome.SAME)
    yield kit("state-of-another-step-in-order", _state(20, said({"global_step": 21, "max_steps": 30})), Outcome.SAME)
    for what, value in {"too-few": "5", "negative": "-1", "a-text": '"x"', "infinite": "Infinity"}.items():
        yield kit(f"max-steps-{what}", _state(30, f'{{"global_step": 30, "max_steps": {value}}}'), Outcome.SAME)
    yield kit("max-steps-of-digits", _state(30, f'{{"global_step": 30, "max_steps": {"9" * 400}}}'), Outcome.OTHER)
