"""The JSON Schema of suites for editors, made from the grammar's models and the metrics' declarations.

Beyond the grammar, every key gets a description and examples, and every word its meaning.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from geomcheck.diagnostics import Metric, Registry, load_metrics
from geomcheck.suite.conditions import SubjectCondition, load_conditions
from geomcheck.suite.language.fields import Schema
from geomcheck.suite.loading.grammar import Heading, defaults_model, statement_model

_DRAFT = "http://json-schema.org/draft-07/schema#"


def json_schema() -> Schema:
    """The schema of a suite file, in draft-07, which the YAML language server reads.

    Editors offer each metric's own parameters once ``metric`` is written; what only the loader can know
    (unique ids, exactly one condition, conditions that cannot fail) is left to it.
    """
    metrics = load_metrics()
    schema = _documented(_object(Heading))
    schema["properties"]["expect"]["items"] = {"$ref": "#/definitions/expectation"}
    schema["properties"]["defaults"] = {
        **schema["properties"]["defaults"],
        "properties": {metric.name: _defaults(metric) for metric in metrics},
        "additionalProperties": False,
    }
    definitions = {metric.name: _expectation(metric) for metric in metrics}
    subjects = load_conditions().of_subjects
    definitions |= {kind.keyword: _subject(kind) for kind in subjects}
    definitions["override"] = _override(definitions)
    definitions["expectation"] = _dispatch(metrics)
    return {"$schema": _DRAFT, "title": "geomcheck suite", **schema, "definitions": _shared(definitions)}


def _object(model: type[BaseModel]) -> Schema:
    schema = model.model_json_schema(by_alias=True)
    for part in schema["properties"].values():
        part.pop("title", None)
        part.pop("default", None)
    return {key: schema[key] for key in ("type", "properties", "required", "additionalProperties") if key in schema}


def _defaults(metric: Metric) -> Schema:
    parameters = _documented(_object(defaults_model(metric.name)))
    example = {p.name: parameters["properties"][p.name]["examples"][0] for p in metric.parameters}
    return {"description": _about_metric(metric), **parameters, "examples": [example]}


def _expectation(metric: Metric) -> Schema:
    schema = _documented(_object(statement_model(metric.name)))
    schema["properties"]["metric"] |= {"description": _about_metric(metric), "enumDescriptions": [metric.title]}
    # What else is required may come from `extends` and `defaults`.
    return {"description": _about_metric(metric), **schema, "required": ["id", "metric"]}


def _subject(kind: type[SubjectCondition]) -> Schema:
    schema = _documented(_object(kind.statement))
    about = kind.keyword if kind.instead_of_metric else "metric"
    return {**schema, "required": ["id", about]}  # what else is required may come from `extends`


def _override(statements: Mapping[str, Schema]) -> Schema:
    """An expectation that leaves its metric to the suite that it extends: any key of any metric.

    A key that metrics read alike is checked as they do; one that they read differently is only described.
    """
    found: dict[str, list[Schema]] = {}
    for statement in statements.values():
        for key, part in statement["properties"].items():
            found.setdefault(key, []).append(part)
    about = {key: {k: parts[0][k] for k in ("description", "examples")} for key, parts in found.items()}
    return {
        "type": "object",
        "description": "Overrides an expectation of the suite that this one extends.",
        "properties": {
            key: parts[0] if all(part == parts[0] for part in parts) else about[key]
            for key, parts in sorted(found.items())
            if key not in ("metric", *load_conditions().instead)
        },
        "required": ["id"],
        "additionalProperties": False,
    }


def _dispatch(metrics: Registry) -> Schema:
    has_metric = {"required": ["metric"]}
    conditions = load_conditions()
    named = {kind.keyword: kind for kind in conditions.of_subjects if not kind.instead_of_metric}
    by_metric = [
        {"if": {"properties": {"metric": {"const": name}}, **has_metric}, "then": {"$ref": f"#/definitions/{name}"}}
        for name in (*metrics.names(), *named)
    ]
    otherwise: Schema = {"$ref": "#/definitions/override"}
    for kind in conditions.of_subjects:
        if kind.instead_of_metric:
            then = {"$ref": f"#/definitions/{kind.keyword}"}
            otherwise = {"if": {"required": [kind.keyword]}, "then": then, "else": otherwise}
    without = {"if": {"not": has_metric}, "then": otherwise}
    about = [str(kind.statement.model_fields["metric"].description) for kind in named.values()]
    choice = {
        "enum": [*metrics.names(), *named],
        "enumDescriptions": [*(_about_metric(metric) for metric in metrics), *about],
        "description": "What is measured; each metric has its own parameters and unit.",
        "examples": ["stable_rank", "update_support"],
    }
    return {"type": "object", "properties": {"metric": choice}, "required": ["id"], "allOf": [*by_metric, without]}


def _about_metric(metric: Metric) -> str:
    """What a metric is: definition, unit, range, what chance gives, when it is undefined, fold, source."""
    facts = [f"{metric.title}: {metric.definition}.", f"Unit: {metric.unit.value}, from {metric.limits}."]
    facts += [f"By chance: {metric.baseline}."] if metric.baseline else []
    facts += [f"Undefined where {metric.undefined}."] if metric.undefined else []
    facts += [f"Fold over weights: {metric.fold}.", metric.distrust, f"Source: {metric.source}."]
    return " ".join(filter(None, facts))


def _documented(schema: Schema) -> Schema:
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
    return _documented(told) if "properties" in told else told


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


def _shared(definitions: dict[str, Schema]) -> dict[str, Schema]:
    """The same definitions with keys that occur alike in several of them moved to definitions of their own."""
    properties = (item for schema in definitions.values() for item in schema.get("properties", {}).items())
    seen = Counter((key, json.dumps(part, sort_keys=True)) for key, part in properties)
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
