"""Find the pickle and the storages in a file of torch.save before torch 1.6: pickles, then storages one by one."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import BinaryIO

from geomcheck.checkpoints.formats.torch_save.archive import MAX_PICKLE_BYTES, Archive, ByteRange
from geomcheck.checkpoints.formats.torch_save.pickle_data import PickleProblem, read_pickle
from geomcheck.checkpoints.formats.torch_save.tensors import element_bytes, storage_key

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_COUNT = struct.Struct("<q")


def read_legacy_archive(file: BinaryIO, nbytes: int, allowed: Callable[[str], bool]) -> Archive:
    """The records of a file of `nbytes`; no storage is read.

    The pickles are a magic number, the protocol, the system, the content and the storages' keys. For each key, a
    count of elements and the elements follow.

    Raises:
        PickleProblem: it is truncated, contradicts itself, or was not written by torch.save.
    """
    file.seek(0)
    head = io.BytesIO(file.read(MAX_PICKLE_BYTES))
    magic, protocol, system = (read_pickle(head, allowed).content for _ in range(3))
    if magic != _MAGIC or protocol != _PROTOCOL:
        raise PickleProblem("not written by torch.save, or by a torch before 0.4")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise PickleProblem("was written on a big-endian machine")
    start = head.tell()
    references = read_pickle(head, allowed).references
    pickle = head.getvalue()[start : head.tell()]
    sizes = {storage_key(reference): element_bytes(reference) for reference in references}
    keys = read_pickle(head, allowed).content
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or sorted(keys) != sorted(sizes):
        raise PickleProblem("its list of storages does not fit its tensors")
    storages: dict[str, ByteRange] = {}
    offset = head.tell()
    for key in keys:
        file.seek(offset)
        count = file.read(_COUNT.size)
        length = _COUNT.unpack(count)[0] * sizes[key] if len(count) == _COUNT.size else -1
        storages[key] = ByteRange(offset + _COUNT.size, length)
        offset += _COUNT.size + length
        if length < 0 or offset > nbytes:
            raise PickleProblem("truncated: its last storages are missing")
    return Archive(pickle, storages)
