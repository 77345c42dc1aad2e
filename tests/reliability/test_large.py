from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.reliability.large import peak_of

ROWS, COLUMNS = 8192, 16384
OVERHEAD = 48 * 2**20
"""What a first measurement takes whatever the weight's size: libraries, their buffers."""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")
@pytest.mark.parametrize(("metric", "bytes_per_entry"), [("update_norm", 6.0), ("update_support", 7.0)])
def test_elementwise_metrics_stream_a_weight(tmp_path: Path, metric: str, bytes_per_entry: float) -> None:
    """128 million entries: W0, a checkpoint and the next in bf16, and for the mask of what changed a byte per entry."""
    assert peak_of(tmp_path / "run", ROWS, COLUMNS, metric) < bytes_per_entry * ROWS * COLUMNS + OVERHEAD
