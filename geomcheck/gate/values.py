"""The values of options, for pytest's gate and for the commands: as given, by the project's ini file, or by default."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from geomcheck.checkpoints import BaseWeights, Incomplete, open_base
from geomcheck.checkpoints.hub import is_hub_id
from geomcheck.errors import UsageError
from geomcheck.gate.configuration import cache_directory, make_cache, pytest_cache
from geomcheck.gate.project import expanded
from geomcheck.measurement import Cache, Resources, parse_workers
from geomcheck.measurement.cache import DEFAULT_BYTES, parse_size, require_outside
from geomcheck.measurement.cache.cache import Tell
from geomcheck.options import Option, option
from geomcheck.own import require_no_links
from geomcheck.suite.early import Budget, parse_budget
from geomcheck.urls import is_url

OFF = ("off", "no", "none", "false", "never", "0")
ON = ("on", "yes", "true", "auto", "default", "1")
"""Words in place of a cache directory, in any case; a directory of such a name is written ``./on``."""


@dataclass(frozen=True)
class Values:
    """The options of one session of pytest, or of one command.

    Attributes:
        config: pytest's, which knows the ini file and the rootdir.
        given: values by argparse's names, as far as the command line gives them.
        prefix: what stands before an option's name: ``--geom-`` or ``--``.
    """

    config: pytest.Config
    given: Mapping[str, Any]
    prefix: str

    @classmethod
    def of_session(cls, config: pytest.Config) -> Values:
        """Those of a session of pytest."""
        ours = {key: value for key, value in vars(config.option).items() if key.startswith("geom_")}
        return cls(config, {key.removeprefix("geom_"): value for key, value in ours.items()}, "--geom-")

    def of(self, name: str) -> str | None:
        """The value of an option. Raises UsageError where it is no choice."""
        declared = option(name)
        found = self._given(declared) or self._in_ini(declared) or declared.default
        if declared.choices and found not in declared.choices:
            raise UsageError(f"{self.lead(name)}{found} in the ini file: write {' or '.join(declared.choices)}")
        return found

    def lead(self, name: str) -> str:
        """What stands before the value of an option where it was written, with its ``=``."""
        declared = option(name)
        in_ini = not self._given(declared) and self._in_ini(declared)
        return f"{declared.ini_key} = " if in_ini else f"{self.prefix}{name}="

    @property
    def incomplete(self) -> Incomplete:
        """What becomes of checkpoints that are not complete. Raises UsageError."""
        return cast(Incomplete, self.of("incomplete"))

    @property
    def budget(self) -> Budget | None:
        """The time to measure in; None where there is no end of it. Raises UsageError."""
        written, confidence = self.of("budget"), self.of("confidence")
        if written is None and confidence is not None:
            raise UsageError(
                f"{self.lead('confidence')}{confidence} is for --geom-budget: without it, verdicts are exact"
            )
        if written is None:
            return None
        return parse_budget(written, confidence, option=self.lead("budget"), beside=self.lead("confidence"))

    def base(self) -> BaseWeights | None:
        """W0 by the option, or else by the ini file: a path, a URL, or a Hub id. Raises UsageError, RunError."""
        text = self.of("base")
        if text is None or self._given(option("base")):
            return open_base(text, f"{self.prefix}base") if text else None
        if is_url(text):
            return open_base(text, "geom_base of the ini file")
        place = self.config.rootpath / expanded(text, "geom_base")
        return open_base(text if not place.exists() and is_hub_id(text) else place, "geom_base of the ini file")

    def resources(self) -> Resources:
        """Workers and the device, without a cache. Raises UsageError where there is no such device."""
        workers = parse_workers(self.of("workers"), option=self.lead("workers"))
        resources = Resources(workers=workers, device=self.of("device") or "auto")
        try:
            resources.require_device()
        except UsageError as error:
            raise UsageError(f"{self.lead('device').rstrip(' =')}: {error}") from None
        return resources

    def cache(self, inputs: Iterable[tuple[str, Path]], tell: Tell) -> Cache:
        """Where measurements are remembered: as `geomcheck.gate.configuration` says, unless a directory is named.

        Args:
            inputs: what is read, where no cache may lie.
            tell: gets a sentence where there is no cache, or it does not work.

        Raises:
            UsageError: the directory that was named is a file or lies in what is read, or the size is none.
        """
        named, lead, size = self.of("cache"), self.lead("cache"), self._cache_size()
        if named is None:
            return Cache(self._default_cache(inputs, tell), max_bytes=size, tell=tell)
        if named.lower() in OFF:
            return Cache.off()
        if named.lower() in ON:
            raise UsageError(f"{lead}{named}: give a directory, or off; without it the cache is on")
        directory = self._named_cache(named)
        require_outside(directory, inputs, option=lead)
        return Cache(directory, max_bytes=size, tell=tell)

    def copies(self) -> Path | None:
        """Where copies of what lies at URLs are kept; None where none are made. Raises UsageError where the cache, in
        which they are by default, is off or cannot be made."""
        asked, named = self._given(option("download")), self.of("cache")
        if asked is None:
            return None
        if asked != option("download").alone:
            return self.config.invocation_params.dir / Path(asked).expanduser()
        if named is not None and named.lower() in OFF:
            raise UsageError(
                f"{self.prefix}download: the cache, where copies are kept, is off; name a directory for them"
            )
        if named is not None:
            return self._named_cache(named) / "copies"
        try:
            require_no_links(cache_directory(self.config), below=pytest_cache(self.config))
            make_cache(self.config)
        except (UsageError, OSError) as error:
            raise UsageError(f"{self.prefix}download: {error}; name a directory for the copies") from error
        return cache_directory(self.config) / "copies"

    def _named_cache(self, named: str) -> Path:
        if self._given(option("cache")):
            return self.config.invocation_params.dir / Path(named).expanduser()
        return self.config.rootpath / expanded(named, "geom_cache")

    def _cache_size(self) -> int:
        text = self.of("cache-size")
        try:
            return DEFAULT_BYTES if text is None else parse_size(text)
        except UsageError as error:
            raise UsageError(f"{self.lead('cache-size').rstrip(' =')}: {error}") from None

    def _default_cache(self, inputs: Iterable[tuple[str, Path]], tell: Tell) -> Path | None:
        try:
            directory = cache_directory(self.config)
            require_no_links(directory, below=pytest_cache(self.config))
            require_outside(directory, inputs)
            make_cache(self.config)
        except (UsageError, OSError) as error:
            tell(f"nothing is cached: {error}; name a directory with {self.prefix}cache")
            return None
        return directory

    def _given(self, declared: Option) -> str | None:
        return self.given.get(declared.name.replace("-", "_")) or None

    def _in_ini(self, declared: Option) -> str | None:
        if not declared.ini:
            return None
        try:
            return self.config.getini(declared.ini_key) or None
        except (TypeError, pytest.UsageError) as error:  # a TOML file has types of its own
            raise UsageError(f"{error}; write it in quotes") from None
