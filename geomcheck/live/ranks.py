"""The processes of a distributed training: rank 0 measures, the others gather with it.

Rank 0 leads. It says which tensor it needs, all ranks gather that one together, and in the end it says what came of it.
Whatever happens to rank 0 in between, the others hear of the end and do not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch.distributed as dist

from geomcheck.errors import RunError

T = TypeVar("T")

Gather = Callable[[str], object]
"""Gathers the tensor of that name."""


@dataclass(frozen=True)
class _Outcome:
    """The last thing that rank 0 says: what came of it, or why nothing did."""

    result: object = None
    error: str = ""


class Ranks:
    """All processes of this training; one that goes `alone`, without the others if there are any, is rank 0 of 1."""

    def __init__(self, *, alone: bool = False) -> None:
        there = not alone and dist.is_available() and dist.is_initialized()
        self.count = dist.get_world_size() if there else 1
        self.leads = not there or dist.get_rank() == 0

    def call(self, name: str) -> None:
        """On rank 0: let the others gather this tensor too."""
        if self.count > 1:
            _broadcast(name)

    def together(self, lead: Callable[[], T], gather: Gather = lambda _: None) -> T:
        """What `lead` gives on rank 0, on every rank; it may `call`, and the others `gather` then.

        Raises:
            RunError: on the other ranks, where `lead` raised on rank 0; there its own error is raised.
        """
        return self._lead(lead) if self.leads else self._follow(gather)

    def agree(self, fact: object, what: str) -> None:
        """Raise RunError on every rank where `fact` is not the same on all of them."""
        if len(set(map(repr, self._each(fact)))) > 1:
            raise RunError(f"the ranks differ in {what}: give every rank the same tensors, whole or as DTensors")

    def all_do(self, act: Callable[[], T]) -> T:
        """What `act` gives or raises here, once every rank has done it: none may wait for one that failed.

        Raises RunError where it raised on another rank.
        """
        try:
            result = act()
        except Exception as error:
            self._each(_described(error))
            raise
        if problem := next(filter(None, self._each("")), ""):
            raise RunError(f"another rank: {problem}")
        return result

    def _each(self, fact: T) -> list[T]:
        if self.count == 1:
            return [fact]
        facts: list[Any] = [None] * self.count
        dist.all_gather_object(facts, fact)
        return facts

    def _lead(self, lead: Callable[[], T]) -> Any:
        outcome = _Outcome(error="it was interrupted")
        try:
            outcome = _Outcome(lead())
        except Exception as error:
            outcome = _Outcome(error=_described(error))
            raise
        finally:
            if self.count > 1:
                _broadcast(outcome)
        return outcome.result

    def _follow(self, gather: Gather) -> Any:
        failed: Exception | None = None
        while not isinstance(said := _broadcast(None), _Outcome):
            try:
                gather(said)
            except Exception as error:  # rank 0 must not wait for a rank that has left
                failed = failed or error
        if failed is not None:
            raise failed
        if said.error:
            raise RunError(f"rank 0: {said.error}")
        return said.result


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _broadcast(said: object) -> Any:
    """What rank 0 says, on every rank."""
    holder = [said]
    dist.broadcast_object_list(holder, src=0)
    return holder[0]
