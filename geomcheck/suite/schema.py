"""The JSON Schema of suites for editors, made from the grammar's models and the metrics' declarations."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from geomcheck.diagnostics import load_metrics
from geomcheck.suite.grammar import Heading, RegimeStatement, defaults_model, keys_of, statement_model

_DRAFT = "http://json-schema.org/draft-07/schema#"


def json_schema() -> dict[str, Any]:
    """The schema of a suite file, in draft-07, which the YAML language server reads.

    Editors offer each metric's own parameters once ``metric`` is written; what only the loader can know
    (unique ids, exactly one condition, conditions that cannot fail) is left to it.
    """
    metrics = load_metrics()
    schema = _object(Heading)
    schema["properties"]["expect"]["items"] = {"$ref": "#/definitions/expectation"}
    schema["properties"]["defaults"] = {
        "type": "object",
        "description": "Parameters per metric, for expectations that leave them out.",
        "properties": {metric.name: _object(defaults_model(metric.name)) for metric in metrics},
        "additionalProperties": False,
    }
    definitions = {metric.name: _expectation(metric.name) for metric in metrics}
    definitions["regime"] = _object(RegimeStatement)
    definitions["override"] = _override()
    definitions["expectation"] = _dispatch(metrics.names())
    return {"$schema": _DRAFT, "title": "geomcheck suite", **schema, "definitions": definitions}


def _object(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True)
    for part in schema["properties"].values():
        part.pop("title", None)
        part.pop("default", None)
    return {key: schema[key] for key in ("type", "properties", "required", "additionalProperties") if key in schema}


def _expectation(name: str) -> dict[str, Any]:
    metric = load_metrics()[name]
    about = f"{metric.title}: {metric.definition}. Source: {metric.source}."
    schema = _object(statement_model(name))
    # What else is required may come from `extends` and `defaults`.
    return {"description": about, **schema, "required": ["id", "metric"]}


def _override() -> dict[str, Any]:
    """An expectation that leaves its metric to the suite that it extends: any key of any metric."""
    keys = {key for metric in load_metrics() for key in keys_of(statement_model(metric.name))}
    common = _object(RegimeStatement)["properties"]
    return {
        "type": "object",
        "description": "Overrides an expectation of the suite that this one extends.",
        "properties": {key: common.get(key, {}) for key in sorted(keys)},
        "required": ["id"],
        "additionalProperties": False,
    }


def _dispatch(names: tuple[str, ...]) -> dict[str, Any]:
    has_metric = {"required": ["metric"]}
    by_metric = [
        {
            "if": {"properties": {"metric": {"const": name}}, **has_metric},
            "then": {"$ref": f"#/definitions/{name}"},
        }
        for name in names
    ]
    without = {
        "if": {"not": has_metric},
        "then": {
            "if": {"required": ["regime"]},
            "then": {"$ref": "#/definitions/regime"},
            "else": {"$ref": "#/definitions/override"},
        },
    }
    about = {metric.name: metric.definition for metric in load_metrics()}
    return {
        "type": "object",
        "properties": {
            "metric": {"enum": list(names), "description": "; ".join(f"{k}: {v}" for k, v in about.items())}
        },
        "required": ["id"],
        "allOf": [*by_metric, without],
    }
