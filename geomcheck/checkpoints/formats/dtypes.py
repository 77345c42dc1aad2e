"""Element types: what torch, its storages and safetensors call them, and the names that geomcheck uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

UNTYPED = "torch.storage.UntypedStorage"


@dataclass(frozen=True)
class Dtype:
    """An element type.

    Attributes:
        name: torch's (``bfloat16``).
        called: geomcheck's: ``bf16``, and beyond the floats what safetensors calls it.
        nbytes: size of one element.
    """

    name: str
    called: str
    nbytes: int

    def __str__(self) -> str:
        return self.name


DTYPES: Mapping[str, Dtype] = {
    name: Dtype(name, called, nbytes)
    for name, called, nbytes in (
        ("bfloat16", "bf16", 2),
        ("float16", "fp16", 2),
        ("float32", "fp32", 4),
        ("float64", "fp64", 8),
        ("float8_e4m3fn", "F8_E4M3", 1),
        ("float8_e4m3fnuz", "F8_E4M3FNUZ", 1),
        ("float8_e5m2", "F8_E5M2", 1),
        ("float8_e5m2fnuz", "F8_E5M2FNUZ", 1),
        ("float8_e8m0fnu", "F8_E8M0", 1),
        ("bool", "BOOL", 1),
        ("int8", "I8", 1),
        ("int16", "I16", 2),
        ("int32", "I32", 4),
        ("int64", "I64", 8),
        ("uint8", "U8", 1),
        ("uint16", "U16", 2),
        ("uint32", "U32", 4),
        ("uint64", "U64", 8),
        ("complex64", "C64", 8),
        ("complex128", "C128", 16),
    )
}
"""By torch's name."""

STORAGES: Mapping[str, Dtype] = {
    "torch.BFloat16Storage": DTYPES["bfloat16"],
    "torch.HalfStorage": DTYPES["float16"],
    "torch.FloatStorage": DTYPES["float32"],
    "torch.DoubleStorage": DTYPES["float64"],
    "torch.BoolStorage": DTYPES["bool"],
    "torch.ByteStorage": DTYPES["uint8"],
    "torch.CharStorage": DTYPES["int8"],
    "torch.ShortStorage": DTYPES["int16"],
    "torch.IntStorage": DTYPES["int32"],
    "torch.LongStorage": DTYPES["int64"],
    "torch.ComplexFloatStorage": DTYPES["complex64"],
    "torch.ComplexDoubleStorage": DTYPES["complex128"],
    UNTYPED: DTYPES["uint8"],
}
"""By the class of the storage; an untyped one holds bytes."""


def dtype_named(name: str) -> Dtype | None:
    """The dtype of a global ``torch.bfloat16``; None where it is none that is read."""
    return DTYPES.get(name.removeprefix("torch.")) if name.startswith("torch.") else None


SAFETENSORS: Mapping[str, Dtype] = {dtype.called: dtype for dtype in DTYPES.values()} | {
    "BF16": DTYPES["bfloat16"],
    "F16": DTYPES["float16"],
    "F32": DTYPES["float32"],
    "F64": DTYPES["float64"],
}
"""By the name in the header of a safetensors file."""
