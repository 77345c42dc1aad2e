"""The benchmark runs, and finds the package as accurate as it says."""

import pytest

from tests.bench.__main__ import ACCURACY, Tally, run
from tests.bench.protocols import ALL, ELEMENTWISE, UPDATE_ONLY
from tests.bench.weights import KINDS, trajectory


@pytest.mark.parametrize("kind", KINDS)
def test_every_protocol_measures_and_ours_agrees_with_brute_force(kind: str) -> None:
    tally = Tally()
    run(tally, (320, 256), kind, checkpoints=2, dear=2, seed=0)
    for name, metrics in {"cold": ALL, "cached": ALL, "update-only": UPDATE_ONLY, "elementwise": ELEMENTWISE}.items():
        assert {metric.split()[0] for metric in tally.worst[name]} == metrics
        assert max(tally.worst[name].values()) <= ACCURACY
        assert tally.cpu[name] > 0


@pytest.mark.parametrize(("kind", "support"), [(name, kind.support) for name, kind in KINDS.items()])
def test_synthetic_updates_have_the_support_of_their_kind(kind: str, support: float) -> None:
    w0, path = trajectory((320, 256), KINDS[kind], 3)
    assert len(path) == 3
    assert (path[-1] != w0).float().mean().item() == pytest.approx(support, abs=0.02)
