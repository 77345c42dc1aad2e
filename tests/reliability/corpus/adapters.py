"""LoRA adapters: factors and configs that are damaged, or do not belong together or to the base."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.reliability.corpus import seeds
from tests.reliability.corpus.case import Bytes, Case, Kit, Outcome, edited
from tests.reliability.corpus.project import Project
from tests.runs import Q, write_model

kit = Kit("adapter", "adapter")

FILE, CONFIG = "adapter_model.safetensors", "adapter_config.json"
A = f"base_model.model.{Q.removesuffix('.weight')}.lora_A.weight"
B = A.replace("lora_A", "lora_B")
HERE = f"opd/checkpoint-20/{FILE}"


def _factors(change: Callable[[dict[str, Tensor]], object], *steps: int) -> Callable[[Project], object]:
    def spoil(project: Project) -> None:
        for step in steps or (20,):
            path = project.at(step) / FILE
            tensors = load_file(path)
            change(tensors)
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)

    return spoil


def _config(value: dict[str, Any], *steps: int) -> Callable[[Project], object]:
    def spoil(project: Project) -> None:
        for step in steps or (20,):
            path = project.at(step) / CONFIG
            path.write_text(json.dumps(json.loads(path.read_text()) | value))

    return spoil


def _set(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], object]:
    return lambda tensors: tensors.update({name: change(tensors[name])})


def _merged(project: Project) -> None:
    for name in (FILE, CONFIG):
        (project.at(20) / name).unlink()
    write_model(project.at(20), seeds.trained(20), seeds.layouts.CONFIG)


def cases() -> Iterator[Case]:
    """Every case."""
    nan, all_steps = float("nan"), (10, 20, 30)
    for what, edit in {
        "empty": lambda c: b"",
        "cut": lambda c: c[:-9],
        "header-cut": lambda c: c[:50],
        "lfs": lambda c: b"version https",
    }.items():
        yield kit(f"factors-{what}", edited(lambda p: p.at(20) / FILE, edit), Outcome.ERROR, HERE)
    config: dict[str, Bytes] = {
        "empty": lambda c: b"",
        "cut": lambda c: c[:-9],
        "a-list": lambda c: b"[]",
        "nulls": lambda c: bytes(9),
    }
    for what, edit in config.items():
        yield kit(
            f"config-{what}", edited(lambda p: p.at(20) / CONFIG, edit), Outcome.USAGE, f"opd/checkpoint-20/{CONFIG}"
        )
    yield kit("no-factors", lambda p: (p.at(20) / FILE).unlink(), Outcome.USAGE, "opd/checkpoint-20")
    yield kit(
        "no-config", lambda p: (p.at(20) / CONFIG).unlink(), Outcome.USAGE, f"opd/checkpoint-20/{CONFIG}: missing"
    )
    wrong: dict[str, dict[str, Any]] = {
        "another-method": {"peft_type": "IA3"},
        "no-rank": {"r": None},
        "rank-zero": {"r": 0},
        "rank-negative": {"r": -4},
        "rank-a-text": {"r": "4"},
        "alpha-a-text": {"lora_alpha": "x"},
        "alpha-nan": {"lora_alpha": nan},
        "alpha-infinite": {"lora_alpha": float("inf")},
        "alpha-huge": {"lora_alpha": 1e300},
        "a-pattern-that-looks-ahead": {"alpha_pattern": {"(?=a)b": 2}},
    }
    for what, value in wrong.items():
        yield kit(f"{what}-in-one", _config(value), Outcome.USAGE, f"opd/checkpoint-20/{CONFIG}")
    unlike: dict[str, dict[str, Any]] = {
        "rank-larger": {"r": 8},
        "alpha-larger": {"lora_alpha": 64},
        "rslora": {"use_rslora": True},
        "dora": {"use_dora": True},
        "a-pattern": {"rank_pattern": {"q_proj": 2}},
        "a-pattern-that-runs-away": {"alpha_pattern": {"(a+)+$": 2}},
    }
    for what, value in unlike.items():
        yield kit(f"{what}-in-one", _config(value), Outcome.ERROR, "opd/checkpoint-20")
    yield kit("alpha-zero-in-all", _config({"lora_alpha": 0}, *all_steps), Outcome.ERROR)
    yield kit("alpha-larger-in-all", _config({"lora_alpha": 8}, *all_steps), Outcome.OTHER)
    yield kit("a-nan", _factors(_set(A, lambda t: t * nan)), Outcome.ERROR, "checkpoint-20", Q, "NaN")
    yield kit("an-infinity", _factors(_set(B, lambda t: t / 0)), Outcome.ERROR, "checkpoint-20", Q)
    yield kit("a-zero-factor", _factors(_set(B, torch.zeros_like)), Outcome.ERROR, "checkpoint-20", "equal W0 again", Q)
    yield kit(
        "all-zero-from-the-start",
        _factors(lambda f: f.update({n: torch.zeros_like(t) for n, t in f.items() if "lora_B" in n}), *all_steps),
        Outcome.ERROR,
    )
    yield kit("a-factor-missing", _factors(lambda f: f.pop(A)), Outcome.ERROR, "opd/checkpoint-20", B, "no counterpart")
    yield kit(
        "a-pair-missing", _factors(lambda f: (f.pop(A), f.pop(B))), Outcome.ERROR, "checkpoint-20", "does not adapt", Q
    )
    yield kit("a-factor-transposed", _factors(_set(A, lambda t: t.T)), Outcome.ERROR, "opd/checkpoint-20", "q_proj")
    yield kit("ranks-that-differ", _factors(_set(A, lambda t: t[:2])), Outcome.ERROR, "opd/checkpoint-20", "q_proj")
    yield kit(
        "a-factor-of-integers", _factors(_set(A, lambda t: t.to(torch.int32))), Outcome.ERROR, "opd/checkpoint-20"
    )
    yield kit(
        "a-factor-for-nothing",
        _factors(lambda f: f.update({n.replace("q_proj", "x_proj"): f[n] + 0 for n in (A, B)})),
        Outcome.ERROR,
        "checkpoint-20",
        "x_proj",
    )
    yield kit(
        "a-name-without-a-place",
        _factors(lambda f: f.update(x=torch.ones(2, 2))),
        Outcome.ERROR,
        "opd/checkpoint-20 does",
        " x,",
    )
    yield kit(
        "factors-of-bf16-in-one", _factors(lambda f: f.update({n: t.bfloat16() for n, t in f.items()})), Outcome.OTHER
    )
    yield kit("a-merged-model-between", _merged, Outcome.OTHER, "stored differently along the run", "checkpoint-20")
    yield kit(
        "two-checkpoints-alike",
        lambda p: shutil.copy(p.at(10) / FILE, p.at(20)),
        Outcome.ERROR,
        "hold the same weights",
    )
    yield kit(
        "the-factors-of-another-step",
        lambda p: shutil.copy(p.at(30) / FILE, p.at(10)),
        Outcome.ERROR,
        "hold the same weights",
    )
    other = {name: torch.ones(3, 5, dtype=w.dtype) if w.ndim == 2 else w for name, w in seeds.base().items()}
    yield kit(
        "a-base-of-other-shapes",
        lambda p: save_file(other, p.weights(0)),
        Outcome.USAGE,
        "opd/base",
        "7 of 7 do not fit",
    )
    yield kit("no-base", lambda p: shutil.rmtree(p.base), Outcome.USAGE, "no W0 to compare with")
    yield kit(
        "a-base-that-is-an-adapter",
        lambda p: (shutil.rmtree(p.base), shutil.copytree(p.at(30), p.base)),
        Outcome.USAGE,
        "is an adapter",
    )
