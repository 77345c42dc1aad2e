"""The element types of torch.save: their dtype, what the storages are called, and the names that we use."""

from __future__ import annotations

import torch

from geomcheck.checkpoints.formats.pickles import Name

STORAGES = {
    "BFloat16Storage": torch.bfloat16,
    "HalfStorage": torch.float16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
UNTYPED = Name("torch.storage", "UntypedStorage")

_CALLED = {
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.float32: "fp32",
    torch.float64: "fp64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
}


def dtype_named(name: Name) -> torch.dtype | None:
    """The dtype of a global ``torch.bfloat16``; None where this torch has none of that name."""
    found = getattr(torch, name.name, None) if name.module == "torch" else None
    return found if isinstance(found, torch.dtype) else None


def storage_dtype(name: object) -> torch.dtype | None:
    """The dtype of the elements of a storage class ``torch.FloatStorage``; bytes for an untyped one."""
    if name == UNTYPED:
        return torch.uint8
    return STORAGES.get(name.name) if isinstance(name, Name) and name.module == "torch" else None


def called(dtype: torch.dtype) -> str:
    """What geomcheck calls a dtype: ``bf16``, and beyond the floats what safetensors calls it."""
    return _CALLED.get(dtype, str(dtype).removeprefix("torch."))
