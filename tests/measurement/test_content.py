"""Digests tell every bit, and nothing that is not finite gets by."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from blake3 import blake3
from torch import Tensor

from geomcheck.errors import RunError
from geomcheck.measurement.content import digest, fingerprint, require_finite

FORMATS = {
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}


def of_bits(dtype: torch.dtype, *bits: int) -> Tensor:
    return torch.tensor(bits, dtype=FORMATS[dtype]).view(dtype)


def test_a_digest_is_blake3_of_kind_format_shape_and_bits() -> None:
    w = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.bfloat16)
    said = b"torch.bfloat16(1, 3)" + w.view(torch.int16).numpy().tobytes()
    assert digest(w) == f"blake3:{blake3(said).hexdigest(16)}"
    assert (
        fingerprint({"b": "2", "a": "1"})
        == f"blake3:{blake3(b'a=1' + bytes([10]) + b'b=2' + bytes([10])).hexdigest(16)}"
    )


@pytest.mark.parametrize("dtype", FORMATS)
def test_every_bit_counts(dtype: torch.dtype) -> None:
    """Zeros of both signs, two NaN, subnormals, the last entry of a large tensor; not where the bits lie."""
    infinity = int(torch.tensor(torch.inf, dtype=dtype).view(FORMATS[dtype]))
    kinds = [
        of_bits(dtype, 0),
        -of_bits(dtype, 0),
        *(of_bits(dtype, bits) for bits in (1, 2, infinity + 1, infinity + 2)),
    ]
    kinds += [torch.zeros(shape, dtype=dtype) for shape in ((), (0,), (0, 2), (2,), (1, 2), (2, 1))]
    large = torch.zeros(3 << 18, dtype=dtype)
    large[-1] = 1
    assert len({*map(digest, [*kinds, large, torch.zeros_like(large)])}) == len(kinds) + 2
    turned = torch.arange(6, dtype=dtype).view(2, 3).T
    assert digest(turned) == digest(turned.contiguous()) != digest(turned.T)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("place", [0, (1 << 18) - 1, 1 << 18, (2 << 18) + 4])
def test_one_value_that_is_not_finite_is_found(dtype: torch.dtype, place: int) -> None:
    sign = -1 << 8 * dtype.itemsize - 1
    infinity = int(torch.tensor(torch.inf, dtype=dtype).view(FORMATS[dtype]))
    for bits in (infinity, infinity | sign, infinity + 1, infinity | 1 | sign, ~sign, -1):
        w = torch.zeros((2 << 18) + 5, dtype=dtype)
        w.view(FORMATS[dtype])[place] = bits
        assert not np.isfinite(w[place].double().item())
        with pytest.raises(RunError, match="1 of 524293 values are NaN or infinite"):
            require_finite(w, "W0")


@pytest.mark.parametrize("dtype", FORMATS)
def test_what_is_finite_passes(dtype: torch.dtype) -> None:
    limits = torch.finfo(dtype)
    for w in (torch.tensor([limits.min, limits.max, limits.tiny, -0.0], dtype=dtype), of_bits(dtype, 1)):
        require_finite(w, "W0")
    for shape in ((), (0,), (0, 3)):
        require_finite(torch.ones(shape, dtype=dtype), "W0")
