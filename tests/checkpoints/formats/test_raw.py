from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from geomcheck.checkpoints import inside
from geomcheck.checkpoints.formats.pickled import PickledDirectory
from geomcheck.checkpoints.formats.safetensors import SafetensorsDirectory
from geomcheck.checkpoints.formats.torch_save import tensors
from geomcheck.checkpoints.inside import read_bytes
from geomcheck.checkpoints.source import WeightSource
from geomcheck.errors import RunError


def test_bytes_come_back_from_any_place(tmp_path: Path) -> None:
    content = bytes(range(256)) * 40
    (tmp_path / "f").write_bytes(content)
    for offset, count in ((0, 0), (0, 10240), (3, 7), (10239, 1), (10240, 0)):
        assert read_bytes(tmp_path / "f", offset, count).numpy().tobytes() == content[offset : offset + count]


def test_a_file_that_ends_before_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(100))
    with pytest.raises(ValueError, match="ends 5 bytes before its content does"):
        read_bytes(tmp_path / "f", 95, 10)


def safetensors(directory: Path) -> WeightSource:
    save_file({"w": torch.randn(64, 64)}, directory / "model.safetensors")
    return SafetensorsDirectory(directory)


def pickled(directory: Path) -> WeightSource:
    torch.save({"w": torch.randn(64, 64)}, directory / "pytorch_model.bin")
    return PickledDirectory(directory)


@pytest.mark.parametrize("write", [safetensors, pickled])
def test_a_file_that_is_cut_while_it_is_read_does_not_kill_the_process(
    write: Callable[[Path], WeightSource], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path)
    assert source.weights["w"].shape == (64, 64)
    (file,) = tmp_path.iterdir()

    read = inside.read_bytes

    def cut_first(path: Path, offset: int, nbytes: int) -> torch.Tensor:
        os.truncate(file, 1000)  # after the file was found to be unchanged, before its first byte is read
        return read(path, offset, nbytes)

    for module in (inside, tensors):
        monkeypatch.setattr(module, "read_bytes", cut_first)
    with pytest.raises(RunError, match="it was cut while it was read"):
        source.read("w")


def test_parts_of_a_stack_are_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = torch.randn(5, 6, 7)
    save_file({"w": stack}, tmp_path / "model.safetensors")
    source = SafetensorsDirectory(tmp_path)
    counts: list[int] = []
    read = inside.read_bytes
    monkeypatch.setattr(inside, "read_bytes", lambda path, at, count: counts.append(count) or read(path, at, count))
    _ = source.weights
    counts.clear()
    assert torch.equal(source.read("w", (3,)), stack[3])
    assert torch.equal(source.read("w", (4, 5)), stack[4, 5])
    assert torch.equal(source.read("w"), stack)
    assert counts == [6 * 7 * 4, 7 * 4, 5 * 6 * 7 * 4]
    for outside in ((5,), (0, 6), (-1,), (0, 0, 0, 0)):
        with pytest.raises(IndexError):
            source.read("w", outside)
