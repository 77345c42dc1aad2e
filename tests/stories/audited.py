"""``python audited.py LOG ARGUMENTS...``: pytest with ARGUMENTS, and in LOG what it opens, lists, starts and connects to.

One line of JSON per audit event of the interpreter, after everything is imported: its name and its first arguments.
"""

import json
import os
import sys

import pytest

import geomcheck.gate.hooks
import geomcheck.report.html  # noqa: F401

EVENTS = {
    *("open", "os.listdir", "os.scandir", "sqlite3.connect"),
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.utime", "os.link", "os.symlink", "os.truncate"),
    *("os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "pickle.find_class"),
    *("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"),
}


def main(log: str, *arguments: str) -> int:
    stream = os.open(log, os.O_WRONLY | os.O_CREAT)

    def note(event: str, args: tuple[object, ...]) -> None:
        if event in EVENTS:
            shown = [arg if isinstance(arg, int | None) else os.fsdecode(arg) if isinstance(arg, str | bytes | os.PathLike) else repr(arg) for arg in args]
            os.write(stream, json.dumps([event, *shown]).encode() + b"\n")

    sys.addaudithook(note)
    return int(pytest.main(list(arguments)))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
