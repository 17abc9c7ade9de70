"""A Milvus server that drops connections, comes back or stays away: asked again with a limit, told, nothing twice."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
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
