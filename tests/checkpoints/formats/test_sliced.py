from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from geomcheck.checkpoints import Stored
from geomcheck.checkpoints.formats.safetensors import SafetensorsDirectory, holds_safetensors
from geomcheck.checkpoints.formats.sliced import OFFSETS, SlicedSafetensors, holds_sliced
from geomcheck.errors import RunError
from tests.checkpoints.formats.ranks import written_by_ranks

EMBED = "embed_tokens.weight"


def _file(rank: int, part: int = 1, parts: int = 1) -> str:
    return f"shard-{rank:05d}-model-{part:05d}-of-{parts:05d}.safetensors"


@pytest.fixture(scope="session")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_by_ranks(tmp_path_factory)


@pytest.fixture
def slices(ranks: Path, tmp_path: Path) -> Path:
    """What torch's HuggingFaceStorageWriter wrote of two ranks."""
    return shutil.copytree(ranks / "slices", tmp_path / "slices")


@pytest.fixture(scope="session")
def full(ranks: Path) -> dict[str, Tensor]:
    return torch.load(ranks / "full.pt", weights_only=True)


def write(directory: Path, *files: dict[str, tuple[list[int], Tensor]]) -> Path:
    """Files of several ranks, each of slices and where they begin."""
    directory.mkdir(exist_ok=True)
    for rank, file in enumerate(files, start=1):
        offsets = {name: {"saved_offsets": begin} for name, (begin, _) in file.items()}
        tensors = {name: tensor.contiguous() for name, (_, tensor) in file.items()}
        save_file(tensors, directory / _file(rank), {OFFSETS: json.dumps(offsets), "DCP_VERSION": "1.0"})
    return directory


def test_weights_come_back_bit_for_bit(slices: Path, full: dict[str, Tensor]) -> None:
    source = SlicedSafetensors(slices)
    assert holds_sliced(slices)
    assert not holds_safetensors(slices)
    assert source.weights.keys() == full.keys()
    for name, weight in full.items():
        read = source.read(name)
        assert source.weights[name].shape == tuple(weight.shape)
        assert read.dtype == weight.dtype
        assert torch.equal(read, weight)
        for row in range(len(weight) if weight.dim() else 0):
            assert torch.equal(source.read(name, (row,)), weight[row])
    assert source.weights["layers.1.q_proj.weight"] == Stored((24, 16), "bf16")
    assert source.files == (slices / _file(1), slices / _file(2))
    with pytest.raises(IndexError):
        source.read(EMBED, (65,))


def test_slices_along_two_dimensions(tmp_path: Path) -> None:
    whole = torch.arange(7 * 5 * 3).view(7, 5, 3)
    boxes = [(a, b, whole[a : a + 4, b : b + 3]) for a in (0, 4) for b in (0, 3)]
    source = SlicedSafetensors(write(tmp_path / "s", *({"w": ([a, b, 0], part)} for a, b, part in boxes)))
    assert source.weights == {"w": Stored((7, 5, 3), "I64")}
    assert torch.equal(source.read("w"), whole)
    for a in range(7):
        assert torch.equal(source.read("w", (a,)), whole[a])
        for b in range(5):
            assert torch.equal(source.read("w", (a, b)), whole[a, b])


def test_one_index_reads_only_the_slices_that_hold_it(slices: Path, full: dict[str, Tensor]) -> None:
    source = SlicedSafetensors(slices)
    assert source.weights
    (slices / _file(2)).unlink()
    assert torch.equal(source.read(EMBED, (32,)), full[EMBED][32])
    with pytest.raises(RunError, match="changed or removed since it was opened"):
        source.read(EMBED, (33,))


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ([{"w": ([0, 0], torch.ones(2, 3))}, {"w": ([3, 0], torch.ones(2, 3))}], "hold 12 of the 15 entries of shape"),
        ([{"w": ([0, 0], torch.ones(2, 3))}, {"w": ([1, 0], torch.ones(2, 3))}], "two slices of w overlap"),
        ([{"w": ([0, 0], torch.ones(2, 3))}, {"w": ([0, 0], torch.ones(2, 3))}], "two slices of w overlap"),
        ([{"w": ([], torch.ones(()))}, {"w": ([], torch.ones(()))}], "two slices of w overlap"),
        ([{"w": ([0, 0], torch.ones(2, 3))}, {"w": ([2, 0], torch.ones(2, 3).half())}], "differ in dtype"),
        ([{"w": ([0, 0], torch.ones(2, 3))}, {"w": ([2], torch.ones(3))}], "differ in dtype or dimensions"),
        ([{"w": ([1, 0], torch.ones(2, 3))}], "hold 6 of the 9 entries"),
        ([{"w": ([2**60, 2**60], torch.ones(2, 3))}], "hold 6 of the .* entries"),
        ([{"w": ([0], torch.ones(2, 3))}], "does not say where the slice of w begins"),
        ([{"w": ([-1, 0], torch.ones(2, 3))}], "an offset that is no index"),
        ([{"w": ([0.5, 0], torch.ones(2, 3))}], "an offset that is no index"),  # type: ignore[list-item]
        # as many entries as the shape, by an overlap that makes up for a gap
        ([{"w": ([0, 0], torch.ones(2, 4)), "v": ([0], torch.ones(1))}, {"w": ([2, 0], torch.ones(2, 2))},
          {"w": ([3, 1], torch.ones(1, 3))}, {"w": ([2, 3], torch.ones(1, 1))}], "two slices of w overlap"),
    ],
)  # fmt: skip
def test_slices_that_do_not_tile_the_tensor_are_refused(
    tmp_path: Path, files: list[dict[str, tuple[list[int], Tensor]]], why: str
) -> None:
    with pytest.raises(RunError, match=why):
        _ = SlicedSafetensors(write(tmp_path / "s", *files)).weights


@pytest.mark.parametrize("info", [None, "", "[]", "{}", "{", '{"w": 3}', '{"w": {}}', "[" * 100_000])
def test_files_that_do_not_say_where_are_refused(tmp_path: Path, info: str | None) -> None:
    save_file({"w": torch.ones(2)}, tmp_path / _file(1), {} if info is None else {OFFSETS: info})
    with pytest.raises(RunError, match=OFFSETS):
        _ = SlicedSafetensors(tmp_path).weights


def test_a_missing_rank_is_named(slices: Path) -> None:
    (slices / _file(1)).unlink()
    with pytest.raises(RunError, match=r"shard-00001 of 2 is missing among the slices"):
        _ = SlicedSafetensors(slices).weights


def test_a_missing_part_of_the_model_is_named(tmp_path: Path) -> None:
    directory = write(tmp_path / "s", {"w": ([0], torch.ones(2))})
    (directory / _file(1)).rename(directory / _file(1, 1, 3))
    with pytest.raises(RunError, match=r"model-00002 of 3 is missing .*2 missing"):
        _ = SlicedSafetensors(directory).weights


def test_two_sets_are_refused(slices: Path) -> None:
    shutil.copy(slices / _file(1), slices / _file(1, 1, 2))
    with pytest.raises(RunError, match="files of 2 sets of slices"):
        _ = SlicedSafetensors(slices).weights


def test_slices_under_another_name_are_not_taken_for_weights(slices: Path) -> None:
    (slices / _file(1)).rename(slices / "model.safetensors")
    with pytest.raises(RunError, match=r"holds slices of tensors .*give the slices their names"):
        _ = SafetensorsDirectory(slices).weights


@pytest.mark.parametrize("share", [0.0, 0.005, 0.2, 0.9, 0.999])
def test_a_truncated_file_is_refused(slices: Path, share: float) -> None:
    content = (slices / _file(2)).read_bytes()
    (slices / _file(2)).write_bytes(content[: int(share * len(content))])
    with pytest.raises(RunError, match="truncated or not a safetensors file"):
        _ = SlicedSafetensors(slices).weights


def test_only_regular_files_inside_the_run_are_opened(slices: Path, tmp_path: Path) -> None:
    shutil.move(slices / _file(2), tmp_path / "outside")
    (slices / _file(2)).symlink_to(tmp_path / "outside")
    with pytest.raises(RunError, match=r"links to .*, outside"):
        _ = SlicedSafetensors(slices).weights
    (slices / _file(2)).unlink()
    os.mkfifo(slices / _file(2))
    with pytest.raises(RunError, match="not a regular file"):
        _ = SlicedSafetensors(slices).weights


def test_the_fixture_holds_slices(slices: Path) -> None:
    with safe_open(slices / _file(2), framework="pt") as file:
        assert json.loads(file.metadata()[OFFSETS])[EMBED] == {"saved_offsets": [33, 0]}
