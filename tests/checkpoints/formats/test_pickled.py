from __future__ import annotations

import json
import os
import random
import shutil
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from geomcheck.checkpoints import Stored
from geomcheck.checkpoints.formats.pickled import INDEX, SINGLE, PickledDirectory, holds_pickled
from geomcheck.errors import RunError
from tests.checkpoints.formats.hostile import attacks, rezip
from tests.checkpoints.formats.ranks import written_by_ranks
from tests.runs import K, Q, base_weights

ZERO = "mp_rank_00_model_states.pt"
Save = Callable[[object, Path], None]


def legacy(state: object, path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


def new_protocol(state: object, path: Path) -> None:
    torch.save(state, path, pickle_protocol=5)


def _require_equal(source: PickledDirectory, weights: dict[str, Tensor]) -> None:
    assert source.weights.keys() == weights.keys()
    for name, weight in weights.items():
        read = source.read(name)
        assert source.weights[name].shape == tuple(weight.shape)
        assert read.dtype == weight.dtype
        assert torch.equal(read.reshape(-1).view(torch.uint8), weight.reshape(-1).view(torch.uint8))
        for row in range(len(weight) if weight.dim() and weight.numel() else 0):
            assert torch.equal(source.read(name, (row,)).float(), weight[row].float())


@pytest.mark.parametrize("save", [torch.save, legacy, new_protocol])
@pytest.mark.parametrize(
    "dtype",
    [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.float8_e4m3fn, torch.int64, torch.uint16],
)
def test_weights_come_back_bit_for_bit(tmp_path: Path, save: Save, dtype: torch.dtype) -> None:
    weights = base_weights(dtype=dtype)
    save(weights, tmp_path / SINGLE)
    assert holds_pickled(tmp_path)
    _require_equal(PickledDirectory(tmp_path), weights)


@pytest.mark.parametrize("save", [torch.save, legacy])
def test_views_parameters_and_odd_shapes(tmp_path: Path, save: Save) -> None:
    base = torch.randn(6, 8)
    marked = nn.Parameter(torch.randn(3, 3))
    marked.tensor_model_parallel = True
    attributed = torch.randn(2, 3)
    attributed.note = "kept beside the values"
    weights = {
        "whole": base,
        "tied": base,
        "rows": base[2:5],
        "transposed": base.t(),
        "strided": base[::2, 1::3],
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "flags": torch.tensor([True, False, True]),  # three bytes: what follows is not aligned in the legacy format
        "attributed": attributed,
        "parameter": nn.Parameter(torch.randn(2, 2)),
        "marked": marked,
        "last": torch.randn(5, 5, dtype=torch.float64),
    }
    save(weights, tmp_path / "model.pt")
    _require_equal(PickledDirectory(tmp_path), {name: weight.detach() for name, weight in weights.items()})


def test_headers_answer_shapes_and_formats(tmp_path: Path) -> None:
    torch.save(
        base_weights() | {"ids": torch.arange(3), "fp8": torch.ones(2).to(torch.float8_e4m3fn)}, tmp_path / SINGLE
    )
    weights = PickledDirectory(tmp_path).weights
    assert weights[Q] == Stored((24, 16), "bf16")
    assert weights["ids"] == Stored((3,), "I64")
    assert weights["fp8"] == Stored((2,), "F8_E4M3")


def test_a_module_state_dict_with_its_metadata(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    torch.save(module.state_dict(), tmp_path / "pytorch_model_fsdp.bin")
    _require_equal(PickledDirectory(tmp_path), dict(module.state_dict()))


def _sharded(directory: Path) -> dict[str, Tensor]:
    weights = base_weights()
    weight_map = {name: f"pytorch_model-0000{i % 2 + 1}-of-00002.bin" for i, name in enumerate(weights)}
    for file in set(weight_map.values()):
        torch.save({name: weights[name] for name, where in weight_map.items() if where == file}, directory / file)
    (directory / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return weights


def test_shards_with_an_index(tmp_path: Path) -> None:
    weights = _sharded(tmp_path)
    source = PickledDirectory(tmp_path)
    assert holds_pickled(tmp_path)
    _require_equal(source, weights)
    assert [file.name for file in source.files] == [
        *("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin", INDEX)
    ]


def test_one_file_goes_before_a_stale_index(tmp_path: Path) -> None:
    _sharded(tmp_path)
    torch.save(base_weights(seed=1), tmp_path / SINGLE)
    _require_equal(PickledDirectory(tmp_path), base_weights(seed=1))
    assert PickledDirectory(tmp_path).files == (tmp_path / SINGLE,)


def test_another_single_file_goes_first_on_request(tmp_path: Path) -> None:
    torch.save(base_weights(), tmp_path / SINGLE)
    torch.save({"lora_A": torch.ones(2, 3)}, tmp_path / "adapter_model.bin")
    source = PickledDirectory(tmp_path, single="adapter_model.bin")
    _require_equal(source, {"lora_A": torch.ones(2, 3)})
    assert source.files == (tmp_path / "adapter_model.bin",)


def test_complex_buffers_are_read_beside_weights(tmp_path: Path) -> None:
    weights = {**base_weights(), "freqs": torch.randn(3, 2, dtype=torch.complex64)}
    torch.save(weights, tmp_path / SINGLE)
    source = PickledDirectory(tmp_path)
    assert source.weights["freqs"] == Stored((3, 2), "C64")
    assert torch.equal(source.read("freqs", (1,)), weights["freqs"][1])


def test_a_missing_or_stale_shard_is_named(tmp_path: Path) -> None:
    _sharded(tmp_path)
    shard = tmp_path / "pytorch_model-00002-of-00002.bin"
    torch.save({"other": torch.ones(2)}, shard)
    with pytest.raises(RunError, match="the index is stale or the shard was overwritten"):
        _ = PickledDirectory(tmp_path).weights
    shard.unlink()
    with pytest.raises(RunError, match=r"00002.bin: missing, though .*index.json names it"):
        _ = PickledDirectory(tmp_path).weights


@pytest.mark.parametrize("where", ["../secret.bin", "/etc/passwd", "sub/file.bin", "..", ""])
def test_an_index_that_points_outside_is_refused(tmp_path: Path, where: str) -> None:
    (tmp_path / "model").mkdir()
    torch.save({Q: torch.ones(2, 2)}, tmp_path / "secret.bin")
    (tmp_path / "model" / INDEX).write_text(json.dumps({"weight_map": {Q: where}}))
    with pytest.raises(RunError, match="shards must be plain file names in the same directory"):
        _ = PickledDirectory(tmp_path / "model").weights


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "module", "model_state_dict"])
def test_a_wrapped_state_dict(tmp_path: Path, wrapper: str) -> None:
    weights = base_weights()
    torch.save({wrapper: weights, "epoch": 3, "optimizer": {"state": {0: torch.ones(2)}}}, tmp_path / "checkpoint.pt")
    _require_equal(PickledDirectory(tmp_path), weights)


def test_plain_values_beside_the_weights_are_left_out(tmp_path: Path) -> None:
    weights = base_weights()
    torch.save({**weights, "step": 7, "lr": 1e-5, "name": "run", "best": None}, tmp_path / "model.pth")
    _require_equal(PickledDirectory(tmp_path), weights)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"model": {"w": torch.ones(2)}, "module": {"w": torch.ones(2)}}, "tensors under model and module"),
        ({"model": {"w": torch.ones(2)}, "v": torch.ones(2)}, "tensors under the top level and model"),
        ({"w": torch.ones(2), "more": [torch.ones(2)]}, "its entry 'more' is a list, no tensor and no plain value"),
        ({"w": torch.ones(2), 3: torch.ones(2)}, "its entry '3' is a .*, no tensor and no plain value"),
        ({"epoch": 3}, "no tensors, neither at the top nor under one of state_dict"),
        ([torch.ones(2)], "it holds a list, not a state dict"),
        (torch.ones(2), "it holds a torch._utils._rebuild_tensor_v2, not a state dict"),
        ({"w": torch.ones(2).expand(1000, 2)}, r"shape \(1000, 2\) .* does not fit its storage of 8 bytes"),
        ({"w": torch.ones(2, dtype=torch.complex64).conj()}, "a tensor of a type that is not read"),
        ({"w": torch.ones(2, 2).to_sparse()}, "it names torch._utils._rebuild_sparse_tensor"),
        ({"w": nn.Linear(2, 2)}, r"it names .*torch.nn.modules.linear.Linear"),
        ({"w": {1, 2}}, "it names __builtin__.set|it names builtins.set|opcode EMPTY_SET"),
        ({"w": torch.ones(2), ("a", "b"): 1}, "a mapping with a tuple as a key"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: object, why: str) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(RunError, match=rf"model.pt: not read: .*{why}.*\. Nothing in the file was executed"):
        _ = PickledDirectory(tmp_path).weights


def test_one_rank_is_not_a_model(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    shutil.copy(written_by_ranks(tmp_path_factory) / "fsdp2" / "model_world_size_2_rank_0.pt", tmp_path / "model.pt")
    with pytest.raises(RunError, match=r"model.pt: .* is a DTensor, one rank's part of a weight"):
        _ = PickledDirectory(tmp_path).weights


def test_a_torchscript_program_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        for record in ("data.pkl", "constants.pkl"):
            archive.writestr(f"model/{record}", b"\x80\x02}.")
    with pytest.raises(RunError, match="a TorchScript program, not a state dict"):
        _ = PickledDirectory(tmp_path).weights


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "pytorch_model_fsdp.bin", "model.pt", "consolidated.00.pth", ZERO]
)
def test_names_that_mean_a_model(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert holds_pickled(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        *("training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "data.pt", "common.pt"),
        *("rng_state.pth", "rng_state_0.pth", "train_dataloader.pt", "adapter_model.bin", "model.safetensors"),
        *("extra_state_world_size_2_rank_0.pt", "model_world_size_2_rank_0.pt", "pytorch_model_fsdp_0_rank0.bin"),
    ],
)
def test_names_that_do_not(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert not holds_pickled(tmp_path)


def test_two_candidates_are_not_chosen_from(tmp_path: Path) -> None:
    for name in ("consolidated.00.pth", "consolidated.01.pth"):
        torch.save(base_weights(), tmp_path / name)
    with pytest.raises(RunError, match=r"consolidated.00.pth, consolidated.01.pth could be the model's state dict"):
        _ = PickledDirectory(tmp_path).weights


def test_deepspeed_up_to_stage_2(tmp_path: Path) -> None:
    weights = base_weights()
    state = {"module": weights, "buffer_names": [], "param_shapes": [{Q: weights[Q].shape}], "ds_version": "0.17"}
    torch.save(state, tmp_path / ZERO)
    _require_equal(PickledDirectory(tmp_path), weights)


@pytest.mark.parametrize(
    "names",
    [
        ["zero_pp_rank_0_mp_rank_00_model_states.pt"],
        [ZERO, "mp_rank_01_model_states.pt"],
        [ZERO, "layer_0_expert_1_mp_rank_00_model_states.pt"],
        [ZERO],  # with placeholders
    ],
)
def test_parts_of_deepspeed_say_how_to_put_them_together(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        torch.save({"module": {Q: torch.zeros(0), K: torch.ones(2)}}, tmp_path / name)
    with pytest.raises(RunError, match=r"python zero_to_fp32.py \. OUT"):
        _ = PickledDirectory(tmp_path).weights


@pytest.mark.parametrize("save", [torch.save, legacy, new_protocol])
@pytest.mark.parametrize("file", [SINGLE, "model.pt", ZERO])
@pytest.mark.parametrize("call", ["os.system", "eval", "exec", "open", "getattr"])
def test_nothing_is_executed(tmp_path: Path, save: Save, file: str, call: str) -> None:
    marker = tmp_path / "executed"
    attack = attacks(marker)[call]
    for content in (
        {"w": torch.ones(2), "x": attack},
        {"model": {"w": attack}},
        {"model": {}, "deep": [[attack]]},
        attack,
    ):
        save(content, tmp_path / file)
        with pytest.raises(RunError, match=rf"{file}: not read: .*Nothing in the file was executed"):
            _ = PickledDirectory(tmp_path).weights
        assert not marker.exists()


@pytest.mark.parametrize(
    "pickle", [b"cos\nsystem\n(S'touch %s'\ntR.", b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R."]
)
def test_nothing_in_a_bare_pickle_is_executed(tmp_path: Path, pickle: bytes) -> None:
    marker = tmp_path / "executed"
    torch.save({"w": torch.ones(2)}, tmp_path / "model.pt")
    pickle = pickle.replace(b"%s", str(marker).encode())
    rezip(tmp_path / "model.pt", lambda name, content: pickle if name.endswith("data.pkl") else content)
    with pytest.raises(RunError, match=r"Nothing in the file was executed"):
        _ = PickledDirectory(tmp_path).weights
    (tmp_path / "model.pt").write_bytes(pickle)
    with pytest.raises(RunError, match=r"Nothing in the file was executed"):
        _ = PickledDirectory(tmp_path).weights
    assert not marker.exists()


def _written(directory: Path, save: Save) -> bytes:
    save(base_weights(), directory / SINGLE)
    return (directory / SINGLE).read_bytes()


def _read_all(directory: Path) -> None:
    source = PickledDirectory(directory)
    for name in source.weights:
        source.read(name).sum()


@pytest.mark.parametrize("save", [torch.save, legacy])
@given(share=st.floats(0, 1, exclude_max=True))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_truncated_file_is_refused(tmp_path: Path, save: Save, share: float) -> None:
    content = _written(tmp_path, save)
    (tmp_path / SINGLE).write_bytes(content[: int(share * len(content))])
    with pytest.raises(RunError, match=SINGLE):
        _ = PickledDirectory(tmp_path).weights


@pytest.mark.parametrize("save", [torch.save, legacy])
def test_a_damaged_file_is_read_or_refused_but_never_crashes(tmp_path: Path, save: Save) -> None:
    content = _written(tmp_path, save)
    generator = random.Random(0)
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(generator.choice([1, 1, 4])):
            near = generator.choice(
                [0, len(damaged) - 700, generator.randrange(len(damaged))]
            )  # the pickle, the directory
            at = (near + generator.randrange(700)) % len(damaged)
            damaged[at] = generator.choice([0, 255, generator.randrange(256)])
        (tmp_path / SINGLE).write_bytes(damaged)
        try:
            _read_all(tmp_path)
        except RunError as error:
            assert SINGLE in str(error)  # noqa: PT017  (most damage hits the data, and is not seen)


@pytest.mark.parametrize("save", [torch.save, legacy])
@pytest.mark.parametrize("start", [0.0, 0.5, 0.9])
def test_a_zero_filled_tail_is_refused(tmp_path: Path, save: Save, start: float) -> None:
    content = _written(tmp_path, save)
    keep = int(start * len(content)) if save is torch.save else min(int(start * len(content)), 300)
    (tmp_path / SINGLE).write_bytes(content[:keep] + bytes(len(content) - keep))
    with pytest.raises(RunError, match=SINGLE):
        _ = PickledDirectory(tmp_path).weights


def _patched(old: bytes, new: bytes) -> Callable[[str, bytes], bytes]:
    def edit(name: str, content: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return content
        assert old in content
        return content.replace(old, new)

    return edit


@pytest.mark.parametrize(
    "count", [b"J\xff\xff\xff\x7f", b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", b"J\xff\xff\xff\xff"]
)
def test_a_shape_beyond_the_storage_is_refused(tmp_path: Path, count: bytes) -> None:
    torch.save({"w": torch.ones(7, 11)}, tmp_path / "model.pt")
    rezip(tmp_path / "model.pt", _patched(b"K\x07K\x0b\x86", count + b"K\x0b\x86"))
    with pytest.raises(RunError, match=r"does not fit its storage|whose shape is none"):
        _ = PickledDirectory(tmp_path).weights


def test_a_storage_smaller_than_its_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(7, 11)}, tmp_path / "model.pt")
    rezip(tmp_path / "model.pt", lambda name, content: content[:100] if name.endswith("data/0") else content)
    with pytest.raises(RunError, match="its storage '0' is missing, or not as large as its tensors need"):
        _ = PickledDirectory(tmp_path).weights


def test_an_offset_behind_the_storage_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.arange(200.0)[77:88]}, tmp_path / "model.pt")
    rezip(tmp_path / "model.pt", _patched(b"K\x4dK\x0b\x85", b"K\xfeK\x0b\x85"))
    with pytest.raises(RunError, match="does not fit its storage"):
        _ = PickledDirectory(tmp_path).weights


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1000, 1000)}, tmp_path / "model.pt")
    rezip(tmp_path / "model.pt", lambda _, content: content, zipfile.ZIP_DEFLATED)
    assert (tmp_path / "model.pt").stat().st_size < 10_000
    with pytest.raises(RunError, match="is compressed or encrypted"):
        _ = PickledDirectory(tmp_path).weights


def _directory_entry(content: bytes, record: bytes) -> int:
    """Where the entry of a record begins in the directory of a zip archive."""
    return content.rindex(record) - 46


@pytest.mark.parametrize(
    ("field", "value"),
    [(20, b"\x00\x00\x00\x70" * 2), (42, b"\x03\x00\x00\x00"), (42, b"\xf0\xff\xff\x7f")],
    ids=["size", "position", "position beyond the end"],
)
def test_a_directory_that_lies_is_refused(tmp_path: Path, field: int, value: bytes) -> None:
    torch.save({"w": torch.ones(7, 11)}, tmp_path / "model.pt")
    rezip(tmp_path / "model.pt", lambda _, content: content)
    content = bytearray((tmp_path / "model.pt").read_bytes())
    at = _directory_entry(bytes(content), b"model/data/0") + field
    content[at : at + len(value)] = value
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(RunError, match=r"beyond its place|where no record begins"):
        _ = PickledDirectory(tmp_path).weights


def test_a_record_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "model.pt")
    with zipfile.ZipFile(tmp_path / "model.pt", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("model/data/0", bytes(8))
    with pytest.raises(RunError, match="twice"):
        _ = PickledDirectory(tmp_path).weights


@pytest.mark.parametrize("file", [SINGLE, "model.pt"])
def test_only_regular_files_inside_the_run_are_opened(tmp_path: Path, file: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    os.mkfifo(run / file)
    with pytest.raises(RunError, match="not a regular file"):
        _ = PickledDirectory(run).weights
    (run / file).unlink()
    torch.save(base_weights(), tmp_path / "outside.bin")
    (run / file).symlink_to(tmp_path / "outside.bin")
    with pytest.raises(RunError, match=r"links to .*, outside"):
        _ = PickledDirectory(run).weights


def test_links_of_the_hub_cache_are_followed(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--org--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--org--name" / "blobs").mkdir()
    torch.save(base_weights(), tmp_path / "models--org--name" / "blobs" / "123")
    (snapshot / SINGLE).symlink_to(tmp_path / "models--org--name" / "blobs" / "123")
    _require_equal(PickledDirectory(snapshot), base_weights())


@pytest.mark.parametrize("change", [Path.unlink, partial(shutil.copy, __file__)])
def test_a_file_that_changes_after_it_was_opened_is_refused(tmp_path: Path, change: Callable[[Path], object]) -> None:
    torch.save(base_weights(), tmp_path / SINGLE)
    source = PickledDirectory(tmp_path)
    assert source.weights
    change(tmp_path / SINGLE)
    with pytest.raises(RunError, match="changed or removed since it was opened"):
        source.read(Q)
