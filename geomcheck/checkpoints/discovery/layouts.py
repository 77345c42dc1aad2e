"""The run directories that frameworks write, as a table. A framework that is not listed needs one more row."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

SELF = "."
"""The directory itself, where a path below it is expected."""


@dataclass(frozen=True)
class Marker:
    """A file that a framework writes last into a step directory: without it, the save was not finished.

    Attributes:
        file: path below the step directory.
        always: every complete checkpoint has it. Otherwise its absence means something only where another checkpoint
            of the run has it.
        unless: a file or directory (glob) that says the marker does not apply to this directory.
    """

    file: str
    always: bool = False
    unless: str = ""


@dataclass(frozen=True)
class Layout:
    """One way of laying out the checkpoints of a run.

    Attributes:
        framework: who writes it, for people.
        directory: name of a step directory, with the step as its group. Only the outermost match counts:
            what looks like a step further down is payload.
        example: such a name, for messages.
        below: where step directories lie, as globs relative to the run.
        weights: where weights lie, relative to the step directory, best first; ``{step}`` is replaced.
        inside: a path below a step directory that tells this layout from others with the same names.
        beside: a path beside the step directories that does.
        marker: what is written last.
        tracker: file beside the step directories with the last step that was saved.
        first: the number that the framework gives to the state after its first step, 1 or 0. With 1, step 0 is W0.
        zero: why step 0 can be taken neither for W0 nor for a checkpoint.
        bases: directories of the run that hold W0.
        contents: file below the step directory that says where its weights are (verl).
        yields_to: framework whose step directories may lie in the same run and then are the run.
        spare: taken only where there is no other layout.
        refused: why these directories cannot be a run, and what to do.
        remark: what a reader of the figures should know.
    """

    framework: str
    directory: re.Pattern[str]
    example: str
    below: tuple[str, ...] = (SELF,)
    weights: tuple[str, ...] = (SELF,)
    inside: str = ""
    beside: str = ""
    marker: Marker | None = None
    tracker: str = ""
    first: int = 1
    zero: str = ""
    bases: tuple[str, ...] = ("base",)
    contents: str = ""
    yields_to: str = ""
    spare: bool = False
    refused: str = ""
    remark: str = ""


_N = "([0-9]{1,15})"
_CHECKPOINT = re.compile(f"checkpoint-{_N}")
_GLOBAL_STEP = re.compile(f"global_step_{_N}")
_ITERATION = re.compile("iter_([0-9]{7,15})")
_STEP = re.compile(f"step_{_N}")

_EPOCH_AND_STEP = re.compile(f"epoch_[0-9]{{1,15}}_step_{_N}")

_TRAINER_WEIGHTS = (SELF, "pytorch_model_fsdp_0", "iter_{step:07d}")
_TRAINER_STATE = Marker("trainer_state.json")
_MEGATRON_TRACKER = "latest_checkpointed_iteration.txt"
_MEGATRON_BASES = ("base", "release")
_MEGATRON_MARKER = Marker("metadata.json", always=True, unless="mp_rank_*")


def _engine(role: str) -> tuple[str, ...]:
    """Where verl's engines leave the weights of a role: per-rank shards, exports, Megatron, PEFT."""
    below = ("", "/huggingface", "/model/huggingface", "/model", "/dist_ckpt", "/model/dist_ckpt", "/lora_adapter")
    return tuple(f"{role}{place}" for place in (*below, "/adapter_checkpoint"))


def _by_epoch(framework: str, start: str, **others: Any) -> tuple[Layout, Layout]:
    """Directories that `start` and the number of an epoch name. Writers count from 0, and what they call so was trained
    for one epoch: 0 is no W0. Where there is no 0, whether it was removed is not known."""
    name, example = re.compile(f"{start}{_N}"), f"{start}1"
    from_0 = f"its steps are epochs, counted from 0: {start}0 is the model after the first"
    return (
        Layout(framework, name, example, beside=f"{start}0", first=0, remark=from_0, **others),
        Layout(framework, name, example, remark="its steps are epochs", **others),
    )


LAYOUTS = (
    Layout(
        "Hugging Face Trainer (TRL, LLaMA-Factory, Axolotl, Unsloth)",
        _CHECKPOINT,
        "checkpoint-100",
        weights=_TRAINER_WEIGHTS,
        marker=_TRAINER_STATE,
    ),
    Layout(
        "ms-swift",
        _CHECKPOINT,
        "v0-20260101-000000/checkpoint-100",
        below=("v[0-9]*-*",),
        weights=_TRAINER_WEIGHTS,
        marker=_TRAINER_STATE,
    ),
    Layout(
        "verl",
        _GLOBAL_STEP,
        "global_step_100/actor",
        weights=_engine("actor"),
        inside="actor",
        tracker=_MEGATRON_TRACKER,
        contents="actor/ckpt_contents.json",
    ),
    Layout(
        "SkyRL",
        _GLOBAL_STEP,
        "global_step_100/policy",
        weights=_engine("policy"),
        inside="policy",
        tracker="latest_ckpt_global_step.txt",
    ),
    Layout(
        "verl (SFT)",
        _GLOBAL_STEP,
        "global_step_100",
        weights=(SELF, "huggingface", "model/huggingface", "model", "dist_ckpt", "model/dist_ckpt"),
        tracker=_MEGATRON_TRACKER,
        contents="ckpt_contents.json",
    ),
    Layout(
        "miles or slime (FSDP)",
        _ITERATION,
        "iter_0000100/model",
        weights=("model",),
        inside="model",
        marker=Marker("meta.json", always=True),
        tracker=_MEGATRON_TRACKER,
    ),
    Layout(
        "slime (Megatron)",
        _ITERATION,
        "iter_0000099",
        beside="rollout",
        marker=_MEGATRON_MARKER,
        tracker=_MEGATRON_TRACKER,
        first=0,
        bases=_MEGATRON_BASES,
    ),
    Layout(
        "Megatron-LM",
        _ITERATION,
        "iter_0000100",
        bases=_MEGATRON_BASES,
        marker=_MEGATRON_MARKER,
        tracker=_MEGATRON_TRACKER,
        zero=(
            "W0 if Megatron-LM or Megatron-Bridge wrote it, the first checkpoint if slime did: for the former, name it "
            "with --geom-base; for the latter, keep slime's rollout/ directory beside it"
        ),
    ),
    Layout(
        "NeMo-RL",
        _STEP,
        "step_100/policy/weights",
        weights=(
            "policy/weights",
            "policy/weights/model",
            "policy/weights/model/consolidated",
            "policy/weights/iter_0000000",
        ),
        inside="policy",
    ),
    Layout(
        "prime-rl",
        _STEP,
        "checkpoints/step_100/trainer",
        below=(SELF, "checkpoints"),
        weights=("trainer",),
        inside="trainer",
    ),
    Layout("open-instruct", _STEP, "step_100", marker=Marker("COMPLETED")),
    *_by_epoch("open-instruct (by epoch)", "epoch_", marker=Marker("COMPLETED")),
    Layout(
        "NeMo Automodel",
        _EPOCH_AND_STEP,
        "epoch_0_step_100/model",
        weights=("model", "model/consolidated"),
        inside="model",
    ),
    Layout("torchtune", _EPOCH_AND_STEP, "epoch_0_step_100"),
    Layout("torchtitan", re.compile(f"step-{_N}"), "step-100", below=(SELF, "checkpoint"), weights=(SELF, "sharded")),
    Layout(
        "OpenRLHF",
        re.compile(f"global_step{_N}_hf"),
        "global_step100_hf",
        remark="with enable_ema, OpenRLHF's _hf directories hold the averaged model, not the actor",
    ),
    Layout("DeepSpeed", re.compile(f"global_step{_N}"), "global_step100", below=(SELF, "_actor"), yields_to="OpenRLHF"),
    Layout(
        "AReaL",
        re.compile(f"epoch[0-9]{{1,15}}epochstep[0-9]{{1,15}}globalstep{_N}"),
        "epoch0epochstep99globalstep99",
        below=(SELF, "default"),
        first=0,
    ),
    Layout(
        "accelerate",
        re.compile(f"checkpoint_{_N}"),
        "checkpoint_0",
        below=(SELF, "checkpoints"),
        refused=(
            "accelerate's save_state numbers its saves, not the steps: rename each directory to checkpoint-STEP "
            "with the optimizer steps that were done"
        ),
    ),
    Layout(
        "merged adapters (ms-swift)",
        re.compile(f"checkpoint-{_N}[-_](?:merged|hf)"),
        "checkpoint-100-merged",
        below=(SELF, "v[0-9]*-*"),
        spare=True,
    ),
    Layout(
        "directories by step",
        re.compile(f"(?:(?:weights|model|checkpoint)[-_])?step[-_=]?{_N}(?:-tokens[0-9.]{{1,9}}[KMBT])?"),
        "step1000",
        spare=True,
    ),
    Layout("exports by step", re.compile(f"global_step_{_N}_hf"), "global_step_100_hf", spare=True),
    Layout("Lightning", re.compile(f"epoch=[0-9]{{1,15}}-step={_N}(?:\\.ckpt)?"), "epoch=0-step=100", spare=True),
    *_by_epoch("directories by epoch", "epoch-", spare=True),
    *_by_epoch("directories by epoch", "epoch", spare=True),
    *_by_epoch("directories by epoch", "checkpoint-epoch-", spare=True),
    *_by_epoch("directories by epoch", "checkpoint_epoch_", spare=True),
)
"""In order: of layouts with the same directory names, the first that its surroundings prove is taken."""

IN_PROGRESS = re.compile(r"tmp[_-](?:checkpoint-|step_|global_step_|iter_)[0-9]{1,15}")
"""Directories that frameworks rename once a save is finished (NeMo-RL, older Trainers)."""

MISSPELT = re.compile("global_steps_[0-9]+")
"""verl's documentation writes global_steps_N; its code does not."""

COMPANIONS = re.compile(
    r"(?:critic|value|ref|reference|reward|teacher|ema|optim|extra|dataloader|data|tokenizer|logs?|runs|base)(?:[-_.].*)?"
    r"|optimizer.*|pissa_.*",
    re.IGNORECASE,
)
"""Directories in a checkpoint that hold no trained model, or another one than the policy."""
