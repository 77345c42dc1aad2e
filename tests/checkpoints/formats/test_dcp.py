from __future__ import annotations

import builtins
import contextlib
import io
import json
import os
import pickle
import random
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata

from geomcheck.checkpoints import Stored
from geomcheck.checkpoints.formats.dcp import DistributedCheckpoint, holds_dcp
from geomcheck.errors import RunError
from tests.checkpoints.dcp_files import (
    Box,
    Runs,
    as_megatron_metadata,
    by_layer,
    chunk_places,
    rewrite,
    save,
    save_chunks,
    whole,
)
from tests.runs import DOWN, Q, base_weights

DTYPES = {
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.float32: "fp32",
    torch.float64: "fp64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.int64: "I64",
    torch.bool: "BOOL",
}


def read_all(directory: Path) -> dict[str, torch.Tensor]:
    source = DistributedCheckpoint(directory)
    return {name: source.read(name) for name in source.weights}


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_come_back_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    weights = {name: weight.to(dtype) for name, weight in base_weights(dtype=torch.float32).items()}
    source = DistributedCheckpoint(save(tmp_path, weights))
    assert source.weights == {name: Stored(tuple(w.shape), DTYPES[dtype]) for name, w in weights.items()}
    for name, weight in weights.items():
        read = source.read(name)
        assert read.dtype == dtype
        assert torch.equal(read.view(torch.uint8), weight.view(torch.uint8))


def test_scalars_empty_tensors_and_views_come_back(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    tensors = {"scalar": torch.tensor(3.5), "empty": torch.zeros(0, 4), "turned": base.T, "row": base[1:2], "w": base}
    read = read_all(save(tmp_path, tensors))
    for name, tensor in tensors.items():
        assert torch.equal(read[name], tensor), name
    assert torch.equal(DistributedCheckpoint(tmp_path).read("turned", (4, 1)), base[1, 4])


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that two processes wrote together with FSDP2, and beside it the whole model."""
    directory = tmp_path_factory.mktemp("fsdp2")
    script = Path(__file__).with_name("fsdp2_save.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(directory)], env=environment, stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    try:
        for rank in ranks:
            _, errors = rank.communicate(timeout=120)
            assert rank.returncode == 0, errors
    finally:
        for rank in ranks:
            rank.kill()
    return directory


def test_the_shards_of_two_processes_are_put_together(two_processes: Path) -> None:
    source = DistributedCheckpoint(two_processes / "checkpoint")
    expected = torch.load(two_processes / "whole.pt", weights_only=True)
    assert set(source.weights) == {f"model.{name}" for name in [*expected, "counter"]}
    for name, weight in expected.items():
        assert torch.equal(source.read(f"model.{name}"), weight), name
    assert [file.name for file in source.files] == [".metadata", "__0_0.distcp", "__1_0.distcp"]
    embedding = expected["0.weight"]
    for row in (0, 32, 33, 64):  # 65 rows on two processes: 33 and 32
        assert torch.equal(source.read("model.0.weight", (row,)), embedding[row])


def test_a_missing_shard_is_named(two_processes: Path, tmp_path: Path) -> None:
    for file in (two_processes / "checkpoint").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "__1_0.distcp").unlink()
    with pytest.raises(RunError, match=r"__1_0.distcp: missing, though .metadata places weights in it"):
        _ = DistributedCheckpoint(tmp_path).weights


def test_optimizer_random_and_other_states_are_left_out(tmp_path: Path) -> None:
    state = torch.ones(2)
    names = [
        "optimizer.state.exp_avg",
        "app.optimizers.0.w",
        "optim.w",
        "dcp.optim.state.w",
        "chained_0.optimizer.state.w",
        "rng_state",
        "rng_state/shard_0_1",
        "decoder.layers.0.mlp.linear_fc1._extra_state/shard_0_1",
        "rerun_state_machine_state",
        "opt_param_scheduler.lr",
        "lr_scheduler.last",
        "train_state.step",
    ]
    kept = ["model.optimized.weight", "app.model.layers.0.weight", "scheduled.weight"]
    save_chunks(tmp_path, {name: (state, whole(state)) for name in [*names, *kept]})
    assert set(DistributedCheckpoint(tmp_path).weights) == set(kept)


def test_a_checkpoint_without_weights_says_so(tmp_path: Path) -> None:
    save(tmp_path, {"optimizer": {"state": torch.ones(2)}, "step": 3})
    with pytest.raises(RunError, match="lists no weights, only optimizer or other states"):
        _ = DistributedCheckpoint(tmp_path).weights


def test_a_save_that_was_never_finished_is_recognised(tmp_path: Path) -> None:
    assert not holds_dcp(tmp_path)
    save(tmp_path, base_weights())
    assert holds_dcp(tmp_path)
    (tmp_path / ".metadata").rename(tmp_path / ".metadata.tmp")
    assert holds_dcp(tmp_path)
    with pytest.raises(RunError, match="no .metadata, which is written last: the save was never finished"):
        _ = DistributedCheckpoint(tmp_path).weights


def test_metadata_of_megatrons_own_class_is_read(tmp_path: Path) -> None:
    weights = base_weights()
    as_megatron_metadata(save(tmp_path, weights))
    with pytest.raises(ModuleNotFoundError, match="megatron"):
        pickle.loads((tmp_path / ".metadata").read_bytes())
    assert torch.equal(read_all(tmp_path)[Q], weights[Q])


@pytest.mark.parametrize("place", [".", "huggingface", "../huggingface"])
def test_the_config_lies_in_or_beside_the_directory(tmp_path: Path, place: str) -> None:
    directory = save(tmp_path / "actor" / "dist_ckpt", base_weights())
    assert DistributedCheckpoint(directory, root=tmp_path).config == {}
    (directory / place).mkdir(exist_ok=True)
    (directory / place / "config.json").write_text('{"model_type": "qwen3"}')
    assert DistributedCheckpoint(directory, root=tmp_path).config == {"model_type": "qwen3"}
    if place == "../huggingface":
        assert DistributedCheckpoint(directory).config == {}


def test_a_slice_reads_its_own_bytes_alone(tmp_path: Path) -> None:
    stack = torch.randn(6, 8, 4)
    source = DistributedCheckpoint(
        save_chunks(tmp_path, {"stack": (stack, by_layer(stack)), "one": (stack, whole(stack))})
    )
    _ = source.weights
    distcp = tmp_path / "__0_0.distcp"
    start = distcp.read_bytes().index(stack[4].numpy().tobytes())
    with distcp.open("r+b") as file:  # everything but layer 4 of the stack is gone
        file.write(bytes(start))
    source = DistributedCheckpoint(tmp_path)
    assert torch.equal(source.read("stack", (5,)), stack[5])
    with pytest.raises(RunError, match="a part of stack, "):
        source.read("stack", (3,))


def test_one_row_of_a_chunk_takes_the_memory_of_one_row(tmp_path: Path) -> None:
    experts = torch.randn(64, 32, 32)
    source = DistributedCheckpoint(save(tmp_path, {"experts": experts}))
    read = source.read("experts", (5,))
    assert torch.equal(read, experts[5])
    assert read.untyped_storage().nbytes() == experts[5].nbytes


@st.composite
def tilings(draw: st.DrawFn) -> tuple[tuple[int, ...], list[Box]]:
    """A shape, cut at random places into boxes again and again."""
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    boxes: list[Box] = [((0,) * len(shape), shape)]
    for _ in range(draw(st.integers(0, 8))):
        offsets, sizes = boxes.pop(draw(st.integers(0, len(boxes) - 1)))
        axis = draw(st.integers(0, len(shape) - 1))
        first = draw(st.integers(1, max(1, sizes[axis] - 1)))
        boxes.append((offsets, tuple(first if a == axis else n for a, n in enumerate(sizes))))
        if sizes[axis] > first:
            boxes.append(
                (
                    tuple(o + first if a == axis else o for a, o in enumerate(offsets)),
                    tuple(n - first if a == axis else n for a, n in enumerate(sizes)),
                )
            )
    return shape, draw(st.permutations(boxes))


@settings(max_examples=60, deadline=None)
@given(tilings(), st.integers(1, 3), st.data())
def test_any_tiling_is_put_together_and_any_slice_is_the_tensors(
    tiling: tuple[tuple[int, ...], list[Box]], files: int, data: st.DataObject
) -> None:
    shape, boxes = tiling
    tensor = torch.arange(torch.Size(shape).numel()).reshape(shape)
    depth = data.draw(st.integers(0, len(shape)))
    at = tuple(data.draw(st.integers(0, n - 1)) for n in shape[:depth])
    with tempfile.TemporaryDirectory() as directory:
        source = DistributedCheckpoint(save_chunks(Path(directory), {"t": (tensor, boxes)}, min(files, len(boxes))))
        assert torch.equal(source.read("t"), tensor)
        assert torch.equal(source.read("t", at), tensor[at])


@settings(max_examples=60, deadline=None)
@given(tilings(), st.data())
def test_a_tiling_with_a_box_moved_lost_or_doubled_is_refused(
    tiling: tuple[tuple[int, ...], list[Box]], data: st.DataObject
) -> None:
    shape, boxes = tiling
    tensor = torch.zeros([2 * n for n in shape])
    number = data.draw(st.integers(0, len(boxes) - 1))
    offsets, sizes = boxes[number]
    axis = data.draw(st.integers(0, len(shape) - 1))
    moved = (tuple(o + (a == axis) for a, o in enumerate(offsets)), sizes)
    change = data.draw(st.sampled_from([[], [moved], [boxes[number], moved]]))
    broken = [*boxes[:number], *change, *boxes[number + 1 :]]
    if len({o for o, _ in broken}) < len(broken):
        return  # two chunks at one place are one key of the metadata

    def shrink(metadata: Metadata) -> None:
        metadata.state_dict_metadata["t"].size = torch.Size(shape)

    with tempfile.TemporaryDirectory() as directory:
        rewrite(save_chunks(Path(directory), {"t": (tensor, broken)}), shrink)
        with pytest.raises(RunError, match=r"the \d+ chunks of t do not tile .* exactly: there is a gap or an overlap"):
            _ = DistributedCheckpoint(Path(directory)).weights


def test_thousands_of_chunks_are_checked_in_no_time(tmp_path: Path) -> None:
    grid = torch.arange(80.0 * 80).reshape(80, 80)
    boxes: list[Box] = [((i, j), (1, 1)) for i in range(80) for j in range(80)]
    source = DistributedCheckpoint(save_chunks(tmp_path, {"grid": (grid, boxes)}))
    assert torch.equal(source.read("grid", (7,)), grid[7])


# What a hostile or damaged checkpoint may hold.


def store(metadata: Metadata, **fields: object) -> None:
    """Change where the first chunk of Q is said to lie."""
    info = metadata.storage_data[chunk_places(metadata, Q)[0]]
    for field, value in fields.items():
        object.__setattr__(info, field, value)


CHANGES: dict[str, tuple[Callable[[Metadata], object], str]] = {
    "parent": (lambda m: store(m, relative_path="../x.distcp"), "files with plain names in the same directory"),
    "absolute": (lambda m: store(m, relative_path="/etc/passwd"), "files with plain names in the same directory"),
    "null": (lambda m: store(m, relative_path="a\0b"), "files with plain names in the same directory"),
    "long": (lambda m: store(m, relative_path="a" * 300), "files with plain names in the same directory"),
    "bytes": (lambda m: store(m, relative_path=b"__0_0.distcp"), "files with plain names in the same directory"),
    "elsewhere": (lambda m: store(m, relative_path="__9_0.distcp"), "__9_0.distcp: missing"),
    "negative": (lambda m: store(m, offset=-1), "an offset or with a length that is none"),
    "fraction": (lambda m: store(m, offset=1.0), "an offset or with a length that is none"),
    "true": (lambda m: store(m, offset=True), "an offset or with a length that is none"),
    "large number": (lambda m: store(m, offset=10**100), "an offset or with a length that is none"),
    "huge number": (lambda m: store(m, offset=10**100_000), "an integer of 332193 bits"),
    "beyond": (lambda m: store(m, offset=10**9), r"bytes where .metadata describes \d+: the save is incomplete"),
    "far beyond": (lambda m: store(m, offset=10**18), r"bytes where .metadata describes \d+: the save is incomplete"),
    "too long": (lambda m: store(m, length=10**18), r"gives 1000000000000000000 bytes to the chunk"),
    "too short": (lambda m: store(m, length=10), r"gives 10 bytes to the chunk"),
    "other chunk": (
        lambda m: store(m, offset=m.storage_data[chunk_places(m, DOWN)[0]].offset),
        r"a part of .*q_proj.weight, holds \[16, 24\] elements of bfloat16 where .metadata announces \[24, 16\]",
    ),
    "compressed": (lambda m: store(m, transform_descriptors=["zstd"]), "is compressed or otherwise transformed"),
    "vast": (lambda m: setattr(m.state_dict_metadata[Q], "size", torch.Size([10**9, 10**9])), "do not tile"),
    "vast chunk": (
        lambda m: [
            setattr(m.state_dict_metadata[Q], "size", torch.Size([10**9, 10**9])),
            setattr(m.state_dict_metadata[Q].chunks[0], "sizes", torch.Size([10**9, 10**9])),
        ],
        r"gives \d+ bytes to the chunk",
    ),
    "other shape": (
        lambda m: [
            setattr(m.state_dict_metadata[Q], "size", torch.Size([16, 24])),
            setattr(m.state_dict_metadata[Q].chunks[0], "sizes", torch.Size([16, 24])),
        ],
        r"holds \[24, 16\] elements of bfloat16 where .metadata announces \[16, 24\]",
    ),
    "other type": (
        lambda m: setattr(m.state_dict_metadata[Q].properties, "dtype", torch.float16),
        r"of bfloat16 where .metadata announces \[24, 16\] of float16",
    ),
    "odd type": (
        lambda m: setattr(m.state_dict_metadata[Q].properties, "dtype", torch.uint4),
        "has the type uint4, which is not among",
    ),
    "no type": (lambda m: setattr(m.state_dict_metadata[Q].properties, "dtype", 3), "has the type none"),
    "nine dimensions": (lambda m: setattr(m.state_dict_metadata[Q], "size", torch.Size([1] * 9)), "a size or offset"),
    "no size": (lambda m: setattr(m.state_dict_metadata[Q], "size", "big"), "a size or offset that is none"),
    "no chunks": (lambda m: setattr(m.state_dict_metadata[Q], "chunks", None), "has no list of chunks"),
    "odd chunk": (lambda m: setattr(m.state_dict_metadata[Q], "chunks", [None]), "a size or offset that is none"),
    "unplaced": (lambda m: m.storage_data.pop(chunk_places(m, Q)[0]), "has 1 chunks, of which 1 lie in no file"),
    "moved": (
        lambda m: setattr(m.state_dict_metadata[Q].chunks[0], "offsets", torch.Size([1, 0])),
        r"has a chunk at \[1, 0\] that lies in no file",
    ),
    "many empty chunks": (
        lambda m: m.state_dict_metadata[Q].chunks.extend(
            [ChunkStorageMetadata(torch.Size([0, 0]), torch.Size([0, 0]))] * 100_000
        ),
        "has 100001 chunks, of which 100000 lie in no file",
    ),
    "no places": (lambda m: setattr(m, "storage_data", None), "holds no metadata of a checkpoint"),
    "no tensors": (lambda m: m.state_dict_metadata.clear(), "lists no weights"),
    "odd name": (lambda m: m.state_dict_metadata.update({7: m.state_dict_metadata[Q]}), "something that is no name"),
    "control characters": (lambda m: m.state_dict_metadata.update({"\x1b[2J": m.state_dict_metadata[Q]}), "no name"),
    "odd place": (lambda m: m.storage_data.update({3: 4}), "places something that is no chunk"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_metadata_that_does_not_hold_is_refused(tmp_path: Path, change: str) -> None:
    alter, message = CHANGES[change]
    (tmp_path / "x.distcp").write_bytes(b"secret")
    rewrite(save(tmp_path / "run", base_weights()), alter)
    with pytest.raises(RunError, match=message):
        read_all(tmp_path / "run")


@pytest.mark.parametrize(
    "what",
    [
        lambda marker: Runs(os.system, f"touch {marker}"),
        lambda marker: Runs(builtins.eval, f"open({marker!r}, 'w')"),
        lambda marker: Runs(builtins.getattr, os.system, marker),
        lambda marker: Runs(subprocess.check_call, ["touch", marker]),
        lambda marker: Runs(torch.hub.load, marker, "model"),
        lambda marker: Runs(torch.load, marker),
        lambda marker: Runs(torch._utils._rebuild_parameter_with_state, torch.ones(1), False, {}, {"a": 1}),
        lambda marker: Runs(torch.save, [1], marker),
        lambda marker: Runs(os.mkdir, marker),
        lambda marker: Runs(torch.distributed.checkpoint.FileSystemReader, marker),
    ],
)
@pytest.mark.parametrize("place", ["metadata", "planner", "chunk"])
def test_nothing_that_a_file_carries_is_run(tmp_path: Path, what: Callable[[str], object], place: str) -> None:
    marker = tmp_path / "ran"
    directory = save(tmp_path / "run", base_weights())
    if place == "metadata":
        (directory / ".metadata").write_bytes(pickle.dumps(what(str(marker))))
    elif place == "planner":
        rewrite_with = pickle.loads((directory / ".metadata").read_bytes())
        rewrite_with.planner_data = {"plan": what(str(marker))}
        (directory / ".metadata").write_bytes(pickle.dumps(rewrite_with))
    else:
        replace_chunk(directory, what(str(marker)))
    with pytest.raises(RunError, match=r"names '|holds"):
        read_all(directory)
    assert not marker.exists()


def replace_chunk(directory: Path, content: object) -> None:
    """Let the only chunk of a checkpoint of one weight be another object."""
    chunk = io.BytesIO()
    torch.save(content, chunk)
    put_chunk(directory, chunk.getvalue())


def put_chunk(directory: Path, content: bytes) -> None:
    save_chunks(directory, {Q: (base_weights()[Q], whole(base_weights()[Q]))})
    missing = max(0, base_weights()[Q].nbytes - len(content))
    content = bytes(missing) + content  # a zip file is found from its end
    (directory / "__0_0.distcp").write_bytes(content)
    rewrite(directory, lambda m: store(m, offset=0, length=len(content)))


@pytest.mark.parametrize(
    "content",
    [
        torch.ones(24, 16),
        torch.ones(24, 16, dtype=torch.float16),
        torch.ones(16, 24, dtype=torch.bfloat16),
        torch.ones(24, 16, dtype=torch.bfloat16).to_sparse(),
        torch.ones(24, 16, dtype=torch.bfloat16, device="meta"),
        torch.ones(24, 16, dtype=torch.complex64),
        torch.nn.Parameter(torch.ones(24, 16, dtype=torch.bfloat16)),
        [torch.ones(24, 16, dtype=torch.bfloat16)],
        {"w": 1},
        bytearray(1000),
        None,
    ],
)
def test_a_chunk_that_is_something_else_is_refused(tmp_path: Path, content: object) -> None:
    replace_chunk(tmp_path, content)
    with pytest.raises(RunError, match=f"a part of {Q}, .*; the save is damaged"):
        DistributedCheckpoint(tmp_path).read(Q)


def test_a_compressed_chunk_is_refused(tmp_path: Path) -> None:
    plain, packed = io.BytesIO(), io.BytesIO()
    torch.save(base_weights()[Q], plain)
    with zipfile.ZipFile(plain) as archive, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as copy:
        for name in archive.namelist():
            copy.writestr(name, archive.read(name))
    put_chunk(tmp_path, packed.getvalue())
    with pytest.raises(RunError, match="is not what torch.save writes"):
        DistributedCheckpoint(tmp_path).read(Q)


def test_chunks_without_checksums_are_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        save(tmp_path, base_weights())
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read_all(tmp_path)[Q], base_weights()[Q])


@pytest.mark.parametrize("file", [".metadata", "__0_0.distcp"])
@pytest.mark.parametrize("damage", ["cut", "zeros", "noise"])
def test_damage_at_any_place_is_an_error_or_harmless(tmp_path: Path, file: str, damage: str) -> None:
    weights = {Q: base_weights()[Q], DOWN: base_weights()[DOWN]}
    content = (save(tmp_path, weights) / file).read_bytes()
    draw = random.Random(0)
    for place in [0, 1, len(content) - 1, *(draw.randrange(len(content)) for _ in range(60))]:
        if damage == "cut":
            broken = content[:place]
        elif damage == "zeros":
            broken = content[:place] + bytes(len(content) - place)
        else:
            broken = content[:place] + draw.randbytes(4) + content[place + 4 :]
        (tmp_path / file).write_bytes(broken)
        if damage != "noise" and broken != content:  # zeros may be where zeros were
            with pytest.raises(RunError, match=file):
                read_all(tmp_path)
        else:  # nothing guards the values themselves
            with contextlib.suppress(RunError):
                read_all(tmp_path)


def test_a_chunk_of_zeros_is_refused_though_its_length_fits(tmp_path: Path) -> None:
    file = save(tmp_path, base_weights()) / "__0_0.distcp"
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(RunError, match="is not what torch.save writes"):
        read_all(tmp_path)


def test_a_file_longer_than_described_is_of_another_save(tmp_path: Path) -> None:
    file = save(tmp_path, base_weights()) / "__0_0.distcp"
    file.write_bytes(file.read_bytes() + b"more")
    with pytest.raises(RunError, match="the save is incomplete, or the files are of two saves"):
        read_all(tmp_path)


@pytest.mark.parametrize("file", [".metadata", "__0_0.distcp"])
def test_pipes_directories_and_links_out_are_refused(tmp_path: Path, file: str) -> None:
    directory = save(tmp_path / "run", base_weights())
    (directory / file).rename(tmp_path / "outside")
    (directory / file).symlink_to(tmp_path / "outside")
    with pytest.raises(RunError, match=r"links to .*, outside .*; copy the file instead"):
        read_all(directory)
    (directory / file).unlink()
    os.mkfifo(directory / file)
    with pytest.raises(RunError, match="not a regular file"):
        read_all(directory)
    (directory / file).unlink()
    (directory / file).mkdir()
    with pytest.raises(RunError, match="not a regular file"):
        read_all(directory)


def test_metadata_without_bounds_is_not_read(tmp_path: Path) -> None:
    save(tmp_path, base_weights())
    with (tmp_path / ".metadata").open("r+b") as file:
        file.truncate(10**12)
    with pytest.raises(RunError, match="1000000000000 bytes, more than the"):
        read_all(tmp_path)


@pytest.mark.parametrize("change", [Path.unlink, lambda file: file.write_bytes(file.read_bytes()[:3000])])
def test_a_file_that_changes_after_it_was_opened_is_refused(tmp_path: Path, change: Callable[[Path], object]) -> None:
    source = DistributedCheckpoint(save(tmp_path, base_weights()))
    assert source.weights
    change(tmp_path / "__0_0.distcp")
    with pytest.raises(RunError, match="changed or removed since it was opened"):
        source.read(Q)


def test_a_source_travels_to_another_process(tmp_path: Path) -> None:
    source = DistributedCheckpoint(save(tmp_path, base_weights()))
    assert source.weights
    assert torch.equal(pickle.loads(pickle.dumps(source)).read(Q), base_weights()[Q])


def test_config_that_is_none_is_refused(tmp_path: Path) -> None:
    save(tmp_path, base_weights())
    (tmp_path / "config.json").write_text(json.dumps([1]))
    with pytest.raises(RunError, match=r"config.json"):
        _ = DistributedCheckpoint(tmp_path).config
