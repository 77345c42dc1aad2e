"""Attacks that a careless gate would fall for. SECURITY.md names these tests, promise by promise."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
import yaml
from safetensors.torch import save, save_file

import geomcheck
from geomcheck.errors import GeomcheckError, SuiteError
from tests.checkpoints import dcp_files
from tests.checkpoints.formats.hostile import attacks
from tests.reliability.fuzz.places import look, safetensors_of, torch_zip
from tests.reliability.fuzz.target import Target, check
from tests.report.test_html import Parsed, require_harmless
from tests.runs import Q, base_weights, moved, simple_run, write_model, write_run
from tests.stories.conftest import HEALTHY

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

    assert check(Target("", parsed, dict, (errors,)), content, where.parents[-3]) == "refused"


def tree(directory: Path) -> dict[str, tuple[object, ...]]:
    """Every entry below: kind, mode, times, content."""
    found = {}
    for path in sorted([directory, *directory.rglob("*")]):
        stat = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
        found[str(path)] = (stat.st_mode, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, content)
    return found


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
        with pytest.raises(SuiteError, match="a suite is plain data"):
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

    def test_nor_is_anything_else_opened(self, pytester: pytest.Pytester) -> None:
        """All that a whole session opens, lists, starts or connects to, by the interpreter's own account."""
        run = simple_run(pytester.path / "ckpts" / "opd")
        bait = [run / "checkpoint-10" / name for name in ("optimizer.pt", "rng_state.pth", "training_args.bin")]
        for file in bait:
            file.write_bytes(pickle.dumps(attacks(pytester.path / "owned")["os.system"]))
        before = tree(run)
        (pytester.path / "suites").mkdir()
        (pytester.path / "suites" / "mine.yaml").write_text(HEALTHY)
        log = pytester.path / "log"
        outputs = ("--geom-json=out/v.json", "--geom-report=out/r.html", "--geom-record=out/r.parquet")
        command = [sys.executable, str(AUDITED), str(log), "--geom-run=ckpts/opd", "--geom-cache=cache", *outputs]
        done = subprocess.run(command, cwd=pytester.path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        events = [json.loads(line) for line in log.read_text().splitlines()]
        touched = {(event[0], str((pytester.path / event[1]).resolve()), event[-1]) for event in events if isinstance(event[1], str)}
        assert {str(run / f"checkpoint-{step}" / "config.json") for step in (10, 20, 30)} <= {path for _, path, _ in touched}
        assert not {str(file) for file in bait} & {path for _, path, _ in touched}
        started = {event for event, _, _ in touched if event.startswith(("socket", "pickle", "os.system", "os.exec", "os.fork"))}
        assert not started
        root = Path(geomcheck.__file__).parents[1]
        own = [run, pytester.path / "suites", root, sys.prefix, sys.base_prefix, "/dev/null", "/proc", "/sys", *sys.path[1:]]
        ours = [pytester.path / name for name in ("out", "cache", ".pytest_cache")]
        odd = [
            (event, path)
            for event, path, _ in sorted(touched, key=str)
            if event != "subprocess.Popen" and not any(Path(path).is_relative_to(place) for place in (*own, *ours))
        ]
        assert odd == []
        assert tree(run) == before


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
    @pytest.mark.parametrize("target", ["ckpts/opd/x", "ckpts/opd/../opd/x", "link/x", "ckpts/opd/checkpoint-10/model.safetensors"])
    def test_an_output_into_the_run_is_refused(self, geom, write_suite, opd_run: Path, option: str, target: str) -> None:
        (opd_run.parents[1] / "link").symlink_to(opd_run)
        before = tree(opd_run)
        write_suite(HEALTHY)
        assert geom(f"{option}={target}").ret == 4
        assert tree(opd_run) == before


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
            safetensors_of(b'{"v":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"w":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}'),
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
        [b"[" * 10**6, b'{"a":' * 10**6, b'{"weight_map": ' + b"9" * 10**6 + b"}", b'{"weight_map": {"w": "' + b"x" * 10**6 + b'"}}'],
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

    @pytest.mark.parametrize(
        "text",
        [
            "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(f"{c}: &{c} [{','.join([f'*{p}'] * 9)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)),
            "a: &a [*a]\n",
            "a: &a {b: *a}\n",
            "[" * 500_000,
            "{a: " * 200_000,
            "- " * 400_000,
            "? " * 400_000,
            "geomcheck: " + "9" * 900_000,
            "geomcheck: " + "1e" * 400_000,
            "&a " * 300_000,
            "a: " + "\"\\x41" * 100_000,
            "- a\n" * 200_000,
            "? a\n" * 200_000,
            "geomcheck: 1\nexpect: [" + "{id: a}," * 40_000 + "]",
            "geomcheck: 1\n" + "".join(f"k{i}: 1\n" for i in range(40_000)),
        ],
        ids=["laughs", "circle", "circle of keys", "flow", "flow keys", "block", "keys", "digits", "exponents", "anchors", "escapes", "items", "pairs", "expectations", "unknown"],
    )
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
