"""The synthetic runs keep their promises: read from the files, judged by the oracle."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fixtures.synthetic import (
    ANGLES,
    CHANNEL,
    EXPANDING,
    RUNS,
    SIMILARITY,
    STEPS,
    VISIBLE,
    base_weights,
    principal_k,
    write_run,
)
from tests.diagnostics import oracle

Weights = dict[str, oracle.Array]
Judge = Callable[[oracle.Array, list[oracle.Array]], None]


def read(folder: Path) -> Weights:
    return {name: tensor.double().numpy() for name, tensor in load_file(folder / "model.safetensors").items()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    parent = tmp_path_factory.mktemp("synthetic")
    return cache(lambda name: write_run(parent, name))


def moved(root: Path) -> Iterator[tuple[str, oracle.Array, list[oracle.Array]]]:
    """(name, W0, W_t at each step) of every linear weight outside frozen layers."""
    base, later = read(root / "base"), [read(root / f"checkpoint-{step}") for step in STEPS]
    frozen = RUNS[root.name].frozen_layers
    for name, w0 in base.items():
        if "_proj." in name and not any(f"layers.{layer}." in name for layer in frozen):
            yield name, w0, [weights[name] for weights in later]


@pytest.mark.parametrize("name", RUNS)
def test_layout_size_and_what_stays(name: str, written: Callable[[str], Path]) -> None:
    root = written(name)
    assert sorted(path.name for path in root.iterdir()) == sorted(["base", *(f"checkpoint-{s}" for s in STEPS)])
    assert sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) < 1_000_000
    base = read(root / "base")
    for step in STEPS:
        folder = root / f"checkpoint-{step}"
        state = json.loads((folder / "trainer_state.json").read_text())
        assert (state["global_step"], state["max_steps"], state["save_steps"]) == (step, 100, 20)
        assert json.loads((folder / "config.json").read_text())["model_type"] == "qwen3"
        weights, moving = read(folder), {key for key, *_ in moved(root)}
        assert weights.keys() == base.keys()
        changed = {key for key in base if not np.array_equal(weights[key], base[key])}
        assert changed == moving
    assert not (root / "base" / "trainer_state.json").exists()
    stored = load_file(root / "base" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {RUNS[name].dtype}


@pytest.mark.parametrize(
    ("name", "stable_ranks"),
    [
        ("stable-rank-expanding", EXPANDING),
        ("stable-rank-contracting", EXPANDING[::-1]),
        ("stable-rank-flat", (4.0,) * 5),
        ("frozen-layer", (4.0,) * 5),
    ],
)
def test_stable_ranks(name: str, stable_ranks: tuple[float, ...], written: Callable[[str], Path]) -> None:
    for _, w0, path in moved(written(name)):
        measured = [oracle.stable_rank(wt - w0) for wt in path]
        assert measured == pytest.approx(stable_ranks, rel=1e-5)


def test_rotated(written: Callable[[str], Path]) -> None:
    for _, w0, path in moved(written("rotated")):
        for wt, degrees in zip(path, ANGLES, strict=True):
            for side in oracle.angles(w0, wt, principal_k(w0.shape)):
                assert side == pytest.approx(degrees, abs=1e-5)
            assert oracle.nss(w0, wt) < 1e-7


def test_visible_23(written: Callable[[str], Path]) -> None:
    for _, w0, path in moved(written("visible-23")):
        for wt in path:
            assert oracle.changed(w0, wt).sum() == 0.23 * w0.size
        assert all(oracle.changed(before, after).sum() == 0.23 * w0.size for before, after in pairwise(path))


@pytest.mark.parametrize(("name", "sims", "error"), [("locked", (1.0,) * 5, 1e-9), ("rotating", SIMILARITY, 1e-6)])
def test_channels(name: str, sims: tuple[float, ...], error: float, written: Callable[[str], Path]) -> None:
    for _, w0, path in moved(written(name)):
        measured = [oracle.alignment(wt - w0, path[-1] - w0, CHANNEL) for wt in path]
        assert measured == pytest.approx(sims, abs=error)
        early = oracle.channel_energy(path[-1] - w0, path[0] - w0, CHANNEL)
        assert early == pytest.approx(sims[0], abs=0.01)  # the tail holds less than 1% of the energy


def test_small_entries(written: Callable[[str], Path]) -> None:
    for _, w0, path in moved(written("small-entries")):
        for wt in path:
            assert oracle.changed(w0, wt).sum() == 0.15 * w0.size
            assert oracle.low_overlap(w0, wt, 0.3) == 1.0


def test_principal_entries(written: Callable[[str], Path]) -> None:
    for _, w0, path in moved(written("principal-entries")):
        for wt in path:
            assert oracle.changed(w0, wt).sum() == 0.15 * w0.size
            assert oracle.principal_overlap(w0, wt, principal_k(w0.shape), 0.3) == 1.0


def test_frozen_layer(written: Callable[[str], Path]) -> None:
    root = written("frozen-layer")
    last, base = read(root / "checkpoint-100"), read(root / "base")
    still = {name for name in base if "_proj." in name and np.array_equal(base[name], last[name])}
    assert still == {name for name in base if "_proj." in name and ".layers.0." in name}
    assert len(still) == 7


def test_rescaled(written: Callable[[str], Path]) -> None:
    for _, w0, path in moved(written("rescaled")):
        for t, wt in enumerate(path, start=1):
            assert np.array_equal(wt, w0 * (1 + t / 256))
            assert oracle.nss(w0, wt) == pytest.approx(t / 256, rel=1e-11)
            assert oracle.spectral_share(w0, wt) == pytest.approx(1.0, rel=1e-11)
            assert max(map(np.max, oracle.angles(w0, wt, principal_k(w0.shape)))) < 1e-9


def test_the_factor_moves_every_bf16_number() -> None:
    exact = torch.arange(1.0, 2.0, 2**-7, dtype=torch.float64)
    for t in range(5):
        assert oracle.changed((exact * VISIBLE**t).numpy(), (exact * VISIBLE ** (t + 1)).numpy()).all()


def test_runs_are_reproducible_and_seeds_differ() -> None:
    name = "model.layers.1.mlp.down_proj.weight"
    assert np.array_equal(base_weights(0)[name], base_weights(0)[name])
    assert not np.array_equal(base_weights(0)[name], base_weights(1)[name])


def test_the_command_line_writes_what_it_names(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fixtures.synthetic"]
    done = subprocess.run([*command, "rescaled", "--out", str(tmp_path)], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == str(tmp_path / "rescaled")
    assert (tmp_path / "rescaled" / "checkpoint-100" / "model.safetensors").exists()
    listing = subprocess.run([*command, "--help"], check=True, capture_output=True, text=True).stdout
    assert all(name in listing for name in RUNS)
