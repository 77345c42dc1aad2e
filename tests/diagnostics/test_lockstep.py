"""Members of a group: what is stacked, that each gets its own answer or error, and that nobody waits for ever."""

from __future__ import annotations

import gc
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from geomcheck.diagnostics.linalg import kernels
from geomcheck.diagnostics.linalg.lockstep import Cancelled, Lockstep, meet, stackable

TIMEOUT = 20.0
"""Seconds after which members are held to wait for ever."""

LinAlgError = torch.linalg.LinAlgError

done: list[tuple[str, tuple[int, ...]]] = []
"""What the kernels below were called with, in order."""


@stackable(cost=1)
def cholesky(matrix: Tensor) -> Tensor:
    done.append(("cholesky", tuple(matrix.shape)))
    return torch.linalg.cholesky(matrix)


@stackable(cost=2)
def eigenpairs(matrix: Tensor, *, upper: bool) -> tuple[Tensor, Tensor]:
    done.append((f"eigenpairs {upper}", tuple(matrix.shape)))
    return torch.linalg.eigh(matrix, "U" if upper else "L")


@dataclass(frozen=True)
class Call:
    """One call of a member: which kernel, on one matrix of which size, or on a stack of so many.

    Attributes:
        bad: whether the matrices have no Cholesky factor.
    """

    kernel: str
    size: int
    stack: int = 0
    bad: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.stack, self.size, self.size) if self.stack else (self.size, self.size)

    def operand(self, seed: int) -> Tensor:
        matrix = torch.randn(self.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        positive = matrix @ matrix.mT + torch.eye(self.size, dtype=torch.float64)
        return -positive if self.bad else positive

    def __call__(self, operand: Tensor) -> Any:
        if self.kernel == "cholesky":
            return cholesky(operand)
        return eigenpairs(operand, upper=self.kernel.endswith("True"))

    @property
    def fails(self) -> bool:
        return self.bad and self.kernel == "cholesky"


KERNELS = ["cholesky", "eigenpairs False", "eigenpairs True"]
CALLS = st.builds(Call, st.sampled_from(KERNELS), st.integers(1, 3), st.integers(0, 2), st.booleans())
PROGRAMS = st.lists(st.tuples(st.lists(CALLS, max_size=5), st.booleans()), min_size=1, max_size=5)
"""For each member its calls, and whether it raises in the end."""


def in_lockstep(works: Sequence[Callable[[], Any]], group: Lockstep | None = None) -> list[Any]:
    """What each work returned or raised, all having been members of one group; fails where one never ends."""
    group = group or Lockstep(len(works))
    outcomes: list[Any] = [None] * len(works)

    def run(index: int) -> None:
        try:
            with group.member(index):
                outcomes[index] = works[index]()
        except BaseException as error:
            outcomes[index] = error

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert not any(thread.is_alive() for thread in threads), "deadlock"
    return outcomes


def same(found: Any, expected: Any) -> bool:
    parts, others = (x if isinstance(x, tuple) else (x,) for x in (found, expected))
    alike = [torch.allclose(a, b, rtol=1e-12, atol=1e-12) for a, b in zip(parts, others, strict=True)]
    return all(alike) and [steps(a) for a in parts] == [steps(b) for b in others]


def steps(tensor: Tensor) -> list[int]:
    """Strides, where they mean anything."""
    return [stride for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]


def expected_calls(programs: Sequence[Sequence[Call]]) -> list[tuple[str, tuple[int, ...]]]:
    """Of what all members would do next, again and again, the smallest and then the cheapest, for whoever is there.

    What is of one kernel and size is done as a stack, and where one of it fails, each again.
    """
    left, calls = [list(program) for program in programs], []
    while any(left):
        size, kernel = min((program[0].size, KERNELS.index(program[0].kernel)) for program in left if program)
        due = [p for p in left if p and (p[0].size, KERNELS.index(p[0].kernel)) == (size, kernel)]
        alike = [program.pop(0) for program in due]
        if len(alike) > 1:
            calls.append((KERNELS[kernel], (sum(max(1, call.stack) for call in alike), size, size)))
        if len(alike) == 1 or any(call.fails for call in alike):
            calls += [(call.kernel, call.shape) for call in alike]
    return calls


@given(PROGRAMS, st.integers(1, 5))
def test_each_gets_its_own_answers_and_what_is_stacked_does_not_depend_on_timing(
    programs: list[tuple[list[Call], bool]], at_once: int
) -> None:
    def work(index: int) -> list[Any]:
        calls, raises = programs[index]
        answers = []
        for number, call in enumerate(calls):
            try:
                answers.append(call(call.operand(10 * index + number)))
            except LinAlgError as error:
                answers.append(error)
        if raises:
            raise KeyError(index)
        return answers

    done.clear()
    group = Lockstep(len(programs), at_once=at_once)
    outcomes = in_lockstep([lambda index=index: work(index) for index in range(len(programs))], group)
    assert done == expected_calls([calls for calls, _ in programs])
    for index, (calls, raises) in enumerate(programs):
        if raises:
            assert isinstance(outcomes[index], KeyError)
            assert outcomes[index].args == (index,)
            continue
        for number, (call, answer) in enumerate(zip(calls, outcomes[index], strict=True)):
            if call.fails:
                assert isinstance(answer, LinAlgError)
            else:
                assert same(answer, call(call.operand(10 * index + number)))


def test_outside_of_a_group_a_call_is_just_a_call() -> None:
    done.clear()
    Call("cholesky", 2)(torch.eye(2))
    with Lockstep(1).member(0):
        pass
    Call("cholesky", 3)(torch.eye(3))  # in a thread that was a member
    assert done == [("cholesky", (2, 2)), ("cholesky", (3, 3))]


@pytest.mark.parametrize("other", [torch.eye(3), torch.eye(2, dtype=torch.float64)])
def test_what_differs_in_shape_or_dtype_is_not_stacked(other: Tensor) -> None:
    done.clear()
    in_lockstep([lambda: cholesky(torch.eye(2)), lambda: cholesky(other)])
    assert [shape for _, shape in done] == [(2, 2), tuple(other.shape)]


def test_those_who_have_less_to_do_wait_where_all_meet() -> None:
    """What is cheap comes first, but nothing of the next part before all have done the last."""

    def work(iterations: int) -> None:
        for _ in range(iterations):
            cholesky(torch.eye(3))
        meet()
        cholesky(torch.eye(2))

    done.clear()
    in_lockstep([lambda iterations=iterations: work(iterations) for iterations in (0, 1, 3)])
    assert [shape for _, shape in done] == [(2, 3, 3), (3, 3), (3, 3), (3, 2, 2)]
    meet()  # outside of groups


def test_at_most_so_many_compute_at_once() -> None:
    lock, now, most = threading.Lock(), Counter(), []

    def work() -> None:
        for _ in range(3):
            with lock:
                now["computing"] += 1
                most.append(now["computing"])
            threading.Event().wait(0.005)
            with lock:
                now["computing"] -= 1
            cholesky(torch.eye(2))

    in_lockstep([work] * 6, Lockstep(6, at_once=2))
    assert max(most) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError, RuntimeError])
def test_whatever_ends_a_kernel_reaches_everyone_who_waits_for_it(error: type[BaseException]) -> None:
    @stackable(cost=1)
    def kernel(matrix: Tensor) -> Tensor:
        raise error("ended")

    outcomes = in_lockstep([lambda: kernel(torch.eye(2))] * 4)
    assert [type(outcome) for outcome in outcomes] == [error] * 4


def test_a_stack_that_fails_is_done_one_by_one() -> None:
    """As when the device has not enough memory for all at once."""

    @stackable(cost=1)
    def kernel(matrix: Tensor) -> Tensor:
        if matrix.ndim > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return matrix * 2

    outcomes = in_lockstep([lambda i=i: kernel(torch.full((2, 2), i)) for i in range(3)])
    assert [int(outcome[0, 0]) for outcome in outcomes] == [0, 2, 4]


def test_those_who_wait_are_told_when_the_group_is_given_up() -> None:
    group, calls = Lockstep(3), threading.Barrier(3)

    def waits() -> Tensor:
        calls.wait(TIMEOUT)
        return cholesky(torch.eye(2))

    def gives_up() -> Tensor:
        calls.wait(TIMEOUT)
        threading.Event().wait(0.05)  # the others are likely to wait by now; if not, they are told at their call
        group.cancel()
        return cholesky(torch.eye(2))

    outcomes = in_lockstep([waits, waits, gives_up], group)
    assert [type(outcome) for outcome in outcomes] == [Cancelled] * 3


def test_a_member_that_never_came_keeps_nobody_once_the_group_is_given_up() -> None:
    group = Lockstep(3)  # the third does not come
    threading.Timer(0.05, group.cancel).start()
    outcomes = in_lockstep([lambda: cholesky(torch.eye(2))] * 2, group)
    assert [type(outcome) for outcome in outcomes] == [Cancelled] * 2


def test_an_error_that_was_dealt_with_keeps_nothing_in_memory() -> None:
    def work() -> Any:
        operand = -torch.eye(2)
        gone = weakref.ref(operand)
        with suppress(LinAlgError):
            cholesky(operand)
        del operand
        return gone

    gc.disable()
    try:
        outcomes = in_lockstep([work, work, lambda: cholesky(torch.eye(2)) is None])
    finally:
        gc.enable()
    assert outcomes[0]() is None
    assert outcomes[1]() is None


ONE = {
    "eigenpairs": kernels.eigenpairs,
    "eigh": kernels.eigh,
    "eigvalsh": kernels.eigvalsh,
    "cholesky": kernels.cholesky,
    "orthonormal": kernels.orthonormal,
    "svd": kernels.svd,
    "svdvals": kernels.svdvals,
    "solve lower": lambda matrix: kernels.solve_triangular(matrix.tril(), matrix, upper=False),
    "solve upper": lambda matrix: kernels.solve_triangular(matrix.tril().T, matrix.T, upper=True),
    "leading": lambda matrix: kernels.leading_eigenpairs(matrix, 3),
}


@pytest.fixture(params=["this processor's", "torch alone"])
def libraries(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """With "torch alone" everything goes the way of a GPU."""
    if request.param == "torch alone":
        monkeypatch.setattr(kernels, "NUMPY_ON_CPU", False)
        monkeypatch.setattr(kernels, "ONEDNN_ON_CPU", False)
    return request.param


@pytest.mark.parametrize("layout", ["rows", "columns"])
@pytest.mark.parametrize("name", ONE)
@pytest.mark.usefixtures("libraries")
def test_kernels_give_in_a_group_what_they_give_alone(name: str, layout: str) -> None:
    """Values, signs of vectors and strides."""
    matrices = [Call("", 17).operand(seed) for seed in range(3)]
    if layout == "columns":
        matrices = [matrix.T.contiguous().T for matrix in matrices]
    outcomes = in_lockstep([lambda matrix=matrix: ONE[name](matrix) for matrix in matrices])
    for outcome, matrix in zip(outcomes, matrices, strict=True):
        assert same(outcome, ONE[name](matrix.clone()))


@pytest.mark.parametrize("name", sorted(ONE.keys() - {"leading"}))
def test_every_factorization_of_a_group_is_one_call(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "NUMPY_ON_CPU", False)
    shapes: list[tuple[int, ...]] = []

    def counted(function: Callable[..., Any], matrix: Tensor, *rest: Any, **options: Any) -> Any:
        shapes.append(tuple(matrix.shape))
        return function(matrix, *rest, **options)

    for function in ("eigh", "eigvalsh", "cholesky", "qr", "svd", "svdvals", "solve_triangular"):
        monkeypatch.setattr(torch.linalg, function, partial(counted, getattr(torch.linalg, function)))
    in_lockstep([lambda seed=seed: ONE[name](Call("", 5).operand(seed)) for seed in range(4)])
    assert shapes == [(4, 5, 5)]
