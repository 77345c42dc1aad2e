"""How much memory a huge weight takes: sparse files, measured in a process of their own.

``python -m tests.reliability.large DIRECTORY ROWS COLUMNS METRIC`` prints the peak of its anonymous memory.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import geomcheck
import tests.preloaded  # noqa: F401  (not counted)
from tests.runs import Q

ONE = 0x3F80
"""1.0 as bf16; the numbers above it follow."""


def sparse_run(directory: Path, rows: int, columns: int) -> Path:
    """A run of one bf16 weight that is zero but for 1000 entries; one or two move at each checkpoint."""
    marks = {number * (rows * columns // 1000): ONE for number in range(1000)}
    first, second, *_ = marks
    _write(directory / "base", rows, columns, marks)
    _write(directory / "checkpoint-10", rows, columns, marks | {first: ONE + 1})
    _write(directory / "checkpoint-20", rows, columns, marks | {first: ONE + 2, second: ONE + 2})
    return directory


def _write(directory: Path, rows: int, columns: int, marks: dict[int, int]) -> None:
    directory.mkdir(parents=True)
    size = 2 * rows * columns
    header = json.dumps({Q: {"dtype": "BF16", "shape": [rows, columns], "data_offsets": [0, size]}}).encode()
    header += b" " * (-len(header) % 8)
    with (directory / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)
        for place, bits in marks.items():
            file.seek(8 + len(header) + 2 * place)
            file.write(struct.pack("<H", bits))
    (directory / "config.json").write_text('{"model_type": "qwen3"}')


def peak_of(directory: Path, rows: int, columns: int, metric: str) -> int:
    """Bytes of anonymous memory that measuring such a run takes at its peak, beyond what the process takes anyway."""
    command = [sys.executable, "-m", "tests.reliability.large", str(directory), str(rows), str(columns), metric]
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(command, cwd=root, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return int(done.stdout)


def _anonymous() -> int:
    """Bytes: memory-mapped files are not counted, the kernel takes them back when it needs them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def _main(directory: str, rows: str, columns: str, metric: str) -> None:
    run = sparse_run(Path(directory), int(rows), int(columns))
    seen = [_anonymous()]

    def watch() -> None:
        while True:
            seen.append(_anonymous())
            time.sleep(0.005)

    threading.Thread(target=watch, daemon=True).start()
    record = geomcheck.measure(run, metrics=[metric], workers=1)
    assert record.measured_weights() == {Q}, record.skipped
    print(max(seen) - seen[0])


if __name__ == "__main__":
    _main(*sys.argv[1:])
