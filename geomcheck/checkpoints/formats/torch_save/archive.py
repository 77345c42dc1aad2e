"""Find the pickle and the storages in what torch.save wrote, be it a file or a part of one."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO

from geomcheck.checkpoints.formats.torch_save.pickle_data import PickleProblem

ZIP = b"PK\x03\x04"
MAX_DIRECTORY_BYTES = 16 * 2**20
MAX_PICKLE_BYTES = 64 * 2**20

_LOCAL_HEADER = struct.Struct("<4s22xHH")


@dataclass(frozen=True)
class ByteRange:
    """`nbytes` bytes of a file, from `offset`."""

    offset: int
    nbytes: int


@dataclass(frozen=True)
class Archive:
    """What torch.save wrote: a pickle, unread, and its storages by key, with their places in the whole file."""

    pickle: bytes
    storages: Mapping[str, ByteRange]


def read_archive(file: BinaryIO, within: ByteRange, *, max_pickle_bytes: int = MAX_PICKLE_BYTES) -> Archive:
    """The records of torch's zip format; no storage is read.

    Args:
        file: the file.
        within: where in it they lie.
        max_pickle_bytes: more than that is not read.

    Raises:
        PickleProblem: they are truncated, compressed, contradict each other, or were not written by torch.save.
    """
    window = _Window(file, within)
    try:
        with zipfile.ZipFile(window) as archive:
            infos, end = archive.infolist(), archive.start_dir
        return _archive(window, infos, _places(window, infos, end=end), max_pickle_bytes)
    except PickleProblem:
        raise
    except (zipfile.BadZipFile, struct.error, OSError, ValueError, EOFError, RuntimeError, OverflowError) as error:
        raise PickleProblem(f"is not what torch.save writes: truncated or damaged ({str(error)[:200]})") from error


def _archive(
    window: _Window, infos: list[zipfile.ZipInfo], places: Mapping[str, ByteRange], max_pickle_bytes: int
) -> Archive:
    checksums = {info.filename: info.CRC for info in infos}
    tops = [name.removesuffix("data.pkl") for name in places if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(tops) != 1:
        raise PickleProblem("is not what torch.save writes: a zip archive without one data.pkl")
    pickle, byteorder, data = (f"{tops[0]}{name}" for name in ("data.pkl", "byteorder", "data/"))
    if f"{tops[0]}constants.pkl" in places:
        raise PickleProblem("a TorchScript program, not a state dict")
    if byteorder in places and window.content(places[byteorder], 16, checksums[byteorder]) != b"little":
        raise PickleProblem("was written on a big-endian machine")
    storages = {
        name.removeprefix(data): ByteRange(window.offset + at.offset, at.nbytes)
        for name, at in places.items()
        if name.startswith(data)
    }
    return Archive(window.content(places[pickle], max_pickle_bytes, checksums[pickle]), storages)


def _places(window: _Window, infos: list[zipfile.ZipInfo], *, end: int) -> dict[str, ByteRange]:
    """Every record by name. Raises PickleProblem unless they are stored as they are, in the window, and apart."""
    places: dict[str, ByteRange] = {}
    for info in infos:
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 1:
            raise PickleProblem(
                f"is not what torch.save writes: its record {info.filename[:100]!r} is compressed or encrypted"
            )
        if info.filename in places:
            raise PickleProblem(f"holds the record {info.filename[:100]!r} twice")
        window.seek(info.header_offset)
        header = window.read(_LOCAL_HEADER.size)
        if len(header) != _LOCAL_HEADER.size or not header.startswith(ZIP):
            raise PickleProblem(
                f"is not what torch.save writes: its directory places {info.filename[:100]!r} where no record begins"
            )
        _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
        places[info.filename] = ByteRange(info.header_offset + len(header) + name_bytes + extra_bytes, info.file_size)
    ordered = sorted(places.items(), key=lambda item: (item[1].offset, item[1].nbytes))
    for (name, place), (_, after) in pairwise([*ordered, ("", ByteRange(end, 0))]):
        if place.offset + place.nbytes > after.offset:
            raise PickleProblem(f"its record {name[:100]!r} reaches beyond its place: truncated or damaged")
    return places


class _Window(io.RawIOBase):
    """A part of a file as a file of its own, of which at most the size of a directory is read at once."""

    def __init__(self, file: BinaryIO, within: ByteRange) -> None:
        super().__init__()
        self.offset = within.offset
        self._file = file
        self._nbytes = within.nbytes
        self._position = 0

    def content(self, place: ByteRange, max_bytes: int, checksum: int) -> bytes:
        """The bytes of a record. Their checksum is 0 where torch was told to write none. Raises PickleProblem."""
        if place.nbytes > max_bytes:
            raise PickleProblem(f"has a header of {place.nbytes} bytes, more than the {max_bytes} that it can need")
        self._file.seek(self.offset + place.offset)
        content = self._file.read(place.nbytes)
        if checksum and zlib.crc32(content) != checksum:
            raise PickleProblem("is not what torch.save writes: damaged (a checksum does not fit)")
        return content

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._nbytes}[whence]
        if origin + offset < 0:
            raise OSError("a position before the start")
        self._position = origin + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._nbytes - self._position)
        count = left if size is None or size < 0 else min(size, left)
        if count > MAX_DIRECTORY_BYTES:
            raise PickleProblem(f"is not what torch.save writes (a directory of {count} bytes)")
        self._file.seek(self.offset + self._position)
        content = self._file.read(count)
        self._position += len(content)
        return content
