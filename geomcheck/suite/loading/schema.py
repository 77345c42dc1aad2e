"""The JSON Schema of suites for editors, made from the grammar's models and the metrics' declarations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from geomcheck.diagnostics import Metric, Registry, load_metrics
from geomcheck.suite.conditions.sufficiency import SUFFICIENCY
from geomcheck.suite.loading.grammar import (
    Heading,
    RegimeStatement,
    SufficiencyStatement,
    defaults_model,
    statement_model,
)
from geomcheck.suite.loading.hover import about_metric, documented, shared

_DRAFT = "http://json-schema.org/draft-07/schema#"


def json_schema() -> dict[str, Any]:
    """The schema of a suite file, in draft-07, which the YAML language server reads.

    Editors offer each metric's own parameters once ``metric`` is written; what only the loader can know
    (unique ids, exactly one condition, conditions that cannot fail) is left to it.
    """
    metrics = load_metrics()
    schema = documented(_object(Heading))
    schema["properties"]["expect"]["items"] = {"$ref": "#/definitions/expectation"}
    schema["properties"]["defaults"] = {
        **schema["properties"]["defaults"],
        "properties": {metric.name: _defaults(metric) for metric in metrics},
        "additionalProperties": False,
    }
    definitions = {metric.name: _expectation(metric) for metric in metrics}
    definitions["regime"] = documented(_object(RegimeStatement))
    definitions[SUFFICIENCY] = _sufficiency()
    definitions["override"] = _override(definitions)
    definitions["expectation"] = _dispatch(metrics)
    return {"$schema": _DRAFT, "title": "geomcheck suite", **schema, "definitions": shared(definitions)}


def _object(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True)
    for part in schema["properties"].values():
        part.pop("title", None)
        part.pop("default", None)
    return {key: schema[key] for key in ("type", "properties", "required", "additionalProperties") if key in schema}


def _defaults(metric: Metric) -> dict[str, Any]:
    parameters = documented(_object(defaults_model(metric.name)))
    example = {p.name: parameters["properties"][p.name]["examples"][0] for p in metric.parameters}
    return {"description": about_metric(metric), **parameters, "examples": [example]}


def _expectation(metric: Metric) -> dict[str, Any]:
    schema = documented(_object(statement_model(metric.name)), metric.unit, metric.example)
    schema["properties"]["metric"] |= {"description": about_metric(metric), "enumDescriptions": [metric.title]}
    # What else is required may come from `extends` and `defaults`.
    return {"description": about_metric(metric), **schema, "required": ["id", "metric"]}


def _sufficiency() -> dict[str, Any]:
    schema = documented(_object(SufficiencyStatement))
    return {**schema, "required": ["id", "metric"]}  # what else is required may come from `extends`


def _override(statements: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """An expectation that leaves its metric to the suite that it extends: any key of any metric.

    A key that metrics read alike is checked as they do; one that they read differently is only described.
    """
    found: dict[str, list[dict[str, Any]]] = {}
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
            if key not in ("metric", "regime")
        },
        "required": ["id"],
        "additionalProperties": False,
    }


def _about_sufficiency() -> str:
    return str(SufficiencyStatement.model_fields["metric"].description)


def _dispatch(metrics: Registry) -> dict[str, Any]:
    has_metric = {"required": ["metric"]}
    by_metric = [
        {
            "if": {"properties": {"metric": {"const": name}}, **has_metric},
            "then": {"$ref": f"#/definitions/{name}"},
        }
        for name in (*metrics.names(), SUFFICIENCY)
    ]
    without = {
        "if": {"not": has_metric},
        "then": {
            "if": {"required": ["regime"]},
            "then": {"$ref": "#/definitions/regime"},
            "else": {"$ref": "#/definitions/override"},
        },
    }
    choice = {
        "enum": [*metrics.names(), SUFFICIENCY],
        "enumDescriptions": [*(about_metric(metric) for metric in metrics), _about_sufficiency()],
        "description": "What is measured; each metric has its own parameters and unit.",
        "examples": ["stable_rank", "update_support"],
    }
    return {"type": "object", "properties": {"metric": choice}, "required": ["id"], "allOf": [*by_metric, without]}
