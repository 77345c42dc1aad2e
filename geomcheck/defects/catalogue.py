"""The defects that a suite is tried with: one list."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from geomcheck.checkpoints import Weight
from geomcheck.defects.defect import Defect, NotApplicable, Spoiling, Subject, names_of, some
from geomcheck.defects.operations import (
    W0,
    Copied,
    Halved,
    Interleaved,
    Noisy,
    Operation,
    Quantized,
    Rounded,
    Scaled,
    Taken,
)

Part = Callable[[Subject], tuple[list[Weight], str]]
"""Some weights of a run, and what they are called. Raises NotApplicable."""


def _of(weights: Iterable[Weight], operation: Operation, where: str = "") -> Spoiling:
    return Spoiling(dict.fromkeys(names_of(weights), operation), where=where)


def scaling(factor: float, run: Subject) -> Spoiling:
    """The update of every weight times a factor."""
    return _of(run.weights, Scaled(factor))


def noise(share: float, run: Subject) -> Spoiling:
    """Noise on every matrix, of this share of the norm of its update."""
    return _of(run.matrices, Noisy(share))


def stale(count: int, run: Subject) -> Spoiling:
    """So many matrices stay what they were before the middle of the run. Raises NotApplicable."""
    return _of(run.matrices[:count], _held(run, run.middle))


def _held(run: Subject, since: int, at: int | None = None, until: int | None = None) -> Taken:
    """From checkpoint `since` to before `until`, what it was at `at`, or at the one before."""
    until = run.count if until is None else until
    kept = since - 1 if at is None else at
    return Taken(tuple(kept if since <= index < until else index for index in range(run.count)))


def _frozen(part: Part, run: Subject) -> Spoiling:
    weights, where = part(run)
    return _of(weights, _held(run, 0), where)


def _stale(part: Part, run: Subject) -> Spoiling:
    weights, where = part(run)
    return _of(weights, _held(run, run.middle), where)


def _reset(role: str, called: str, run: Subject) -> Spoiling:
    weights = run.of_role(role, called)
    since = run.middle
    return _of(weights, _held(run, since, W0), f"{len(weights)} of them" if len(weights) > 1 else weights[0].name)


def _layer(run: Subject) -> tuple[list[Weight], str]:
    return run.layer, run.label(run.layer[0])


def _module(run: Subject) -> tuple[list[Weight], str]:
    return run.module, f"every {run.module[0].module}"


def _matrix(run: Subject) -> tuple[list[Weight], str]:
    return run.matrices[:1], run.matrices[0].name


def _expert(run: Subject) -> tuple[list[Weight], str]:
    return run.expert, run.expert[0].name.rpartition(".experts.")[0] + ".experts." + _number(run.expert[0].name)


def _number(name: str) -> str:
    return name.rpartition(".experts.")[2].partition(".")[0]


def _last_scaled(factor: float, run: Subject) -> Spoiling:
    if run.count < 2:
        raise NotApplicable("the run has one checkpoint")
    return _of(run.weights, Scaled(factor, since=run.last))


def _last_is_w0(run: Subject) -> Spoiling:
    return _of(run.weights, _held(run, run.last, W0))


def _overwritten(run: Subject) -> Spoiling:
    return _of(run.weights, _held(run, run.middle, until=run.middle + 1))


def _reordered(run: Subject) -> Spoiling:
    """The two checkpoints before the last are exchanged, or the two there are."""
    second = max(run.middle, run.last - 1)
    order = list(range(run.count))
    order[second - 1], order[second] = order[second], order[second - 1]
    return _of(run.weights, Taken(tuple(order)))


def _w0_perturbed(share: float, run: Subject) -> Spoiling:
    return Spoiling(to_w0=dict.fromkeys(names_of(run.matrices), Noisy(share, last=run.last)))


def _through(format: str, run: Subject) -> Spoiling:
    return _of(run.weights, Rounded(format))


def _quantized(run: Subject) -> Spoiling:
    return _of(run.matrices, Quantized(127))


def _halves(run: Subject) -> Spoiling:
    return _of(some([w for w in run.matrices if w.shape[0] % 2 == 0], "no even number of rows"), Halved())


def _heads(run: Subject) -> Spoiling:
    size = run.config.get("head_dim")
    if size is None and run.config.get("num_attention_heads"):
        size = run.config.get("hidden_size", 0) // run.config["num_attention_heads"]
    if not isinstance(size, int) or size < 2 or size % 2:
        raise NotApplicable("the config does not say how many rows a head has")
    turned = [w for w in run.matrices if w.module in ("q_proj", "k_proj") and w.shape[0] % size == 0]
    return _of(some(turned, "no q_proj and k_proj"), Interleaved(size))


def _exchanged(one: str, other: str, run: Subject) -> Spoiling:
    return Spoiling({name: Copied(twin) for name, twin in run.pairs(one, other).items()})


def _layers(run: Subject) -> Spoiling:
    """A layer in the middle and the one before it have each other's weights."""
    numbers = list(run.layers)
    if len(numbers) < 2:
        raise NotApplicable("one layer")
    first, second = numbers[len(numbers) // 2 - 1], numbers[len(numbers) // 2]
    place = f"{run.layers[first][0].stack}."
    shapes = {weight.name: weight.shape for weight in run.weights}
    twins: dict[str, str] = {}
    for weight in run.layers[first]:
        twin = f"{place}{second}.{weight.name.removeprefix(f'{place}{first}.')}"
        if shapes.get(twin) == weight.shape:
            twins |= {weight.name: twin, twin: weight.name}
    if not twins:
        raise NotApplicable("no two layers of one shape")
    return Spoiling({name: Copied(twin) for name, twin in twins.items()}, where=f"{first} and {second}")


FACTORS = (0.5, 0.9, 1.1, 1.25, 2.0)
"""Of the defects that scale the update."""

PARTS: tuple[tuple[str, str, Part], ...] = (
    ("layer", "a layer", _layer),
    ("module", "a kind of module", _module),
    ("matrix", "one matrix", _matrix),
    ("expert", "one expert", _expert),
)

DEFECTS = (
    *(Defect(f"update-x{factor:g}", f"the update times {factor:g}", partial(scaling, factor)) for factor in FACTORS),
    Defect("negated", "the update with the other sign", partial(scaling, -1.0)),
    Defect("last-x1.25", "the last checkpoint's update times 1.25", partial(_last_scaled, 1.25)),
    Defect("last-merged", "the last checkpoint merged half and half with W0", partial(_last_scaled, 0.5)),
    Defect("last-is-w0", "W0 exported as the last checkpoint", _last_is_w0),
    Defect("overwritten", "a checkpoint overwritten by the one before", _overwritten),
    Defect("reordered", "two checkpoints exchanged", _reordered),
    *(Defect(f"frozen-{slug}", f"{what} is W0's throughout", partial(_frozen, part)) for slug, what, part in PARTS),
    *(Defect(f"stale-{slug}", f"{what} stands still from the middle on", partial(_stale, part))
      for slug, what, part in PARTS),
    Defect("norms-reset", "norms are W0's from the middle on", partial(_reset, "norm", "norms")),
    Defect("embedding-reset", "the embedding is W0's from the middle on", partial(_reset, "embedding", "embedding")),
    Defect("head-reset", "the head is W0's from the middle on", partial(_reset, "head", "head")),
    Defect("w0-perturbed", "W0 with noise of half the update", partial(_w0_perturbed, 0.5)),
    Defect("through-bf16", "rounded to bf16 and saved as before", partial(_through, "bfloat16")),
    Defect("through-fp16", "rounded to fp16 and saved as before", partial(_through, "float16")),
    Defect("through-int8", "matrices quantized to int8 and saved as before", _quantized),
    Defect("halves-swapped", "halves of the rows in the wrong order", _halves),
    Defect("heads-interleaved", "heads in the other layout of rotary embeddings", _heads),
    Defect("layers-exchanged", "two layers exchanged", _layers),
    Defect("k-v-exchanged", "keys and values exchanged", partial(_exchanged, "k_proj", "v_proj")),
    Defect("gate-up-exchanged", "gate and up projections exchanged", partial(_exchanged, "gate_proj", "up_proj")),
    Defect("noise-0.5", "noise of half the update's norm on every matrix", partial(noise, 0.5)),
)  # fmt: skip
"""What a suite is tried with, beside what installed packages add."""
