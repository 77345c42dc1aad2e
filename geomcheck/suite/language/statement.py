"""What every expectation of a suite may say; and from a YAML node to such a model, or what is wrong with the node."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from geomcheck.errors import Problem
from geomcheck.suite.language import fields
from geomcheck.suite.language.document import Node
from geomcheck.suite.language.places import ALL, At
from geomcheck.suite.language.quantities import Refusal, did_you_mean, spelled
from geomcheck.suite.language.selection import Selection

LEVELS = {
    "error": "A violation fails the session.",
    "warn": "A violation is shown as WARNED, and fails the session only under --geom-fail-on=warn.",
    "info": "A violation is shown as INFO, and fails nothing.",
}

_SLUG = re.compile(r"[a-z0-9][a-z0-9_.-]*")


def _slug(raw: Any) -> str:
    if not isinstance(raw, str) or not _SLUG.fullmatch(raw):
        raise Refusal(
            f"{spelled(raw)} is not a slug: lower-case letters, digits, `_`, `.` and `-`, "
            "beginning with a letter or digit"
        )
    return raw


def _text(raw: Any) -> str:
    if not isinstance(raw, str) or not raw.strip():
        raise Refusal(f"expected a text; found {spelled(raw)}")
    return raw


TEXT_SCHEMA = {"type": "string", "minLength": 1}
TEXTS_SCHEMA = {"type": "array", "items": TEXT_SCHEMA, "minItems": 1}

Slug = Annotated[str, *fields.read_by(_slug, {"type": "string", "pattern": f"^{_SLUG.pattern}$"})]
Text = Annotated[str, *fields.read_by(_text, TEXT_SCHEMA)]

STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True, populate_by_name=False)


class Statement(BaseModel):
    """What every expectation may say, whatever it is about."""

    model_config = STRICT

    id: Slug = Field(
        description="Name of the expectation, unique in the suite.", examples=["stable-rank-band", "rotation"]
    )
    at: Annotated[At, *fields.AT] = Field(ALL, description="The checkpoints; each must hold. Default: all.")
    weights: Annotated[Selection | None, *fields.WEIGHTS] = Field(None, description="Overrides the suite's `weights`.")
    level: Annotated[str, *fields.one_of(LEVELS)] = Field(
        "error", description="What a violation is: a failure, a warning, or information."
    )
    why: Text = Field(
        "",
        description="The reason, shown on failure.",
        examples=["It left the band when the RL term leaked into the loss."],
    )


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
