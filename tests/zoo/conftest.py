"""A small web server of ours on 127.0.0.1, whose pages misbehave on request."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from spherecv.zoo.model import ModelFile, ModelInfo

PAYLOAD = bytes(range(256)) * 4096  # 1 MiB


class Request(BaseHTTPRequestHandler):
    """Answers by the page of that name; remembers what was asked for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        site: Site = self.server.site  # type: ignore[attr-defined]
        site.asked.append((self.path, self.headers.get("Range")))
        self.close_connection = True
        site.pages[self.path](self)

    def start(self, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Connection", "close")
        self.end_headers()

    def offset(self) -> int:
        asked = self.headers.get("Range")
        return int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0

    def serve(self, data: bytes = PAYLOAD, *, stop_after: int | None = None) -> None:
        """Serve as a good server does, Range included; break off after so many bytes."""
        start = self.offset()
        if start:
            served = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.start(206, Content_Length=len(data) - start, Content_Range=served)
        else:
            self.start(Content_Length=len(data))
        self.wfile.write(data[start:] if stop_after is None else data[start : start + stop_after])

    def log_message(self, *args: object) -> None:
        pass


Page = Callable[[Request], None]


@dataclass
class Site:
    """Pages by path, and every request as `(path, Range header)`."""

    url: str
    payload: bytes = PAYLOAD
    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def page(self, answer: Page) -> str:
        """Put up a page; returns its address."""
        path = f"/{len(self.pages)}.bin"
        self.pages[path] = answer
        return self.url + path

    def file(self, *answers: Page | str, name: str = "weights.bin", manual: str = "") -> ModelFile:
        """A manifest entry whose mirrors are these pages."""
        urls = [answer if isinstance(answer, str) else self.page(answer) for answer in answers]
        return ModelFile(
            role=name,
            name=name,
            origin="download",
            urls=tuple(urls),
            size=len(PAYLOAD),
            digests=tuple((name, hashlib.new(name, PAYLOAD).hexdigest()) for name in ("sha256", "sha384")),
            manual=manual,
        )

    def model(self, *files: ModelFile) -> ModelInfo:
        return ModelInfo(
            name="toy",
            title="Toy",
            kind="detector",
            format="onnx",
            files=files,
            recipe=None,
            licence="MIT",
            terms="none",
            training_data="none",
            homepage="none",
        )


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Request)
    server.daemon_threads = True
    server.site = Site(f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server.site  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where a download shall lie, in a folder that is not there yet."""
    return tmp_path / "models" / "toy" / "weights.bin"


@pytest.fixture
def left_behind(target: Path) -> Callable[[], set[str]]:
    """What lies in the folder of `target` besides the lock."""
    return lambda: {path.name for path in target.parent.iterdir()} - {f".{target.name}.lock"}
