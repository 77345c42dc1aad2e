from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

import tests.preloaded  # noqa: F401
from geomcheck.checkpoints.formats.safetensors import SafetensorsDirectory
from geomcheck.gate import configuration
from tests.runs import age, simple_run
from tests.slow import marks

Reads = list[tuple[str, str]]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what `tests.slow` lists, before ``-m`` selects; a run of everything leaves the weekly ones to nox."""
    for item in items:
        for marker in marks(item.nodeid):
            item.add_marker(marker)
    whole = {config.rootpath, config.rootpath / "tests"}
    if not config.option.markexpr and all((config.rootpath / argument).resolve() in whole for argument in config.args):
        weekly = [item for item in items if item.get_closest_marker("weekly")]
        items[:] = [item for item in items if item not in weekly]
        config.hook.pytest_deselected(items=weekly)


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Commands of a test that works in the checkout have a cache of their own: what a test measures is measured."""
    own, place = configuration.pytest_cache, tmp_path_factory.getbasetemp() / "caches" / uuid4().hex

    def elsewhere(config: pytest.Config) -> Path:
        return place if config.rootpath == Path(__file__).parents[1] else own(config)

    monkeypatch.setattr(configuration, "pytest_cache", elsewhere)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """(directory, weight) of every matrix that is read, as it happens; norms are only looked at."""
    seen: Reads = []
    read = SafetensorsDirectory.read

    def counted(self: SafetensorsDirectory, name: str, at: tuple[int, ...] = ()):
        if len(self.weights[name].shape) > 1:
            seen.append((self.path.name, name))
        return read(self, name, at)

    monkeypatch.setattr(SafetensorsDirectory, "read", counted)
    return seen


@pytest.fixture
def settled_run(tmp_path: Path) -> Path:
    """A healthy run that was written an hour ago."""
    return age(simple_run(tmp_path / "opd"))


@pytest.fixture
def no_reading(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, reading any tensor fails."""

    def forbid() -> None:
        def read(self: SafetensorsDirectory, name: str, at: tuple[int, ...] = ()):
            raise AssertionError(f"{self.path.name} {name} was read")

        monkeypatch.setattr(SafetensorsDirectory, "read", read)

    return forbid
