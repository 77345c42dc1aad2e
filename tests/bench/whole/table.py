"""The findings on a whole model as tables of 80 columns, with what was aimed at."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.whole.compare import Findings
from tests.bench.whole.gates import BUDGET, ENTRIES, EXACT, GATES, REMEMBERED
from tests.bench.whole.stages import STAGES

PRODUCT_AIM, READING_AIM = 2.5, 4.0
"""Multiples of the float32 products, and of reading the bytes, in CPU seconds."""

PEAK_AIM, GROWTH_AIM = 1000.0, 1.05
"""MB; and how many times larger the peak of more layers may be."""

BUDGET_AIM = {28: 40.0, 36: 600.0}
"""Seconds, by the model's layers."""

REMEMBERED_AIM, START_AIM = 2.0, 3.0
"""CPU seconds: of a session whose figures are remembered, and of others beside what measures."""

OF_PRODUCTS = (EXACT, BUDGET)
"""Gates whose floor is the products; of the others it is reading."""


def lines(found: Findings) -> Iterator[str]:
    """Everything, line by line."""
    model, layers = found.model, found.layers[-1]
    size = model.bytes(model.layers, found.checkpoints) / 1e9
    yield f"{model.weights} matrices; base and {found.checkpoints} checkpoints, bf16, {size:.1f} GB; two workers"
    if found.scale != 1:
        yield f"measured on {layers} of them: all below but memory is SCALED by {found.scale:g}, starts not"
    yield ""
    yield f"{'':32}{'wall s':>9}{'CPU s':>9}{'peak MB':>9}  {'CPU / floor':>11}"
    for name in GATES:
        yield _gate(found, name)
    yield _floor("float32 products, one thread", found.products.wall, found.products.cpu)
    yield _floor("reading, warm page cache", found.reading.wall, found.reading.cpu)
    if found.papers is not None:
        times = found.papers.cpu / found.whole(EXACT).cpu
        yield _floor("papers' protocol, SCALED", found.papers.wall, found.papers.cpu) + f"{'':9}{times:8.1f}x exact"
    yield from _stages(found)
    yield from _weights(found)
    yield from _memory(found)
    yield ""
    yield f"{'aim':50}{'measured':>12}{'aim':>10}"
    for what, value, aim, unit in aims(found):
        yield f"{what:50}{value:>10.4g} {unit:1}{aim:>8.4g} {unit:1} {'met' if value <= aim else 'MISSED'}"


def _gate(found: Findings, name: str) -> str:
    cost, floor = found.whole(name), found.products if name in OF_PRODUCTS else found.reading
    weights = found.sessions[name].weights
    called = f"{name}, {weights} weights" if weights else name
    of = "products" if name in OF_PRODUCTS else "reading"
    return f"{called:32}{cost.wall:9.1f}{cost.cpu:9.1f}{cost.peak:9.0f}{cost.cpu / floor.cpu:8.1f}x {of}"


def _floor(name: str, wall: float, cpu: float) -> str:
    return f"{name:32}{wall:9.1f}{cpu:9.1f}"


def _stages(found: Findings) -> Iterator[str]:
    total = sum(found.stages.values())
    yield ""
    yield f"{EXACT}: {total:.1f} s of CPU by stage, layers: {found.layers[0]}"
    for stage in [*STAGES, *(found.stages.keys() - STAGES)]:
        spent = found.stages.get(stage, 0.0)
        yield f"  {stage:28}{spent:9.2f} s {spent / total:6.1%}  {'#' * round(40 * spent / total)}".rstrip()


def _weights(found: Findings) -> Iterator[str]:
    yield ""
    yield f"{'CPU s of one weight':22}" + "".join(f"{name:>28}" for name in found.weights)
    yield f"{'':22}" + f"{'W0':>16}{'checkpoint':>12}" * len(found.weights)
    for shape in found.weights[EXACT]:
        each = (found.weights[name][shape] for name in found.weights)
        yield f"  {f'{shape[0]}x{shape[1]}':20}" + "".join(f"{cost.base:16.3f}{cost.checkpoint:12.3f}" for cost in each)


def _memory(found: Findings) -> Iterator[str]:
    yield ""
    yield f"{f'{EXACT}: peak memory':32}{'MB':>9}{'without pages of files':>26}"
    for layers, cost in found.peaks.items():
        yield f"  {f'layers: {layers}':30}{cost.peak:9.0f}{cost.anonymous:26.0f}"


def aims(found: Findings) -> Iterator[tuple[str, float, float, str]]:
    """What, how much of it was measured, how much it should be at most, and in which unit."""
    model = found.model
    yield "all metrics, exact, over its products", found.whole(EXACT).cpu / found.products.cpu, PRODUCT_AIM, "x"
    yield "two elementwise, over reading", found.whole(ENTRIES).cpu / found.reading.cpu, READING_AIM, "x"
    yield "with a budget and a clear verdict", found.whole(BUDGET).wall, BUDGET_AIM.get(model.layers, 600.0), "s"
    yield "remembered: CPU", found.whole(REMEMBERED).cpu, REMEMBERED_AIM, "s"
    yield "start-up of other sessions: CPU", found.start, START_AIM, "s"
    if found.scale == 1:
        peaks = [cost.peak for cost in found.peaks.values()]
        yield "peak memory, MB", peaks[-1], PEAK_AIM, ""
        yield f"peak of {found.layers[-1]} layers, over {found.layers[0]} layers", peaks[-1] / peaks[0], GROWTH_AIM, "x"
