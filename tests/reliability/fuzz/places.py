"""Where a fuzzed file lies: a small good run around it, and the look that is taken at all of it."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save

from geomcheck.checkpoints import comparable, find_base, open_run
from geomcheck.inspection import inspect

SEEDS = Path(__file__).with_name("seeds")
"""Good files that take several processes to write."""

Q, K, NORM = (f"model.layers.0.{name}.weight" for name in ("self_attn.q_proj", "self_attn.k_proj", "input_layernorm"))

_DATA_ENDS = re.compile(rb"data_offsets\W+\d+\s*,\s*(\d{1,9})")


def weights(shift: float = 0.0) -> dict[str, torch.Tensor]:
    """A model of two matrices and a vector."""
    return {name: torch.arange(n * m).reshape(n, m).sqrt() + shift for name, n, m in ((Q, 4, 3), (K, 2, 3))} | {
        NORM: torch.ones(3)
    }


@cache
def model(shift: float = 0.0) -> bytes:
    """The same as a safetensors file."""
    return save(weights(shift))


def lay(directory: Path, files: Mapping[str, bytes | str]) -> Path:
    """Files that stay as they are from input to input; `directory` itself."""
    for name, content in files.items():
        path = directory / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return directory


def put(path: Path, content: bytes) -> Path:
    """The fuzzed file, in place of the last one, which may still be mapped; `path` itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    return path


def around(scratch: Path, files: Mapping[str, bytes | str]) -> Path:
    """A run with W0 in ``base/``, and `files` beside it."""
    return lay(
        scratch / "run", {"base/model.safetensors": model(), "base/config.json": '{"model_type": "qwen3"}', **files}
    )


def look(run: Path) -> None:
    """Open a run as the gate does: headers, names, what is comparable; then read every weight."""
    inspect(run)
    opened = open_run(run)
    known, base = comparable(opened, find_base(opened))
    for source in (base.source, *(checkpoint.source for checkpoint in known.checkpoints)):
        for name in source.weights:
            source.read(name)


def torch_zip(pickle: bytes, storages: Mapping[str, bytes]) -> bytes:
    """A file of torch.save around a pickle that may be anything."""
    saved = io.BytesIO()
    with zipfile.ZipFile(saved, "w") as archive:
        archive.writestr("archive/data.pkl", pickle)
        archive.writestr("archive/byteorder", b"little")
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key}", content)
    return saved.getvalue()


def unzipped(saved: bytes) -> tuple[bytes, dict[str, bytes]]:
    """The pickle and the storages of a file of torch.save."""
    with zipfile.ZipFile(io.BytesIO(saved)) as archive:
        records = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    storages = {name.removeprefix("data/"): content for name, content in records.items() if name.startswith("data/")}
    return records["data.pkl"], storages


def saved(content: object, *, legacy: bool = False) -> bytes:
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def safetensors_of(header: bytes) -> bytes:
    """A safetensors file around a header that may be anything, with as many bytes of data as it wants."""
    ends = [int(end) for end in _DATA_ENDS.findall(header)]
    data = bytes(range(1, 65)) * 64
    return struct.pack("<Q", len(header)) + header + data[: max(ends, default=0)]


def header_of(file: bytes) -> bytes:
    """The header of a safetensors file."""
    return file[8 : 8 + struct.unpack("<Q", file[:8])[0]].rstrip()


def as_json(content: object) -> bytes:
    """`content` as a file."""
    return json.dumps(content).encode()


def without_checksums(archive: bytes) -> bytes:
    """A zip archive whose records say that their checksum is 0, as torch writes where it was told to."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        sums = {zlib.crc32(opened.read(name)) for name in opened.namelist()}
    for checksum in sums - {0}:
        archive = archive.replace(struct.pack("<I", checksum), bytes(4))
    return archive
