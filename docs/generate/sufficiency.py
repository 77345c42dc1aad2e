"""The page of functional sufficiency, an expectation about scores that has no metric of weights."""

from __future__ import annotations

from geomcheck.suite.conditions.sufficiency import SUFFICIENCY, SufficiencyStatement
from geomcheck.suite.language.statement import Statement

_MEANING = """\
The share is `(constrained - start) / (free - start)`, by evaluation scores at the same step. The run under test was
free for a while and then confined to directions that it had learned by then, the free run never was, and each control
was confined to as many random directions ([how to train them](../guides/projected-training.md)). Above 100% the
constrained run gained more than the free one. Without a control the share says little, as random directions may keep
most of the gain too: `above` always asks for more than the best control keeps.

Scores are the `eval...` entries of `log_history` in `trainer_state.json`, and those of a file in the run's directory:
`scores.json`, such as `{"0": {"accuracy": 0.11}, "150": {"accuracy": 0.62}}`, or `scores.csv` with a line
`step,accuracy`. Steps must match exactly. Weights are needed of the run under test only. Source: arXiv 2606.07082.

It is an error, and never a pass, where a checkpoint that is judged does not say that it was constrained, the free run
says that it was or has no later checkpoint to say otherwise, a control differs from the run in K, start or method, K
reaches a weight's input dimension, a score is missing or not a number, the runs start apart, `start` is not what they
scored before training, or the free run gained nothing. What is not seen: whether weights are where the files say that
they are confined, and whether all runs were scored on the same data.
"""

_EXAMPLE = """\
geomcheck: 1
expect:
  - id: channel-suffices
    metric: functional_sufficiency
    score: eval_accuracy
    free: ../ckpts/opd-free
    random: [../ckpts/opd-random-0, ../ckpts/opd-random-1]
    above: 85%
    over_random: 5%
"""


def sufficiency_page() -> str:
    """The page: what is judged, its keys, an expectation that loads."""
    own = [name for name in SufficiencyStatement.model_fields if name not in {*Statement.model_fields, "metric"}]
    lines = ["# Functional sufficiency", "", f"`{SUFFICIENCY}`: {about('metric')}", "", _MEANING]
    lines += ["## Keys", "", "| name | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {about(name)} |" for name in own]
    return "\n".join([*lines, "", "## An expectation", "", f"```yaml\n{_EXAMPLE}```", ""])


def about(key: str) -> str:
    """What a key of such an expectation means, in Markdown."""
    return str(SufficiencyStatement.model_fields[key].description)
