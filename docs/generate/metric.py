"""The text of a metric's page: its declaration, an expectation that loads, and what good and bad look like."""

from __future__ import annotations

from collections.abc import Iterator

from docs.generate.examples import MODEL, RUNS, Example, suite_text
from docs.generate.figure import figure
from docs.generate.sufficiency import about
from docs.generate.text import cell, prose
from geomcheck.diagnostics import Metric, Parameter, load_metrics
from geomcheck.report.charts.numbers import Form
from geomcheck.suite.conditions.sufficiency import SUFFICIENCY

_LABELS = {"opd": "OPD", "sft": "SFT", "rlvr": "RLVR"}
_OUTCOMES = {"passed": "keeps it", "failed": "violates it", "error": "cannot be judged"}


def overview() -> str:
    """The table of all metrics."""
    named = {True: " Measured where it is named.", False: ""}
    rows = [
        f"| [`{m.name}`]({m.name}.md) | {prose(m.plainly.shows)}{named[m.on_request]} | {m.unit.value} |"
        for m in load_metrics()
    ]
    rows.append(f"| [`{SUFFICIENCY}`]({SUFFICIENCY}.md) | {cell(about('metric'))} | fraction |")
    head = ["# Metrics", "", _NOTATION, "", "| metric | what it says | unit |", "|---|---|---|"]
    listed = ["```{toctree}", ":hidden:", "", *(m.name for m in load_metrics()), SUFFICIENCY, "```"]
    return "\n".join([*head, *rows, "", *listed, ""])


_NOTATION = (
    "`W_0` is a weight matrix before training, `W_t` at checkpoint t, and `D_t = W_t - W_0`. Every figure is computed "
    "per matrix in float64 and then folded over matrices. The [glossary](../glossary.md) has the terms, and "
    "[the table of doubts](../reference/trust.md) says when not to trust which figure."
)


def metric_page(example: Example) -> str:
    """The page of one metric."""
    metric = example.metric
    lines = [f"# {metric.title[:1].upper()}{metric.title[1:]}", "", *_plainly(metric), ""]
    lines += ["## What it looks like", "", _drawing(example), "", _explained(example), ""]
    lines += ["## An expectation", "", "```yaml", suite_text([example.text]), "```", "", *_outcomes(example), ""]
    lines += ["## Definition", "", f"`{metric.name}`: {cell(metric.definition)}", "", *_facts(metric), ""]
    return "\n".join([*lines, *_parameters(metric)])


def _plainly(metric: Metric) -> Iterator[str]:
    """The metric for readers who have not seen the papers, with when not to trust it."""
    said = metric.plainly
    yield f"`{metric.name}`: {prose(said.shows)}"
    yield ""
    yield f"- Too high: {prose(said.high)}"
    yield f"- Too low: {prose(said.low)}"
    if metric.distrust:
        yield ""
        yield f"**When not to trust it.** {prose(metric.distrust)}"


def _facts(metric: Metric) -> Iterator[str]:
    low, high = metric.range({})
    top = metric.at_most or ("no upper bound" if high == float("inf") else f"{high:g}")
    facts = {
        "unit": metric.unit.value,
        "range": f"{low:g} to {top}",
        "by chance": metric.baseline or "no figure is known",
        "fold over weights": metric.fold
        + (" (each weight counts by its entries)" if metric.fold == "weighted" else ""),
        "undefined": metric.undefined or "never",
        "of unchanged weights": "a figure" if metric.when_unchanged else "left out",
        "needs": _needs(metric),
        "measured": "by default" if metric.measured_by_default else "where it is named, by a suite or `--metrics`",
        "source": metric.source,
    }
    yield "| declared | |"
    yield "|---|---|"
    for name, fact in facts.items():
        yield f"| {name} | {cell(fact)} |"


def _needs(metric: Metric) -> str:
    if metric.against_reference:
        return "a reference run"
    others = "other checkpoints" if metric.across else "W_0, W_t"
    return f"{others}, or a reference run" if metric.with_reference else others


def _parameters(metric: Metric) -> list[str]:
    if not metric.parameters:
        return []
    rows = [f"| `{p.name}` | {_allowed(p)} | {_default(p)} | {cell(p.about)} |" for p in metric.parameters]
    return ["## Parameters", "", "| name | values | default | meaning |", "|---|---|---|---|", *rows, ""]


def _allowed(parameter: Parameter) -> str:
    match parameter.kind:
        case "choice":
            return ", ".join(f"`{choice}`" for choice in parameter.choices)
        case "rank":
            return f"an integer from {int(parameter.low or 1)}, or a share such as `12.5%`"
        case "checkpoint":
            words = ("last", "first", "previous", *parameter.choices)
            return ", ".join(f"`{word}`" for word in (*words, "{step: N}", "{progress: 20%}"))
        case kind:
            return f"{kind}, {parameter.low:g} to {parameter.high:g}"


def _default(parameter: Parameter) -> str:
    if parameter.required:
        return "required"
    if isinstance(parameter.default, dict):
        return "`{" + ", ".join(f"{key}: {value}" for key, value in parameter.default.items()) + "}`"
    return f"`{parameter.default}`"


def _drawing(example: Example) -> str:
    """The three runs against the example's band."""
    model = example.verdicts[MODEL]
    drawing = figure(
        [(_LABELS[method], example.trajectory(run)) for method, run in RUNS.items()],
        title=f"{example.metric.title} over training",
        x_label="% of training",
        form=Form(percent=model.percent, degrees=model.unit == "deg"),
        bounds=model.bounds,
    )
    return f"<figure>\n{drawing}\n</figure>"


def _explained(example: Example) -> str:
    condition = example.verdicts[MODEL].condition
    return (
        f"The three committed runs ([how they were made](../index.md#the-runs-behind-the-figures)), measured when this "
        f"page was built. The band is the example's below, `{condition}`: made for the distilled run, which shows "
        "what good looks like there; a cross is a checkpoint outside it."
    )


def _outcomes(example: Example) -> Iterator[str]:
    for method, run in RUNS.items():
        verdict = example.verdicts[run]
        yield f"- {_LABELS[method]} (`{run}`) {_OUTCOMES[verdict.outcome]}: {cell(verdict.message)}."
