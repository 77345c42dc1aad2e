"""W0 of a training: by the model's name without a download, or written down one file's worth at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from geomcheck.errors import UsageError
from geomcheck.live.loop import start
from geomcheck.live.loop.live_weights import LiveWeights
from geomcheck.live.ranks import Ranks
from tests.checkpoints.test_hub import COMMIT, cache, put
from tests.files import tree
from tests.runs import base_weights, write_model

__all__ = ["cache"]  # a fixture: an empty Hub cache, and no network


def test_a_directory(tmp_path: Path) -> None:
    model = write_model(tmp_path / "anchor", base_weights())
    assert start.named_base(str(model)).source.path == model


@pytest.mark.parametrize("revision", [None, COMMIT])
def test_a_model_in_the_cache(tmp_path: Path, cache: Path, revision: str | None) -> None:
    snapshot = put(cache, "Qwen/Tiny", write_model(tmp_path / "model", base_weights()))
    base = start.named_base("Qwen/Tiny", revision)
    assert base.source.path == snapshot
    assert base.how == "what the model was loaded from: Qwen/Tiny of the Hugging Face Hub's cache"


@pytest.mark.parametrize("name", [None, "", "Qwen/Missing", "no/such/directory"])
def test_what_is_not_here_is_not_fetched(cache: Path, name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geomcheck.checkpoints.hub.fetched", None)
    with pytest.raises(UsageError, match="base='start'"):
        start.named_base(name)


def test_the_start_is_written_in_files_of_a_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "SHARD_BYTES", 5000)
    weights = base_weights(dtype=torch.float32)
    live = LiveWeights(weights, Ranks(), config={"model_type": "qwen3"}, path=tmp_path)
    base = start.write_start(live, tmp_path / "start")
    assert len(list((tmp_path / "start").glob("*.safetensors"))) > 1
    assert base.source.config["model_type"] == "qwen3"
    assert base.source.weights.keys() == weights.keys()
    assert all(torch.equal(base.source.read(name), tensor) for name, tensor in weights.items())  # type: ignore[arg-type]


def test_a_start_is_not_written_through_a_link(tmp_path: Path) -> None:
    live = LiveWeights(base_weights(), Ranks(), config={}, path=tmp_path)
    model = write_model(tmp_path / "model", base_weights())
    before = tree(model)
    (tmp_path / "start").symlink_to(model)
    with pytest.raises(UsageError, match="start is a link or no directory, and not followed; remove it"):
        start.write_start(live, tmp_path / "start")
    assert tree(model) == before


def test_a_start_that_was_not_written_to_the_end_is_none(tmp_path: Path) -> None:
    live = LiveWeights(base_weights(), Ranks(), config={}, path=tmp_path)
    start.write_start(live, tmp_path / "start")
    (tmp_path / "start" / start.INDEX).unlink()
    with pytest.raises(UsageError, match="past its start"):
        start.start_base(tmp_path / "start")


def test_a_departure_from_w0_is_seen_through_rounding(tmp_path: Path) -> None:
    exact = base_weights(dtype=torch.float32)
    base = start.open_base(write_model(tmp_path / "base", {n: w.bfloat16() for n, w in exact.items()}), "base").source
    names = sorted(name for name, weight in exact.items() if weight.dim() == 2)
    fp32 = LiveWeights(exact, Ranks(), config={}, path=tmp_path)
    assert list(start.departures(fp32, base, names)) == []  # what was rounded when W0 was published
    moved = LiveWeights({n: w + 0.1 * w for n, w in exact.items()}, Ranks(), config={}, path=tmp_path)
    seen = list(start.departures(moved, base, names))
    assert len(seen) == start.SAMPLE
    assert "off by 0.1 of its norm" in seen[0]
