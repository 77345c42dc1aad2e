"""PEFT LoRA adapters: updates are made of their factors, without merging the model.

An `Adapter` is a source of changes under the names of the modules in memory, where the adapter was trained:
``transformer.h.0.attn.c_attn.weight``, ``model.layers.0.mlp.experts.gate_up_proj``. It takes their orientation
from W0 (`Adapter.on`), gets canonical names like any source, and is then laid over W0 by `adapted.Adapted`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomcheck._lazy import torch
from geomcheck.checkpoints.canonical.rules import is_conv1d
from geomcheck.checkpoints.changes import Added, Rescaled, RowsReplaced
from geomcheck.checkpoints.formats.adapter_config import (
    CONFIG,
    MERGE,
    TRAIN_META,
    LoraSettings,
    read_settings,
    settings_of,
)
from geomcheck.checkpoints.formats.adapter_keys import Factors, Keys, sort_keys
from geomcheck.checkpoints.formats.pickled import PickledDirectory
from geomcheck.checkpoints.formats.safetensors import SafetensorsDirectory
from geomcheck.checkpoints.inside import storage_root
from geomcheck.checkpoints.source import Change, Stored, WeightSource, Wrapped
from geomcheck.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

LAYOUT = "PEFT LoRA"
STEM = "adapter_model"
BIN = f"{STEM}.bin"
SAFETENSORS = (f"{STEM}.safetensors", f"{STEM}.safetensors.index.json")

TRAINED_BESIDE = ("non_lora_trainables.bin", "mm_projector.bin", "vit.safetensors", "aligner.safetensors")
"""Files with weights that were trained whole beside the factors: the projector of LLaVA, the tower of ms-swift."""

INPUT_MAJOR_EXPERTS = {"gpt_oss", "aria", "aria_text", "openai_privacy_filter"}
"""Models whose fused experts are (experts, in, out) in memory (transformers' ``is_transposed``)."""


def holds_adapter(directory: Path) -> bool:
    """Whether `directory` holds a PEFT adapter, or what is left of one."""
    return (directory / CONFIG).is_file() or holds_factors(directory)


def holds_factors(directory: Path) -> bool:
    """Whether `directory` holds the factors of one."""
    return any((directory / name).is_file() for name in (*SAFETENSORS, BIN))


def open_adapter(path: Path, *, root: Path | None = None) -> Adapter:
    """The adapter in a directory, as PEFT saves it; no file outside `root` is opened. Raises RunError where its files
    are missing, or of a kind that cannot be read."""
    resolved = storage_root(root or path)
    settings = read_settings(path, resolved)
    tensors: WeightSource
    if any((path / name).is_file() for name in SAFETENSORS):
        tensors = SafetensorsDirectory(path, root=root, stem=STEM)
    elif (path / BIN).is_file():
        tensors = PickledDirectory(path, root=root, single=BIN)
    else:
        raise RunError(f"{path}: {CONFIG}, but neither {SAFETENSORS[0]} nor {BIN}; the save was not finished")
    for name in TRAINED_BESIDE:
        if (path / name).is_file():
            tensors = Joined(tensors, _whole_weights(path, name, root))
    return Adapter(tensors, settings, (path / CONFIG,))


def is_wrapped(source: WeightSource) -> bool:
    """Whether `source` is the state of a model that PEFT has wrapped, or of its adapter: it holds factors by name."""
    return any(".lora_A." in name for name in source.weights)


def of_wrapped(source: WeightSource) -> WeightSource:
    """`source`; where that is the state of a model that PEFT has wrapped, as verl and FSDP save it, its adapter. Raises
    RunError where no file of the checkpoint says what scales the factors."""
    if isinstance(source, Adapter) or not is_wrapped(source):
        return source
    above = (source.path, source.path / "lora_adapter", *source.path.parents[:2])
    file = next((place / name for place in above for name in (CONFIG, TRAIN_META) if (place / name).is_file()), None)
    if file is None:
        name = next(name for name in source.weights if ".lora_A." in name)
        raise RunError(
            f"{source.path}: the state of a model that PEFT has wrapped (it holds {name}), and neither {CONFIG} nor "
            f"{TRAIN_META} beside it says what lora_alpha is: copy that file there, or {MERGE}"
        )
    return Adapter(source, settings_of(file, storage_root(file.parent)), (file,), in_model=True)


def _whole_weights(path: Path, name: str, root: Path | None) -> WeightSource:
    if name.endswith(".bin"):
        return PickledDirectory(path, root=root, single=name)
    return SafetensorsDirectory(path, root=root, stem=name.removesuffix(".safetensors"))


class Joined(Wrapped):
    """The tensors of two sources as those of one. Raises RunError where both have one of a name."""

    def __init__(self, source: WeightSource, other: WeightSource) -> None:
        super().__init__(source)
        self._other = other

    @property
    def files(self) -> tuple[Path, ...]:
        """Both sources'."""
        return tuple(sorted({*self._source.files, *self._other.files}))

    @cached_property
    def weights(self) -> Mapping[str, Stored]:
        """Both sources'. Raises RunError."""
        one, other = self._source.weights, self._other.weights
        for name in sorted(one.keys() & other.keys()):
            files = f"{self._source.files[0].name} and in {self._other.files[0].name}"
            raise RunError(f"{self.path}: {name} is both in {files}; which of them was trained last is unknown")
        return {**one, **other}

    def read(self, name: str, at: tuple[int, ...] = ()) -> Tensor | Change:
        """A tensor of either. Raises RunError."""
        return (self._source if name in self._source.weights else self._other).read(name, at)


class Adapter(Wrapped):
    """A LoRA adapter as a source of changes.

    Args:
        tensors: the factors under the keys of PEFT, or of a whole model that PEFT has wrapped.
        settings: what scales them.
        settings_files: the files that `settings` come from.
        base: W0, once it is known: it says how a weight is stored.
        in_model: whether the tensors are those of a whole model, W0's weights among them.
    """

    def __init__(
        self,
        tensors: WeightSource,
        settings: LoraSettings,
        settings_files: tuple[Path, ...],
        base: WeightSource | None = None,
        *,
        in_model: bool = False,
    ) -> None:
        super().__init__(tensors)
        self.layout = LAYOUT
        self._settings = settings
        self._settings_files = settings_files
        self._base = base
        self._in_model = in_model

    def on(self, base: WeightSource) -> Adapter:
        """The same adapter with W0, under its stored names, to tell how weights are stored."""
        return Adapter(self._source, self._settings, self._settings_files, base, in_model=self._in_model)

    @property
    def scaling(self) -> LoraSettings:
        """What scales the factors, whatever file says so."""
        return replace(self._settings, where=Path())

    @property
    def files(self) -> tuple[Path, ...]:
        """The factors and the settings."""
        return tuple(sorted({*self._source.files, *self._settings_files}))

    @property
    def config(self) -> Mapping[str, Any]:
        """W0's, since an adapter has none. Raises RunError."""
        return self._base.config if self._base else {}

    @cached_property
    def weights(self) -> Mapping[str, Stored]:
        """Every weight that changes, under its name and in its orientation in memory. Raises RunError."""
        changed = {name: Stored(self._shape(name, factors), "fp32") for name, factors in self._keys.factors.items()}
        replaced = {name: self._source.weights[key] for name, key in self._keys.whole.items()}
        tokens = {name: Stored(self._embedding(name), "fp32") for name in self._keys.tokens}
        return {**changed, **replaced, **tokens}

    def read(self, name: str, at: tuple[int, ...] = ()) -> Tensor | Change:
        """The change of one weight, or the weight itself where it was saved whole. Raises RunError where it cannot be
        read, or no factor of the adapter has been trained."""
        if name in self._keys.whole:
            return self._source.read(self._keys.whole[name], at)
        if name in self._keys.tokens:
            key, rows = self._keys.tokens[name]
            return RowsReplaced(rows, self._tensor(key))
        if not self._any_trained:
            raise RunError(
                f"{self.path}: lora_B is zero: the adapter has not been trained, or another one was saved over it"
            )
        factors = self._keys.factors[name]
        added = self._added(name, factors, at)
        if factors.lengths is None:
            return added
        outputs = int(self._transposed(name, factors))  # the axis that has lengths; of an embedding, its width
        return Rescaled(added, self._tensor(factors.lengths).double(), outputs)

    @cached_property
    def _keys(self) -> Keys:
        shapes = {name: stored.shape for name, stored in self._source.weights.items()}
        return sort_keys(shapes, self._settings, in_model=self._in_model)

    def _tensor(self, key: str) -> Tensor:
        tensor = self._source.read(key)
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
            raise RunError(f"{self.path}: {key} holds no numbers in floating point; is the adapter quantized?")
        return tensor

    def _added(self, name: str, factors: Factors, at: tuple[int, ...]) -> Added:
        a, b = self._tensor(factors.a), self._tensor(factors.b)
        if factors.experts is not None:
            if len(at) != 1:
                raise RunError(f"{name}: an adapter of all experts at once can be read one expert at a time only")
            a = a.reshape(factors.experts, factors.rank, -1)[at[0]]
            b = b.reshape(len(b), factors.rank, factors.experts)[:, :, at[0]]
        a, b = a.double(), b.double() * factors.scaling
        return Added(a.T, b.T) if self._transposed(name, factors) else Added(b, a)

    @cached_property
    def _any_trained(self) -> bool:
        """Whether B A can be other than zero anywhere."""
        pairs = ((factors.b, factors.a) for factors in self._keys.factors.values())
        return any(all(bool(self._tensor(key).any()) for key in pair) for pair in pairs)

    def _shape(self, name: str, factors: Factors) -> tuple[int, ...]:
        matrix = (factors.in_, factors.out) if self._transposed(name, factors) else (factors.out, factors.in_)
        return matrix if factors.experts is None else (factors.experts, *matrix)

    def _transposed(self, name: str, factors: Factors) -> bool:
        """Whether the weight is stored as (in, out): by its model, or by W0's own shape where that is not square."""
        if factors.embedding or is_conv1d(name, self.config):
            return True
        stored = self._base.weights.get(name) if self._base else None
        last = stored.shape[-2:] if stored is not None else ()
        if factors.out != factors.in_ and last in ((factors.out, factors.in_), (factors.in_, factors.out)):
            return last == (factors.in_, factors.out)
        if factors.experts is None:
            return self._settings.transposed
        return self.config.get("model_type") in INPUT_MAJOR_EXPERTS

    def _embedding(self, name: str) -> tuple[int, ...]:
        """The shape of an embedding of which some rows are stored."""
        width = self._source.weights[self._keys.tokens[name][0]].shape[-1]
        known = self._base.weights.items() if self._base else ()
        alike = [stored.shape for other, stored in known if f".{name}".endswith(f".{other}")]  # GPT-2: bare wte.weight
        return alike[0] if len(alike) == 1 else (max(self._keys.tokens[name][1]) + 1, width)
