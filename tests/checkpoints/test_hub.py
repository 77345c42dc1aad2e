"""W0 from the Hugging Face Hub, by its own library on a cache that lies as it leaves it. Nothing here is online."""

from __future__ import annotations

import builtins
import json
import shutil
from pathlib import Path

import pytest

from geomcheck.checkpoints import BaseWeights, find_base, open_base, open_run
from geomcheck.checkpoints.hub import is_hub_id
from geomcheck.errors import RunError, UsageError
from tests.runs import base_weights, simple_run, write_model, write_sharded

pytest.importorskip("huggingface_hub")

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hub cache, and no network."""
    from huggingface_hub import constants

    path = tmp_path / "hub"
    path.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return path


def put(cache: Path, repository: str, model: Path, revision: str = "main") -> Path:
    """`model` as a snapshot in `cache`: files in ``blobs/``, links in ``snapshots/COMMIT/``, a name in ``refs/``."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / COMMIT
    for place in (folder / "blobs", folder / "refs", snapshot):
        place.mkdir(parents=True)
    (folder / "refs" / revision).write_text(COMMIT)
    for number, file in enumerate(sorted(model.iterdir())):
        shutil.copy(file, folder / "blobs" / f"{number:040d}")
        (snapshot / file.name).symlink_to(Path("../../blobs") / f"{number:040d}")
    return snapshot


def test_a_cached_model_is_w0(tmp_path: Path, cache: Path) -> None:
    snapshot = put(cache, "Qwen/Tiny", write_model(tmp_path / "model", base_weights()))
    base = open_base("Qwen/Tiny", "--geom-base")
    assert base.source.path == snapshot
    assert base.how == "--geom-base: Qwen/Tiny of the Hugging Face Hub"
    assert set(base.source.weights) == set(base_weights())


@pytest.mark.parametrize("revision", ["v1.0", COMMIT])
def test_a_revision_is_honoured(tmp_path: Path, cache: Path, revision: str) -> None:
    put(cache, "Qwen/Tiny", write_model(tmp_path / "model", base_weights()), revision="v1.0")
    assert set(open_base(f"Qwen/Tiny@{revision}", "x").source.weights) == set(base_weights())
    with pytest.raises(UsageError, match="Qwen/Tiny \\(x\\) is not a directory"):
        open_base("Qwen/Tiny", "x")


def test_a_directory_goes_first(tmp_path: Path, cache: Path) -> None:
    put(cache, "Qwen/Tiny", write_model(tmp_path / "model", base_weights()))
    write_model(Path("Qwen/Tiny"), base_weights(seed=1))
    assert open_base("Qwen/Tiny", "x").how == "x"


def test_what_cannot_be_had_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Qwen/Nowhere .* cannot be had: .*or give a local directory"):
        open_base("Qwen/Nowhere", "--geom-base")


def test_a_cache_with_part_of_the_model_is_not_enough(tmp_path: Path, cache: Path) -> None:
    model = write_sharded(tmp_path / "model", base_weights())
    (model / "model-00002-of-00002.safetensors").unlink()
    put(cache, "Qwen/Tiny", model)
    with pytest.raises(UsageError, match="only a part of it is cached and the Hub offline"):
        open_base("Qwen/Tiny", "x")


def test_without_the_library_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: object, **more: object) -> object:
        if name.startswith("huggingface_hub"):
            raise ImportError(name)
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UsageError, match=r"needs huggingface_hub: pip install 'geomcheck\[hub\]'"):
        open_base("Qwen/Tiny", "x")


def test_a_broken_connection_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    client_error = huggingface_hub.errors.HfHubHTTPError.__bases__[0]

    def broken(*_: object, local_files_only: bool, **__: object) -> str:
        if local_files_only:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not cached")
        raise client_error("peer closed connection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken)
    with pytest.raises(UsageError, match="cannot be had: peer closed connection"):
        open_base("Qwen/Tiny", "x")


@pytest.mark.parametrize(
    "text",
    [
        "gpt2",
        "a/b/c",
        "/a/b",
        "../a",
        "a/..",
        "a/b@",
        "a/b@v1@v2",
        "a b/c",
        "a/b?x",
        "",
        "a/",
        "-a/b",
        "a\n/b",
        "here/x",
    ],
)
def test_other_texts_are_no_ids(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not is_hub_id(text)
    with pytest.raises(UsageError, match="is not a directory|no weights that are read|control characters"):
        open_base(text, "x")


def test_a_mistyped_path_is_no_download(tmp_path: Path) -> None:
    Path("ckpts").mkdir()
    with pytest.raises(UsageError, match=r"W0: ckpts/anhcor \(--geom-base\) is not a directory"):
        open_base("ckpts/anhcor", "--geom-base")


class TestAdapters:
    """The base model that an adapter names: here, or in the cache, but never from the network."""

    @staticmethod
    def run(tmp_path: Path, *named: object) -> Path:
        path = simple_run(tmp_path / "run")
        (path / "base").rename(tmp_path / "anchor")
        for step, name in zip((10, 20, 30), named, strict=False):
            config = {"base_model_name_or_path": name}
            (path / f"checkpoint-{step}" / "adapter_config.json").write_text(json.dumps(config))
        return path

    def found(self, tmp_path: Path, *named: object) -> BaseWeights:
        return find_base(open_run(self.run(tmp_path, *named)))

    def test_a_directory(self, tmp_path: Path) -> None:
        base = self.found(tmp_path, str(tmp_path / "anchor"), str(tmp_path / "anchor"))
        assert (base.source.path, base.how) == (tmp_path / "anchor", "base_model_name_or_path of the run's adapter")

    def test_the_cache(self, tmp_path: Path, cache: Path) -> None:
        put(cache, "Qwen/Tiny", write_model(tmp_path / "model", base_weights()))
        assert self.found(tmp_path, "Qwen/Tiny").how.endswith("Qwen/Tiny of the Hugging Face Hub's cache")

    def test_no_download(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import huggingface_hub

        asked = []
        real = huggingface_hub.snapshot_download
        monkeypatch.setattr(
            huggingface_hub,
            "snapshot_download",
            lambda *a, **k: (asked.append(k["local_files_only"]), real(*a, **k))[1],
        )
        with pytest.raises(UsageError, match="to download it, with --geom-base=Qwen/Tiny"):
            self.found(tmp_path, "Qwen/Tiny")
        assert set(asked) == {True}

    @pytest.mark.parametrize("name", [5, ["a"], True])
    def test_a_name_is_a_text(self, tmp_path: Path, name: object) -> None:
        with pytest.raises(RunError, match="base_model_name_or_path is .*, where a path or a Hub id is expected"):
            self.found(tmp_path, name)

    @pytest.mark.parametrize("name", [None, ""])
    def test_no_name_is_no_base(self, tmp_path: Path, name: object) -> None:
        with pytest.raises(UsageError, match="no W0 to compare with"):
            self.found(tmp_path, name)

    @pytest.mark.parametrize("name", ["/dead/path", "../../x", "a\0b", "a" * 9999])
    def test_a_dead_path_is_named(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(UsageError, match="neither a directory here nor in the local Hugging Face cache"):
            self.found(tmp_path, name)

    def test_a_checkpoint_of_the_run_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="is checkpoint-10 of the run that is checked"):
            self.found(tmp_path, str(tmp_path / "run" / "checkpoint-10"))

    def test_two_names_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="name several base models \\(a, b\\)"):
            self.found(tmp_path, "a", "b")
