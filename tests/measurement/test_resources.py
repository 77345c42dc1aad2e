from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import geomcheck
from geomcheck.errors import UsageError
from geomcheck.measurement import machine
from geomcheck.measurement.cache import parse_size
from geomcheck.measurement.device import device_named, on_device, parse_device
from geomcheck.measurement.resources import parse_workers
from geomcheck.record.routes import RouteTaken, Tally, tally
from tests.runs import simple_run


def test_devices_are_named_as_torch_does() -> None:
    assert parse_device("cpu") == torch.device("cpu")
    assert parse_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
@pytest.mark.parametrize("node", ["nvidiactl", "kfd", "null"])
def test_torch_is_asked_for_a_gpu_where_there_may_be_one(
    node: str, platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def is_available() -> bool:
        asked.append(True)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    monkeypatch.setattr(machine, "DEVICES", tmp_path)
    monkeypatch.setattr("sys.platform", platform)
    (tmp_path / node).touch()
    assert device_named("cpu") == "cpu"
    assert not asked
    assert device_named("auto") == "cpu"
    assert bool(asked) == {"linux": node != "null", "darwin": False, "win32": True}[platform]
    with pytest.raises(UsageError, match="device 'tpu'"):
        device_named("tpu")


@pytest.mark.parametrize("text", ["", "gpu", "cuda:", "cuda:x", "cuda:99", "cpu:0", "CUDA", "mps", "cuda:-1"])
def test_other_devices_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="device"):
        parse_device(text)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tensors_arrive_on_a_gpu_as_they_were() -> None:
    tensor = torch.randn(257, 129).bfloat16()
    moved = on_device(tensor, parse_device("cuda"))
    assert moved.is_cuda
    assert torch.equal(moved.cpu(), tensor)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_copies_of_many_threads_arrive_whole_while_the_gpu_computes() -> None:
    device = parse_device("cuda")
    busy = torch.randn(4096, 4096, device=device)

    def arrives(seed: int) -> bool:
        tensor = torch.randn(1 << 20, generator=torch.Generator().manual_seed(seed))
        _ = busy @ busy
        return torch.equal(on_device(tensor, device).cpu(), tensor)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(arrives, range(200)))


def test_on_the_cpu_nothing_is_copied() -> None:
    tensor = torch.zeros(3)
    assert on_device(tensor, torch.device("cpu")) is tensor


def test_workers_are_a_number_or_ray() -> None:
    assert [parse_workers(value) for value in (None, "", 3, "3", "ray")] == [None, None, 3, 3, "ray"]
    for bad in ("0", "-1", "1.5", "Ray", "٣٣٣٣٣٣٣", 0):
        with pytest.raises(UsageError, match="workers"):
            parse_workers(bad)


def test_sizes_have_units() -> None:
    assert [parse_size(text) for text in ("500MB", "20 GB", "1TB")] == [5 * 10**8, 2 * 10**10, 10**12]
    for bad in ("", "20", "20 GiB", "-1GB", "1.5GB", "9999999GB"):
        with pytest.raises(UsageError, match="cache size"):
            parse_size(bad)


def test_a_wrong_device_is_said_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="device 'tpu'"):
        geomcheck.measure(simple_run(tmp_path / "opd"), device="tpu")


def test_routes_are_counted_with_their_worst_certificate() -> None:
    routes = [
        {"angles": RouteTaken("riccati", 1e-9), "D_t": RouteTaken("gram")},
        {"angles": RouteTaken("riccati", 1e-7)},
        {"angles": RouteTaken("svd")},
    ]
    assert tally(routes) == {"D_t": {"gram": Tally(1)}, "angles": {"riccati": Tally(2, 1e-7), "svd": Tally(1)}}


def test_the_record_says_which_algorithm_answered(tmp_path: Path) -> None:
    record = geomcheck.measure(simple_run(tmp_path / "opd"), metrics=["spectral_shift", "stable_rank"])
    assert {quantity: sum(t.count for t in by.values()) for quantity, by in record.routes.items()} == {
        "singular values of D, k=1": 9,
        "spectral shift": 9,
    }
    geomcheck.write_record(record, tmp_path / "r.parquet")
    again = geomcheck.read_record(tmp_path / "r.parquet")
    assert (again.routes, again.device) == (record.routes, record.device)
