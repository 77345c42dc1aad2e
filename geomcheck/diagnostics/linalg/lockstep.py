"""Measurements of alike matrices in lockstep, so that their factorizations are done as one call on a stack.

On a GPU a factorization of a small or middle-sized matrix is bound by latency: many at once take little longer than
one. Each algorithm is written for one matrix. In a `Lockstep` it runs in a thread per matrix; a `stackable` function
that is called there waits until every member has called one, or has left. The last to arrive stacks what is alike,
and does it for all.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial, wraps
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
        kernel: a function of tensors that takes any leading dimensions.
        operands, options: its positional arguments, all tensors, and the others.
        answer: what it gives; set once.
    """

    kernel: Callable[..., Any]
    operands: Sequence[Tensor]
    options: Mapping[str, Hashable]
    answer: Future[Any] = field(default_factory=Future)

    @property
    def kind(self) -> Hashable:
        """Calls of one kind can be stacked."""
        tensors = tuple((operand.shape, operand.dtype, operand.device) for operand in self.operands)
        return self.kernel, tensors, tuple(sorted(self.options.items()))

    def settle(self) -> None:
        """Do it, and keep what comes of it."""
        try:
            self.answer.set_result(self.kernel(*self.operands, **self.options))
        except Exception as error:
            self.answer.set_exception(error.with_traceback(None))  # frames that know the error would be a circle


def stackable(kernel: Callable[P, R]) -> Callable[P, R]:
    """Let `kernel` be done for all members of a group at once; outside of groups it is called as it is.

    It takes tensors by position and other things by keyword, and gives a tensor or a tuple of tensors. Each may have
    any leading dimensions, over which it maps.
    """

    @wraps(kernel)
    def called(*operands: P.args, **options: P.kwargs) -> R:
        post = getattr(_thread, "post", None)
        if post is None:
            return kernel(*operands, **options)
        return post(_Call(kernel, operands, options))  # type: ignore[arg-type]

    return called


class Lockstep:
    """A group of members, each in a thread of its own.

    What is stacked depends on the members and their calls alone, not on timing: the n-th calls of all members that
    get so far are done together, in the order of the members.

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
            del call, due  # as above: neither the error nor the operands may be kept by a traceback

    def _leave(self, index: int) -> None:
        with self._lock:
            self._at_work.discard(index)
            due = self._due()
        _do(due)

    def _due(self) -> list[_Call]:
        """All that was posted, in the order of the members, once nobody is at work any more; they are again then."""
        if self._at_work or not self._posted:
            return []
        due = [self._posted[index] for index in sorted(self._posted)]
        self._at_work, self._posted = set(self._posted), {}
        return due


def _do(calls: Sequence[_Call]) -> None:
    """Give every call its answer, even where this thread is interrupted."""
    kinds: dict[Hashable, list[_Call]] = defaultdict(list)
    try:
        for call in calls:
            kinds[call.kind].append(call)
        for alike in kinds.values():
            if len(alike) == 1 or not _stacked(alike):
                for call in alike:
                    call.settle()
    except BaseException as error:
        for call in calls:
            if not call.answer.done():
                call.answer.set_exception(error)
        raise


def _stacked(calls: Sequence[_Call]) -> bool:
    """Do calls of one kind as one; False where that fails: a matrix is bad, or the stack is too large."""
    first = calls[0]
    try:
        operands = [torch.stack(parts) for parts in zip(*(call.operands for call in calls), strict=True)]
        answers = _parts(first.kernel(*operands, **first.options))
    except Exception:
        return False
    for call, answer in zip(calls, answers, strict=True):
        call.answer.set_result(answer)
    return True


def _parts(found: Tensor | tuple[Tensor, ...]) -> list[Any]:
    """What each matrix of a stack gives."""
    if isinstance(found, Tensor):
        return list(found.unbind())
    return list(zip(*(of_all.unbind() for of_all in found), strict=True))
