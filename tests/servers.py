"""Servers on this machine that give out a directory: plain HTTP with ranges, and of the Hub's API what is asked for."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Served:
    """What a server does, which may be changed while it runs, and what it did.

    Attributes:
        root: the directory that it gives out.
        url: of that directory.
        refusing: how many of the next requests get the answer 503.
        failing: how many of the next requests for content do.
        cut: how many of them get half of it.
        seconds: how long each of them takes.
        ranges: whether it knows of ranges.
        longer: whether it sends more than was asked for.
        links: further links on each page.
        sent: bytes of content by path.
        most: the largest of its answers, in bytes.
        asked: how many requests came.
    """

    root: Path
    url: str = ""
    refusing: int = 0
    failing: int = 0
    cut: int = 0
    seconds: float = 0.0
    ranges: bool = True
    longer: bool = False
    links: tuple[str, ...] = ()
    sent: dict[str, int] = field(default_factory=dict)
    most: int = 0
    asked: int = 0

    def weights_sent(self) -> int:
        return sum(count for path, count in self.sent.items() if path.endswith(".safetensors"))


@contextmanager
def serving(root: Path) -> Iterator[Served]:
    """A server of `root` at its ``url``; at ``/api/`` and ``/ORG/NAME/resolve/`` it is a Hub with one repository."""
    served = Served(root)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            served.asked += 1
            path = unquote(urlsplit(self.path).path)
            if served.refusing:
                served.refusing -= 1
                return self.answer(503, b"")
            if path.startswith("/api/"):
                return self.api(path)
            parts = path.split("/")
            resolves = len(parts) > 4 and parts[3] == "resolve"
            place = root / ("/".join(parts[5:]) if resolves else path.lstrip("/"))
            if place.is_dir() and not resolves:
                return self.answer(200, self.page(place), kind="text/html")
            if not place.is_file():
                return self.answer(404, b"")
            return self.content(path, place)

        def page(self, place: Path) -> bytes:
            names = [f"{entry.name}/" if entry.is_dir() else entry.name for entry in sorted(place.iterdir())]
            links = ["../", "?C=N;O=D", *names, *served.links]
            return "".join(f'<a href="{name}">{name}</a>\n' for name in links).encode()

        def content(self, path: str, place: Path) -> None:
            whole = place.read_bytes()
            tag = {"ETag": f'"{hashlib.sha256(whole).hexdigest()}"', "Accept-Ranges": "bytes", "X-Repo-Commit": COMMIT}
            if self.command == "HEAD":
                return self.answer(200, whole, tag)
            time.sleep(served.seconds)
            if served.failing:
                served.failing -= 1
                return self.answer(503, b"")
            asked = self.headers.get("Range")
            status, body = 200, whole
            if asked and served.ranges:
                first, last = (int(part) for part in asked.removeprefix("bytes=").split("-"))
                status, body = 206, whole[first : last + 1]
                tag["Content-Range"] = f"bytes {first}-{last}/{len(whole)}"
            served.sent[path] = served.sent.get(path, 0) + len(body)
            served.most = max(served.most, len(body))
            if served.longer:
                body += bytes(2**21)
            if served.cut:
                served.cut -= 1
                return self.answer(status, body, tag, sent=len(body) // 2)
            return self.answer(status, body, tag)

        def api(self, path: str) -> None:
            parts = path.split("/")  # /api/models/ORG/NAME[/revision/REVISION | /tree/REVISION[/PATH]]
            if parts[3:5] != ["org", "tiny"] or (len(parts) > 6 and parts[6] not in ("main", COMMIT)):
                return self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"}, kind="application/json")
            found: object = {"id": "org/tiny", "sha": COMMIT, "siblings": [], "private": False, "tags": []}
            if len(parts) > 6 and parts[5] == "tree":
                place = root.joinpath(*parts[7:])
                found = [self.in_tree(entry) for entry in sorted(place.iterdir())] if place.is_dir() else []
            return self.answer(200, json.dumps(found).encode(), kind="application/json")

        def in_tree(self, entry: Path) -> dict[str, object]:
            oid = hashlib.sha1(str(entry).encode()).hexdigest()
            size = 0 if entry.is_dir() else entry.stat().st_size
            kind = "directory" if entry.is_dir() else "file"
            return {"type": kind, "oid": oid, "size": size, "path": str(entry.relative_to(root))}

        def answer(
            self,
            status: int,
            body: bytes,
            headers: dict[str, str] | None = None,
            *,
            kind: str = "application/octet-stream",
            sent: int | None = None,
        ) -> None:
            try:
                self.send_response(status)
                for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body[:sent])
            except OSError:  # whoever asked is gone
                self.close_connection = True
            if sent is not None:
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
