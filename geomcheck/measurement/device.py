"""Where to compute: the CPU, or a GPU that tensors are moved to while it works on others."""

from __future__ import annotations

import re
import threading
from importlib.metadata import version
from typing import TYPE_CHECKING

from geomcheck.errors import UsageError
from geomcheck.late import late

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = late("torch")

_GRAMMAR = re.compile(r"auto|cpu|cuda(:[0-9]{1,3})?")
_threads = threading.local()


def parse_device(text: str) -> torch.device:
    """The device that `text` names: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; ``auto`` is a GPU where there is one.

    Raises:
        UsageError: it names none, or one that this machine does not have.
    """
    if not _GRAMMAR.fullmatch(text):
        raise UsageError(f"device {text!r}: give auto, cpu, cuda or cuda:N")
    if text == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(text)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {text}: torch sees {torch.cuda.device_count()} CUDA devices here; use cpu or auto")
    return device


def device_named(text: str) -> str:
    """The name of that device. A build of PyTorch for CPUs alone need not be asked. Raises UsageError."""
    alone = text == "auto" and version("torch").endswith("+cpu")
    return "cpu" if alone or text == "cpu" else str(parse_device(text))


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` (on the CPU) on `device`; copied beside the kernels that other threads have queued."""
    if device.type == "cpu":
        return tensor
    if not hasattr(_threads, "stream"):
        _threads.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    with torch.cuda.stream(_threads.stream):
        moved = tensor.pin_memory().to(device, non_blocking=True)
    computing = torch.cuda.current_stream(device)
    computing.wait_stream(_threads.stream)
    moved.record_stream(computing)
    return moved
