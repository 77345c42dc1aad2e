"""The device that computes: the CPU, or a GPU that works while the next tensors are copied to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from geomcheck._lazy import torch
from geomcheck.errors import UsageError
from geomcheck.measurement.machine import available_memory, may_have_gpu

if TYPE_CHECKING:
    from torch import Tensor

_GRAMMAR = re.compile(r"auto|cpu|cuda(:[0-9]{1,3})?")


def parse_device(text: str) -> torch.device:
    """The device that `text` names: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; ``auto`` is a GPU where there is one.
    Raises UsageError if it names none, or one that this machine does not have."""
    if not _GRAMMAR.fullmatch(text):
        raise UsageError(f"device {text!r}: give auto, cpu, cuda or cuda:N")
    if text == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(text)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {text}: torch sees {torch.cuda.device_count()} CUDA devices here; use cpu or auto")
    return device


def device_named(text: str) -> str:
    """The name of that device; imports PyTorch only if there may be a GPU. Raises UsageError."""
    return "cpu" if text == "cpu" or (text == "auto" and not may_have_gpu()) else str(parse_device(text))


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor`, of any shape on the CPU, copied to `device` while kernels that other threads have queued go on."""
    if device.type == "cpu":
        return tensor
    stream = _stream_of_copies(device)
    with torch.cuda.stream(stream):
        moved = tensor.pin_memory().to(device, non_blocking=True)
    arrived = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    arrived.record(stream)
    arrived.synchronize()  # this thread waits, not the stream in which all threads compute
    moved.record_stream(torch.cuda.current_stream(device))
    return moved


@cache
def _stream_of_copies(device: torch.device) -> torch.cuda.Stream:
    """One stream for all threads, so that memory that one frees can hold the copies of another."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def free_memory(device: torch.device) -> int:
    """Bytes that new tensors on `device` may take."""
    if device.type == "cpu":
        return available_memory()
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


@contextmanager
def prepared(device: torch.device) -> Iterator[None]:
    """Let threads factorize on `device`, with float32 products in full precision whatever a training has set."""
    if device.type == "cuda":
        torch.linalg.eigvalsh(torch.ones(1, 1, device=device))  # loads a library, which two threads must not do at once
    with _full_precision():
        yield


@contextmanager
def _full_precision() -> Iterator[None]:
    """Multiply float32 in float32, and restore the setting afterwards."""
    with ExitStack() as afterwards:
        try:
            precision = torch.get_float32_matmul_precision()
        except RuntimeError:  # a training set it by backend, as Transformers does for tf32: it has no one name then
            of: Any = torch.backends
            for backend in (of.cuda.matmul, of.mkldnn.matmul):
                afterwards.callback(setattr, backend, "fp32_precision", backend.fp32_precision)
                backend.fp32_precision = "ieee"
        else:
            if precision != "highest":  # to say so once more would overrule what a training sets later for all backends
                afterwards.callback(torch.set_float32_matmul_precision, precision)
                torch.set_float32_matmul_precision("highest")
        yield
