from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from geomcheck.checkpoints.formats.torch_save.archive import ByteRange, read_archive
from geomcheck.checkpoints.formats.torch_save.file import find_tensor
from geomcheck.checkpoints.formats.torch_save.pickle_data import PickleProblem
from geomcheck.checkpoints.formats.torch_save.tensors import Packed


def saved(content: object) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def embedded(path: Path, content: bytes, *, before: int = 1001) -> Packed:
    """The tensor in `content`, in the middle of a larger file."""
    path.write_bytes(b"\xff" * before + content + b"\xff" * 77)
    with path.open("rb") as file:
        return find_tensor(file, ByteRange(before, len(content)))


BASE = torch.arange(120.0).reshape(4, 5, 6)


@pytest.mark.parametrize("tensor", [BASE, BASE.transpose(0, 2), BASE[1:3, ::2], BASE.bfloat16(), torch.ones(0, 3)])
@pytest.mark.parametrize("before", [0, 1, 4096])
def test_a_tensor_inside_a_larger_file_and_its_slices(tmp_path: Path, tensor: Tensor, before: int) -> None:
    packed = embedded(tmp_path / "file", saved(tensor), before=before)
    assert torch.equal(packed.read(tmp_path / "file"), tensor)
    for index in range(len(tensor)):
        assert torch.equal(packed.at((index,)).read(tmp_path / "file"), tensor[index])
        assert torch.equal(packed.at((index, 1, 2)[: tensor.dim()]).read(tmp_path / "file"), tensor[index, 1, 2])


def test_a_slice_spans_its_own_bytes(tmp_path: Path) -> None:
    packed = embedded(tmp_path / "file", saved(BASE))
    assert packed.at((2,)).span == ByteRange(packed.place.offset + 2 * 30 * 4, 30 * 4)
    assert packed.at((2, 1, 3)).span.nbytes == 4
    turned = embedded(tmp_path / "file", saved(BASE.transpose(0, 1)))
    assert turned.at((4,)).span == ByteRange(turned.place.offset + 24 * 4, (3 * 30 + 6) * 4)


@pytest.mark.parametrize("index", [(4,), (-1,), (0, 5), (0, 0, 0, 0)])
def test_a_slice_that_is_not_there(tmp_path: Path, index: tuple[int, ...]) -> None:
    with pytest.raises(IndexError, match=r"lies outside a tensor of shape \(4, 5, 6\)"):
        embedded(tmp_path / "file", saved(BASE)).at(index)


@pytest.mark.parametrize("before", [0, 3])
def test_a_part_reads_nothing_beside_itself(tmp_path: Path, before: int) -> None:
    content = saved(BASE)
    (tmp_path / "file").write_bytes(content + saved(BASE + 1))
    with (tmp_path / "file").open("rb") as file:
        for place in (
            ByteRange(before, 100),
            ByteRange(len(content), 100),
            ByteRange(len(content) + 10**9, 100),
            ByteRange(0, 0),
        ):
            with pytest.raises(PickleProblem, match=r"is not what torch.save writes"):
                find_tensor(file, place)


def test_a_record_that_is_there_twice_in_a_part_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO(saved(BASE))
    with zipfile.ZipFile(stream, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("archive/data/0", bytes(480))
    with pytest.raises(PickleProblem, match="'archive/data/0' twice"):
        embedded(tmp_path / "file", stream.getvalue())


def test_a_pickle_whose_checksum_does_not_fit_is_refused(tmp_path: Path) -> None:
    content = saved(BASE)
    assert content.count(b"K\x04K\x05K\x06") == 1
    with pytest.raises(PickleProblem, match="a checksum does not fit"):
        embedded(tmp_path / "file", content.replace(b"K\x04K\x05K\x06", b"K\x04K\x06K\x05"))


@pytest.mark.parametrize(("record", "nbytes"), [("archive/data.pkl", 70_000), ("archive/byteorder", 17)])
def test_headers_larger_than_needed_are_not_read(tmp_path: Path, record: str, nbytes: int) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(record, bytes(nbytes))
        if record != "archive/data.pkl":
            archive.writestr("archive/data.pkl", b"N.")
    with pytest.raises(PickleProblem, match=f"a header of {nbytes} bytes, more than the"):
        embedded(tmp_path / "file", stream.getvalue())


def test_a_big_endian_part_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", b"N.")
        archive.writestr("archive/byteorder", b"big")
    with pytest.raises(PickleProblem, match="big-endian"):
        embedded(tmp_path / "file", stream.getvalue())


def test_storages_have_their_places_in_the_whole_file() -> None:
    content = saved({"a": torch.full((3,), 7, dtype=torch.uint8), "b": torch.full((2,), 9, dtype=torch.uint8)})
    file = io.BytesIO(b"x" * 5 + content)
    storages = read_archive(file, ByteRange(5, len(content))).storages
    assert [file.getvalue()[at.offset : at.offset + at.nbytes] for at in storages.values()] == [b"\7\7\7", b"\t\t"]
