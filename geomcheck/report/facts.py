"""What reports read of a verdict (its facts, as `Verdict.to_dict` gives them), and what several of them ask."""

from __future__ import annotations

from collections.abc import Iterable

from geomcheck.suite.verdict import Facts, ObservedFacts


class SessionFacts(Facts):
    """A verdict of a session: of which run, by which suite, and the suite's path."""

    run: str
    suite: str
    path: str


_AT = {"all": "every checkpoint", "first": "the first checkpoint", "last": "the last checkpoint"}
_FOLD = {"weighted": "mean weighted by size"}


def where_judged(facts: Facts) -> str:
    """At which checkpoints, and of what, the condition is demanded: ``every checkpoint, mean over weights``."""
    at = _AT.get(facts["at"], facts["at"])
    if not facts["fold"]:
        return str(at)
    fold, per = _FOLD.get(facts["fold"], facts["fold"]), facts["per"]
    if per == "weight":
        return f"{at}, for each weight"
    return f"{at}, {fold} over weights" if per == "run" else f"{at}, {fold} over the weights of each {per}"


def by_group(entries: Iterable[ObservedFacts]) -> dict[str | None, list[ObservedFacts]]:
    """What was observed, by group; the group of a whole run is None."""
    groups: dict[str | None, list[ObservedFacts]] = {}
    for entry in entries:
        groups.setdefault(entry["group"], []).append(entry)
    return groups


def known(entries: Iterable[ObservedFacts]) -> list[tuple[ObservedFacts, float]]:
    """The entries that have a figure, each with it."""
    return [(entry, entry["value"]) for entry in entries if entry["value"] is not None]


def groups_outside(facts: Facts) -> list[str | None]:
    """The groups that violate the condition at some checkpoint."""
    return list(dict.fromkeys(entry["group"] for entry in facts["observed"] if entry["holds"] is False))


def bounds_of(facts: Facts) -> tuple[float | None, float | None] | None:
    """The allowed band: the condition's, or where every checkpoint has its own, that of the one that decided."""
    bounds, decisive = facts["bounds"], facts["decisive"]
    found = decisive if bounds is None and decisive is not None and "low" in decisive else bounds
    return None if found is None else (found["low"], found["high"])
