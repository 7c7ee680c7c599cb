"""A local server for requests of `huggingface_hub`: metadata, redirects, ranges, commits."""

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the server has, and how it fails.

    Attributes:
        files: "OWNER/REPO/PATH" → content; or "/PATH" → content, without a repository.
        address: of the server.
        cut: how many answers end in the middle.
        silent: how many answers end before the first byte.
        surplus: bytes that are announced beyond those that come.
        refusal: status and X-Error-Code of every answer about a file.
        asked: method and path of every request.
        uploaded: path → content of every file that came in a commit.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    address: str = ""
    cut: int = 0
    silent: int = 0
    surplus: int = 0
    refusal: tuple[int, str] | None = None
    asked: list[str] = field(default_factory=list)
    uploaded: dict[str, bytes] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)

    def content(self, digest: str) -> bytes:
        return next(c for c in self.files.values() if hashlib.sha256(c).hexdigest() == digest)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_POST(self) -> None:
        self._note()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        if self.path == "/api/repos/create":
            name = json.loads(body)
            self._json({"url": f"{self.hub.address}/{name.get('organization', 'me')}/{name['name']}"})
        elif self.path == "/api/validate-yaml":  # the header of a card
            self._json({"warnings": [], "errors": []})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            modes = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for f in files
            ]
            self._json({"files": modes})
        elif "/commit/" in self.path:
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    content = base64.b64decode(entry["value"]["content"])
                    self.hub.uploaded[entry["value"]["path"]] = content
            url = f"{self.hub.address}/me/model/commit/{COMMIT}"
            self._json({"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": ""})
        else:
            self._status(404)

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _note(self) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")
        self.hub.tokens.append(self.headers.get("Authorization", ""))

    def _answer(self, body: bool) -> None:
        self._note()
        path = unquote(self.path.partition("?")[0])
        if path.startswith("/cdn/"):
            self._send(self.hub.content(path.removeprefix("/cdn/")), body)
        elif path in self.hub.files:
            self._send(self.hub.files[path], body)
        elif "/resolve/" in path:
            repository, _, rest = path[1:].partition("/resolve/")
            revision, _, name = rest.partition("/")
            self._resolve(repository, revision, name)
        else:
            self._status(404)

    def _resolve(self, repository: str, revision: str, name: str) -> None:
        if self.hub.refusal is not None:
            self._status(*self.hub.refusal)
        elif not any(key.startswith(f"{repository}/") for key in self.hub.files):
            self._status(401, "RepoNotFound")
        elif revision not in ("main", COMMIT):
            self._status(404, "RevisionNotFound")
        elif (content := self.hub.files.get(f"{repository}/{name}")) is None:
            self._status(404, "EntryNotFound")
        else:
            digest = hashlib.sha256(content).hexdigest()
            self.send_response(302)
            # Another host, as that of the real Hub's storage.
            port = self.server.server_address[1]
            self.send_header("Location", f"http://localhost:{port}/cdn/{digest}")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("X-Linked-Etag", f'"{digest}"')
            self.send_header("X-Linked-Size", str(len(content) + self.hub.surplus))
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _send(self, content: bytes, body: bool) -> None:
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        rest = content[start:]
        self.send_response(206 if "Range" in self.headers else 200)
        if "Range" in self.headers:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header(
            "Content-Length", str(len(rest) + (0 if "Range" in self.headers else self.hub.surplus))
        )
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.end_headers()
        if not body:
            return
        if self.hub.silent or self.hub.cut:
            kept = 0 if self.hub.silent else len(rest) // 2
            self.hub.silent, self.hub.cut = max(self.hub.silent - 1, 0), max(self.hub.cut - (kept > 0), 0)
            self.wfile.write(rest[:kept])
            self.close_connection = True
            return
        self.wfile.write(rest)
        self.close_connection = bool(self.hub.surplus)

    def _json(self, content: object) -> None:
        text = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _status(self, status: int, code: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextlib.contextmanager
def running_hub() -> Iterator[Hub]:
    """Runs a server without files until the end of the block."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        hub.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
