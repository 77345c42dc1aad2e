"""Measurements of alike matrices in lockstep, so that their factorizations are done as one call on a stack.

On a GPU a factorization of a small or middle-sized matrix is bound by latency: many at once take little longer than
one. Each algorithm is written for one matrix. In a `Lockstep` it runs in a thread per matrix; a `stackable` function
that is called there waits until every member has called one, or has left. The last to arrive stacks what is cheapest of
all that was called, and does it for all who wait for that.

The others go on waiting. Members need not take the same steps: one iterates longer, another takes a dearer route. As
dear calls wait for cheap ones, those who have more of these to do catch up, and the dear ones are done together.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial, wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")

_thread = threading.local()
"""Holds `post` in the threads of members, and nothing in others."""


class Cancelled(Exception):
    """The group was given up while a member was at work."""


@dataclass(frozen=True, eq=False)
class _Call:
    """What a member waits for.

    Attributes:
        kernel: a function of matrices.
        cost: of the kernel, next to others on matrices of the same size.
        operands, options: its positional arguments, matrices or stacks of as many of them, and the others.
        answer: what it gives; set once.
    """

    kernel: Callable[..., Any]
    cost: int
    operands: Sequence[Tensor]
    options: Mapping[str, Hashable]
    answer: Future[Any] = field(default_factory=Future)

    @cached_property
    def kind(self) -> tuple[float, int, str, str]:
        """Equal of calls that can be stacked; in the order in which calls are done that wait at the same time."""
        tensors = [(tuple(operand.shape[-2:]), operand.dtype, operand.device) for operand in self.operands]
        entries = max((math.prod(shape) for shape, _, _ in tensors), default=math.inf)
        name = f"{self.kernel.__module__}.{self.kernel.__qualname__}"
        return entries, self.cost, name, f"{tensors} {sorted(self.options.items())}"

    @property
    def leading(self) -> torch.Size:
        """The leading dimensions: none of a matrix."""
        return self.operands[0].shape[:-2]

    def settle(self) -> None:
        """Do it, and keep what comes of it."""
        try:
            self.answer.set_result(self.kernel(*self.operands, **self.options))
        except Exception as error:
            self.answer.set_exception(error.with_traceback(None))  # frames that know the error would be a circle


def stackable(cost: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function be done for several members of a group at once; outside of groups it is called as it is.

    It takes matrices by position and other things by keyword, and gives a tensor or a tuple of tensors. All may have
    the same leading dimensions, over which it maps.

    Args:
        cost: how dear it is, next to others on matrices of the same size.
    """

    def decorated(kernel: Callable[P, R]) -> Callable[P, R]:
        @wraps(kernel)
        def called(*operands: P.args, **options: P.kwargs) -> R:
            post = getattr(_thread, "post", None)
            if post is None:
                return kernel(*operands, **options)
            return post(_Call(kernel, cost, operands, options))  # type: ignore[arg-type]

        return called

    return decorated


def meet() -> None:
    """Wait until all other members of this thread's group do the same, or leave; outside of groups do nothing.

    To be called between parts of a measurement that all members take in the same order.
    """
    post = getattr(_thread, "post", None)
    if post is not None:
        post(_Call(_nothing, 0, (), {}))


def _nothing() -> None:
    """What is done where members meet."""


class Lockstep:
    """A group of members, each in a thread of its own.

    What is stacked depends on the members and their calls alone, not on timing.

    Args:
        members: how many there are; every one must enter `member`, or `cancel` be called.
        at_once: how many of them may compute at the same time; by default all.
    """

    def __init__(self, members: int, *, at_once: int | None = None) -> None:
        self._lock = threading.Lock()
        self._turns = threading.Semaphore(at_once or members)
        self._at_work = set(range(members))  # they neither wait for an answer nor have left
        self._posted: dict[int, _Call] = {}
        self._cancelled = False

    @contextmanager
    def member(self, index: int) -> Iterator[None]:
        """Be the member `index` of the group, in this thread, until the end of the block.

        Inside, a `stackable` function raises what its call on this member's operands raises, whatever the others'
        do; or Cancelled.
        """
        try:
            with self._turns:
                _thread.post = partial(self._answered, index)
                try:
                    yield
                finally:
                    del _thread.post
        finally:
            self._leave(index)

    def cancel(self) -> None:
        """Let every member that waits, or makes another call, have Cancelled."""
        with self._lock:
            self._cancelled = True
            abandoned, self._posted = self._posted, {}
        for call in abandoned.values():
            call.answer.set_exception(Cancelled())

    def _answered(self, index: int, call: _Call) -> Any:
        with self._lock:
            if self._cancelled:
                raise Cancelled
            self._posted[index] = call
            self._at_work.remove(index)
            due = self._due()
        self._turns.release()
        try:
            _do(due)
            return call.answer.result()
        finally:
            self._turns.acquire()
            del call, due  # as in `settle`: a traceback must not keep the error and the operands

    def _leave(self, index: int) -> None:
        with self._lock:
            self._at_work.discard(index)
            due = self._due()
        _do(due)

    def _due(self) -> list[_Call]:
        """Once nobody is at work: the cheapest calls, in the order of the members, who are at work again then."""
        if self._at_work or not self._posted:
            return []
        cheapest = min(call.kind for call in self._posted.values())
        self._at_work = {index for index, call in self._posted.items() if call.kind == cheapest}
        return [self._posted.pop(index) for index in sorted(self._at_work)]


def _do(calls: Sequence[_Call]) -> None:
    """Give calls of one kind their answers, even where this thread is interrupted."""
    try:
        if len(calls) < 2 or not calls[0].operands or not _stacked(calls):
            for call in calls:
                call.settle()
    except BaseException as error:
        for call in calls:
            if not call.answer.done():
                call.answer.set_exception(error)
        raise


def _stacked(calls: Sequence[_Call]) -> bool:
    """Do calls of one kind as one; False where that fails: a matrix is bad, or the stack is too large."""
    counts = [math.prod(call.leading) for call in calls]
    try:
        stacks = ([operand.reshape(-1, *operand.shape[-2:]) for operand in call.operands] for call in calls)
        operands = [torch.cat(parts) for parts in zip(*stacks, strict=True)]
        answers = _parts(calls[0].kernel(*operands, **calls[0].options), counts)
    except Exception:
        return False
    for call, answer in zip(calls, answers, strict=True):
        call.answer.set_result(_reshaped(answer, call.leading))
    return True


def _parts(found: Tensor | tuple[Tensor, ...], counts: list[int]) -> list[Any]:
    """What each call gets of what a stack of so many matrices for each gave."""
    if isinstance(found, Tensor):
        return list(torch.split(found, counts))
    return list(zip(*(_parts(of_all, counts) for of_all in found), strict=True))


def _reshaped(answer: Any, leading: torch.Size) -> Any:
    """`answer` with other leading dimensions."""
    if isinstance(answer, Tensor):
        return answer.view(*leading, *answer.shape[1:])
    return tuple(_reshaped(part, leading) for part in answer)
