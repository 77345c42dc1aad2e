"""What an editor shows of a suite beyond its grammar: a description and examples of every key, the meaning of words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from geomcheck.diagnostics import Metric

Schema = dict[str, Any]


def about_metric(metric: Metric) -> str:
    """What a metric is: definition, unit, range, what chance gives, when it is undefined, fold, source."""
    facts = [f"{metric.title}: {metric.definition}.", f"Unit: {metric.unit.value}, from {metric.limits}."]
    facts += [f"By chance: {metric.baseline}."] if metric.baseline else []
    facts += [f"Undefined where {metric.undefined}."] if metric.undefined else []
    facts += [f"Fold over weights: {metric.fold}.", metric.distrust, f"Source: {metric.source}."]
    return " ".join(filter(None, facts))


def documented(schema: Schema) -> Schema:
    """`schema` of an object with examples on every key, at every depth, and a description of every word."""
    return {**schema, "properties": {key: _key(part) for key, part in schema["properties"].items()}}


def _key(schema: Schema) -> Schema:
    inner = _value(schema, schema.get("description", ""))
    return {**inner, "examples": inner.get("examples") or _made(inner)}


def _value(schema: Schema, about: str) -> Schema:
    """`schema` of a value; words without a meaning of their own are described as the key is."""
    told = dict(schema)
    if "enum" in told:
        told.setdefault("enumDescriptions", [about] * len(told["enum"]))
    if "anyOf" in told:
        told["anyOf"] = [_value(part, about) for part in told["anyOf"]]
    if isinstance(told.get("items"), dict) and "$ref" not in told["items"]:
        told["items"] = _value(told["items"], about)
    return documented(told) if "properties" in told else told


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
