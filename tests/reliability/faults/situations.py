"""What else happens to sessions: others at the same time, a damaged cache, a real full disk, files that change.

Each situation yields, for each incident, everything that was wrong with it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from safetensors.torch import load_file, save_file

from tests.reliability.faults.bench import Bench, Place, cache_problems, contents, differences
from tests.reliability.faults.library import Calls, Fault, Kind
from tests.reliability.faults.sessions import Ended
from tests.runs import age

ASKED_FIRST = {".parquet": (), ".sqlite": ("records",), ".safetensors": ("records", "measurements")}
"""By kind of cache file, where an answer is looked for before: while those answer, it is not even opened."""

Incident = Sequence[str]
Situation = Callable[[Bench], Iterator[Incident]]


def sessions_at_once(bench: Bench) -> Iterator[Incident]:
    """Two and four sessions on one cache, of one run."""
    for count in (2, 4):
        yield _at_once(bench, ["opd"] * count)


def different_runs_at_once(bench: Bench) -> Iterator[Incident]:
    """Two and four sessions on one cache, of runs from one W0."""
    for count in (2, 4):
        names = ["opd", *(bench.another_run(f"opd-{i}", seed=10 * i).name for i in range(1, count))]
        yield _at_once(bench, names)


def one_of_two_is_killed(bench: Bench) -> Iterator[Incident]:
    """One session is killed while it writes to the cache that another uses."""
    for at in (12, 26, 60):
        place, other = bench.place(), bench.place()
        beside = Place(other.directory)
        arguments = [argument.replace(str(other.cache), str(place.cache)) for argument in bench.arguments(other)]
        fault = Fault(Kind.KILL, str(place.cache), at)
        started = [
            bench.sessions.start(arguments, bench.directory, eager=True),
            bench.sessions.start(bench.arguments(place), bench.directory, fault=fault, eager=True),
        ]
        survivor, _ = (bench.sessions.wait(session) for session in started)
        found = _passed(survivor, beside, bench)
        yield [*found, *cache_problems(place), *bench.afterwards(place)]


def one_of_two_stands_still(bench: Bench) -> Iterator[Incident]:
    """A session stands still in a transaction; another waits for it, does without the cache, and passes."""
    place, other = bench.place(), bench.place()
    arguments = [argument.replace(str(other.cache), str(place.cache)) for argument in bench.arguments(other)]
    fault = Fault(Kind.STOP, str(place.cache), 21)
    still = bench.sessions.start(bench.arguments(place), bench.directory, fault=fault)
    stands = bench.sessions.stopped(still)
    found = _passed(bench.sessions.run(arguments, bench.directory), other, bench)
    if stands:
        os.kill(still[0], signal.SIGCONT)
    found += [*_passed(bench.sessions.wait(still), place, bench), *cache_problems(place), *bench.afterwards(place)]
    yield [*found, *([] if stands else ["it never stood still"])]


def workers_that_die(bench: Bench) -> Iterator[Incident]:
    """A worker of pytest-xdist is killed in its first test: that expectation is an error, and the others are judged."""
    if find_spec("xdist") is None:
        return
    place = bench.place()
    options = ["-p", "xdist.plugin", "-p", "tests.reliability.faults.deadly", "-n2"]
    ended = bench.sessions.run([*bench.arguments(place), *options], bench.directory)
    after = contents(place)
    found = [] if ended.status == 1 else [f"ended with {ended.status}: {ended.output[-2000:]}"]
    summary = after["verdicts.json"]["summary"] if "verdicts.json" in after else {}
    found += [] if (summary.get("passed"), summary.get("error")) == (4, 1) else [f"the verdicts count {summary}"]
    yield [*found, *cache_problems(place), *bench.afterwards(place)]


def _at_once(bench: Bench, runs: Sequence[str]) -> Incident:
    """Sessions of `runs` at the same time on one cache, then one more of the first run."""
    expected = {name: bench.expected(name) for name in dict.fromkeys(runs)}
    places = [bench.place() for _ in runs]
    shared = places[0].cache
    started = []
    for place, name in zip(places, runs, strict=True):
        arguments = [a.replace(str(place.cache), str(shared)) for a in bench.arguments(place, run=name)]
        started.append(bench.sessions.start(arguments, bench.directory, eager=True))
    found: list[str] = []
    for place, name, session in zip(places, runs, started, strict=True):
        ended = bench.sessions.wait(session)
        found += [] if ended.status == 0 else [f"{name} ended with {ended.status}: {ended.output[-2000:]}"]
        found += [] if "cannot be" not in ended.output else [f"{name} did without the cache: {ended.output[-2000:]}"]
        found += differences(contents(place), expected[name])
    return [*found, *cache_problems(places[0]), *bench.afterwards(places[0])]


def _passed(ended: Ended, place: Place, bench: Bench) -> list[str]:
    found = [] if ended.status == 0 else [f"ended with {ended.status}: {ended.output[-2000:]}"]
    return found + differences(contents(place), bench.clean)


# ---- a cache that is not what it should be


def damaged_caches(bench: Bench) -> Iterator[Incident]:
    """Every file of a warm cache truncated, overwritten, emptied, replaced by a directory, or of another format."""
    journals = [_stale_journal]
    names = sorted(str(p.relative_to(bench.seeds["warm"].cache)) for p in bench.seeds["warm"].cache.rglob("*.*"))
    for name in names:
        for damage in (_cut, _garble, _empty, _flip, _make_directory, _newer, *journals[: name.endswith(".sqlite")]):
            place = bench.place("warm")
            for path in place.cache.iterdir():
                if path.stem in ASKED_FIRST[Path(name).suffix]:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            damage(place.cache / name)
            ended = bench.session(place)
            yield [f"{damage.__name__} {name}: {problem}" for problem in _survived(ended, place, bench, damage)]


def _survived(ended: Ended, place: Place, bench: Bench, damage: Callable[[Path], None]) -> list[str]:
    lasting = damage in (_make_directory, _newer)  # what is not ours is left as it is
    found = [*_passed(ended, place, bench), *([] if lasting else cache_problems(place))]
    return found + bench.afterwards(place)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def _garble(path: Path) -> None:
    path.write_bytes(b"not what it was " * (path.stat().st_size // 16))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 0x10
    path.write_bytes(content)


def _make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _stale_journal(path: Path) -> None:
    path.with_name(f"{path.name}-journal").write_bytes(os.urandom(4000))


def _newer(path: Path) -> None:
    """SQLite's "file format write version" of the future, or a first byte that no format has."""
    content = bytearray(path.read_bytes())
    content[18 if path.suffix == ".sqlite" else 0] = 9
    path.write_bytes(content)


def read_only_caches(bench: Bench) -> Iterator[Incident]:
    """A cache whose files, or whose directories, may not be written to, or not even read."""
    for cache in ("cold", "warm", "partly warm"):
        for files, directories in ((0o444, 0o777), (0o644, 0o555), (0o444, 0o555), (0o000, 0o000)):
            place = bench.place(cache)
            place.cache.mkdir(exist_ok=True)
            for path in [*place.cache.rglob("*"), place.cache]:
                path.chmod(directories if path.is_dir() else files)
            ended = bench.session(place, unprivileged=True)
            for path in [place.cache, *place.cache.rglob("*")]:
                path.chmod(0o777 if path.is_dir() else 0o666)
            yield [f"{cache}, {files:o} in {directories:o}: {p}" for p in _survived(ended, place, bench, _cut)]


# ---- real full disks


def files_that_may_not_grow(bench: Bench) -> Iterator[Incident]:
    """The kernel refuses to let any file grow beyond a limit, in the middle of a transfer (RLIMIT_FSIZE)."""
    for limit in (5000, 0, 1, 511, 4096, 9000, 20_000, 40_000, 90_000, 150_000, 262_000, 300_000):
        place = bench.place()
        before = contents(place)
        ended = bench.session(place, largest_file=limit)
        found = bench.problems_of(ended, place, before, None)
        yield [f"limit {limit}: {p}" for p in [*found, *cache_problems(place), *bench.afterwards(place)]]


def small_disks(bench: Bench) -> Iterator[Incident]:
    """A file system of a few pages for cache and outputs; nothing where none may be mounted."""
    for pages in (1, 4, 8, 12, 20, 40, 60, 90, 120):
        place = bench.place()
        shutil.rmtree(place.directory)
        place.directory.mkdir()
        options = ["-t", "tmpfs", "-o", f"size={4096 * pages}", "tmpfs", str(place.directory)]
        if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
            return
        try:
            with_room = place.outputs
            with_room.mkdir()
            ended = bench.session(place)
            found = [*bench.problems_of(ended, place, {}, None), *cache_problems(place)]
            subprocess.run(["mount", "-o", "remount,size=100M", str(place.directory)], check=True)
            found += bench.afterwards(place)
        finally:
            subprocess.run(["umount", str(place.directory)], check=True)
        yield [f"{pages} pages: {problem}" for problem in found]


# ---- files that change


def files_replaced_while_measured(bench: Bench) -> Iterator[Incident]:
    """A checkpoint, or W0, is written again in place, or by a new file, while the session stands at some read."""
    calls = bench.session(bench.place(), fault=Fault(Kind.COUNT, str(bench.run), 0, Calls.READS), suite="steady").calls
    for number, at in enumerate(range(5, calls + 1, 9)):
        victim = ("checkpoint-20", "base", "checkpoint-10")[number % 3]
        yield _replaced(bench, Calls.READS, at, victim, in_place=number % 2 == 0)


def files_replaced_between_digest_and_figure(bench: Bench) -> Iterator[Incident]:
    """As above, while a session touches its cache: that is between the digest of W0 and the figures."""
    for at in range(24, 42):
        yield _replaced(bench, Calls.WRITES, at, "base", in_place=True)


def _replaced(bench: Bench, calls: Calls, at: int, victim: str, *, in_place: bool) -> Incident:
    """Stop a session, change a file, let it go on: it says so, or judges the files as they were or as they are."""
    run = bench.another_run("changing")
    old = bench.expected(run.name)
    place = bench.place()
    where = run if calls is Calls.READS else place.cache
    started = bench.sessions.start(
        bench.arguments(place, run=run.name), bench.directory, fault=Fault(Kind.STOP, str(where), at, calls)
    )
    stands = bench.sessions.stopped(started)
    if stands:
        _rewrite(run / victim / "model.safetensors", in_place=in_place)
        os.kill(started[0], signal.SIGCONT)
    ended = bench.sessions.wait(started)
    age(run)
    new = bench.expected(run.name)
    found = []
    if ended.status == 0 and contents(place) not in (old, new):
        found.append("passed on a mixture of files")
    if ended.status not in (0, 1, 4) or "INTERNALERROR" in ended.output:
        found.append(f"ended with {ended.status}: {ended.output[-2000:]}")
    found += [*cache_problems(place), *bench.afterwards(place, run=run.name, expected=new)]
    return [f"{victim} at {calls.name} {at}, in place: {in_place}: {problem}" for problem in found]


def _rewrite(file: Path, *, in_place: bool) -> None:
    """Half of every update undone, or W0 moved a little."""
    changed = {name: (tensor * 1.25).to(tensor.dtype) for name, tensor in load_file(file).items()}
    new = file.with_name("new.safetensors")
    save_file(changed, new, metadata={"format": "pt"} if not in_place else None)
    if in_place:
        with file.open("r+b") as handle:
            handle.write(new.read_bytes())
        new.unlink()
    else:
        new.replace(file)


def clocks_that_jump(bench: Bench) -> Iterator[Incident]:
    """Times of files in the future, long ago, or those of the files before them, whose contents are others."""
    for offset in (+86_400, -86_400 * 365 * 40, +3, 0):
        run = bench.another_run("ticking")
        place = bench.place()
        first = bench.session(place, run=run.name)
        times = {path: path.stat() for path in run.rglob("*") if path.is_file()}
        _rewrite(run / "checkpoint-20" / "model.safetensors", in_place=True)
        for path, stat in times.items():
            then = stat.st_mtime_ns + offset * 10**9
            os.utime(path, ns=(then, then))
        expected = bench.expected(run.name)
        found = [] if first.status == 0 else [f"ended with {first.status}"]
        for _ in range(2):
            found += bench.afterwards(place, run=run.name, expected=expected)
        yield [f"by {offset} s: {problem}" for problem in found]


SITUATIONS: tuple[Situation, ...] = (
    sessions_at_once,
    different_runs_at_once,
    one_of_two_is_killed,
    one_of_two_stands_still,
    workers_that_die,
    damaged_caches,
    read_only_caches,
    files_that_may_not_grow,
    small_disks,
    files_replaced_while_measured,
    files_replaced_between_digest_and_figure,
    clocks_that_jump,
)
