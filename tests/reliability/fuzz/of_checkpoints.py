"""The files of checkpoints as targets: weights in every format, and what lies beside them."""

from __future__ import annotations

import argparse
import io
import pickle
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save

from geomcheck.checkpoints.formats.torch_save.pickle_data import PickleProblem, read_pickle
from tests.checkpoints import dcp_files
from tests.reliability.fuzz.places import (
    SEEDS,
    K,
    Q,
    around,
    as_json,
    header_of,
    look,
    model,
    put,
    safetensors_of,
    saved,
    torch_zip,
    unzipped,
    weights,
    without_checksums,
)
from tests.reliability.fuzz.target import Target

_STEP = "checkpoint-1"
_STATE = {f"{_STEP}/trainer_state.json": '{"global_step": 1, "max_steps": 2}'}
_MODEL = {f"{_STEP}/model.safetensors": model(1.0), **_STATE}
_CONFIG = {"model_type": "qwen3", "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 2, "hidden_size": 3}


def _file(
    name: str, where: str, seeds: Callable[[], Mapping[str, bytes]], beside: Mapping[str, bytes | str] = _STATE
) -> Target:
    """A file of a run that the whole run is opened with."""

    def parse(content: bytes, scratch: Path) -> None:
        run = around(scratch, beside)
        put(run / where, content)
        look(run)

    return Target(name, parse, seeds)


def _wrapped(
    target: Target, name: str, wrap: Callable[[bytes], bytes], seeds: Callable[[], Mapping[str, bytes]]
) -> Target:
    """The same file, of which only a part is fuzzed: `wrap` puts the rest around it."""
    return Target(name, lambda content, scratch: target.parse(wrap(content), scratch), seeds)


def _safetensors() -> dict[str, bytes]:
    half = {name: weight.bfloat16() for name, weight in weights().items()}
    return {"f32": model(2.0), "bf16": save(half, {"format": "pt"}), "empty": save({})}


def _headers() -> dict[str, bytes]:
    return {name: header_of(content) for name, content in _safetensors().items()}


def _slices() -> dict[str, bytes]:
    header = b'{"%s":{"dtype":"F32","shape":[4,3],"data_offsets":[0,48]},"__metadata__":{"DCP_SHARDING_INFO":%s}}'
    offsets = b'"{\\"%s\\": {\\"saved_offsets\\": [0, 0]}}"' % Q.encode()
    return {"whole": header % (Q.encode(), offsets), "mute": header % (Q.encode(), b'"{}"')}


_SHARDS = {"model-1.safetensors": save({Q: weights(1.0)[Q]}), "model-2.safetensors": save({K: weights(1.0)[K]})}
_BESIDE_INDEX = {**{f"{_STEP}/{name}": content for name, content in _SHARDS.items()}, **_STATE}


def _indices() -> dict[str, bytes]:
    files = {Q: "model-1.safetensors", K: "model-2.safetensors"}
    return {
        "two": as_json({"metadata": {"total_size": 100}, "weight_map": files}),
        "outside": as_json({"weight_map": {Q: "../base/model.safetensors"}}),
        "absent": as_json({"weight_map": {Q: "model-9.safetensors"}}),
    }


def _configs() -> dict[str, bytes]:
    quantized = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
    experts = {"model_type": "qwen3_moe", "num_experts": 2, "text_config": {"num_hidden_layers": 1}}
    return {
        "dense": as_json(_CONFIG),
        "experts": as_json(experts),
        "fp8": as_json(_CONFIG | quantized),
        "tied": as_json(_CONFIG | {"tie_word_embeddings": True}),
    }


_ADAPTER = "base_model.model.model.layers.0.self_attn.q_proj"


def _factors() -> bytes:
    return save({f"{_ADAPTER}.lora_A.weight": torch.ones(2, 3), f"{_ADAPTER}.lora_B.weight": torch.ones(4, 2)})


def _adapters() -> dict[str, bytes]:
    plain = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    patterns = {"rank_pattern": {"q_proj": 2, ".*\\.k_proj": 4}, "alpha_pattern": {"^model.layers.(0|1).*q_proj$": 8}}
    return {
        "plain": as_json(plain),
        "patterns": as_json(plain | patterns | {"use_rslora": True}),
        "tokens": as_json(plain | {"trainable_token_indices": {"embed_tokens": [1, 2]}, "use_dora": True}),
        "experts": as_json(plain | {"target_parameters": ["mlp.experts.gate_up_proj"], "fan_in_fan_out": True}),
    }


def _states() -> dict[str, bytes]:
    log = [{"loss": 1.5, "step": 1, "grad_norm": float("nan")}]
    return {"usual": as_json({"global_step": 1, "max_steps": 10, "log_history": log}), "other": b'{"global_step": "1"}'}


def _contents() -> dict[str, bytes]:
    return {
        "mbridge": as_json({"schema_version": 2, "contents": {"model": {"path": "model/huggingface"}}}),
        "outside": as_json({"contents": {"model": {"path": "../../../base"}}}),
    }


_VERL = {
    "global_step_1/actor/model/huggingface/model.safetensors": model(1.0),
    "latest_checkpointed_iteration.txt": "1",
}


def _state_dicts() -> dict[str, bytes]:
    shared = torch.ones(4, 3)
    views = {Q: shared, K: shared[:2], "half": shared.T}
    parameters = {name: torch.nn.Parameter(weight) for name, weight in weights().items()}
    return {
        "plain": saved(weights(1.0)),
        "unchecked": without_checksums(saved(weights(1.0))),
        "views": saved(views),
        "parameters": saved({"model": parameters, "step": 3}),
        "hostile": torch_zip(pickle.dumps(dcp_files.Runs(print, "run")), {}),
    }


def _pickles() -> dict[str, bytes]:
    return {name: unzipped(content)[0] for name, content in _state_dicts().items() if name != "unchecked"}


def _legacy() -> dict[str, bytes]:
    return {"plain": saved(weights(1.0), legacy=True), "views": saved({Q: torch.ones(4, 3).T}, legacy=True)}


def _same_storages(content: bytes) -> bytes:
    """The pickle of a state dict of `weights`, with their storages."""
    return torch_zip(content, unzipped(saved(weights(1.0)))[1])


@cache
def _distributed() -> dict[str, bytes]:
    """A distributed checkpoint of two files."""
    with TemporaryDirectory() as directory:
        tensors = {name: (weight, dcp_files.whole(weight)) for name, weight in weights(1.0).items()}
        tensors[Q] = (weights(1.0)[Q], dcp_files.by_layer(weights(1.0)[Q]))
        dcp_files.save_chunks(Path(directory), tensors, files=2, objects={"common_state/shard_0_1": [{"args": None}]})
        return {path.name: path.read_bytes() for path in Path(directory).iterdir()}


def _metadata() -> dict[str, bytes]:
    with TemporaryDirectory() as directory:
        path = Path(directory)
        (path / ".metadata").write_bytes(_distributed()[".metadata"])
        own = dcp_files.as_megatron_metadata(path)
        return {"torch": _distributed()[".metadata"], "megatron": (own / ".metadata").read_bytes()}


_DCP_STEP = "step-1"
_PARTS = {f"{_DCP_STEP}/{name}": content for name, content in _distributed().items()}


def _metadata_target() -> Target:
    beside = {name: content for name, content in _PARTS.items() if not name.endswith(".metadata")}
    return _file("dcp-metadata", f"{_DCP_STEP}/.metadata", _metadata, beside)


def _part_target() -> Target:
    """The tensors of a distributed checkpoint; its metadata says how long the file is."""
    name = "__0_0.distcp"
    whole = _distributed()[name]
    target = _file(
        "", f"{_DCP_STEP}/{name}", dict, {path: part for path, part in _PARTS.items() if not path.endswith(name)}
    )
    return _wrapped(
        target, "dcp-part", lambda content: content[: len(whole)].ljust(len(whole), b"\0"), lambda: {"part": whole}
    )


def _common() -> dict[str, bytes]:
    arguments = argparse.Namespace(
        num_attention_heads=2, num_query_groups=1, kv_channels=2, hidden_size=3, num_layers=1
    )
    content = {"args": arguments, "iteration": 1, "checkpoint_version": 3.0}
    return {"usual": pickle.dumps(content, 2), "listed": pickle.dumps([content], 4)}


def _common_target() -> Target:
    beside = {f"iter_0000001/{path.split('/')[1]}": content for path, content in _PARTS.items()} | {
        "iter_0000001/metadata.json": '{"sharded_backend": "torch_dist"}',
        "latest_checkpointed_iteration.txt": "1",
    }
    target = _file("", "iter_0000001/common.pt", dict, beside)
    return _wrapped(target, "megatron-common", lambda content: torch_zip(content, {}), _common)


_RANKS = [(SEEDS / f"model_world_size_2_rank_{rank}.pt").read_bytes() for rank in (0, 1)]
"""What two ranks saved of `places.weights` moved by 1: a tensor in two parts, one replicated, and a plain one."""


def _ranked_target() -> Target:
    """The pickle of rank 0 beside the file of rank 1."""
    pickled, storages = unzipped(_RANKS[0])
    beside = {"global_step_1/actor/model_world_size_2_rank_1.pt": _RANKS[1]}
    target = _file("", "global_step_1/actor/model_world_size_2_rank_0.pt", dict, beside)
    return _wrapped(target, "ranked-pickle", lambda content: torch_zip(content, storages), lambda: {"rank 0": pickled})


def _pickle_target() -> Target:
    def parse(content: bytes, scratch: Path) -> None:
        read_pickle(io.BytesIO(content), lambda name: True)

    return Target("pickle", parse, lambda: _pickles() | _metadata() | _common(), (PickleProblem,))


def targets() -> list[Target]:
    """Every file of a run that is read."""
    tensors = _file("safetensors", f"{_STEP}/model.safetensors", _safetensors)
    slices = _file("", f"{_STEP}/shard-00001-model-00001-of-00001.safetensors", dict)
    zipped = _file("torch-zip", f"{_STEP}/pytorch_model.bin", _state_dicts)
    beside_config = dict(_MODEL)
    adapter = {f"{_STEP}/adapter_model.safetensors": _factors(), **_STATE}
    settings = {f"{_STEP}/adapter_config.json": _adapters()["patterns"], **_STATE}
    return [
        tensors,
        _wrapped(tensors, "safetensors-header", safetensors_of, _headers),
        _wrapped(slices, "sliced-header", safetensors_of, _slices),
        _file("index", f"{_STEP}/model.safetensors.index.json", _indices, _BESIDE_INDEX),
        _file("config", f"{_STEP}/config.json", _configs, beside_config),
        _file("adapter-config", f"{_STEP}/adapter_config.json", _adapters, adapter),
        _wrapped(
            _file("", f"{_STEP}/adapter_model.safetensors", dict, settings),
            "adapter-header",
            safetensors_of,
            lambda: {"factors": header_of(_factors())},
        ),
        _file("trainer-state", f"{_STEP}/trainer_state.json", _states, {f"{_STEP}/model.safetensors": model(1.0)}),
        _file("ckpt-contents", "global_step_1/actor/ckpt_contents.json", _contents, _VERL),
        _file("tracker", "latest_checkpointed_iteration.txt", lambda: {"1": b"1", "release": b"release"}, _VERL),
        zipped,
        _wrapped(zipped, "torch-pickle", _same_storages, _pickles),
        _file("torch-legacy", f"{_STEP}/pytorch_model.bin", _legacy),
        _ranked_target(),
        _pickle_target(),
        _metadata_target(),
        _part_target(),
        _common_target(),
    ]
