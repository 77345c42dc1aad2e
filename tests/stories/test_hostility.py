"""Attacks that a careless gate would fall for. SECURITY.md names these tests, promise by promise."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import gettempdir
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

import geomcheck
from geomcheck.errors import GeomcheckError, SuiteError
from geomcheck.record import write_record
from geomcheck.report.safe import printable
from tests.checkpoints import dcp_files
from tests.checkpoints.formats.hostile import attacks
from tests.files import tree
from tests.reliability.fuzz import of_records
from tests.reliability.fuzz.places import look, safetensors_of, torch_zip
from tests.reliability.fuzz.target import Target, check
from tests.report.test_html import Parsed, require_harmless
from tests.runs import Q, base_weights, moved, simple_run, write_model, write_run
from tests.stories.conftest import HEALTHY

_DICTIONARY = pa.dictionary(pa.int32(), pa.string())

AUDITED = Path(__file__).with_name("audited.py")


def refused(run: Path, message: str) -> None:
    """The run is not measured, and says why."""
    with pytest.raises(GeomcheckError, match=message):
        geomcheck.measure(run, metrics=["update_support"])


def bounded(content: bytes, where: Path, parse: Callable[[Path], object], errors: type[Exception]) -> None:
    """`parse` refuses `content` quickly, with little memory and in few words."""

    def parsed(content: bytes, scratch: Path) -> None:
        where.unlink(missing_ok=True)
        where.write_bytes(content)
        parse(where)

    assert check(Target("", parsed, dict, (errors,)), content, where.parents[-3], seconds=60) == "refused"


class TestNothingIsExecuted:
    @pytest.fixture
    def marker(self, tmp_path: Path) -> Iterator[Path]:
        """What a payload leaves behind, and must not."""
        marker = tmp_path / "owned"
        yield marker
        assert not marker.exists()

    @pytest.fixture
    def payload(self, marker: Path) -> object:
        """It works, where a pickle is loaded without care."""
        payload = attacks(marker)["os.system"]
        pickle.loads(pickle.dumps(payload))
        marker.unlink()
        return payload

    @pytest.mark.parametrize(
        "file",
        [
            "checkpoint-10/pytorch_model.bin",
            "checkpoint-10/model.pt",
            "checkpoint-10/pytorch_model_fsdp.bin",
            "checkpoint-10/pytorch_model_fsdp_0_rank0.bin",
            "checkpoint-10/mp_rank_00_model_states.pt",
            "global_step_10/actor/model_world_size_1_rank_0.pt",
        ],
    )
    @pytest.mark.parametrize("legacy", [False, True])
    def test_in_state_dicts(self, tmp_path: Path, payload: object, file: str, legacy: bool) -> None:
        path = tmp_path / "run" / file
        path.parent.mkdir(parents=True)
        torch.save(moved(base_weights(), 1e-2) | {"x": payload}, path, _use_new_zipfile_serialization=not legacy)
        write_model(tmp_path / "run" / "base", base_weights())
        refused(tmp_path / "run", "names .*which no state dict needs|which such a file never needs")

    def test_in_adapters(self, tmp_path: Path, payload: object) -> None:
        step = tmp_path / "run" / "checkpoint-10"
        write_model(tmp_path / "run" / "base", base_weights())
        step.mkdir()
        (step / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 2}))
        torch.save({"base_model.model.x.lora_A.weight": payload}, step / "adapter_model.bin")
        refused(tmp_path / "run", "names .*which no state dict needs")

    def test_in_distributed_checkpoints(self, tmp_path: Path, payload: object) -> None:
        run = tmp_path / "run"
        write_model(run / "base", base_weights())
        weights = {name: (weight, dcp_files.whole(weight)) for name, weight in moved(base_weights(), 1e-2).items()}
        step = dcp_files.save_chunks(run / "step-10", weights)
        dcp_files.rewrite(step, lambda metadata: setattr(metadata, "planner_data", payload))
        refused(run, "which such a file never needs; nothing of it was run")

    def test_in_megatrons_arguments(self, tmp_path: Path, payload: object) -> None:
        run = tmp_path / "run"
        write_model(run / "base", base_weights())
        weights = {name: (weight, dcp_files.whole(weight)) for name, weight in moved(base_weights(), 1e-2).items()}
        step = dcp_files.save_chunks(run / "iter_0000010", weights)
        (step / "metadata.json").write_text("{}")
        torch.save({"args": payload}, step / "common.pt")
        look(run)  # what cannot be read as data is not known, and that is all

    def test_what_a_trainer_pickles_is_not_opened(self, tmp_path: Path, marker: Path) -> None:
        run = simple_run(tmp_path / "run")
        for step in run.glob("checkpoint-*"):
            for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "scaler.pt", "training_args.bin"):
                (step / name).write_bytes(pickle.dumps(attacks(marker)["os.system"]))
        assert geomcheck.measure(run, metrics=["update_support"]).measured_weights()

    @pytest.mark.parametrize(
        "tag",
        [
            "!!python/object/apply:os.system ['touch owned']",
            "!!python/object/new:os.system ['touch owned']",
            "!!python/name:os.system ''",
            "!<tag:yaml.org,2002:python/object/apply:os.system> ['touch owned']",
        ],
    )
    def test_by_tags_of_suites(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: str) -> None:
        monkeypatch.chdir(tmp_path)
        yaml.unsafe_load(tag)
        careless = Path("owned").exists()
        assert careless or "name" in tag
        Path("owned").unlink(missing_ok=True)
        (tmp_path / "s.yaml").write_text(f"geomcheck: 1\nabout: {tag}\nexpect: []\n")
        with pytest.raises(SuiteError, match="a suite is plain data|an unquoted `!` begins a YAML tag"):
            geomcheck.load_suite(tmp_path / "s.yaml")
        assert not Path("owned").exists()


class TestNothingOutsideIsRead:
    @pytest.fixture
    def run(self, tmp_path: Path) -> Path:
        return simple_run(tmp_path / "run")

    @pytest.fixture
    def secret(self, tmp_path: Path) -> Path:
        """A model outside of the run, which fits it."""
        return write_model(tmp_path / "secret", moved(base_weights(), 5e-2))

    @pytest.mark.parametrize("place", ["../../secret/model.safetensors", "{secret}/model.safetensors", "..", "a/b", ""])
    @pytest.mark.parametrize("index", ["model.safetensors.index.json", "pytorch_model.bin.index.json"])
    def test_by_an_index(self, run: Path, secret: Path, place: str, index: str) -> None:
        (run / "checkpoint-10" / "model.safetensors").unlink()
        weight_map = dict.fromkeys(base_weights(), place.format(secret=secret))
        (run / "checkpoint-10" / index).write_text(json.dumps({"weight_map": weight_map}))
        refused(run, "shards must be plain file names in the same directory")

    @pytest.mark.parametrize("file", ["model.safetensors", "config.json", "trainer_state.json"])
    def test_by_a_link_to_a_file(self, run: Path, secret: Path, file: str) -> None:
        (secret / "trainer_state.json").write_text("{}")
        (run / "checkpoint-10" / file).unlink()
        (run / "checkpoint-10" / file).symlink_to(secret / file)
        refused(run, "links to .*secret.*, outside")

    def test_by_a_link_to_a_directory(self, run: Path, secret: Path) -> None:
        (run / "checkpoint-40").symlink_to(secret)
        refused(run, "links to .*secret, outside the run")

    def test_by_a_base_that_is_a_link(self, run: Path, secret: Path) -> None:
        (run / "base").rename(run.parent / "old")
        (run / "base").symlink_to(secret)
        refused(run, "links to .*secret.*, outside")

    @pytest.mark.parametrize("place", ["../../../secret", "{secret}", "model"])
    def test_by_a_list_of_contents(self, tmp_path: Path, secret: Path, place: str) -> None:
        actor = tmp_path / "run" / "global_step_1" / "actor"
        actor.mkdir(parents=True)
        (actor / "model").symlink_to(secret)
        write_model(tmp_path / "run" / "base", base_weights())
        contents = {"contents": {"model": {"path": place.format(secret=secret)}}}
        (actor / "ckpt_contents.json").write_text(json.dumps(contents))
        refused(tmp_path / "run", "outside the checkpoint")

    def test_by_the_metadata_of_a_distributed_checkpoint(self, tmp_path: Path) -> None:
        run = tmp_path / "run"
        weights = {Q: (base_weights()[Q], dcp_files.whole(base_weights()[Q]))}
        dcp_files.save_chunks(tmp_path / "secret", weights)
        write_model(run / "base", base_weights())
        step = dcp_files.save_chunks(run / "step-10", weights)

        def escape(metadata: object) -> None:
            for info in metadata.storage_data.values():
                info.relative_path = "../../secret/__0_0.distcp"

        dcp_files.rewrite(step, escape)
        refused(run, "chunks must be in files with plain names in the same directory")

    @pytest.mark.parametrize(("folder", "blobs"), [("runs", "blobs"), ("models--a--b", "elsewhere")])
    def test_what_is_no_hub_cache_gets_no_more_room(self, tmp_path: Path, folder: str, blobs: str) -> None:
        run = simple_run(tmp_path / folder / "snapshots" / "run")
        (tmp_path / folder / "blobs").mkdir()
        config = run / "checkpoint-10" / "config.json"
        (tmp_path / folder / blobs).mkdir(exist_ok=True)
        target = (tmp_path / blobs if blobs != "blobs" else tmp_path / folder / blobs) / "x"
        target.parent.mkdir(exist_ok=True)
        config.rename(target)
        config.symlink_to(target)
        refused(run, "links to .*, outside")

    def test_links_of_the_hub_cache_are_legitimate(self, tmp_path: Path) -> None:
        run = simple_run(tmp_path / "models--a--b" / "snapshots" / "0123")
        blobs = tmp_path / "models--a--b" / "blobs"
        blobs.mkdir()
        for number, file in enumerate(sorted(path for path in run.rglob("*") if path.is_file())):
            file.rename(blobs / str(number))
            file.symlink_to(blobs / str(number))
        assert geomcheck.measure(run, metrics=["update_support"]).run == "0123"

    def test_a_pipe_or_a_device_is_no_file(self, run: Path) -> None:
        (run / "checkpoint-10" / "config.json").unlink()
        os.mkfifo(run / "checkpoint-10" / "config.json")
        refused(run, "not a regular file")

    def test_a_suite_that_is_a_device(self, tmp_path: Path) -> None:
        (tmp_path / "profiles").mkdir()
        (tmp_path / "profiles" / "a.yaml").write_text("profile: 1\n")
        (tmp_path / "profiles" / "b.yaml").symlink_to("/dev/zero")
        with pytest.raises(GeomcheckError):
            geomcheck.suite.load_profiles([tmp_path / "profiles"])

    def test_nor_is_anything_else_opened(self, pytester: pytest.Pytester, secret: Path) -> None:
        """All that a whole session opens, lists, starts or connects to, by the interpreter's own account."""
        run = simple_run(pytester.path / "ckpts" / "opd")
        bait = [run / "checkpoint-10" / name for name in ("optimizer.pt", "rng_state.pth", "training_args.bin")]
        for file in bait:
            file.write_bytes(pickle.dumps(attacks(pytester.path / "owned")["os.system"]))
        for name in ("latest", "runs", "tokenizer", "optimizer"):
            (run / "checkpoint-10" / name).symlink_to(secret)
        before = tree(run)
        (pytester.path / "suites").mkdir()
        (pytester.path / "suites" / "mine.yaml").write_text(HEALTHY)
        log = pytester.path / "log"
        outputs = ("--geom-json=out/v.json", "--geom-report=out/r.html", "--geom-record=out/r.parquet")
        command = [sys.executable, str(AUDITED), str(log), "--geom-run=ckpts/opd", "--geom-cache=cache", *outputs]
        done = subprocess.run(command, cwd=pytester.path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        events = [json.loads(line) for line in log.read_text().splitlines()]
        started = {Path(event[1]).name for event in events if event[0] == "subprocess.Popen"}
        assert started <= {"uname", "ldconfig", "gcc", "cc", "ld", "objdump"}  # `platform` and `ctypes` ask them
        touched = {
            (event[0], Path(pytester.path, event[1]).resolve())
            for event in events
            if isinstance(event[1], str) and event[0] != "subprocess.Popen"
        }
        assert {run / f"checkpoint-{step}" / "config.json" for step in (10, 20, 30)} <= {path for _, path in touched}
        assert not set(bait) & {path for _, path in touched}
        outside = [
            (event, str(path))
            for event, path in touched
            if path.parent != Path(gettempdir())
            and not any(path.is_relative_to(known) for known in self.known(pytester))
        ]
        assert outside == [("open", gettempdir())]  # pytest's capture: a file without a name
        assert not {event for event, *_ in events} & {"os.system", "os.exec", "os.fork", "pickle.find_class"}
        assert not [event for event in events if event[0].startswith("socket.")]
        assert tree(run) == before

    @staticmethod
    def known(pytester: pytest.Pytester) -> list[str | Path]:
        """The project, which holds the run; Python with what is installed; and what a machine says of itself."""
        system = ("/proc", "/sys", "/dev/null", "/usr/share/zoneinfo", "/etc/localtime")
        checkout = Path(geomcheck.__file__).parents[1]
        return [pytester.path, checkout, sys.prefix, sys.base_prefix, *filter(None, sys.path), *system]


class TestNothingIsWritten:
    def test_a_run_and_its_base_stay_as_they_are(self, geom, write_suite, opd_run: Path, pytester) -> None:
        write_model(pytester.path / "anchor", base_weights())
        places = (opd_run, pytester.path / "anchor")
        for place in places:
            for path in (*place.rglob("*"), place):
                path.chmod(0o555 if path.is_dir() else 0o444)
        before = [tree(place) for place in places]
        write_suite(HEALTHY)
        assert geom("--geom-base=anchor", "--geom-json=v.json", "--geom-report=r.html").ret == 0
        assert [tree(place) for place in places] == before

    @pytest.mark.parametrize("option", ["--geom-json", "--geom-record", "--geom-report", "--geom-cache"])
    @pytest.mark.parametrize(
        "target", ["ckpts/opd/x", "ckpts/opd/../opd/x", "link/x", "ckpts/opd/checkpoint-10/model.safetensors"]
    )
    def test_an_output_into_the_run_is_refused(
        self, geom, write_suite, opd_run: Path, option: str, target: str
    ) -> None:
        (opd_run.parents[1] / "link").symlink_to(opd_run)
        before = tree(opd_run)
        write_suite(HEALTHY)
        assert geom(f"{option}={target}").ret == 4
        assert tree(opd_run) == before


YAML_BOMBS = {
    "laughs": "a: &a [1,1,1,1,1,1,1,1,1]\n"
    + "".join(f"{c}: &{c} [{','.join([f'*{p}'] * 9)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)),
    "a circle": "a: &a [*a]\n",
    "a circle of keys": "a: &a {b: *a}\n",
    "depth": "[" * 500_000,
    "depth of keys": "{a: " * 200_000,
    "depth of items": "- " * 400_000,
    "digits": "geomcheck: " + "9" * 900_000,
    "anchors": "&a " * 300_000,
    "escapes": "a: " + '"\\x41' * 100_000,
    "items": "- a\n" * 60_000,
    "expectations": "geomcheck: 1\nexpect: [" + "{id: a}," * 20_000 + "]",
    "a long source": f"geomcheck: 1\nprofiles: [{'x' * 5000}]\n",
    "a null in a source": 'geomcheck: 1\nprofiles: ["a\\0b"]\n',
    "nobody's home": "geomcheck: 1\nprofiles: [~nobody-of-this-name/x]\n",
}


class TestBombs:
    @pytest.mark.parametrize(
        "content",
        [
            struct.pack("<Q", 2**63) + b"{}",
            struct.pack("<Q", 99_999_999) + b"{}",
            safetensors_of(b'{"a":' * 100_000),
            safetensors_of(b"[" * 1_000_000),
            safetensors_of(b'{"w":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,4]}}'),
            safetensors_of(b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551615]}}'),
            safetensors_of(b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}'),
            safetensors_of(
                b'{"v":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"w":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}'
            ),
            safetensors_of(b'{"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}'),
            safetensors_of(b'{"w":{"dtype":"F32","shape":[1e99],"data_offsets":[0,4]}}'),
        ],
        ids=["2**63", "99 MB", "deep", "deeper", "product", "end", "backwards", "overlap", "negative", "float"],
    )
    def test_headers_of_safetensors(self, tmp_path: Path, content: bytes) -> None:
        run = simple_run(tmp_path / "run")
        bounded(content, run / "checkpoint-10" / "model.safetensors", lambda _: look(run), GeomcheckError)

    @pytest.mark.parametrize(
        "content",
        [
            b"[" * 10**6,
            b'{"a":' * 10**6,
            b'{"weight_map": ' + b"9" * 10**6 + b"}",
            b'{"weight_map": {"w": "' + b"x" * 10**6 + b'"}}',
        ],
        ids=["list", "mapping", "number", "name"],
    )
    @pytest.mark.parametrize("file", ["model.safetensors.index.json", "config.json", "trainer_state.json"])
    def test_json(self, tmp_path: Path, file: str, content: bytes) -> None:
        run = simple_run(tmp_path / "run")
        if "index" in file:
            (run / "checkpoint-10" / "model.safetensors").unlink()
        elif content.endswith(b"}"):
            pytest.skip("such a file is merely odd")
        bounded(content, run / "checkpoint-10" / file, lambda _: look(run), GeomcheckError)

    def test_a_key_that_is_there_twice(self, tmp_path: Path) -> None:
        run = simple_run(tmp_path / "run")
        (run / "checkpoint-10" / "config.json").write_text('{"num_attention_heads": 2, "num_attention_heads": 4}')
        refused(run, "the key 'num_attention_heads' is there twice")

    def test_files_that_are_larger_than_such_files_are(self, tmp_path: Path) -> None:
        run = simple_run(tmp_path / "run")
        for name in ("config.json", "trainer_state.json"):
            path = run / "checkpoint-10" / name
            kept = path.read_bytes()
            os.truncate(path, 2**30)
            refused(run, "more than the .* that such a file can need")
            path.write_bytes(kept)
        suite = tmp_path / "s.yaml"
        suite.write_text("geomcheck: 1\n")
        os.truncate(suite, 100 * 2**20)
        with pytest.raises(SuiteError, match="larger than 1,000,000 bytes"):
            geomcheck.load_suite(suite)

    @pytest.mark.parametrize("text", YAML_BOMBS.values(), ids=YAML_BOMBS)
    def test_yaml(self, tmp_path: Path, text: str) -> None:
        bounded(text.encode(), tmp_path / "s.yaml", geomcheck.load_suite, GeomcheckError)

    def test_a_zip_that_is_compressed(self, tmp_path: Path) -> None:
        run = simple_run(tmp_path / "run")
        (run / "checkpoint-10" / "model.safetensors").unlink()
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", bytes(200 * 2**20))
        assert len(file.getvalue()) < 2**20
        where = run / "checkpoint-10" / "pytorch_model.bin"
        bounded(file.getvalue(), where, lambda _: look(run), GeomcheckError)

    @pytest.mark.parametrize("name", ["../../escaped", "/escaped", "archive/../../escaped", "archive\\..\\escaped"])
    def test_names_in_a_zip_are_no_paths(self, tmp_path: Path, name: str) -> None:
        run = simple_run(tmp_path / "run")
        before = set(tmp_path.rglob("*"))
        content = torch_zip(pickle.dumps({}), {name: b"x"})
        where = run / "checkpoint-10" / "pytorch_model.bin"
        (run / "checkpoint-10" / "model.safetensors").unlink()
        bounded(content, where, lambda _: look(run), GeomcheckError)
        assert set(tmp_path.rglob("*")) - before == {where}

    def test_records(self, tmp_path: Path) -> None:
        """A file of some kilobytes takes no more memory than some megabytes."""
        long = self.row(undefined=pa.array(["x" * 10**6], _DICTIONARY))
        rows = self.record(tmp_path / "rows", self.row().take(pa.array([0] * 1_000_000)), times=5)
        texts = self.record(tmp_path / "texts", long.take(pa.array([0] * 2000)))  # one text, 2 GB once each has its own
        pages = self.record(tmp_path / "pages", long.take(pa.array([0] * 20)), times=20, use_dictionary=False)
        code = f"""
import resource
import geomcheck.measurement, geomcheck.record
from geomcheck.errors import RecordError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in {[str(rows), str(texts), str(pages)]!r}:
    try:
        geomcheck.record.read_record(path)
    except RecordError as error:
        print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        *messages, megabytes = done.stdout.splitlines()
        expected = ["rows in .* bytes, more than any record has", "there twice", "bytes of columns for 400 rows"]
        assert [bool(re.search(*pair)) for pair in zip(expected, messages, strict=True)] == [True] * 3, messages
        assert int(megabytes) < 300

    @staticmethod
    def row(**changes: pa.Array) -> pa.Table:
        """The first row of a good record, without a figure."""
        table = of_records.good()[:1]
        columns = {name: table[name].combine_chunks() for name in table.column_names}
        return pa.table(
            columns | {"value": pa.nulls(1, pa.float64()), "undefined": pa.array(["zero"], _DICTIONARY)} | changes
        )

    @staticmethod
    def record(path: Path, table: pa.Table, *, times: int = 1, **options: object) -> Path:
        """`table`, several times, as a record that says of itself what a good one says."""
        good = of_records.good()
        described = dict(good.schema.metadata)
        described[b"ARROW:schema"] = base64.b64encode(good.schema.serialize().to_pybytes())
        with pq.ParquetWriter(path, table.schema, compression="zstd", store_schema=False, **options) as writer:
            for _ in range(times):
                writer.write_table(table)
            writer.add_key_value_metadata(described)
        assert path.stat().st_size < 300_000
        return path


HARD = [
    "--geom-run=x",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "a|b",
    "`code` **bold** [link](https://evil.example)",
    "https://evil.example/x",
    "@everyone",
    "::error::pwned",
    "##[error]pwned",
    "x ::set-output name=a::b",
    "%0A::error::pwned",
    "{{7*7}}${7*7}",
    "]]>&lt;x&gt;",
    "$(touch owned)",
    "'; DROP TABLE entries; --",
    "y" * 990,
]
"""What may stand in the name of a weight. Names with control characters are refused as a whole."""

UNSEEN = ["a\nb", "\x1b[31mred", "\u202egnp.exe", "\x00", "\u2028", "z" * 10_000]

TEXT = r'"\e[31m ::error::pwned |x| @everyone \u202e <img src=x onerror=alert(1)>\n::error::own line\n  ##[group]x"'

HARD_SUITE = f"""
geomcheck: 1
name: hard
about: {TEXT}
weights: all
expect:
  - {{id: a, metric: update_support, below: 5%, why: {TEXT}}}
  - {{id: b, metric: stable_rank, within: [1, 1.1], per: weight, why: {TEXT}}}
  - {{id: c, metric: stable_rank, within: [1, 1.1], weights: {{include: [{TEXT}]}}}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that such a session leaves, and ``stdout``."""
    project = tmp_path_factory.mktemp("project")
    base = base_weights() | {name: torch.randn(8, 8) for name in HARD}
    write_run(project / "ckpts" / "opd", base, {10: moved(base, 1e-2), 20: moved(base, 2e-2, seed=2)})
    (project / "suites").mkdir()
    (project / "suites" / "hard.yaml").write_text(HARD_SUITE)
    names = {"json": "v.json", "report": "r.html", "record": "r.parquet"}
    outputs = [f"--geom-{option}={name}" for option, name in names.items()]
    command = [sys.executable, "-m", "pytest", "--geom-run=ckpts/opd", "--junitxml=j.xml", "-vv", *outputs]
    github = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(project / "summary.md")}
    done = subprocess.run(command, cwd=project, env=os.environ | github, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    (project / "stdout").write_text(done.stdout)
    return project


class TestNames:
    """A session over names that mean something to a terminal, a browser, Markdown, XML or a CI system."""

    def test_terminal(self, project: Path) -> None:
        text = (project / "stdout").read_text()
        assert "##\\x5b" in text or "#\\x23[error]pwned" in text or "\\x23#[error]pwned" in text
        assert not {character for character in text if not character.isprintable() and character != "\n"}

    def test_commands_of_ci_systems(self, project: Path) -> None:
        lines = (project / "stdout").read_text().splitlines()
        commands = [line for line in lines if line.lstrip().startswith("::")]
        assert len(commands) == 3
        assert all(line.startswith("::error file=suites/hard.yaml,line=") for line in commands)
        assert not [line for line in lines if re.search(r"##\w*\[", line)]

    def test_html(self, project: Path) -> None:
        page = (project / "r.html").read_text()
        parsed = require_harmless(page)
        assert "\x1b" not in page
        assert "\u202e" not in page
        assert "</script><script>alert(1)</script>" in json.dumps(parsed.data)

    def test_markdown(self, project: Path) -> None:
        from markdown_it import MarkdownIt

        text = (project / "summary.md").read_text()
        rendered = Parsed(MarkdownIt("gfm-like", {"linkify": False}).render(text))
        assert {tag for tag, _ in rendered.elements} <= {
            "h3",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
            "p",
            "ul",
            "li",
        }
        assert self.cells(rendered) == [7] * 4
        assert "@everyone" not in rendered.text
        assert not re.search(r"https?://|www\.", rendered.text)

    @staticmethod
    def cells(rendered: Parsed) -> list[int]:
        """How many cells each row of a table has."""
        tags = "".join({"tr": "\n", "th": "x", "td": "x"}.get(tag, "") for tag, _ in rendered.elements)
        return [len(row) for row in tags.split("\n")[1:]]

    def test_junit(self, project: Path) -> None:
        root = ElementTree.parse(project / "j.xml").getroot()
        assert len(root.findall(".//testcase")) == 3
        assert {element.tag for element in root.iter()} == {
            *("testsuites", "testsuite", "properties", "property", "testcase", "failure")
        }

    def test_json(self, project: Path) -> None:
        verdicts = json.loads((project / "v.json").read_text())
        assert [found["id"] for found in verdicts["runs"][0]["suites"][0]["expectations"]] == ["a", "b", "c"]

    def test_nothing_else_was_written(self, project: Path) -> None:
        expected = {"ckpts", "suites", "v.json", "r.html", "r.parquet", "j.xml", "summary.md", "stdout"}
        assert {path.name for path in project.iterdir()} - {".pytest_cache", "__pycache__"} == expected

    @pytest.mark.parametrize("name", UNSEEN, ids=map(ascii, range(len(UNSEEN))))
    def test_weights_that_no_model_has(self, tmp_path: Path, name: str) -> None:
        base = base_weights() | {name: torch.ones(8, 8)}
        run = write_run(tmp_path / "run", base, {10: moved(base, 1e-2)})
        with pytest.raises(GeomcheckError, match="no model's is") as caught:
            geomcheck.measure(run, metrics=["update_support"])
        assert len(str(caught.value)) < 1000
        assert printable(str(caught.value)) == str(caught.value)

    @pytest.mark.parametrize("name", ["opd\x1b[31m", "opd\nx", "opd\u202e"])
    def test_runs_whose_path_drives_the_terminal(self, geom, write_suite, opd_run: Path, name: str) -> None:
        opd_run.rename(opd_run.parent / name)
        write_suite(HEALTHY)
        result = geom(path=f"ckpts/{name}")
        assert result.ret == 4
        assert name not in result.stderr.str()

    @pytest.mark.parametrize("name", [name for name in HARD if "/" not in name and len(name) < 200])
    def test_runs_with_hard_names(self, geom, write_suite, opd_run: Path, pytester: pytest.Pytester, name: str) -> None:
        opd_run.rename(opd_run.parent / name)
        write_suite(HEALTHY.replace('["opd*"]', '["*"]'))
        result = geom("--geom-json=v.json", "--geom-report=r.html", "--junitxml=j.xml", path=f"ckpts/{name}")
        assert result.ret == 0
        assert json.loads((pytester.path / "v.json").read_text())["runs"][0]["name"] == name
        require_harmless((pytester.path / "r.html").read_text())
        ElementTree.parse(pytester.path / "j.xml")

    @pytest.mark.parametrize("name", ["../../escaped", "/escaped", "x\x1b[31m\n::error::pwned", "n" * 5000])
    def test_runs_of_records(self, geom, write_suite, pytester: pytest.Pytester, name: str) -> None:
        """A record says itself what its run was called, and several records are told apart by that."""
        record = geomcheck.measure(pytester.path / "ckpts" / "opd", metrics=["update_support", "stable_rank"])
        for number in (1, 2):
            write_record(dataclasses.replace(record, run=f"opd{number}{name}"), pytester.path / f"{number}.parquet")
        write_suite(HEALTHY)
        before = set(pytester.path.parent.rglob("*"))
        outputs = ("--geom-record=out.parquet", "--geom-json=v.json", "--geom-report=r.html", "--junitxml=j.xml")
        result = geom("--geom-run=2.parquet", "-v", *outputs, path="1.parquet")
        assert result.ret == 0, result.stdout.str()
        text = result.stdout.str()
        assert "\x1b" not in text
        assert not [line for line in text.splitlines() if line.lstrip().startswith("::")]
        ElementTree.parse(pytester.path / "j.xml")
        require_harmless((pytester.path / "r.html").read_text())
        made = set(pytester.path.parent.rglob("*")) - before
        assert {path.parent for path in made if path.suffix} == {pytester.path}
        assert len([path for path in made if path.suffix == ".parquet"]) == 2


class TestTheHub:
    """Only huggingface_hub, and only for an id that the user gave."""

    def test_an_adapter_starts_no_download(self, pytester: pytest.Pytester, write_suite) -> None:
        run = simple_run(pytester.path / "ckpts" / "opd")
        (run / "base").rename(pytester.path / "anchor")
        for step in run.glob("checkpoint-*"):
            (step / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "evil/model"}))
        write_suite(HEALTHY)
        log = pytester.path / "log"
        command = [sys.executable, str(AUDITED), str(log), "--geom-run=ckpts/opd"]
        home = {"HF_HOME": str(pytester.path / "hf"), "HF_HUB_OFFLINE": "0"}
        done = subprocess.run(
            command, cwd=pytester.path, env=os.environ | home, capture_output=True, text=True, check=False
        )
        assert done.returncode == 4
        assert "to download it, with --geom-base=evil/model" in done.stdout + done.stderr
        assert not [line for line in log.read_text().splitlines() if json.loads(line)[0].startswith("socket.")]
