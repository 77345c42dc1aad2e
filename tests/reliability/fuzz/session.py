"""Targets, each in a process of its own: ``python -m tests.reliability.fuzz.session TARGET... --seconds N --out DIR``.

The package is imported once, and every target gets a fork, which may hang or die; how it ended is printed. With
atheris the branches that an input takes in the package decide what is tried next; without it, inputs are mutated
blindly.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

try:
    import atheris
except ImportError:
    atheris = None

with atheris.instrument_imports(include=["geomcheck", "yaml"]) if atheris else nullcontext():
    from tests.reliability.fuzz.target import MAX_BYTES, Broken, Target, check
    from tests.reliability.fuzz.targets import TARGETS, corpus

MOST_KINDS = 50
GRACE_SECONDS = 60.0
"""For a process to try its seeds and to end."""

MEMORY = "/dev/shm"


class Session:
    """Counts what is tried, and keeps one input of each kind of finding in ``out``."""

    def __init__(self, target: Target, out: Path, scratch: Path) -> None:
        self.target = target
        self.executions = 0
        self.read = 0
        self.kinds: dict[str, str] = {}
        self._out = out
        self._scratch = scratch
        self._started = time.monotonic()
        self._noted = 0.0

    def one(self, content: bytes) -> None:
        """Try one input."""
        self._current(content)
        try:
            self.read += check(self.target, content, self._scratch) == "read"
        except Broken as broken:
            if broken.kind not in self.kinds and len(self.kinds) < MOST_KINDS:
                self._keep(content, broken)
        self.executions += 1
        if time.monotonic() - self._noted > 1:
            self.note()

    def note(self) -> None:
        """Write down how far this is: nothing that happens to the process takes it back."""
        self._noted = time.monotonic()
        spent = self._noted - self._started
        facts = {"executions": self.executions, "read": self.read, "seconds": spent, "kinds": self.kinds}
        (self._out / "progress.json").write_text(json.dumps(facts))

    def _current(self, content: bytes) -> None:
        """Leave the input where it is found if it ends the process."""
        (self._scratch.parent / "current").write_bytes(content)

    def _keep(self, content: bytes, broken: Broken) -> None:
        name = hashlib.blake2b(content, digest_size=6).hexdigest()
        self.kinds[broken.kind] = name
        (self._out / name).write_bytes(content)
        print(f"FINDING {self.target.name} {broken.kind} {name}\n{broken}", file=sys.stderr, flush=True)


def guided(session: Session, seconds: float) -> None:
    """Fuzz by coverage; ends the process."""
    seeds = session_directory(session) / "seeds"
    seeds.mkdir(exist_ok=True)
    for number, content in enumerate(corpus(session.target).values()):
        (seeds / f"{number}").write_bytes(content[:MAX_BYTES])
    options = [
        f"-max_total_time={max(1, round(seconds))}",
        f"-max_len={MAX_BYTES}",
        "-timeout=3600",  # ours is in `check`
        "-rss_limit_mb=0",
        "-malloc_limit_mb=0",
        "-len_control=20",
        "-print_final_stats=1",
        f"-artifact_prefix={session_directory(session)}/",
    ]
    atheris.Setup([sys.argv[0], *options, str(seeds)], session.one)
    atheris.Fuzz()


def session_directory(session: Session) -> Path:
    """A directory of the session's own, beside the one in which inputs are parsed."""
    return session._scratch.parent


def blind(session: Session, seconds: float) -> None:
    """Mutate good inputs at random."""
    chance = random.Random(0)
    known = list(corpus(session.target).values())
    until = time.monotonic() + seconds
    for content in known:
        session.one(content)
    while time.monotonic() < until:
        session.one(mutated(chance.choice(known), chance))


def mutated(content: bytes, chance: random.Random) -> bytes:
    """`content` with a few bytes changed, removed, repeated or put in."""
    found = bytearray(content[:MAX_BYTES])
    changes: list[Callable[[int], Any]] = [
        lambda at: found.__setitem__(slice(at, at + 1), bytes([chance.randrange(256)])),
        lambda at: found.__delitem__(slice(at, at + chance.randrange(1, 9))),
        lambda at: found.__setitem__(slice(at, at), found[at : at + chance.randrange(1, 17)]),
        lambda at: found.__setitem__(slice(at, at), chance.randbytes(chance.randrange(1, 5))),
        lambda at: found.__setitem__(
            slice(at, at + 1), chance.choice([b"0", b"-1", b'"', b"\xff\xff\xff\xff", b"{", b"["])
        ),
    ]
    for _ in range(chance.randrange(1, 6)):
        chance.choice(changes)(chance.randrange(len(found) + 1))
    return bytes(found[:MAX_BYTES])


def forked(target: Target, seconds: float, out: Path) -> str:
    """Fuzz `target` in a fork; what ended it, where it did not end by itself."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix="geomcheck-fuzz-", dir=MEMORY if Path(MEMORY).is_dir() else None
    ) as scratch:
        child = os.fork()
        if child == 0:
            _in_child(target, seconds, out, Path(scratch))
        ended = _waited(child, seconds + GRACE_SECONDS)
        if ended == "hangs" and re.search(rb"^Done \d+ runs", (out / "log.txt").read_bytes(), re.MULTILINE):
            ended = ""  # it was through, and some library's thread kept the process alive
        if ended and (Path(scratch) / "current").exists():
            shutil.copy(Path(scratch) / "current", out / "ended-the-process")
    return ended


def _in_child(target: Target, seconds: float, out: Path, scratch: Path) -> None:
    """Fuzz, with everything that is printed in a log; never returns."""
    with (out / "log.txt").open("wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        (scratch / "parsed").mkdir()
        session = Session(target, out, scratch / "parsed")
        session.note()
        (guided if atheris else blind)(session, seconds)
        session.note()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def _waited(child: int, limit: float) -> str:
    until = time.monotonic() + limit
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return f"exit {code}" if code else ""
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hangs"


def main() -> None:
    """Fuzz targets for a while each, and print a line of JSON when one is through: its name, and what ended it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("targets", nargs="+", choices=TARGETS)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    for name in arguments.targets:
        ended = forked(TARGETS[name], arguments.seconds, arguments.out / name)
        print(json.dumps([name, ended]), flush=True)


if __name__ == "__main__":
    main()
