"""``python audited.py LOG ARGUMENTS...``: pytest with ARGUMENTS, and in LOG what it opens, lists and starts.

One line of JSON per audit event of the interpreter, after everything is imported: its name and its first arguments.
"""

import json
import os
import sys

import pytest
import safetensors.torch  # noqa: F401

import geomcheck.gate.hooks
import geomcheck.measurement.executors
import geomcheck.measurement.trajectory
import geomcheck.report.html  # noqa: F401

EVENTS = {
    *("open", "os.listdir", "os.scandir", "sqlite3.connect"),
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.utime", "os.link", "os.symlink", "os.truncate"),
    *("os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "pickle.find_class"),
    *("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"),
}


def plain(argument: object) -> object:
    if isinstance(argument, str | bytes | os.PathLike):
        return os.fsdecode(argument)
    return argument if isinstance(argument, int | None) else repr(argument)


def main(log: str, *arguments: str) -> int:
    stream = os.open(log, os.O_WRONLY | os.O_CREAT)

    def note(event: str, args: tuple[object, ...]) -> None:
        if event in EVENTS:
            os.write(stream, json.dumps([event, *map(plain, args)]).encode() + b"\n")

    sys.addaudithook(note)
    return int(pytest.main(list(arguments)))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
