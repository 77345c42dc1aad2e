"""Check what is read from the store: JSON of the form that `Recall` writes, or else nothing."""

from __future__ import annotations

import json
import math
from typing import Any


def decoded_digests(value: bytes | None) -> dict[str, str]:
    """Digests by weight; none where `value` is something else."""
    found = _decoded(value)
    return found if all(isinstance(digest, str) for digest in found.values()) else {}


def decoded_entry(value: bytes | None) -> dict[str, Any]:
    """``{"answers": {label: figures or reason}, "routes": {quantity: [how, certificate]}}``, each of them optional."""
    found = _decoded(value)
    answers, routes = found.get("answers", {}), found.get("routes", {})
    proper = isinstance(answers, dict) and isinstance(routes, dict)
    if not proper or not all(map(_is_answer, answers.values())) or not all(map(_is_route, routes.values())):
        return {}
    return found


def _decoded(value: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(value) if value else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_answer(answer: object) -> bool:
    if not isinstance(answer, dict):
        return isinstance(answer, str)
    return all(type(figure) is float and math.isfinite(figure) for figure in answer.values())


def _is_route(route: object) -> bool:
    return (
        isinstance(route, list) and len(route) == 2 and type(route[0]) is str and type(route[1]) in (float, type(None))
    )
