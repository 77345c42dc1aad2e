from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import torch.distributed.tensor
from torch import Tensor

from geomcheck.checkpoints import Stored
from geomcheck.checkpoints.formats.ranked import RankedShards, holds_ranked
from geomcheck.errors import RunError
from tests.checkpoints.formats.hostile import attacks, rezip
from tests.checkpoints.formats.ranks import written_by_ranks

EMBED = "embed_tokens.weight"
RANK_0, RANK_1 = "model_world_size_2_rank_0.pt", "model_world_size_2_rank_1.pt"


@pytest.fixture(scope="session")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_by_ranks(tmp_path_factory)


@pytest.fixture(scope="session")
def full(ranks: Path) -> dict[str, Tensor]:
    return torch.load(ranks / "full.pt", weights_only=True)


@pytest.fixture
def actor(ranks: Path, tmp_path: Path) -> Path:
    """The tree of one verl checkpoint: two ranks, and what lies beside them."""
    actor = tmp_path / "run" / "global_step_10" / "actor"
    shutil.copytree(ranks / "fsdp2", actor)
    for rank in range(2):
        torch.save({"state": {}}, actor / f"optim_world_size_2_rank_{rank}.pt")
        torch.save({"lr_scheduler": {}}, actor / f"extra_state_world_size_2_rank_{rank}.pt")
    (actor / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": 2}))
    (actor / "huggingface").mkdir()
    (actor / "huggingface" / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
    return actor


@pytest.mark.parametrize("mesh", ["fsdp2", "accelerate", "hsdp", "three", "columns", "one"])
def test_weights_come_back_bit_for_bit(ranks: Path, full: dict[str, Tensor], mesh: str) -> None:
    source = RankedShards(ranks / mesh)
    assert holds_ranked(ranks / mesh)
    assert source.weights.keys() == full.keys()
    for name, weight in full.items():
        assert source.weights[name].shape == tuple(weight.shape)
        read = source.read(name)
        assert read.dtype == weight.dtype
        assert torch.equal(read, weight)


@pytest.mark.parametrize("mesh", ["fsdp2", "hsdp", "three", "columns"])
def test_one_index_is_the_slice_of_the_whole(ranks: Path, full: dict[str, Tensor], mesh: str) -> None:
    source = RankedShards(ranks / mesh)
    for name in (EMBED, "layers.1.gate.weight", "rope"):
        for row in range(len(full[name])):
            assert torch.equal(source.read(name, (row,)), full[name][row])
            assert torch.equal(source.read(name, (row, 5)), full[name][row, 5])
    with pytest.raises(IndexError):
        source.read(EMBED, (65,))


def test_a_verl_tree(actor: Path, full: dict[str, Tensor]) -> None:
    source = RankedShards(actor, root=actor.parent.parent)
    assert source.weights[EMBED] == Stored((65, 16), "fp32")
    assert source.weights["layers.1.q_proj.weight"] == Stored((24, 16), "bf16")
    assert source.files == (actor / RANK_0, actor / RANK_1)
    assert source.config == {"model_type": "qwen3"}
    assert torch.equal(source.read(EMBED), full[EMBED])


OLDER = [
    (b"ctorch.distributed.tensor\nDTensor\n", b"ctorch.distributed._tensor.api\nDTensor\n"),
    (b"ctorch.distributed.tensor.placement_types\n", b"ctorch.distributed._tensor.placement_types\n"),
    (b"ctorch.distributed.tensor._dtensor_spec\n", b"ctorch.distributed._tensor._dtensor_spec\n"),
    (b"X\x09\x00\x00\x00_rank_map", b"X\x04\x00\x00\x00mesh"),
    (b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:1"),
]


def test_shards_of_an_older_torch_and_of_gpus(actor: Path, full: dict[str, Tensor]) -> None:
    def rename(name: str, content: bytes) -> bytes:
        for new, old in OLDER if name.endswith("data.pkl") else []:
            assert new in content
            content = content.replace(new, old)
        return content

    for file in (RANK_0, RANK_1):
        rezip(actor / file, rename)
    source = RankedShards(actor)
    assert all(torch.equal(source.read(name), weight) for name, weight in full.items())


def test_a_newer_form_of_dtensors_is_named(actor: Path) -> None:
    key = (b"X\x12\x00\x00\x00_coordinate_on_dim", b"X\x12\x00\x00\x00_coordinate_anew__")
    for file in (RANK_0, RANK_1):
        rezip(actor / file, lambda name, content: content.replace(*key) if name.endswith("data.pkl") else content)
    with pytest.raises(RunError, match="its place in the device mesh is not known; was it written by a newer torch"):
        _ = RankedShards(actor).weights


def test_the_config_may_lie_beside_the_weights(actor: Path) -> None:
    shutil.rmtree(actor / "huggingface")
    assert RankedShards(actor).config == {}
    (actor / "config.json").write_text('{"model_type": "llama"}')
    assert RankedShards(actor).config == {"model_type": "llama"}


def test_one_rank_with_plain_tensors(tmp_path: Path, full: dict[str, Tensor]) -> None:
    torch.save(full, tmp_path / "model_world_size_1_rank_0.pt")
    source = RankedShards(tmp_path)
    assert all(torch.equal(source.read(name), weight) for name, weight in full.items())


@pytest.mark.parametrize(
    ("mesh", "missing"),
    [
        ("fsdp2", "model_world_size_2_rank_1.pt"),
        ("hsdp", "model_world_size_4_rank_1.pt"),
        ("accelerate", "pytorch_model_fsdp_0_rank1.bin"),
        ("three", "model_world_size_3_rank_1.pt"),
    ],
)
def test_a_missing_rank_is_named(ranks: Path, tmp_path: Path, mesh: str, missing: str) -> None:
    shutil.copytree(ranks / mesh, tmp_path / "actor")
    (tmp_path / "actor" / missing).unlink()
    with pytest.raises(RunError, match=r"rank 1 of \d missing .*copy the files of every rank"):
        _ = RankedShards(tmp_path / "actor").weights


def test_two_sets_of_ranks_need_a_config(actor: Path, ranks: Path, full: dict[str, Tensor]) -> None:
    for file in (ranks / "hsdp").iterdir():
        shutil.copy(file, actor)
    source = RankedShards(actor)
    assert torch.equal(source.read(EMBED), full[EMBED])
    assert source.files == (actor / "fsdp_config.json", actor / RANK_0, actor / RANK_1)
    (actor / "fsdp_config.json").unlink()
    with pytest.raises(RunError, match=r"model_world_size_2, model_world_size_4.*no fsdp_config.json"):
        _ = RankedShards(actor).weights


def test_a_rank_of_another_world_size_is_refused(actor: Path, ranks: Path) -> None:
    shutil.copy(ranks / "three" / "model_world_size_3_rank_1.pt", actor / RANK_1)
    with pytest.raises(RunError, match="written by .* ranks, not by those of the file names"):
        _ = RankedShards(actor).weights


def test_the_file_of_one_rank_twice_is_refused(actor: Path) -> None:
    shutil.copy(actor / RANK_0, actor / RANK_1)
    with pytest.raises(RunError, match="two ranks hold the same place in the device mesh"):
        _ = RankedShards(actor).weights


def test_files_swapped_between_ranks_are_put_in_order(actor: Path, full: dict[str, Tensor]) -> None:
    (actor / RANK_0).rename(actor / "other")
    (actor / RANK_1).rename(actor / RANK_0)
    (actor / "other").rename(actor / RANK_1)
    assert torch.equal(RankedShards(actor).read(EMBED), full[EMBED])


def test_ranks_that_disagree_on_placements_are_refused(actor: Path, ranks: Path) -> None:
    shutil.copy(ranks / "columns" / RANK_1, actor)
    with pytest.raises(RunError, match=r"disagree on its placements: \(0,\) and, on rank 1, \(1,\)"):
        _ = RankedShards(actor).weights


def _change(file: Path, **entries: Tensor) -> None:
    torch.save(torch.load(file, weights_only=True) | entries, file)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"rope": torch.ones(4, 9)}, r"rope: the ranks disagree on its shapes: \(4, 8\) and, on rank 1, \(4, 9\)"),
        ({"rope": torch.ones(4, 8).half()}, "rope: the ranks disagree on its dtypes"),
        ({EMBED: torch.ones(65, 16)}, "a DTensor on some ranks, a plain tensor on others"),
        ({"more": torch.ones(2)}, "more is on this rank or on rank 0, but not on both"),
    ],
)
def test_ranks_that_disagree_are_refused(actor: Path, entry: dict[str, Tensor], why: str) -> None:
    _change(actor / RANK_1, **entry)
    with pytest.raises(RunError, match=why):
        _ = RankedShards(actor).weights


def test_a_plain_matrix_that_differs_between_ranks_is_no_copy(actor: Path) -> None:
    _change(actor / RANK_1, rope=torch.ones(4, 8))
    source = RankedShards(actor)
    with pytest.raises(RunError, match="rope is no DTensor, and differs from the one of rank 0"):
        source.read("rope")


def test_plain_tensors_on_two_ranks_may_be_parts(tmp_path: Path) -> None:
    for file in (RANK_0, RANK_1):
        torch.save({"w": torch.ones(2, 2)}, tmp_path / file)
    with pytest.raises(RunError, match=r"may be copies or parts .*python -m verl.model_merger"):
        _ = RankedShards(tmp_path).weights


@pytest.mark.parametrize(
    ("mesh", "why"),
    [
        ("fsdp1", r"holds ShardedTensors .*python -m verl.model_merger merge"),
        ("partial", r"the placement Partial is not read.*python -m verl.model_merger merge"),
        ("strided", r"the placement _StridedShard is not read.*python -m verl.model_merger merge"),
        ("two_dims", r"sharded over two dimensions of the device mesh.*python -m verl.model_merger merge"),
    ],
)
def test_what_cannot_be_put_together_says_how_to_merge(ranks: Path, mesh: str, why: str) -> None:
    with pytest.raises(RunError, match=why):
        _ = RankedShards(ranks / mesh).weights


@pytest.mark.parametrize("call", ["os.system", "eval", "exec", "open", "getattr"])
def test_nothing_in_a_rank_is_executed(actor: Path, tmp_path: Path, call: str) -> None:
    marker = tmp_path / "executed"
    state = torch.load(actor / RANK_1, weights_only=True)
    torch.save({**state, "hook": attacks(marker)[call]}, actor / RANK_1)
    with pytest.raises(RunError, match=rf"{RANK_1}: not read: it names .*Nothing in the file was executed"):
        _ = RankedShards(actor).weights
    assert not marker.exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999])
def test_a_truncated_rank_is_refused(actor: Path, share: float) -> None:
    content = (actor / RANK_1).read_bytes()
    (actor / RANK_1).write_bytes(content[: int(share * len(content))])
    with pytest.raises(RunError, match=RANK_1):
        _ = RankedShards(actor).weights


def test_a_pipe_is_refused(actor: Path) -> None:
    (actor / RANK_1).unlink()
    os.mkfifo(actor / RANK_1)
    with pytest.raises(RunError, match="not a regular file"):
        _ = RankedShards(actor).weights


def test_a_link_out_of_the_run_is_refused(actor: Path, tmp_path: Path) -> None:
    shutil.move(actor / RANK_1, tmp_path / "outside.pt")
    (actor / RANK_1).symlink_to(tmp_path / "outside.pt")
    with pytest.raises(RunError, match=r"links to .*, outside"):
        _ = RankedShards(actor, root=actor.parent.parent).weights


def test_a_rank_that_changes_after_it_was_opened_is_refused(actor: Path) -> None:
    source = RankedShards(actor)
    assert source.weights
    (actor / RANK_1).write_bytes((actor / RANK_1).read_bytes()[:3000])
    with pytest.raises(RunError, match="changed or removed since it was opened"):
        source.read(EMBED)


@pytest.mark.parametrize("name", ["optim_world_size_2_rank_0.pt", "extra_state_world_size_2_rank_0.pt", "model.pt"])
def test_other_files_are_no_ranks(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert not holds_ranked(tmp_path)
