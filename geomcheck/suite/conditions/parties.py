"""The runs that take part in a test of projected training, and what must be true of them for it to mean anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from geomcheck._text import and_more
from geomcheck.checkpoints import Account, open_account
from geomcheck.checkpoints.constraint import Constraint, Drawn
from geomcheck.errors import GeomcheckError
from geomcheck.files import displayed
from geomcheck.record import Record, read_record
from geomcheck.suite.language.selection import Selection
from geomcheck.suite.verdict import Unanswerable

SAME = ("k", "start_step", "how", "unselected", "weights")
"""What a control shares with the run that it is the control of."""


@dataclass(frozen=True)
class Party:
    """A run that takes part.

    Attributes:
        name: what it is called in errors, with the part that it takes.
        title: what it is called elsewhere.
        account: what it says of itself.
    """

    name: str
    title: str
    account: Account


def named_party(key: str, path: Path) -> Party:
    """The run or record that the suite names under `key`. Raises Unanswerable where it cannot be read."""
    title = displayed(path)
    name = f"`{key}` {title}"
    try:
        return party_of(name, title, read_record(path).account if path.is_file() else open_account(path))
    except (GeomcheckError, OSError) as error:
        raise Unanswerable(str(error) if isinstance(error, Unanswerable) else f"{name}: {error}") from None


def party_of(name: str, title: str, account: Account | None) -> Party:
    """The run with this account. Raises Unanswerable where its account is missing, or not to be trusted."""
    if account is None:
        raise Unanswerable(
            f"{name} is a record that an older geomcheck wrote, without scores; measure the run again: "
            "geomcheck measure RUN -o FILE"
        )
    if account.faults:
        raise Unanswerable(f"{name}: {account.faults[0]}{and_more(len(account.faults))}")
    return Party(name, title, account)


def constraint_of(party: Party, channel: Drawn) -> Constraint:
    """The one constraint of all checkpoints that have one, with a channel of this kind. Raises Unanswerable."""
    found = {step: c for step, c in party.account.constraints.items() if c is not None}
    if not found:
        raise Unanswerable(
            f"{party.name} was not constrained: none of its {len(party.account.constraints)} checkpoints has a "
            "geomcheck_constraint.json, as geomcheck.training.ConstrainUpdates writes it"
        )
    first, *others = found.values()
    if any(replace(other, source=first.source) != first for other in others):
        raise Unanswerable(f"{party.name} changed its constraint along the run; train it anew under one")
    if early := [step for step in found if step < first.start_step]:
        raise Unanswerable(
            f"{party.name} says at step {min(early)} that it is constrained, and that it is so since step "
            f"{first.start_step}: its geomcheck_constraint.json is not of that checkpoint"
        )
    if first.channel != channel:
        raise Unanswerable(f"{party.name} has a {first.channel} channel, where a {channel} one is expected")
    return first


def require_confined(constraint: Constraint, record: Record, weights: Selection) -> None:
    """Raise Unanswerable where one of the weights was not confined, or to a channel that is all of its inputs."""
    matrices = [weight for weight in weights.select(record.weights) if weight.is_matrix]
    if constraint.unselected == "free" and constraint.weights < len(matrices):
        raise Unanswerable(
            f"only {constraint.weights} weights were confined, and {len(matrices)} are selected: the others trained "
            "freely; select those that were confined, with `weights`"
        )
    for weight in matrices:
        if constraint.k >= weight.shape[1]:
            raise Unanswerable(
                f"K = {constraint.k} spans all {weight.shape[1]} input directions of {weight.name}: training there "
                "was not constrained; take a smaller K, or exclude such weights"
            )


def require_free(free: Party, start: int) -> None:
    """Raise Unanswerable where the free run was not, or has no checkpoint after step `start` that could say so."""
    bound = [step for step, constraint in free.account.constraints.items() if constraint is not None]
    if bound:
        where = f"its checkpoint at step {bound[0]} has a geomcheck_constraint.json"
        raise Unanswerable(f"{free.name} was not free: {where}")
    if max(free.account.constraints, default=0) <= start:
        raise Unanswerable(
            f"{free.name} has no checkpoint after step {start}, where the constraint began, to say that it was free; "
            "keep the directory of one, with its trainer_state.json"
        )


def require_another(own: Party, free: Party, start: int) -> None:
    """Raise Unanswerable where two runs scored alike to the last bit in all that both were scored in after `start`."""
    ours, theirs = own.account.scores, free.account.scores
    pairs = [
        (value, theirs[name][step])
        for name, by_step in ours.items()
        for step, value in by_step.items()
        if step > start and step in theirs.get(name, {})
    ]
    if len(pairs) > 1 and all(one == other for one, other in pairs):
        raise Unanswerable(
            f"{own.name} and {free.name} agree exactly in all {len(pairs)} scores after step {start}: one is a copy of "
            "the other, or the constraint did nothing"
        )


def require_controls(constraint: Constraint, controls: Sequence[Party]) -> None:
    """Raise Unanswerable where a run is no control of the one with `constraint`, or two are the same."""
    seeds: dict[int | None, str] = {}
    for control in controls:
        own = constraint_of(control, "random")
        for key in SAME:
            if getattr(own, key) != getattr(constraint, key):
                raise Unanswerable(
                    f"{control.name} is no control: its {key} is {getattr(own, key)}, and the run's is "
                    f"{getattr(constraint, key)}"
                )
        twin = seeds.setdefault(own.seed, control.name)
        if twin != control.name:
            raise Unanswerable(f"{twin} and {control.name} drew the same channel (seed {own.seed}); keep one")


def require_in_force(party: Party, start: int, end: int) -> None:
    """Raise Unanswerable where a run was let go again after step `start`, or ended before `end`."""
    said = {step: c for step, c in party.account.constraints.items() if step > start}
    loose = [step for step, constraint in said.items() if constraint is None]
    if loose:
        raise Unanswerable(
            f"{party.name} was not constrained at step {min(loose)}: its checkpoint has no geomcheck_constraint.json"
        )
    if max(said, default=0) < end:
        raise Unanswerable(
            f"{party.name} has no checkpoint at step {end} or later that says that it was constrained; its last is at "
            f"step {max(party.account.constraints, default=0)}"
        )
