"""Runs at a URL: in the memory of fsspec, and from servers of this machine. Nothing here is online."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import geomcheck
from geomcheck.checkpoints import find_base, open_base, open_run, remote, storage
from geomcheck.checkpoints.remote import copying
from geomcheck.errors import GeomcheckError, NoCheckpoint, RunError, UsageError
from geomcheck.inspection import inspect
from geomcheck.measurement.executors.opening import Opening, opened
from geomcheck.measurement.task import Sources
from geomcheck.record import Record
from tests.runs import SHAPES, age, base_weights, moved, simple_run, write_model, write_run
from tests.servers import COMMIT, Served, serving

fsspec = pytest.importorskip("fsspec")
memory = pytest.importorskip("fsspec.implementations.memory")

Memory: Any = memory.MemoryFileSystem


@pytest.fixture(autouse=True)
def nothing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(storage, "WAITS", (0.0, 0.0))
    yield
    Memory.store.clear()
    Memory.pseudo_dirs[:] = [""]


@pytest.fixture
def on_disk(tmp_path: Path) -> Path:
    return simple_run(tmp_path / "disk" / "opd")


def put(directory: Path, url: str) -> str:
    """Lay a directory into the memory of fsspec."""
    for file in directory.rglob("*"):
        if file.is_file():
            Memory().pipe(f"{url}/{file.relative_to(directory)}", file.read_bytes())
    return url


@pytest.fixture
def url(on_disk: Path) -> str:
    return put(on_disk, "memory://bucket/opd")


def figures(record: Record) -> dict[Any, Any]:
    return {key: (column.codes.tolist(), column.values.tolist()) for key, column in record.columns.items()}


# what is the same as on disk


def test_a_run_is_what_it_is_on_disk(on_disk: Path, url: str) -> None:
    there, here = open_run(url), open_run(on_disk)
    assert there.name == "opd"
    assert [(c.name, c.step, c.progress) for c in there.checkpoints] == [
        (c.name, c.step, c.progress) for c in here.checkpoints
    ]
    of_url, of_disk = geomcheck.measure(there), geomcheck.measure(here)
    assert figures(of_url) == figures(of_disk)
    assert of_url.fingerprints == of_disk.fingerprints
    assert of_url.routes == of_disk.routes


def test_outputs_name_the_url(url: str, tmp_path: Path) -> None:
    record = geomcheck.measure(url, metrics=["stable_rank"])
    found = json.dumps(inspect(url).to_dict())
    assert (record.path, record.origin.path) == (url, f"{url}/base")
    assert f"{url}/checkpoint-10" in found
    assert tempfile.gettempdir() not in found


def test_a_url_of_this_machine_is_its_path(on_disk: Path) -> None:
    assert open_run(f"file://{on_disk}").path == on_disk


@pytest.mark.parametrize("other", ["MEMORY://bucket/opd", "memory://bucket/opd/", "memory:///bucket/opd"])
def test_one_url_may_be_written_in_several_ways(url: str, other: str) -> None:
    run = open_run(other)
    assert (run.name, run.path) == ("opd", open_run(url).path)


def test_w0_may_have_a_url_of_its_own(on_disk: Path, tmp_path: Path) -> None:
    put(on_disk / "base", "memory://models/anchor")
    shutil.rmtree(on_disk / "base")
    base = open_base("memory://models/anchor", "--geom-base")
    assert set(base.source.weights) == set(SHAPES)
    assert geomcheck.measure(on_disk, base=base).origin.path == "memory://models/anchor"


def test_w0_from_the_run_itself_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=f"{url}/checkpoint-20 .* is checkpoint-20 of the run that is checked"):
        find_base(open_run(url), given=open_base(f"{url}/checkpoint-20", "--geom-base"))


def test_a_worker_elsewhere_opens_the_url(url: str, on_disk: Path) -> None:
    run = open_run(url)
    of = Opening.of(Sources(run, find_base(run)))
    assert (of.run, of.base) == (url, f"{url}/base")
    assert opened(of).run.name == "opd"
    opened.cache_clear()
    write_model(on_disk / "checkpoint-10", base_weights(seed=9))
    put(on_disk, url)
    with pytest.raises(RunError, match="sees other files"):
        opened(of)


# what is refused


def test_nothing_there(url: str) -> None:
    with pytest.raises(NoCheckpoint, match="memory://bucket/no: is not there"):
        open_run("memory://bucket/no")


@pytest.mark.parametrize(
    ("odd", "says"),
    [
        ("nosuch://bucket/opd", "Protocol not known"),
        ("https://user:secret@host/opd", "https://host/opd: given with a user, password or query"),
        ("https://secret@host/opd", "https://host/opd: given with"),
        ("https://host/opd?secret=1", "https://host/opd: given with"),
        ("sftp://user:secret@host/opd", "sftp://host/opd: given with"),
        ("memory://", "names no directory"),
        ("memory://bucket/good.parquet", "a record is read from this machine alone"),
        ("memory://bucket/../opd", "names no directory"),
    ],
)
def test_a_url_that_is_none_of_a_run(odd: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        open_run(odd)
    assert "secret" not in str(refused.value)


def test_a_file_that_changes_is_noticed(url: str, on_disk: Path) -> None:
    run = open_run(url)
    source = run.checkpoints[0].source
    name = min(source.weights)
    source.read(name)
    write_model(on_disk / "checkpoint-10", base_weights(seed=5, dtype=torch.float32))
    put(on_disk / "checkpoint-10", f"{url}/checkpoint-10")
    with pytest.raises(RunError, match=f"{url}/checkpoint-10/model.safetensors: changed since it was opened"):
        source.read(name)
    Memory().rm(f"{url}/checkpoint-10/model.safetensors")
    with pytest.raises(RunError, match=f"{url}/checkpoint-10/model.safetensors: .*is not there"):
        source.read(name)


def test_a_run_that_grows_is_seen_when_it_is_opened_again(url: str, on_disk: Path) -> None:
    first = open_run(url)
    sources = Sources(first, find_base(first))
    write_run(on_disk, base_weights(), {40: moved(base_weights(), 0.1, seed=40)})
    put(on_disk / "checkpoint-40", f"{url}/checkpoint-40")
    assert [c.step for c in open_run(url).checkpoints] == [10, 20, 30, 40]
    assert first.checkpoints[0].source.read(min(SHAPES)).isfinite().all()
    sources.require_unchanged()


@pytest.mark.parametrize(
    "content",
    [b"", b"\1\0\0\0", (2**60).to_bytes(8, "little") + b"{}", (10**9).to_bytes(8, "little"), bytes(100)],
    ids=["empty", "short", "endless header", "long header", "zeros"],
)
def test_a_header_that_cannot_be_is_refused(url: str, content: bytes) -> None:
    Memory().pipe(f"{url}/checkpoint-20/model.safetensors", content)
    with pytest.raises(RunError, match=f"{url}/checkpoint-20/model.safetensors: truncated or not a safetensors file"):
        geomcheck.measure(url)


def test_a_cut_file_is_refused(url: str) -> None:
    whole = Memory().cat_file(f"{url}/checkpoint-20/model.safetensors")
    Memory().pipe(f"{url}/checkpoint-20/model.safetensors", whole[:-1])
    with pytest.raises(RunError, match=f"{url}/checkpoint-20/model.safetensors: truncated or not a safetensors file"):
        geomcheck.measure(url)


def test_a_config_beyond_all_measure_is_not_fetched(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Memory().pipe(f"{url}/checkpoint-20/config.json", bytes(5 * 2**20))
    fetched: list[str] = []
    whole = Memory.cat_file
    monkeypatch.setattr(Memory, "cat_file", lambda self, path, **how: fetched.append(path) or whole(self, path, **how))
    with pytest.raises(RunError, match=f"{url}/checkpoint-20/config.json: 5242880 bytes, more than"):
        geomcheck.measure(url)
    assert "/bucket/opd/checkpoint-20/config.json" not in fetched


def test_small_files_are_bounded_together(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_WHOLE_BYTES", 100)  # more than one state, less than three
    with pytest.raises(RunError, match="trainer_state.json: [0-9]+ bytes, more than the [0-9]+ that"):
        open_run(url)


def test_pickles_are_read_from_a_copy_alone(tmp_path: Path) -> None:
    run = write_run(tmp_path / "opd", base_weights(), {10: moved(base_weights(), 0.01)})
    (run / "checkpoint-10" / "model.safetensors").unlink()
    torch.save(moved(base_weights(), 0.01), run / "checkpoint-10" / "pytorch_model.bin")
    url = put(run, "memory://bucket/pickled")
    with pytest.raises(
        RunError, match="pytorch_model.bin: only safetensors files are read from a URL.*--geom-download"
    ):
        geomcheck.measure(url)
    with copying(tmp_path / "copies"):
        record = geomcheck.measure(url)
    assert figures(record) == figures(geomcheck.measure(run))


class Hostile(Memory):
    """A file system whose lists hold more than a directory can."""

    protocol = "hostile"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    odd: ClassVar[list[dict[str, Any]]] = []

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(Memory._strip_protocol(path.replace("hostile://", "memory://")))

    def ls(self, path: str, detail: bool = True, **how: Any) -> Any:
        return [*super().ls(path, detail=detail, **how), *({**entry, "size": 1} for entry in self.odd)]


@pytest.fixture
def hostile(on_disk: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the lists of ``hostile://bucket/opd`` hold beside a run."""
    fsspec.register_implementation("hostile", Hostile, clobber=True)
    for file in on_disk.rglob("*"):
        if file.is_file():
            Hostile().pipe(f"/bucket/opd/{file.relative_to(on_disk)}", file.read_bytes())
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(Hostile, "odd", found)
    return found


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../../outside", "/bucket/elsewhere/x", "/bucket/opd/a/../../../x", "", "/", "/bucket/opd"]
)
def test_what_lies_elsewhere_is_no_part_of_a_run(hostile: list[dict[str, Any]], name: str) -> None:
    hostile.append({"name": name, "type": "file"})
    assert [c.step for c in open_run("hostile://bucket/opd").checkpoints] == [10, 20, 30]


@pytest.mark.parametrize("name", ["..", ".", "a\\b", "a\nb", "\x00", "x" * 256])
def test_a_name_that_no_file_has_is_refused(hostile: list[dict[str, Any]], name: str) -> None:
    hostile.append({"name": f"/bucket/opd/{name}", "type": "directory"})
    with pytest.raises(RunError, match="hostile://bucket/opd: holds .* which is no name of a file"):
        open_run("hostile://bucket/opd")


def test_a_list_without_end_is_refused(hostile: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_ENTRIES", 50)
    hostile += [{"name": f"/bucket/opd/x{number}", "type": "file"} for number in range(100)]
    with pytest.raises(RunError, match="hostile://bucket/opd: more than 50 files"):
        open_run("hostile://bucket/opd")


# what files may not do


def test_a_suite_opens_no_url(url: str, on_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "Storage", None)  # whoever contacts a server needs one
    with pytest.raises(UsageError, match="is a URL, and no file opens one; give it with --geom-base"):
        find_base(open_run(on_disk), suite=url)


def test_an_adapter_opens_no_url(tmp_path: Path, url: str) -> None:
    config = {"base_model_name_or_path": f"{url}/base", "peft_type": "LORA", "r": 1, "lora_alpha": 1}
    directory = tmp_path / "lora" / "checkpoint-10"
    directory.mkdir(parents=True)
    (directory / "adapter_config.json").write_text(json.dumps(config))
    (directory / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match="neither a directory here nor in the local Hugging Face cache"):
        find_base(open_run(tmp_path / "lora"))


# copies


def test_a_copy_is_kept_and_brought_up_to_date(url: str, on_disk: Path, tmp_path: Path) -> None:
    Memory().pipe(f"{url}/checkpoint-10/optimizer.pt", bytes(100))
    copies = tmp_path / "copies"
    with copying(copies):
        run = open_run(url)
    assert run.path == copies / "memory" / "bucket" / "opd"
    assert figures(geomcheck.measure(run)) == figures(geomcheck.measure(on_disk))
    assert not (run.path / "checkpoint-10" / "optimizer.pt").exists()
    before = {path: path.stat().st_ino for path in run.path.rglob("*.safetensors")}
    Memory().rm(f"{url}/checkpoint-30", recursive=True)
    write_model(on_disk / "checkpoint-20", moved(base_weights(), 0.5, seed=7))
    put(on_disk / "checkpoint-20", f"{url}/checkpoint-20")
    (run.path / "checkpoint-10" / "model.safetensors").write_bytes(b"cut")
    with copying(copies):
        run = open_run(url)
    assert [c.step for c in run.checkpoints] == [10, 20]
    again = {path.parent.name for path, inode in before.items() if path.exists() and path.stat().st_ino != inode}
    assert again == {"checkpoint-10", "checkpoint-20"}


@pytest.mark.parametrize(
    "link", ["memory", "memory/bucket/opd/checkpoint-10", "memory/bucket/opd/checkpoint-10/config.json"]
)
def test_a_link_among_copies_is_not_followed(url: str, tmp_path: Path, link: str) -> None:
    copies, outside = tmp_path / "copies", tmp_path / "outside"
    write_model(outside, base_weights())
    (copies / link).parent.mkdir(parents=True)
    (copies / link).symlink_to(outside)
    gone = ["checkpoint-10/model.safetensors.old", "../../../../outside/config.json"]
    (outside / "model.safetensors.old").touch()
    if link != "memory":
        (copies / "memory/bucket/opd" / remote.COPIED).write_text(json.dumps({name: [] for name in gone}))
    before = {path: path.is_file() and path.read_bytes() for path in outside.rglob("*")}
    with copying(copies), pytest.raises(RunError, match="not followed; remove it"):
        open_run(url)
    assert {path: path.is_file() and path.read_bytes() for path in outside.rglob("*")} == before


@pytest.mark.parametrize("of", [Path("s3://bucket/opd"), "s3:/bucket/opd"])
def test_a_url_that_lost_a_slash_is_recognised(of: Path | str) -> None:
    with pytest.raises(NoCheckpoint, match="does not exist; if that is a URL, give it as text: s3://..."):
        open_run(of)


# servers


@pytest.fixture
def server(on_disk: Path) -> Iterator[Served]:
    """A server of the directory that holds the run ``opd``."""
    pytest.importorskip("aiohttp")
    with serving(on_disk.parent) as served:
        yield served


def size_of_weights(run: Path) -> int:
    return sum(path.stat().st_size for path in run.rglob("*.safetensors"))


def test_each_tensor_is_asked_for_once_and_alone(server: Served, on_disk: Path) -> None:
    record = geomcheck.measure(f"{server.url}/opd")
    assert figures(record) == figures(geomcheck.measure(on_disk))
    assert server.weights_sent() == size_of_weights(on_disk)
    assert server.most <= max(4 * rows * columns for rows, columns in [(24, 16), (32, 16)])


def test_inspect_asks_for_headers_alone(server: Served, on_disk: Path) -> None:
    inspect(f"{server.url}/opd")
    tensors = sum(w.nbytes for w in base_weights(dtype=torch.float32).values())
    assert server.weights_sent() < size_of_weights(on_disk) - 3 * tensors


def test_what_was_measured_is_not_fetched_again(server: Served, on_disk: Path, tmp_path: Path) -> None:
    geomcheck.measure(f"{server.url}/opd", metrics=["stable_rank"], cache=tmp_path / "cache")
    server.sent.clear()
    again = geomcheck.measure(f"{server.url}/opd", metrics=["stable_rank"], cache=tmp_path / "cache")
    of_tensors = server.weights_sent()
    server.sent.clear()
    inspect(f"{server.url}/opd")
    assert of_tensors == server.weights_sent()  # the headers
    write_model(on_disk / "checkpoint-20", moved(base_weights(), 0.5, seed=7))
    other = geomcheck.measure(f"{server.url}/opd", metrics=["stable_rank"], cache=tmp_path / "cache")
    assert other.fingerprints["checkpoint-20"] != again.fingerprints["checkpoint-20"]


@pytest.mark.parametrize("trouble", [{"refusing": 2}, {"failing": 2}, {"cut": 2}, {"failing": 1, "cut": 1}])
def test_a_server_in_trouble_is_asked_again(server: Served, on_disk: Path, trouble: dict[str, int]) -> None:
    vars(server).update(trouble)
    source = open_run(f"{server.url}/opd").checkpoints[0].source
    for name in source.weights:
        vars(server).update(trouble)
        assert torch.equal(source.read(name), open_run(on_disk).checkpoints[0].source.read(name))


def test_a_file_that_cannot_be_asked_for_is_not_gone(server: Served) -> None:
    source = open_run(f"{server.url}/opd").checkpoints[0].source
    server.refusing = 10**6
    with pytest.raises(RunError, match="model.safetensors: 503, .*after 3 tries"):
        _ = source.weights


def test_a_server_that_is_down() -> None:
    pytest.importorskip("aiohttp")
    with pytest.raises(RunError, match="http://127.0.0.1:9/opd: .*Cannot connect .*after 3 tries"):
        open_run("http://127.0.0.1:9/opd")


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        ({"failing": 10**6}, "503.*after 3 tries"),
        ({"cut": 10**6}, "after 3 tries"),
        ({"longer": True}, "the answer is longer than what was asked for"),
        ({"ranges": False}, "does not give the range of bytes that was asked for"),
        ({"seconds": 1.0}, "no answer within 0.2 seconds"),
    ],
)
def test_a_server_that_stays_in_trouble_is_given_up(
    server: Served, trouble: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_run(f"{server.url}/opd").checkpoints[0].source
    name = min(source.weights)
    vars(server).update(trouble)
    monkeypatch.setattr(storage, "DEADLINE", 0.2)
    with pytest.raises(RunError, match=f"{server.url}/opd/checkpoint-10/model.safetensors: cannot be read: .*{says}"):
        source.read(name)


@pytest.mark.parametrize(
    "link", ["/etc/passwd", "http://elsewhere/x/", "../secret/", "/opd/../secret/", "a/b/c", "?C=M", "//elsewhere/x"]
)
def test_a_link_that_leads_elsewhere_is_not_followed(server: Served, link: str) -> None:
    server.links = (link,)
    asked = server.asked
    assert [c.step for c in open_run(f"{server.url}/opd").checkpoints] == [10, 20, 30]
    assert server.asked - asked < 20


def test_a_changed_file_is_noticed_by_its_etag(server: Served, on_disk: Path) -> None:
    source = open_run(f"{server.url}/opd").checkpoints[0].source
    name = min(source.weights)
    age(write_model(on_disk / "checkpoint-10", moved(base_weights(), 0.5, seed=7)))
    with pytest.raises(RunError, match="checkpoint-10/model.safetensors: changed since it was opened"):
        source.read(name)


@pytest.fixture
def hub(on_disk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A Hub with the repository ``org/tiny``, as ``hub_strategy="all_checkpoints"`` leaves it: a run and its model."""
    constants = pytest.importorskip("huggingface_hub.constants")
    from huggingface_hub import HfFileSystem

    write_model(on_disk, moved(base_weights(), 0.03, seed=30))
    with serving(on_disk) as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", served.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        HfFileSystem.clear_instance_cache()
        yield served
    HfFileSystem.clear_instance_cache()


@pytest.mark.parametrize("revision", ["", "@main", f"@{COMMIT}"])
def test_checkpoints_in_a_repository_of_the_hub(hub: Served, on_disk: Path, revision: str) -> None:
    record = geomcheck.measure(f"hf://org/tiny{revision}")
    assert record.run == "tiny"
    assert record.path == f"hf://org/tiny@{COMMIT}"
    assert figures(record) == figures(geomcheck.measure(on_disk))
    assert hub.weights_sent() == size_of_weights(on_disk) - (on_disk / "model.safetensors").stat().st_size


def test_a_model_below_a_repository_is_w0(hub: Served, on_disk: Path) -> None:
    base = open_base("hf://org/tiny@main/base", "--geom-base")
    assert geomcheck.measure(on_disk, base=base).origin.path == f"hf://org/tiny@{COMMIT}/base"


def test_no_such_repository(hub: Served) -> None:
    with pytest.raises(NoCheckpoint, match="hf://org/other: is not there"):
        open_run("hf://org/other")


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", lacking)
    with pytest.raises(UsageError, match="s3://b/opd: Install s3fs to access S3; pip install 'geomcheck\\[remote\\]'"):
        open_run("s3://b/opd")


def test_a_bucket_of_s3(on_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    try:
        s3 = fsspec.filesystem("s3", skip_instance_cache=True)
        s3.mkdir("bucket")
        s3.put(str(on_disk), "bucket/runs/opd", recursive=True)
        record = geomcheck.measure("s3://bucket/runs/opd", cache=tmp_path / "cache")
        assert figures(record) == figures(geomcheck.measure(on_disk))
        assert record.path == "s3://bucket/runs/opd"
        source = open_run("s3://bucket/runs/opd").checkpoints[0].source
        source.read(min(SHAPES))
        s3.put(str(on_disk / "checkpoint-20" / "model.safetensors"), "bucket/runs/opd/checkpoint-10/model.safetensors")
        with pytest.raises(RunError, match="s3://bucket/runs/opd/checkpoint-10/model.safetensors: changed since"):
            source.read(min(SHAPES))
        with pytest.raises(GeomcheckError, match="s3://nowhere/opd"):
            open_run("s3://nowhere/opd")
    finally:
        server.stop()
