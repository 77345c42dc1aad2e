"""Every model family of the installed transformers, built without memory, and what its modules say of each parameter.

A family is a model type whose config has defaults to build a model from. What is held against the names of parameters
does not come from them: the class of the module that owns a parameter, the classes of the modules around it, the module
lists that they are in. ``python -m tests.checkpoints.families`` prints how many families agree, and what others say.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import transformers
from torch import nn
from transformers import CONFIG_MAPPING
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.auto import modeling_auto
from transformers.pytorch_utils import Conv1D

from geomcheck.checkpoints.layers import Place
from geomcheck.checkpoints.weights import Weight, describe
from geomcheck.measurement.survey import lacking_layers

TASKS = ("CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "MULTIMODAL_LM", "MASKED_LM", "PRETRAINING")

ODD = {
    "apertus1p5": "its quantizer keeps the codebook, `embedding`, in a Linear",
    "ctrl": "its token embedding is called `w`",
    "d_fine": "its list `lqe_layers` holds prediction heads",
    "deimv2": "its list `lqe_layers` holds prediction heads",
    "dory": "its config counts every pass through layers that are looped over",
    "evolla": "the layers of its resampler are plain lists, and its adapters attend without saying so",
    "focalnet": "a stage, which holds layers, is checkpointed as one layer",
    "fuyu": "`vision_embed_tokens` is a Linear",
    "hrm_text": "its config counts every pass through layers that are looped over",
    "inkling2_loop": "`mlp_message_gate` gates an MLP and is none",
    "inkling2_loop_text": "`mlp_message_gate` gates an MLP and is none",
    "layoutlmv3": "its relative-position tables are Linears without a bias",
    "levit": "every Linear lies in an MLPLayerWithBN, and some layers are called subsamples",
    "lightglue": "`token_confidence` is a list of classifiers",
    "markuplm": "`xpath_unitseq2_embeddings` is a Linear",
    "mobilebert": "a layer has a list of further MLPs, and bottlenecks that project for attention",
    "oneformer": "single linear maps lie in a list of blocks",
    "patchtst": "`input_embedding` is a Linear",
    "prophetnet": "`relative_pos_embeddings` is a Linear",
    "rf_detr": "`bottlenecks` are convolutions with layer norms",
    "vjepa2": "`predictor_embeddings` is a Linear",
    "wavtokenizer": "its list of layers is called `convnext`, and its norms look up scale and shift",
    "xclip": "the list of layers of its prompt generator is called `decoder`",
    "xmod": "adapters lie inside the output of an MLP",
}
"""Families whose names say less than their modules, or otherwise, and why that stays so."""

BLOCKS = {
    "router": re.compile(r"Router$|TopKGat(?:e|ing)$"),
    "attention": re.compile(r"(?:Self|Attention)Output|Attention|Attn|attn|attention|DeltaNet"),
    "projection": re.compile(r"Mixer$|Conv(?:1d|2d)?$|Mamba|Rglru|Recurrent|mLSTM|Rwkv|AdaLayerNorm|RmsNorm"),
    "mlp": re.compile(
        r"MLP|Mlp|mlp|ffn|^ff$|FeedForward|F(?:FN|fn|F)|Experts?|MoE|Moe(?!\w*Layer$)|Dense(?:Gated)?ActDense"
        r"|Intermediate$|Output(?:Query|Layer)?$"
    ),
}
"""Words in the class of a module that say what its linear maps are. The last of several counts: an AttentionMLP is an
MLP."""

LAYER = re.compile(r"(?:Layer|Block|Module|ResidualAttention)$")
IN_LAYER = re.compile(r"^(?:fc|lin|linear)_?[12]$|^ffn")
"""Attributes of a layer that are linear maps of its MLP, where that has no module of its own."""

ANY_LINEAR = {"attention", "mlp", "router", "projection", "head"}


@dataclass(frozen=True)
class Around:
    """A module around a parameter: its attribute, what it is called, and whether it is a layer of a list."""

    attribute: str
    kind: str
    is_layer: bool


@dataclass(frozen=True)
class Parameter:
    """A parameter of a model, and the modules around it from the outside in.

    Attributes:
        owner: what its own module is: ``linear``, ``embedding``, ``norm``, ``convolution`` or another.
        is_head: whether its module is the model's output embeddings.
    """

    name: str
    shape: tuple[int, ...]
    around: tuple[Around, ...]
    owner: str
    is_head: bool

    @cached_property
    def place(self) -> Place:
        """The innermost layer around it."""
        path = [module.attribute for module in self.around]
        inner = [index for index, module in enumerate(self.around) if module.is_layer]
        return Place(".".join(path[: inner[-1]]), int(path[inner[-1]])) if inner else Place("", None)

    @property
    def roles(self) -> set[str]:
        """The roles that its modules leave open; empty where they say nothing."""
        leaf = self.name.rsplit(".", 1)[-1]
        if leaf == "bias":
            return {"bias", "table"}
        if self.owner == "experts":
            return {"mlp"} if len(self.shape) == 3 else set()
        if leaf != "weight":
            return set()
        if self.owner == "linear":
            return {"head"} if self.is_head else self._block()
        if self.owner == "convolution":  # of one step, it is a linear map along a sequence
            return {"convolution", "state"} | ({"attention", "mlp"} if len(self.shape) == 3 else set())
        known = {"norm": {"norm"}, "batch norm": {"norm"}, "embedding": {"embedding", "table"}, "router": {"router"}}
        return known.get(self.owner, set())

    def _block(self) -> set[str]:
        """The roles of a linear map: in a layer, that of the innermost module around it whose class tells."""
        if self.place.number is None:
            return ANY_LINEAR
        attribute, last = self.around[-1].attribute, max(i for i, module in enumerate(self.around) if module.is_layer)
        gate = {"router"} if attribute in ("gate", "router") else set()
        for module in reversed(self.around[last + 1 : -1]):
            ends = {
                role: max((m.end() for m in word.finditer(module.kind)), default=0) for role, word in BLOCKS.items()
            }
            if any(ends.values()):
                return {max(ends, key=lambda role: ends[role])} | gate
        of_mlp = IN_LAYER.search(attribute) and LAYER.search(self.around[-2].kind)
        return {"mlp"} if of_mlp else {"projection"} | gate


def families() -> list[str]:
    """Model types that have a model of their own."""
    return [kind for kind in CONFIG_MAPPING if any(kind in mapping for mapping in _mappings())]


def build(kind: str) -> nn.Module:
    """The model of this type with the numbers that its config has by default, on the meta device."""
    first: Exception | None = None
    for mapping in _mappings():
        if kind in mapping:
            name = mapping[kind] if isinstance(mapping[kind], str) else mapping[kind][0]
            try:
                with torch.device("meta"), warnings.catch_warnings(action="ignore"):
                    return getattr(transformers, name)(CONFIG_MAPPING[kind]())
            except Exception as error:  # whatever a model does with a config of defaults
                first = first or error
    raise first or KeyError(kind)


def _mappings() -> list[dict[str, Any]]:
    names = [*(f"MODEL_FOR_{task}_MAPPING_NAMES" for task in TASKS), "MODEL_MAPPING_NAMES"]
    return [getattr(modeling_auto, name) for name in names if hasattr(modeling_auto, name)]


def parameters(model: nn.Module) -> Iterator[Parameter]:
    """Every parameter of `model`."""
    modules, head = dict(model.named_modules(remove_duplicate=False)), model.get_output_embeddings()
    for name, parameter in model.named_parameters(remove_duplicate=False):
        path = name.split(".")[:-1]
        owners = [modules[".".join(path[:depth])] for depth in range(len(path) + 1)]
        around = tuple(
            Around(attribute, _kind(attribute, module, type(model).__name__), _is_layer(attribute, module, owner))
            for attribute, module, owner in zip(path, owners[1:], owners, strict=False)
        )
        yield Parameter(name, tuple(parameter.shape), around, _owner(owners[-1]), owners[-1] is head)


def _kind(attribute: str, module: nn.Module, model: str) -> str:
    """The class of `module` without the words with which that of the model begins; of a plain container, its name."""
    if isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        return attribute
    words, first = (re.findall(r"[A-Z]+[a-z0-9_]*", text) for text in (type(module).__name__, model))
    shared = next((i for i, pair in enumerate(zip(words, first, strict=False)) if len(set(pair)) > 1), 0)
    return "".join(words[shared:])


def _is_layer(attribute: str, module: nn.Module, owner: nn.Module) -> bool:
    listed = isinstance(owner, nn.ModuleList | nn.Sequential) and attribute.isdigit()
    return listed and (isinstance(module, GradientCheckpointingLayer) or bool(LAYER.search(type(module).__name__)))


def _owner(module: nn.Module) -> str:
    kinds: dict[str, Any] = {
        "embedding": nn.Embedding,
        "linear": nn.Linear | Conv1D,
        "convolution": nn.modules.conv._ConvNd,
        "batch norm": nn.modules.batchnorm._BatchNorm | nn.GroupNorm,
    }
    words = {"norm": r"Norm", "experts": r"Experts$", "router": r"Router$"}
    name = type(module).__name__
    known = [owner for owner, kind in kinds.items() if isinstance(module, kind)]
    return next(iter([*known, *(owner for owner, word in words.items() if re.search(word, name))]), name)


def disagreements(kind: str) -> list[str]:
    """What the names of a family say otherwise than its modules, a line each. Raises what building it raises."""
    model = build(kind)
    held = [(parameter, describe(parameter.name, parameter.shape)) for parameter in parameters(model)]
    lacking = lacking_layers([weight for _, weight in held], model.config.to_dict())
    found = [f"lacks {len(lacking)} layers that its config counts"] if lacking else []
    return found + [line for parameter, weight in held for line in _unlike(parameter, weight)]


def _unlike(parameter: Parameter, weight: Weight) -> Iterator[str]:
    """Role, layer and stack of one parameter; the layers of convolutional networks are not held against anything."""
    if parameter.roles and weight.role not in parameter.roles:
        yield f"{weight.name} is {weight.role}, not {' or '.join(sorted(parameter.roles))}"
    held = parameter.owner in ("linear", "embedding", "norm", "experts", "router")
    if held and (weight.stack, weight.layer) != parameter.place:
        yield f"{weight.name} is in {weight.stack} {weight.layer}, not {parameter.place}"


def agreement() -> tuple[dict[str, list[str]], dict[str, str]]:
    """Of every family that can be built its disagreements, and of the others the reason."""
    found: dict[str, list[str]] = {}
    unbuilt: dict[str, str] = {}
    for kind in families():
        try:
            found[kind] = disagreements(kind)
        except Exception as error:
            unbuilt[kind] = f"{type(error).__name__}: {error}"
    return found, unbuilt


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    results, left_out = agreement()
    for family, lines in results.items():
        if lines:
            print(f"{family}: {len(lines)}, such as {lines[0]}")
    agreed = sum(not lines for lines in results.values())
    print(f"{agreed} of {len(results)} families of transformers {transformers.__version__} agree", file=sys.stderr)
    print(f"{len(left_out)} more cannot be built from the defaults of their configs", file=sys.stderr)
