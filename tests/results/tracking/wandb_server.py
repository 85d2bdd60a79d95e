"""A loopback stand-in for a W&B server: GraphQL, filestream and file uploads, as the real client speaks them, and faults on demand.

It keeps what it is sent and answers what the client asks; it knows no users, quotas or rendering. Unknown operations are remembered.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.results.tracking.wandb_graphql import Answers, Json, Run

KEY = "k3y" + "0" * 37


@dataclass
class Fault:
    """Requests whose path or operation has `pattern` in it: `times` of them get `status`, after `delay` seconds; 0 answers as usual."""

    pattern: str
    status: int = 500
    times: int = 1
    delay: float = 0.0


class WandbServer(Answers):
    def __init__(self, entity: str = "acme", port: int = 0) -> None:
        super().__init__(entity)
        self.port = port
        self.asked: list[str] = []
        self.unknown: list[str] = []
        self.faults: list[Fault] = []
        self.appends = False  # what a server does that does not look at offsets: each line sent again is one more
        self.lock = threading.RLock()
        self._http: ThreadingHTTPServer | None = None

    # --- being there
    def __enter__(self) -> WandbServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listens; after `stop` on the same port, with all it held."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if server._http is None:
                    self.close_connection = True  # one that was open when the server went
                    return
                if "gzip" in (self.headers.get("content-encoding") or ""):
                    body = gzip.decompress(body)
                status, out, headers = server.handle(self.command, unquote(urlsplit(self.path).path), body)
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("content-length", str(len(out)))
                    self.end_headers()
                    self.wfile.write(out)
                except OSError:
                    self.close_connection = True  # the client has gone

            do_GET = do_POST = do_PUT = answer  # noqa: N815

        class Http(ThreadingHTTPServer):
            request_queue_size, daemon_threads, allow_reuse_address = 256, True, True

        self._http = Http(("127.0.0.1", self.port), Handler)
        self.port = self._http.server_port
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuses connections from now on."""
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None

    def env(self) -> dict[str, str]:
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY, "WANDB_ERROR_REPORTING": "false", "WANDB_ENTITY": self.entity}

    def fail(self, pattern: str, status: int = 500, times: int = 1, delay: float = 0.0) -> None:
        with self.lock:
            self.faults.append(Fault(pattern, status, times, delay))

    # --- requests
    def handle(self, method: str, path: str, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        sent = json.loads(body) if path == "/graphql" else {}
        operation = sent.get("operationName") or "".join(re.findall(r"(?:query|mutation)\s+(\w+)", sent.get("query", ""))[:1])
        asked = f"{method} {path} {operation}".strip()
        with self.lock:
            self.asked.append(asked)
            fault = next((one for one in self.faults if one.times > 0 and re.search(one.pattern, asked)), None)
            if fault:
                fault.times -= 1
        if fault:
            time.sleep(fault.delay)
            if fault.status:
                return fault.status, json.dumps({"errors": [{"message": "as asked"}]}).encode(), {"content-type": "application/json"}
        if path == "/graphql":
            return self._graphql(operation, sent.get("variables") or {})
        if match := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", path):
            return self._stream(self.runs[match[1]], json.loads(body))
        if method == "PUT" and path.startswith("/storage/"):
            with self.lock:
                self.blobs[path] = body
                if match := re.fullmatch(r"/storage/run/([^/]+)/(.+)", path):
                    self.runs[match[1]].files[match[2]] = body
            return 200, b"", {"ETag": f'"{hashlib.md5(body).hexdigest()}"'}
        if match := re.fullmatch(r"/artifactsV2/.+/([0-9a-f]{32})/[^/]+", path):
            found = next((blob for blob in self.blobs.values() if hashlib.md5(blob).hexdigest() == match[1]), None)
            return (404, b"", {}) if found is None else (200, found, {})
        if path in self.blobs:
            return 200, self.blobs[path], {}
        self.unknown.append(asked)
        return 404, b"{}", {}

    def _graphql(self, operation: str, variables: Json) -> tuple[int, bytes, dict[str, str]]:
        answer: Callable[[Json], Json] | None = getattr(self, f"_on_{operation}", None)
        if answer is None:
            self.unknown.append(operation)
            out: Json = {"data": {}, "errors": [{"message": f"the stand-in does not know {operation}"}]}
        else:
            with self.lock:
                out = {"data": answer(variables.get("input", variables))}
        return 200, json.dumps(out).encode(), {"content-type": "application/json"}

    def _stream(self, run: Run, sent: Json) -> tuple[int, bytes, dict[str, str]]:
        with self.lock:
            for name, part in (sent.get("files") or {}).items():
                lines = [json.loads(line) for line in part.get("content", [])]
                if name == "wandb-summary.json" and lines:
                    run.summary = lines[-1]
                if name == "wandb-history.jsonl":
                    at = len(run.history) if self.appends else part.get("offset", 0)
                    run.history[at : at + len(lines)] = lines
            if sent.get("complete"):
                run.state = "finished" if sent.get("exitcode") == 0 else "failed"
        return 200, b'{"limits":{},"exitcode":null}', {"content-type": "application/json"}
