"""From a YAML node to a validated object, with every mistake as a sentence about its place in the file."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from geomcheck.errors import Problem
from geomcheck.suite.language.document import Node
from geomcheck.suite.language.quantities import did_you_mean, spelled


def validate(model: type[BaseModel], node: Node, *, what: str) -> tuple[Any, list[Problem]]:
    """An instance of `model` from `node`, or None with the problems; `what` names the thing in messages."""
    try:
        return model.model_validate(node.plain()), []
    except ValidationError as invalid:
        return None, [_translate(error, model, node, what) for error in invalid.errors(include_url=False)]


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys that `model` allows, as suites write them."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _translate(error: Any, model: type[BaseModel], node: Node, what: str) -> Problem:
    path = error["loc"]
    key = path[-1] if path else ""
    match error["type"]:
        case "missing":
            return Problem(node.position, f"{what} needs `{key}`{_description(model, key)}")
        case "extra_forbidden":
            return Problem(node.locate(path, key=True), unknown_key(str(key), keys_of(model), what))
        case "value_error":
            refusal = error["ctx"]["error"]
            inner = getattr(refusal, "path", ())
            return Problem(node.locate((*path[:1], *inner)), f"`{path[0]}`: {refusal}")
        case "dict_type":
            return Problem(node.locate(path), f"`{key}`: expected a mapping; found {spelled(error['input'])}")
        case _:
            return Problem(node.locate(path), f"`{key}`: {error['msg']}; found {spelled(error['input'])}")


def unknown_key(key: str, allowed: list[str], what: str) -> str:
    """The sentence for a key that `what` does not have; only metrics' parameters may be none at all."""
    if not allowed:
        return f"unknown key `{key}` in {what}: it has no parameters"
    return f"unknown key `{key}` in {what}; allowed: {', '.join(allowed)}{did_you_mean(key, allowed)}"


def _description(model: type[BaseModel], key: Any) -> str:
    for name, field in model.model_fields.items():
        if key in (name, field.alias) and field.description:
            return f": {field.description[0].lower()}{field.description[1:]}".rstrip(".")
    return ""
