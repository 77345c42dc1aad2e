"""Projected training with Hugging Face's trainers: free at first, then confined to what was learned by then."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from torch import nn
from transformers import TrainerCallback

from geomcheck.checkpoints import BaseWeights, open_base
from geomcheck.checkpoints.constraint import Constraint, How, Unselected
from geomcheck.errors import RunError, UsageError
from geomcheck.live.ranks import Ranks
from geomcheck.projection.channel import Channel
from geomcheck.projection.learned import Moment, require_same_weights
from geomcheck.projection.parameters import matrices, selected, shapes_of
from geomcheck.projection.projection import Projection, constrain_updates, resume_constraint
from geomcheck.suite.language.selection import DEFAULT, Selection


class ConstrainUpdates(TrainerCallback):
    """Trains freely until `at`, then confines all updates to a channel, and says so in each checkpoint from there on.

    A training that resumes from such a checkpoint takes the channel from it. Whatever goes wrong stops the training: a
    constrained run that is not constrained is another experiment.

    Args:
        channel: ``live``: V_K of W - W0 at the start of the constraint, the paper's; ``random``: the control; or a
            `Channel` that was taken elsewhere.
        base: W0 on disk, which ``live`` needs: the model that this training starts from.
        k: columns of V, for ``live`` and ``random``.
        seed: of ``random``.
        at: the start of the constraint: a share of the training (``20%``), or optimizer steps done.
        how, weights, unselected: see `constrain_updates`.
        leave_out_undefined: see `Channel.of_run`, for ``live``.
        resume_from: the checkpoint that the training resumes from, where it is not in its own output directory.

    Attributes:
        projection: the constraint in force; None before it begins.

    Source: arXiv 2606.07082 (free for 20% of the steps, then V_16 V_16^T).
    """

    def __init__(
        self,
        *,
        channel: Channel | Literal["live", "random"] = "live",
        base: BaseWeights | str | Path | None = None,
        k: int = 16,
        seed: int = 0,
        at: Moment = "20%",
        how: How = "gradient",
        weights: Selection = DEFAULT,
        unselected: Unselected = "free",
        leave_out_undefined: bool = False,
        resume_from: str | Path | None = None,
    ) -> None:
        if channel == "live" and base is None:
            raise UsageError('channel="live" compares with W0: give base=, the model that this training starts from')
        self.projection: Projection | None = None
        self._channel = channel
        self._base = open_base(base, "the given base") if isinstance(base, str | Path) else base
        self._k, self._seed, self._at = k, seed, at
        self._how: How = how
        self._weights = weights
        self._unselected: Unselected = unselected
        self._leave_out = leave_out_undefined
        self._resume_from = resume_from

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin at once, resume, or make sure that beginning later will be possible."""
        model, optimizer = kwargs["model"], kwargs["optimizer"]
        if self.projection is not None:
            self.projection.remove()
        self.projection = None
        start = start_step(self._at, state.max_steps)
        if state.global_step >= start and state.global_step > 0:
            self._resume(args, state, model, optimizer, start)
        elif start == 0:
            self._begin(model, optimizer, 0)
        elif self._channel == "live" and self._base is not None:
            require_same_weights(selected(matrices(model), self._weights), self._base)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin when the time has come: before the checkpoint of this step is written."""
        start = start_step(self._at, state.max_steps)
        if self.projection is None and state.global_step >= start:
            self._begin(kwargs["model"], kwargs["optimizer"], state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the constraint into the checkpoint."""
        if self.projection is not None and state.is_world_process_zero:
            self.projection.save(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let the model go. Raises RunError where the training ended before the constraint began."""
        if self.projection is None:
            raise RunError(f"the training ended at step {state.global_step}, before its constraint ({self._at}) began")
        self.projection.remove()

    def _begin(self, model: nn.Module, optimizer: Any, step: int) -> None:
        taken = self._taken(model, step)
        self.projection = constrain_updates(
            model,
            Ranks().together(lambda: taken),  # rank 0's: eigenvectors may differ in their last bits
            how=self._how,
            optimizer=optimizer,
            unselected=self._unselected,
            start_step=step,
        )

    def _taken(self, model: nn.Module, step: int) -> Channel:
        if isinstance(self._channel, Channel):
            return self._channel
        if self._channel == "random":
            return Channel.random(shapes_of(model, self._weights), self._k, self._seed)
        assert self._base is not None
        return Channel.of_live(
            selected(matrices(model), self._weights).items(),
            self._base,
            self._k,
            weights=self._weights,
            source=f"the live trajectory at step {step}",
            leave_out_undefined=self._leave_out,
        )

    def _resume(self, args: Any, state: Any, model: nn.Module, optimizer: Any, start: int) -> None:
        checkpoint = Path(self._resume_from or Path(args.output_dir) / f"checkpoint-{state.global_step}")
        known = Constraint.read(checkpoint)
        if known is None:
            raise RunError(
                f"{checkpoint}: training resumes at step {state.global_step}, after its constraint began at {start}, "
                "but this checkpoint holds none; give the one that is resumed from as resume_from="
            )
        asked: dict[str, Any] = {"how": self._how, "unselected": self._unselected, "start_step": start}
        if isinstance(self._channel, Channel):
            asked |= {"channel": self._channel.drawn, "k": self._channel.k, "seed": self._channel.seed}
        elif self._channel == "random":
            asked |= {"channel": "random", "k": self._k, "seed": self._seed}
        else:
            asked |= {"channel": "learned", "k": self._k}
        for key, value in asked.items():
            if getattr(known, key) != value:
                raise RunError(f"{checkpoint}: {key} was {getattr(known, key)!r}, and now {value!r} is asked for")
        self.projection = resume_constraint(model, checkpoint, optimizer=optimizer)


def start_step(at: Moment, max_steps: int) -> int:
    """Optimizer steps after which the constraint begins. Raises UsageError where none are left to constrain."""
    step = at if type(at) is int else None
    if isinstance(at, str) and at.endswith("%"):
        with suppress(ValueError, OverflowError):
            step = round(float(at.removesuffix("%")) / 100 * max_steps)
    if step is None or not 0 <= step < max_steps:
        raise UsageError(f"at={at!r} of {max_steps} steps: give a share such as '20%', or a step before the last")
    return step
