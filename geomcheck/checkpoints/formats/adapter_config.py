"""The settings of a LoRA adapter (``adapter_config.json``), and which adapters are refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geomcheck.checkpoints.formats.patterns import PatternProblem, pattern
from geomcheck.checkpoints.inside import read_json
from geomcheck.errors import RunError

CONFIG = "adapter_config.json"
MAX_CONFIG_BYTES = 4 * 2**20

TRAIN_META = "lora_train_meta.json"
"""What verl writes beside a state that holds factors: r and lora_alpha."""

INITIALISATIONS = ("gaussian", "orthogonal", "eva", "mica")
"""Named initialisations that leave W0 as it is, besides the default."""

VARIANTS = {
    "use_qalora": "QALoRA pools its inputs",
    "alora_invocation_tokens": "aLoRA changes some tokens' weights only",
    "layer_replication": "the base's layers were replicated",
    "use_bdlora": "BD-LoRA stores block-diagonal factors",
    "arrow_config": "Arrow routes between adapters",
    "kasa_config": "KaSA changes the base's weights",
    "velora_config": "VeLoRA is not verified",
    "monteclora_config": "MonteCLoRA samples its factors",
}
"""Settings under which the update is not B A, and why."""

MERGE = "merge the adapter into its base model (PEFT's merge_and_unload), save that in fp32, and check it instead"

MAX_PATTERNS = 10_000


@dataclass(frozen=True)
class LoraSettings:
    """The settings that turn factors into an update.

    Attributes:
        where: the file that says so, for messages.
        rank: r, where no pattern says otherwise.
        alpha: lora_alpha, where no pattern says otherwise.
        rslora: scale by alpha / sqrt(r) rather than alpha / r.
        ranks, alphas: by pattern of module names. In training the first that matches counted, but the file does not
            keep their order.
        dora: whether rows have lengths of their own.
        transposed: whether modules are said to store (in, out), as GPT-2's do.
        parameters: targets that are parameters rather than modules (fused experts).
        tokens: trained rows of embeddings, by the end of the module's name.
        targets: how the paths of modules end that have factors, where that is all that says which.
    """

    where: Path
    rank: int
    alpha: float
    rslora: bool = False
    ranks: Mapping[str, float] | None = None
    alphas: Mapping[str, float] | None = None
    dora: bool = False
    transposed: bool = False
    parameters: tuple[str, ...] = ()
    tokens: Mapping[str, tuple[int, ...]] | None = None
    targets: frozenset[str] = frozenset()

    def is_target(self, module: str) -> bool:
        """Whether the settings say by a list that a module of this path has factors."""
        parts = module.split(".")
        return any(".".join(parts[start:]) in self.targets for start in range(len(parts)))

    def ranks_of(self, target: str) -> set[int]:
        """What r may be of a module, or of a parameter that is targeted itself: the shape of A tells which it is."""
        return {int(rank) for rank in _matches(self.ranks, target)} or {self.rank}

    def scaling(self, target: str, rank: int) -> float:
        """What B A is multiplied by. Raises RunError where alpha is unknown, as it is where it is 0."""
        alphas = set(_matches(self.alphas, target)) or {self.alpha}
        if len(alphas) > 1:
            raise RunError(
                f"{self.where}: alpha_pattern gives {target} {' and '.join(map(str, sorted(alphas)))}, and the file "
                f"does not say which went first in training. Remove the patterns that did not count, or {MERGE}"
            )
        alpha = alphas.pop()
        if alpha == 0:
            raise RunError(
                f"{self.where}: lora_alpha is 0, under which the adapter would change nothing; older verl mergers "
                "write that where they do not know it. Put the value that was trained with there"
            )
        return alpha / math.sqrt(rank) if self.rslora else alpha / rank


def read_settings(directory: Path, root: Path) -> LoraSettings:
    """The settings of a PEFT adapter directory. Raises RunError if there are none, or they are those of an adapter that
    cannot be read."""
    where = directory / CONFIG
    if not where.exists():
        raise RunError(
            f"{where}: missing, so the adapter's rank and alpha are unknown; copy it from where it was saved"
        )
    _refuse_pissa_of_llama_factory(directory)
    return settings_of(where, root)


def settings_of(file: Path, root: Path) -> LoraSettings:
    """The settings in a file of PEFT's, or of verl's. Raises RunError as `lora_settings`."""
    config = read_json(file, root, max_bytes=MAX_CONFIG_BYTES)
    return lora_settings({"peft_type": "LORA", **config} if file.name == TRAIN_META else config, file)


def lora_settings(config: Mapping[str, Any], where: Path) -> LoraSettings:
    """The settings in the fields of a PEFT ``LoraConfig``; `where` they are from, for messages. Raises RunError if they
    are those of an adapter that cannot be read."""
    _refuse_variants(config, where)
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if rank is None or not _is_rank(rank):
        raise RunError(f"{where}: r is {rank!r}, where a rank of at least 1 is expected")
    if alpha is None or not _is_number(alpha):
        raise RunError(f"{where}: lora_alpha is {alpha!r}, where a number is expected; B A cannot be scaled without it")
    if alpha < 0:
        raise RunError(f"{where}: lora_alpha is {alpha!r}, under which the adapter would undo what it learned")
    parameters = config.get("target_parameters") or []
    if not isinstance(parameters, list) or not all(isinstance(name, str) for name in parameters):
        raise RunError(f"{where}: target_parameters is not a list of names")
    return LoraSettings(
        where=where,
        rank=rank,
        alpha=alpha,
        rslora=bool(config.get("use_rslora")),
        ranks=_patterns(config, "rank_pattern", where),
        alphas=_patterns(config, "alpha_pattern", where),
        dora=bool(config.get("use_dora")),
        transposed=bool(config.get("fan_in_fan_out")),
        parameters=tuple(sorted(set(parameters))),
        tokens=_tokens(config.get("trainable_token_indices"), where),
        targets=_targets(config),
    )


def named_base(directory: Path, root: Path) -> str | None:
    """``base_model_name_or_path`` of an adapter directory: a path or a Hub id, None where it names none. Raises
    RunError if the config cannot be read, or names something else."""
    where = directory / CONFIG
    name = read_json(where, root, max_bytes=MAX_CONFIG_BYTES).get("base_model_name_or_path") if where.exists() else None
    if not isinstance(name, str | None):
        raise RunError(f"{where}: base_model_name_or_path is {str(name)[:40]!a}, where a path or a Hub id is expected")
    return name or None


def _targets(config: Mapping[str, Any]) -> frozenset[str]:
    """The listed ends of targeted modules; none where a pattern, or a choice of layers, says it."""
    listed = config.get("target_modules")
    narrowed = any(config.get(key) for key in ("layers_to_transform", "exclude_modules"))
    if narrowed or not isinstance(listed, list) or not all(isinstance(name, str) and name for name in listed):
        return frozenset()
    return frozenset(listed)


def _refuse_variants(config: Mapping[str, Any], where: Path) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise RunError(f"{where}: peft_type is {kind!r}, and only LORA is read; {MERGE}")
    for setting, reason in VARIANTS.items():
        if config.get(setting):
            raise RunError(f"{where}: {setting} is set ({reason}), so the update is not B A; {MERGE}")
    start = config.get("init_lora_weights", True)
    if start not in (True, False, None) and start not in INITIALISATIONS:
        raise RunError(
            f"{where}: init_lora_weights is {start!r}: such an initialisation changes the base's weights before "
            "training, so B A is not W_t - W0. Convert the adapter (PEFT's save_pretrained with "
            f"path_initial_model_for_weight_conversion), or {MERGE}"
        )


def _refuse_pissa_of_llama_factory(directory: Path) -> None:
    """Refuse LLaMA-Factory's PiSSA adapters: only directories beside them show it, not their config."""
    if directory.name == "pissa_converted":
        return
    unconverted = directory.name in ("pissa_init", "pissa_backup")
    if unconverted or any((place / "pissa_init").is_dir() for place in (directory, directory.parent)):
        raise RunError(
            f"{directory}: a PiSSA adapter of LLaMA-Factory (there is a pissa_init directory), whose base was changed "
            f"before training, so B A is not W_t - W0. Use pissa_converted/, or {MERGE}"
        )


def _patterns(config: Mapping[str, Any], key: str, where: Path) -> Mapping[str, float]:
    """A mapping of regular expressions to numbers, none of which may take for ever to match."""
    patterns = config.get(key) or {}
    check = _is_rank if key == "rank_pattern" else _is_number
    if not isinstance(patterns, dict) or not all(check(value) for value in patterns.values()):
        raise RunError(f"{where}: {key} is not a mapping of module names to numbers")
    if len(patterns) > MAX_PATTERNS:
        raise RunError(f"{where}: {key} holds {len(patterns)} patterns, more than the {MAX_PATTERNS} that are read")
    for text in patterns:
        try:
            pattern(text)
        except PatternProblem as problem:
            raise RunError(f"{where}: {key} holds {text[:60]!r}, {problem}; write simpler patterns") from problem
    return patterns


def _matches(patterns: Mapping[str, float] | None, target: str) -> list[float]:
    """The values of the patterns that match all of `target`, or all that follows one of its dots (PEFT's rule)."""
    return [value for text, value in (patterns or {}).items() if pattern(text).matches_a_tail(target)]


def _tokens(indices: Any, where: Path) -> Mapping[str, tuple[int, ...]]:
    """Trained rows by module; a bare list means the input embedding, under any name."""
    by_module = {"": indices} if isinstance(indices, list) else indices or {}
    if not isinstance(by_module, dict) or not all(_are_rows(rows) for rows in by_module.values()):
        raise RunError(
            f"{where}: trainable_token_indices is neither a list of distinct tokens nor such lists by module"
        )
    return {module: tuple(rows) for module, rows in by_module.items()}


def _are_rows(rows: Any) -> bool:
    return (
        isinstance(rows, list) and all(type(r) is int and 0 <= r < 2**31 for r in rows) and len(set(rows)) == len(rows)
    )


def _is_rank(value: Any) -> bool:
    return type(value) is int and 1 <= value <= 2**20


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 2**40
