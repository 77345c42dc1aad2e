"""Where the bytes lie in a file of torch.save: its pickle, read as data, and the place of each storage."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from geomcheck.checkpoints.formats.pickles import Pickle, PickleProblem, Reference, parse_pickle

MAX_PICKLE_BYTES = 64 * 2**20

_ZIP = b"PK\x03\x04"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_COUNT = struct.Struct("<q")


@dataclass(frozen=True)
class Place:
    """`nbytes` bytes of a file, from `offset`."""

    offset: int
    nbytes: int


@dataclass(frozen=True)
class Records:
    """What a file of torch.save holds: its pickle, and its storages by key."""

    pickle: Pickle
    storages: Mapping[str, Place]


class _BoundedFile(io.FileIO):
    """A file that never reads more at once than a pickle, or a directory of records, can need."""

    def read(self, size: int | None = -1, /) -> Any:
        if size is not None and size > MAX_PICKLE_BYTES:
            raise PickleProblem(f"claims {size} bytes of headers, more than a state dict can need")
        return super().read(size)


def read_records(path: Path, element_bytes: Callable[[Reference], int]) -> Records:
    """The records of a file in torch's zip format, or in the one before torch 1.6; no storage is read.

    Args:
        path: the file.
        element_bytes: size of one element of the storage that a reference names.

    Raises:
        PickleProblem: it is truncated, compressed, contradicts itself, or was not written by torch.save.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_ZIP))
        return _zip_records(path) if start == _ZIP else _legacy_records(path, element_bytes)
    except (zipfile.BadZipFile, struct.error, OSError, ValueError, EOFError, RuntimeError, OverflowError) as error:
        raise PickleProblem(f"truncated or damaged ({str(error)[:200]})") from error


def _zip_records(path: Path) -> Records:
    with _BoundedFile(path) as file, zipfile.ZipFile(file) as archive:
        places = _places(file, archive.infolist(), end=archive.start_dir)
        tops = [name.removesuffix("data.pkl") for name in places if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(tops) != 1:
            raise PickleProblem("a zip archive without one data.pkl: not written by torch.save")
        top = tops[0]
        if f"{top}constants.pkl" in places:
            raise PickleProblem("a TorchScript program, not a state dict")
        if f"{top}byteorder" in places and archive.read(f"{top}byteorder") != b"little":
            raise PickleProblem("written on a big-endian machine")
        prefix = f"{top}data/"
        storages = {name.removeprefix(prefix): at for name, at in places.items() if name.startswith(prefix)}
        return Records(parse_pickle(io.BytesIO(archive.read(f"{top}data.pkl"))), storages)


def _places(file: io.FileIO, infos: list[zipfile.ZipInfo], *, end: int) -> dict[str, Place]:
    """Every record by name. Raises PickleProblem unless they are stored as they are, inside the file, and apart."""
    places: dict[str, Place] = {}
    for info in infos:
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 1:
            raise PickleProblem(f"its record {info.filename[:100]!r} is compressed or encrypted, unlike torch's")
        if info.filename in places:
            raise PickleProblem(f"holds the record {info.filename[:100]!r} twice")
        file.seek(info.header_offset)
        header = file.read(_LOCAL_HEADER.size)
        if len(header) != _LOCAL_HEADER.size or not header.startswith(_ZIP):
            raise PickleProblem(f"its directory places {info.filename[:100]!r} where no record begins")
        _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
        places[info.filename] = Place(info.header_offset + len(header) + name_bytes + extra_bytes, info.file_size)
    ordered = sorted(places.items(), key=lambda item: (item[1].offset, item[1].nbytes))
    for (name, place), (_, after) in pairwise([*ordered, ("", Place(end, 0))]):
        if place.offset + place.nbytes > after.offset:
            raise PickleProblem(f"its record {name[:100]!r} reaches beyond its place: truncated or damaged")
    return places


def _legacy_records(path: Path, element_bytes: Callable[[Reference], int]) -> Records:
    """Pickles one after the other (magic number, protocol, system, content, storage keys), then the storages:
    for each key a count of elements, and the elements."""
    with path.open("rb") as file:
        head = io.BytesIO(file.read(MAX_PICKLE_BYTES))
        magic, protocol, system, pickle, keys = (parse_pickle(head) for _ in range(5))
        if magic.content != _LEGACY_MAGIC or protocol.content != _LEGACY_PROTOCOL:
            raise PickleProblem("not written by torch.save, or by a torch before 0.4")
        if not isinstance(system.content, dict) or system.content.get("little_endian") is not True:
            raise PickleProblem("written on a big-endian machine")
        sizes = {storage_key(reference): element_bytes(reference) for reference in pickle.references}
        listed = keys.content if isinstance(keys.content, list) else []
        if not all(isinstance(key, str) for key in listed) or sorted(listed) != sorted(sizes):
            raise PickleProblem("its list of storages does not fit its tensors")
        storages: dict[str, Place] = {}
        offset, end = head.tell(), path.stat().st_size
        for key in listed:
            file.seek(offset)
            count = file.read(_COUNT.size)
            nbytes = _COUNT.unpack(count)[0] * sizes[key] if len(count) == _COUNT.size else -1
            storages[key] = Place(offset + _COUNT.size, nbytes)
            offset += _COUNT.size + nbytes
            if nbytes < 0 or offset > end:
                raise PickleProblem("truncated: its last storages are missing")
        return Records(pickle, storages)


def storage_key(reference: Reference) -> str:
    """The key of the storage that a reference names. Raises PickleProblem if it names none."""
    match reference.to:
        case ("storage", _, str(key), *_):
            return key
    raise PickleProblem("refers to something that is no storage of a tensor")
