"""A server on this machine that speaks as much of the Hub's API as downloading needs."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_secret"


@dataclass
class FakeHub:
    """Repositories and misbehaviour of the server, and the requests that it got."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    revisions: tuple[str, ...] = ("main", "v1.3", COMMIT)
    break_after: dict[str, int] = field(default_factory=dict)
    """The next answers that send this file end after so many bytes."""
    n_breaks: int = 1
    down: bool = False
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, path and Range of each."""
    endpoint: str = ""

    def ranges(self, name: str) -> list[str | None]:
        """The Range of every GET of a file, in order."""
        return [
            r for method, path, r in self.requests if method == "GET" and path.endswith("/" + name)
        ]


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    hub = FakeHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(send_body=False)

    def do_GET(self) -> None:
        self.answer(send_body=True)

    def answer(self, send_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        if self.hub.down:
            return self.refuse(HTTPStatus.SERVICE_UNAVAILABLE)
        info = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        repo, revision = (info[1], info[3]) if info else (file[1], file[2]) if file else ("", "")
        if repo not in self.hub.repos:
            return self.refuse(HTTPStatus.UNAUTHORIZED, "RepoNotFound")
        if repo in self.hub.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.refuse(HTTPStatus.FORBIDDEN, "GatedRepo")
        if (revision or "main") not in self.hub.revisions:
            return self.refuse(HTTPStatus.NOT_FOUND, "RevisionNotFound")
        files = self.hub.repos[repo]
        if info and info[2] == "tree":
            return self.send_json([self.tree_entry(n, data) for n, data in files.items()])
        if info:
            siblings = [{"rfilename": n, "size": len(data)} for n, data in files.items()]
            return self.send_json({"id": repo, "sha": COMMIT, "siblings": siblings})
        if file is None or file[3] not in files:
            return self.refuse(HTTPStatus.NOT_FOUND, "EntryNotFound")
        return self.send_file(file[3], files[file[3]], send_body)

    def tree_entry(self, name: str, data: bytes) -> dict[str, object]:
        return {"type": "file", "path": name, "size": len(data), "oid": digest(data)}

    def send_file(self, name: str, data: bytes, send_body: bool) -> None:
        requested = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start = int(requested[1]) if requested else 0
        self.send_response(HTTPStatus.PARTIAL_CONTENT if start else HTTPStatus.OK)
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{digest(data)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if not send_body:
            return
        end = self.hub.break_after.get(name) if self.hub.n_breaks else None
        self.wfile.write(data[start:end])
        if end is not None:
            self.hub.n_breaks -= 1
            self.close_connection = True

    def send_json(self, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status: HTTPStatus, code: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def digest(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
