"""A Milvus server that drops connections, comes back or stays away: asked again with a limit, told, nothing twice."""

from __future__ import annotations

import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from spherecv.errors import GalleryError
from spherecv.gallery import FaceGallery, milvus_patience
from spherecv.gallery.milvus_patience import WAITS_S, Patient, ServerWarning

pymilvus = pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waits: list[float] = []
    monkeypatch.setattr(milvus_patience, "sleep", waits.append)
    return waits


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A real server of Milvus's protocol on this machine."""
    from milvus_lite.server_manager import server_manager_instance

    folder = str(tmp_path / "server.db")
    yield server_manager_instance.start_and_get_uri(folder).replace("http", "milvus") + "/people?index=FLAT"
    server_manager_instance.release_server(folder)


def away() -> Exception:
    import grpc

    return pymilvus.MilvusException(grpc.StatusCode.UNAVAILABLE, "connection dropped")


@pytest.mark.parametrize("lost", ["request", "answer"])
@pytest.mark.parametrize("name", ["upsert", "query", "delete", "search", "has_collection"])
def test_a_dropped_call_is_made_again_and_nothing_is_there_twice(
    server: str, numbers, monkeypatch: pytest.MonkeyPatch, slept: list[float], name: str, lost: str
) -> None:
    names, rows, images = numbers.crowd(10, 2)
    real, calls = getattr(pymilvus.MilvusClient, name), iter(range(1000))

    def flaky(self, *args, **kwargs):
        drop = next(calls) % 3 == 0
        assert kwargs["timeout"] >= 5
        if drop and lost == "request":
            raise away()
        answer = real(self, *args, **kwargs)
        if drop:
            raise away()
        return answer

    monkeypatch.setattr(pymilvus.MilvusClient, name, flaky)
    with warnings.catch_warnings(record=True) as told, FaceGallery.open(server, model=numbers.ORIGIN) as gallery:
        warnings.simplefilter("always")
        gallery.enrol_embeddings(names, rows, images=images)
        assert gallery.identify_embeddings(rows[4], threshold=0.01)[0].identity == names[4]
        assert gallery.remove(names[0]).faces == 2
        assert gallery.stats()["faces"] == 18
        assert [person.images for person in gallery.identities()] == [2] * 9
    texts = [str(one.message) for one in told if one.category is ServerWarning]
    assert f"does not answer ({name}): asked again in 0.5 s, try 2 of 4" in texts[-1]
    assert set(slept) == {0.5}


def test_a_server_that_stays_away_mid_batch_is_one_error_and_the_batch_is_finished_later(
    server: str, numbers, monkeypatch: pytest.MonkeyPatch, slept: list[float]
) -> None:
    names, rows, images = numbers.crowd(10, 2)
    monkeypatch.setattr("spherecv.gallery.milvus_tables._BYTES_AT_ONCE", 3000)  # several messages
    real, calls = pymilvus.MilvusClient.upsert, iter(range(1000))

    def dies(self, *args, **kwargs):
        if next(calls) >= 3:
            raise away()
        return real(self, *args, **kwargs)

    with FaceGallery.open(server, model=numbers.ORIGIN) as gallery:
        error = pytest.raises(GalleryError, match=r"Milvus at http://127\.0\.0\.1:\d+: connection dropped")
        with monkeypatch.context() as patched:
            patched.setattr(pymilvus.MilvusClient, "upsert", dies)
            with pytest.warns(ServerWarning), error:
                gallery.enrol_embeddings(names, rows, images=images)
        assert slept == list(WAITS_S)
        assert 0 < gallery.stats()["faces"] < 20
        gallery.enrol_embeddings(names, rows, images=images)
        assert gallery.stats()["faces"] == 20
        assert len(gallery.identities()) == 10


class Wire:
    """A connection to a server that can be cut and joined again, as by a cable; what is under way is lost."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: list[socket.socket] = []
        self._joined, self._lock = True, threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near = self._listener.accept()[0]
                with self._lock:
                    if not self._joined:
                        near.close()
                        continue
                    far = socket.create_connection(("127.0.0.1", self._port))
                    self._open += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, goal: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                goal.sendall(data)

    def cut(self) -> None:
        with self._lock:
            self._joined = False
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
            self._open.clear()

    def join(self) -> None:
        self._joined = True

    def close(self) -> None:
        self.cut()
        self._listener.close()


@pytest.mark.parametrize("away_for", [1, len(WAITS_S)])
@pytest.mark.parametrize("lost", ["request", "answer"])
def test_a_batch_goes_on_over_a_connection_that_is_cut_in_it(
    server: str, numbers, monkeypatch: pytest.MonkeyPatch, lost: str, away_for: int
) -> None:
    names, rows, images = numbers.crowd(10, 2)
    monkeypatch.setattr("spherecv.gallery.milvus_tables._BYTES_AT_ONCE", 3000)  # several messages
    host = server.removeprefix("milvus://").partition("/")[0]
    wire = Wire(int(host.rpartition(":")[2]))
    real, messages, cuts = pymilvus.MilvusClient.upsert, [], []
    waits: list[float] = []

    def upsert(self, collection, data, *args, **kwargs):
        message = [str(row) for row in data]
        fresh = message not in messages
        messages.append(message)
        cut = fresh and len({str(one) for one in messages}) % 3 == 0  # every third message, at its first try
        if cut and lost == "answer":
            real(self, collection, data, *args, **kwargs)
        if cut:
            cuts.append(collection)
            waits.clear()
            wire.cut()
            if lost == "answer":
                raise away()
        return real(self, collection, data, *args, **kwargs)

    def wait(seconds: float) -> None:
        """No time passes, but the server is back after so many waits."""
        waits.append(seconds)
        if len(waits) == away_for:
            wire.join()

    monkeypatch.setattr(pymilvus.MilvusClient, "upsert", upsert)
    monkeypatch.setattr(milvus_patience, "sleep", wait)
    address = server.replace(host, f"127.0.0.1:{wire.port}")
    try:
        with warnings.catch_warnings(record=True) as told, FaceGallery.open(address, model=numbers.ORIGIN) as gallery:
            warnings.simplefilter("always")
            assert gallery.enrol_embeddings(names, rows, images=images).faces == 20
            assert {"people_faces", "people_people"} <= set(cuts)
            assert gallery.stats()["faces"] == 20
            assert [person.images for person in gallery.identities()] == [2] * 10
            assert gallery.enrol_embeddings(names, rows, images=images).unchanged == 20
            found = gallery.identify_embeddings(rows, threshold=0.001)
            assert [match.identity for match in found] == names
    finally:
        wire.close()
    assert len([one for one in told if one.category is ServerWarning]) == away_for * len(cuts)


def test_a_slow_server_gets_more_time_each_try_and_other_refusals_none(slept: list[float]) -> None:
    import grpc

    class Slow(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.DEADLINE_EXCEEDED

    class Client:
        def __init__(self) -> None:
            self.given: list[float] = []

        def search(self, *, timeout: float) -> None:
            self.given.append(timeout)
            raise Slow

        def query(self, *, timeout: float) -> None:
            self.given.append(timeout)
            raise pymilvus.MilvusException(1, "no such field")

    stub = Client()
    client = Patient(stub, "host", 5.0)
    with pytest.warns(ServerWarning), pytest.raises(grpc.RpcError):
        client.search()
    assert (stub.given, slept) == ([5, 10, 20, 40], list(WAITS_S))
    with pytest.raises(pymilvus.MilvusException):
        client.query()
    assert stub.given[4:] == [5]
