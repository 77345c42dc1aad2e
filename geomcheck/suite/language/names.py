"""Which metric a name may mean that no metric has."""

from __future__ import annotations

import re
from collections.abc import Sequence

from geomcheck.diagnostics import load_metrics
from geomcheck.suite.language.quantities import closest, snake_case

ALL = "(all: geomcheck metrics)"


def metric_hint(word: object, others: Sequence[str] = ()) -> str:
    """``; did you mean `stable_rank`?`` where a metric is called so by others, or nearly; else what there is.

    Args:
        others: what may stand where the metric does, beside metrics.
    """
    metrics, names = load_metrics(), (*load_metrics().names(), *others)
    if isinstance(word, str):
        plain = snake_case(word.strip("\u201c\u201d\u2018\u2019"))
        bare = re.sub(r"_?\d+$", "", plain)
        meant = next((name for name in names if plain in (name, name.replace("_", ""))), None) or next(
            (metric.name for metric in metrics if {plain, bare} & {*metric.synonyms}), None
        )
        if meant is not None:
            return f"; did you mean `{meant}`? {ALL}"
        near = next((metric for metric in metrics if {plain, bare} & {*metric.akin}), None)
        if near is not None:
            return f"; it is not measured, and the nearest is `{near.name}` ({near.title}) {ALL}"
        begins = re.match(r"(\w+)\s*(?:\(|[<>=]=?|\s)\s*(.*?)\)?$", word)
        if begins and begins[1] in names:
            return f"; write `metric: {begins[1]}` alone, and parameters and conditions as keys of their own"
        words = {*plain.split("_")}
        if (spoken := next((name for name in names if {*name.split("_")} <= words), None)) is not None:
            return f"; did you mean `{spoken}`? {ALL}"
        if (close := closest(plain, names)) is not None:
            return f"; did you mean `{close}`? {ALL}"
    return f"; metrics: {', '.join(names)}"
