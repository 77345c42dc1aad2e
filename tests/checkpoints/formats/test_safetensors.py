from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from geomcheck.checkpoints import Stored
from geomcheck.checkpoints.formats.safetensors import INDEX, SafetensorsDirectory
from geomcheck.errors import RunError
from tests.runs import Q, base_weights, write_model, write_sharded


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("write", [write_model, write_sharded])
def test_weights_come_back_bit_for_bit(tmp_path: Path, dtype: torch.dtype, write) -> None:
    weights = base_weights(dtype=dtype)
    source = SafetensorsDirectory(write(tmp_path, weights))
    assert set(source.weights) == set(weights)
    for name, weight in weights.items():
        read = source.read(name)
        assert read.dtype == dtype
        assert torch.equal(read, weight)


def test_headers_answer_shapes_and_formats(tmp_path: Path) -> None:
    source = SafetensorsDirectory(write_sharded(tmp_path, base_weights()))
    assert source.weights[Q] == Stored((24, 16), "bf16")


def test_one_file_goes_before_a_stale_index(tmp_path: Path) -> None:
    write_sharded(tmp_path, base_weights(seed=0))
    for shard in tmp_path.glob("model-*.safetensors"):
        shard.unlink()
    write_model(tmp_path, base_weights(seed=1))
    assert torch.equal(SafetensorsDirectory(tmp_path).read(Q), base_weights(seed=1)[Q])


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_sharded(tmp_path, base_weights())
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(RunError, match=r"model-00002-of-00002.safetensors: missing, though .*index.json names it"):
        _ = SafetensorsDirectory(tmp_path).weights


def test_a_shard_without_its_weight_is_a_stale_index(tmp_path: Path) -> None:
    write_sharded(tmp_path, base_weights())
    save_file({"other": torch.zeros(2, 2)}, tmp_path / "model-00001-of-00002.safetensors")
    with pytest.raises(RunError, match="the index is stale or the shard was overwritten"):
        _ = SafetensorsDirectory(tmp_path).weights


@pytest.mark.parametrize("keep", [0, 4, 8, 50, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: int) -> None:
    file = write_model(tmp_path, base_weights()) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(RunError, match="truncated or not a safetensors file"):
        _ = SafetensorsDirectory(tmp_path).weights


@pytest.mark.parametrize("where", ["../secret.safetensors", "/etc/passwd", "sub/file.safetensors", "..", ""])
def test_an_index_that_points_outside_is_refused(tmp_path: Path, where: str) -> None:
    save_file({Q: torch.ones(2, 2)}, tmp_path / "secret.safetensors")
    directory = write_sharded(tmp_path / "model", base_weights())
    index = json.loads((directory / INDEX).read_text())
    index["weight_map"][Q] = where
    (directory / INDEX).write_text(json.dumps(index))
    with pytest.raises(RunError, match="shards must be plain file names in the same directory"):
        _ = SafetensorsDirectory(directory).weights


def test_a_link_out_of_the_directory_is_refused(tmp_path: Path) -> None:
    outside = write_model(tmp_path / "outside", base_weights())
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "model.safetensors").symlink_to(outside / "model.safetensors")
    with pytest.raises(RunError, match=r"links to .*, outside .*; copy the file instead"):
        _ = SafetensorsDirectory(tmp_path / "inside").weights


def test_links_of_the_hub_cache_are_followed(tmp_path: Path) -> None:
    blobs = write_model(tmp_path / "models--org--name" / "blobs", base_weights())
    snapshot = tmp_path / "models--org--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to(blobs / "model.safetensors")
    assert Q in SafetensorsDirectory(snapshot).weights


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": [1]}', "[" * 100_000])
def test_an_index_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(RunError, match=INDEX):
        _ = SafetensorsDirectory(tmp_path).weights


def test_slices_of_a_distributed_checkpoint_are_not_taken_for_weights(tmp_path: Path) -> None:
    save_file({Q: torch.ones(2, 2)}, tmp_path / "model.safetensors", metadata={"DCP_SHARDING_INFO": "{}"})
    with pytest.raises(RunError, match="slices of tensors"):
        _ = SafetensorsDirectory(tmp_path).weights


@pytest.mark.parametrize("change", [Path.unlink, lambda file: file.write_bytes(file.read_bytes()[:3000])])
def test_a_file_that_changes_after_it_was_opened_is_refused(tmp_path: Path, change) -> None:
    source = SafetensorsDirectory(write_model(tmp_path, base_weights()))
    assert source.weights
    change(tmp_path / "model.safetensors")
    with pytest.raises(RunError, match="changed or removed since it was opened"):
        source.read(Q)
