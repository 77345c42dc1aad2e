"""What an editor shows of a suite beyond its grammar: a description and examples of every key, the meaning of words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from geomcheck.diagnostics import Metric, Unit
from geomcheck.diagnostics.declaration import Ends

Schema = dict[str, Any]

_EXAMPLES: Mapping[str, list[Any]] = {
    "id": ["stable-rank-band", "rotation"],
    "geomcheck": [1],
    "name": ["opd-8b"],
    "about": ["On-policy distillation of our 8B student; bands from the five runs of May."],
    "applies_to": [["*opd*", "!tiny-*"]],
    "base": ["../models/anchor", "Qwen/Qwen3-8B@main"],
    "storage": [["bf16", "bf16"]],
    "profiles": [["paper", "profiles/mine.yaml"]],
    "extends": ["opd", "./team.yaml"],
    "expect": [[{"id": "support", "metric": "update_support", "below": "30%", "at": "last"}]],
    "defaults": [{"subspace_alignment": {"k": 32}}],
    "why": ["It left the band when the RL term leaked into the loss."],
    "step": [500],
    "progress": ["20%"],
    "from": [{"progress": "20%"}, "first"],
    "to": ["last", {"step": 900}],
    "include": [["*.q_proj.weight", "*.k_proj.weight"]],
    "exclude": [["model.layers.0.*"]],
    "eta": [1e-3],
    "alpha": ["30%", 0.5],
    "score": ["eval_accuracy"],
    "free": ["../opd-free"],
    "random": [["../opd-random-0", "../opd-random-1"]],
    "start": [0.11],
    "min_gain": [0.02],
}
"""Examples of keys whose grammar does not give them."""

_BY_UNIT: Mapping[Unit, tuple[float | str, float | str, float | str]] = {
    Unit.FRACTION: ("20%", "30%", 0.05),
    Unit.NUMBER: (20, 30, 5),
    Unit.DEGREES: ("0.5 deg", "1.5 deg", "0.5 deg"),
}
"""A band, for metrics that declare none, and a tolerance."""

_ABOUT: Mapping[str, str] = {
    "step": "The checkpoint of this optimizer step, as the framework counts; the run must have it.",
    "progress": "The checkpoint nearest to this share of the training, within 5 points.",
    "from": "The first checkpoint of the span, included; the run's first where it is left out.",
    "to": "The last checkpoint of the span, included; the run's last where it is left out.",
    "include": "Globs over whole canonical names, case-sensitive; a glob that matches no weight is an error.",
    "within": "The band at this checkpoint.",
    "exclude": "Globs over whole canonical names that are taken out again.",
}

_WORDS: Mapping[str, str] = {
    "attention": "The projections of attention: q, k, v and o of every layer, however they are stored.",
    "mlp": "The projections of the MLPs: gate, up and down of every layer, experts included.",
    "linear": "Attention and MLP.",
    "all": "Everything.",
    "first": "The earliest checkpoint of the run.",
    "last": "The latest checkpoint of the run.",
    "previous": "The checkpoint before the one that is looked at.",
    "error": "A violation fails the session.",
    "warn": "A violation is shown as WARNED, and fails the session only under --geom-fail-on=warn.",
    "info": "A violation is shown as INFO, and fails nothing.",
    "rising": "Each checkpoint at least the one before, less `tolerance`, and the last above the first.",
    "falling": "Each checkpoint at most the one before, plus `tolerance`, and the last below the first.",
    "flat": "(max - min) / |mean| over the checkpoints is at most `tolerance`.",
    "reference": "The run or record of --geom-reference, at the checkpoint of the same progress.",
    "start": "The whole training: the score at step 0, or what `start` gives.",
    "constraint": "What the constraint can touch: each run's own score at the step where the constraint began.",
    "higher": "A higher score is better, as of an accuracy.",
    "lower": "A lower score is better, as of a loss.",
    "run": "One figure for all selected weights.",
    "layer": "One figure for each layer.",
    "module": "One figure for each kind of module, such as q_proj over all layers.",
    "weight": "Each weight's own figure; nothing is folded.",
    "mean": "The arithmetic mean.",
    "median": "The median: half is below it.",
    "max": "The largest.",
    "min": "The smallest.",
    "p95": "The 95th percentile.",
    "weighted": "The mean, each weight counted by its number of entries.",
    "sft": "Supervised fine-tuning.",
    "opd": "On-policy distillation.",
    "rlvr": "Reinforcement learning with verifiable rewards.",
    "left": "Left singular vectors U, of the output space.",
    "right": "Right singular vectors V, of the input space.",
    "both": "The angles of left and right subspaces pooled.",
    "bf16": "After a cast of both sides to bfloat16.",
    "fp16": "IEEE half precision.",
    "fp32": "IEEE single precision.",
    "fp64": "IEEE double precision.",
    "none": "As it is.",
    "shuffled": "Less the mean figure of seeded structureless updates of the same size.",
}


def about_metric(metric: Metric) -> str:
    """What a metric is: definition, unit, range, what chance gives, when it is undefined, fold, source."""
    facts = [f"{metric.title}: {metric.definition}.", f"Unit: {metric.unit.value}, from {metric.limits}."]
    facts += [f"By chance: {metric.baseline}."] if metric.baseline else []
    facts += [f"Undefined where {metric.undefined}."] if metric.undefined else []
    facts += [f"Fold over weights: {metric.fold}.", metric.distrust, f"Source: {metric.source}."]
    return " ".join(filter(None, facts))


def _examples(unit: Unit, band: Ends | None) -> dict[str, list[Any]]:
    """Of the keys whose values are figures."""
    *usual, tolerance = _BY_UNIT[unit]
    low, high = band or usual
    return {"within": [[low, high]], "above": [low], "below": [high], "tolerance": [tolerance, "10%"]}


def documented(schema: Schema, unit: Unit | None = None, band: Ends | None = None) -> Schema:
    """`schema` of an object with a description and examples on every key, at every depth.

    Args:
        unit: of the figures that keys hold, where they are an expectation's.
        band: an example of the object's own figures.
    """
    figures = _examples(unit, band) if unit else {}
    properties = {key: _key(key, part, unit, figures) for key, part in schema["properties"].items()}
    return {**schema, "properties": properties}


def _key(key: str, schema: Schema, unit: Unit | None, figures: Mapping[str, list[Any]]) -> Schema:
    about = schema.get("description") or _ABOUT.get(key)
    described = {"description": about} if about else {}
    inner = _value(schema, about or "", unit)
    examples = figures.get(key) or inner.get("examples") or _EXAMPLES.get(key) or _made(inner)
    return {**inner, **described, "examples": examples}


def _value(schema: Schema, about: str, unit: Unit | None) -> Schema:
    """`schema` of a value, with the meaning of its words; objects inside are documented too."""
    told = dict(schema)
    if "enum" in told:
        told["enumDescriptions"] = [_WORDS.get(word, about) for word in told["enum"]]
    if "anyOf" in told:
        told["anyOf"] = [_value(part, about, unit) for part in told["anyOf"]]
    if isinstance(told.get("items"), dict) and "$ref" not in told["items"]:
        told["items"] = _value(told["items"], about, unit)
    return documented(told, unit) if "properties" in told else told


def _made(schema: Schema) -> list[Any]:
    """Examples that the grammar of a value gives away: its words, its constant, its bounds."""
    if "enum" in schema:
        return list(schema["enum"])
    if "const" in schema:
        return [schema["const"]]
    if "properties" in schema:
        found = {key: part["examples"][0] for key, part in schema["properties"].items() if part["examples"]}
        return [found] if found else [{}]
    if isinstance(schema.get("items"), dict) and (inner := _made(schema["items"])):
        return [inner[:1]]
    for part in schema.get("anyOf", ()):
        if examples := _made(part):
            return examples
    return [schema[bound] for bound in ("minimum", "maximum") if bound in schema]


def shared(definitions: dict[str, Schema]) -> dict[str, Schema]:
    """The same definitions with keys that occur alike in several of them moved to definitions of their own."""
    seen: dict[tuple[str, str], int] = {}
    for schema in definitions.values():
        for key, part in schema.get("properties", {}).items():
            spelled = (key, json.dumps(part, sort_keys=True))
            seen[spelled] = seen.get(spelled, 0) + 1
    names: dict[tuple[str, str], str] = {}
    for key, text in (spelled for spelled, count in seen.items() if count > 1):
        number = sum(key == other for other, _ in names)
        names[key, text] = f"key-{key}" if number == 0 else f"key-{key}-{number + 1}"
    moved = {name: json.loads(text) for (_, text), name in names.items()}
    return {name: _with_references(schema, names) for name, schema in definitions.items()} | moved


def _with_references(schema: Schema, names: Mapping[tuple[str, str], str]) -> Schema:
    properties = {
        key: {"$ref": f"#/definitions/{name}"} if (name := names.get((key, json.dumps(part, sort_keys=True)))) else part
        for key, part in schema.get("properties", {}).items()
    }
    return {**schema, "properties": properties} if properties else schema
