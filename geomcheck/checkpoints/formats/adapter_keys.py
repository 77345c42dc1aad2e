"""The role of each tensor of an adapter, by PEFT's keys, as saved or in a wrapped model's state dict."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from geomcheck.checkpoints.formats.adapter_config import MERGE, LoraSettings
from geomcheck.errors import RunError

Shapes = Mapping[str, tuple[int, ...]]

_WRAPPERS = re.compile(r"^(?:module\.)+|_orig_mod\.|_fsdp_wrapped_module\.|_checkpoint_wrapped_module\.")
_PREFIX = re.compile(r"^(?:[a-z_]+\.){0,2}base_model\.model\.")
"""What PEFT puts before every name, behind what a writer of distributed checkpoints puts before that."""
_FACTOR = re.compile(
    r"(?P<module>.+?)(?P<depth>(?:\.base_layer)*)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])"
    r"(?:\.(?!weight$|bias$)[^.]+)?(?P<kind>\.weight|\.bias)?"
)
_LENGTHS = re.compile(r"(?P<module>.+)\.lora_magnitude_vector(?:\.(?!weight$)[^.]+)?(?:\.weight)?")
_TOKENS = re.compile(r"(?P<module>.+)\.token_adapter\.trainable_tokens_delta(?:\.[^.]+)?")
_WHOLE = re.compile(r"(?P<module>.+)\.modules_to_save\.[^.]+\.(?P<rest>.+)")
_OF_THE_BASE = re.compile(r"\.(?:base_layer|original_module)\.")
_UNKNOWN = re.compile(r"lora_|\.token_adapter\.|trainable_tokens")
_ORDER = ("gate_up_proj", "down_proj")
"""The parameters of fused experts in the order in which PEFT wraps them, innermost first."""

_LONGEST_NAME = 256


@dataclass(frozen=True)
class Factors:
    """The factors of one weight.

    Attributes:
        a, b: keys of A (r, in) and B (out, r); of embeddings (r, V) and (d, r).
        out, in_: shape of B A.
        rank: r, of one expert.
        scaling: what B A is multiplied by.
        experts: how many are stacked, None for a plain matrix.
        lengths: key of DoRA's magnitudes.
        embedding: whether B A is the transposed update.
    """

    a: str
    b: str
    out: int
    in_: int
    rank: int
    scaling: float
    experts: int | None = None
    lengths: str | None = None
    embedding: bool = False


@dataclass(frozen=True)
class Keys:
    """Everything that an adapter changes, by the weight's name in memory.

    Attributes:
        factors: weights that change by B A.
        whole: weights that were saved whole, and their keys.
        tokens: embeddings of which rows were trained: the key of the rows, and their indices.
    """

    factors: Mapping[str, Factors]
    whole: Mapping[str, str]
    tokens: Mapping[str, tuple[str, tuple[int, ...]]]


@dataclass
class _Found:
    """The keys of an adapter by what they are, before they are joined."""

    sides: dict[tuple[str, int, bool], dict[str, str]] = field(default_factory=dict)
    lengths: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    whole: dict[str, str] = field(default_factory=dict)


def sort_keys(shapes: Shapes, settings: LoraSettings, *, in_model: bool = False) -> Keys:
    """Sort the keys of an adapter by their role, and check them against its settings. Raises RunError if a key is
    unknown, two mean the same, half of a pair is missing, or a rank is not that of the settings.

    In the state of a model, what has factors is W0's beside them, as PEFT had it before it named that base_layer.
    """
    found = _Found()
    for key in sorted(shapes):
        _sort(key, found, settings)
    factors: dict[str, Factors] = {}
    lengths = dict(found.lengths)
    for (module, depth, embedding), sides in found.sides.items():
        name, target = _named(module, depth, found, settings)
        joined = _joined(target, sides, lengths.pop(module, None) if depth == 0 else None, embedding, shapes, settings)
        if joined is not None:
            factors[name] = joined
    if lengths:
        raise RunError(f"{settings.where.parent}: {next(iter(lengths.values()))} has no lora_A and lora_B beside it")
    tokens = {f"{module}.weight": (key, _rows(module, key, shapes, settings)) for module, key in found.tokens.items()}
    if in_model:
        found.whole = {name: key for name, key in found.whole.items() if name not in factors}
    twice = (factors.keys() & found.whole.keys()) | (factors.keys() & tokens.keys()) | (tokens.keys() & found.whole)
    for name in sorted(twice):
        raise RunError(f"{settings.where.parent}: changes {name} in two ways at once; {MERGE}")
    if not factors and not tokens:
        raise RunError(f"{settings.where.parent}: holds no lora_A and lora_B, so it is no LoRA adapter")
    return Keys(factors, found.whole, tokens)


def _sort(key: str, found: _Found, settings: LoraSettings) -> None:
    """Sort one key; those of W0 itself, and of vectors that are added to biases, are left out."""
    if len(key) > _LONGEST_NAME:
        raise RunError(f"{settings.where.parent}: {key[:60]}... is no name of a weight: it has {len(key)} characters")
    plain = _PREFIX.sub("", _WRAPPERS.sub("", key))
    if match := _FACTOR.fullmatch(plain):
        if match["kind"] == ".bias":
            return
        place = match["module"], match["depth"].count(".base_layer"), match["embedding"] is not None
        _put(found.sides.setdefault(place, {}), match["side"], key, settings)
    elif match := _LENGTHS.fullmatch(plain):
        _put(found.lengths, match["module"], key, settings)
    elif match := _TOKENS.fullmatch(plain):
        _put(found.tokens, match["module"].removesuffix(".base_layer"), key, settings)
    elif match := _WHOLE.fullmatch(plain):
        _put(found.whole, f"{match['module']}.{match['rest']}", key, settings)
    elif not _OF_THE_BASE.search(plain):
        if _UNKNOWN.search(plain):
            raise RunError(f"{settings.where.parent}: {key} is a kind of adapter tensor that is not read; {MERGE}")
        _put(found.whole, plain, key, settings)


def _put(place: dict[str, str], what: str, key: str, settings: LoraSettings) -> None:
    if what in place:
        raise RunError(
            f"{settings.where.parent}: {place[what]} and {key} mean the same weight, as where two adapters were "
            "saved together; save one alone"
        )
    place[what] = key


def _named(module: str, depth: int, found: _Found, settings: LoraSettings) -> tuple[str, str]:
    """(name of the weight, what PEFT's patterns are matched with) of the factors at `depth` wrappers inside."""
    depths = sorted(d for m, d, _ in found.sides if m == module)
    parameters = _parameters(module, nested=len(depths) > 1, settings=settings)
    if not parameters and depths == [0]:
        return f"{module}.weight", module
    if depths != list(range(len(parameters))):
        raise RunError(
            f"{settings.where.parent}: {module} has {len(depths)} adapters inside each other, but target_parameters "
            f"names {', '.join(parameters) or 'none'} of its parameters, so which is which is unknown; {MERGE}"
        )
    name = f"{module}.{parameters[len(parameters) - 1 - depth]}"
    return name, name


def _parameters(module: str, *, nested: bool, settings: LoraSettings) -> list[str]:
    """The parameters of `module` that the adapter targets themselves, innermost first.

    A bare name (``gate_up_proj``) would fit any module: it is that of fused experts, as PEFT writes it for them.
    """
    experts = nested or module.rsplit(".", 1)[-1] == "experts"
    names = set()
    for target in settings.parameters:
        parameter = target.rsplit(".", 1)[-1]
        fits = f".{module}.{parameter}".endswith(f".{target}")
        if fits and (experts or "." in target):
            names.add(parameter)
    if len(names) > 1 and not names <= set(_ORDER):
        raise RunError(
            f"{settings.where}: the order in which {', '.join(sorted(names))} were wrapped is unknown; {MERGE}"
        )
    return sorted(names, key=lambda name: _ORDER.index(name) if name in _ORDER else 0)


def _joined(
    target: str, sides: Mapping[str, str], lengths: str | None, embedding: bool, shapes: Shapes, settings: LoraSettings
) -> Factors | None:
    """A and B of one weight, checked; None where they are convolutions, which are no matrices."""
    where = settings.where.parent
    if set(sides) != {"A", "B"}:
        raise RunError(f"{where}: {next(iter(sides.values()))} has no counterpart; the file may be incomplete")
    a, b = shapes[sides["A"]], shapes[sides["B"]]
    if len(a) > 2 and len(a) == len(b):
        return None
    if len(a) != 2 or len(b) != 2 or a[0] != b[1]:
        raise RunError(f"{where}: the factors of {target} do not fit each other: A is {a}, B is {b}")
    if settings.dora != (lengths is not None):
        raise RunError(
            f"{where}: use_dora is {settings.dora}, but {target} has {'a' if lengths else 'no'} lora_magnitude_vector"
        )
    if lengths is not None and shapes[lengths] != (b[0],):
        raise RunError(f"{where}: {lengths} is {shapes[lengths]}, where ({b[0]},) is expected")
    rank, experts = _rank(target, a[0], settings)
    scaling = settings.scaling(target, rank)
    return Factors(sides["A"], sides["B"], b[0], a[1], rank, scaling, experts, lengths, embedding)


def _rank(target: str, rows: int, settings: LoraSettings) -> tuple[int, int | None]:
    """(r, number of experts or None) of an A with that many rows: of a targeted parameter, one A per expert."""
    ranks = settings.ranks_of(target)
    if rows in ranks:
        return rows, None
    leaf = target.rsplit(".", 1)[-1]
    stacked = [
        rank for rank in ranks if rows % rank == 0 and any(leaf == p.rsplit(".", 1)[-1] for p in settings.parameters)
    ]
    if len(stacked) != 1:
        expected = " or ".join(map(str, sorted(ranks)))
        raise RunError(f"{settings.where}: r of {target} is {expected}, but its lora_A has {rows} rows; was it edited?")
    return stacked[0], rows // stacked[0]


def _rows(module: str, key: str, shapes: Shapes, settings: LoraSettings) -> tuple[int, ...]:
    """The rows that were trained of an embedding."""
    fitting = [rows for end, rows in (settings.tokens or {}).items() if not end or f".{module}".endswith(f".{end}")]
    if len(fitting) != 1 or shapes[key][:1] != (len(fitting[0]),) or len(shapes[key]) != 2 or not fitting[0]:
        raise RunError(f"{settings.where}: trainable_token_indices does not say which rows {key} {shapes[key]} holds")
    return fitting[0]
