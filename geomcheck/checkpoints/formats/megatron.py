"""Megatron ``torch_dist``: a distributed checkpoint whose ``common.pt`` holds the arguments of the training."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from geomcheck.checkpoints.formats.dcp import DistributedCheckpoint, holds_dcp
from geomcheck.checkpoints.formats.torch_save.archive import ByteRange
from geomcheck.checkpoints.formats.torch_save.file import read_object_pickle
from geomcheck.checkpoints.formats.torch_save.pickle_data import Call, PickleProblem, read_pickle
from geomcheck.checkpoints.inside import require_regular
from geomcheck.errors import RunError

MARKER = "metadata.json"
COMMON = "common.pt"
COMMON_ENTRY = "common_state/shard_0_1"
"""Where Megatron core 0.19 and later keep what was in ``common.pt``."""

MAX_COMMON_PICKLE_BYTES = 16 * 2**20

_OF_ARGUMENTS = re.compile(
    r"argparse\.Namespace|types\.SimpleNamespace|collections\.(?:OrderedDict|defaultdict)|(?:builtins|__builtin__)\.set"
    r"|torch\.[a-z]+\d*(?:_\w+)?|torch\.\w+Storage|torch\.storage\.\w+|torch\._utils\._rebuild_\w+"
    r"|pathlib\.(?:_local\.)?(?:Pure)?(?:Posix|Windows)?Path|datetime\.timedelta|signal\.Signals"
    r"|(?:megatron|slime|miles)\.[\w.]+"
)


def holds_megatron(directory: Path) -> bool:
    """Whether `directory` is a distributed checkpoint that Megatron wrote."""
    return holds_dcp(directory) and any((directory / name).is_file() for name in (MARKER, COMMON))


class MegatronCheckpoint(DistributedCheckpoint):
    """The weights of one Megatron checkpoint, under Megatron's names: see `canonical.megatron`."""

    layout = "Megatron torch_dist"

    @property
    def files(self) -> tuple[Path, ...]:
        """As for any distributed checkpoint, and ``common.pt``, which decides how fused weights are split."""
        common = self.path / COMMON
        return tuple(sorted({*super().files, *([common] if os.path.exists(common) else [])}))

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """``config.json`` where there is one, completed by the arguments of the training. Raises RunError."""
        return {**_in_hugging_face_terms(self._arguments()), **super().config}

    def _arguments(self) -> Mapping[Any, Any]:
        """What the training was called with; empty where that is not said, or not without running code."""
        try:
            content = self._common_pickle()
            if content is None:
                return {}
            common = read_pickle(io.BytesIO(content), lambda name: _OF_ARGUMENTS.fullmatch(name) is not None).content
        except PickleProblem:
            return {}
        common = common[0] if isinstance(common, list) and common else common
        arguments = common.get("args") if isinstance(common, dict) else None
        return arguments.attributes if isinstance(arguments, Call) else {}

    def _common_pickle(self) -> bytes | None:
        path = self.path / COMMON
        if not os.path.exists(path):
            return self.read_object(COMMON_ENTRY, max_bytes=MAX_COMMON_PICKLE_BYTES)
        resolved = require_regular(path, self._root)
        try:
            with resolved.open("rb") as file:
                return read_object_pickle(
                    file, ByteRange(0, resolved.stat().st_size), max_bytes=MAX_COMMON_PICKLE_BYTES
                )
        except OSError as error:
            raise RunError(f"{path}: cannot be read: {error}") from error


def _in_hugging_face_terms(arguments: Mapping[Any, Any]) -> dict[str, Any]:
    """Megatron's arguments under the keys of ``config.json``; what they do not say is left out."""
    heads = arguments.get("num_attention_heads")
    grouped = arguments.get("group_query_attention", True)
    untied = arguments.get("untie_embeddings_and_output_weights")
    config = {
        "num_attention_heads": heads,
        "num_key_value_heads": arguments.get("num_query_groups") if grouped else heads,
        "head_dim": arguments.get("kv_channels"),
        "hidden_size": arguments.get("hidden_size"),
        "num_hidden_layers": arguments.get("num_layers"),
        "vocab_size": arguments.get("vocab_size"),
        "num_experts": arguments.get("num_experts"),
        "tie_word_embeddings": not untied if isinstance(untied, bool) else None,
        "attention_output_gate": arguments.get("attention_output_gate"),
    }
    return {key: value for key, value in config.items() if isinstance(value, (int, bool))}
