from __future__ import annotations

import json
import pickle
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from spherecv.embed import FaceEmbedder
from spherecv.errors import (
    BackendError,
    DatasetError,
    GalleryMismatchError,
    ImageError,
    InvalidArgumentError,
    MissingDependencyError,
    StorageError,
)
from spherecv.gallery import FaceGallery
from spherecv.gallery.bulk import embed_images, read_shards
from spherecv.pipeline import FacePipeline
from spherecv.zoo import ModelSource

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def model(mobilefacenet: tuple[Path, Path]) -> ModelSource:
    return ModelSource.from_caffe(*mobilefacenet, recipe="mobilefacenet")


@pytest.fixture(scope="module")
def crops(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty real faces, ready cropped, in two folders, and a file that is none."""
    folder = tmp_path_factory.mktemp("crops")
    with tarfile.open(data_dir / "faces-112-03.tar") as archive:
        taken = 0
        for member in archive:
            if member.isfile() and taken < 20:
                goal = folder / ("a" if taken < 11 else "b") / Path(member.name).name
                goal.parent.mkdir(exist_ok=True)
                goal.write_bytes(archive.extractfile(member).read())
                taken += 1
    (folder / "a" / "broken.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def wanted(crops: Path, model: ModelSource) -> dict[str, np.ndarray]:
    """Embeddings one by one, by the pipeline alone."""
    pipeline = FacePipeline(FaceEmbedder(model, threads=1))
    paths = [path for path in sorted(crops.rglob("*.jpg")) if path.name != "broken.jpg"]
    return {path.name: pipeline.faces(path, face="whole")[0].embedding for path in paths}


def check(out: Path, wanted: dict[str, np.ndarray]) -> None:
    found = {}
    failures = []
    for shard in read_shards(out):
        found.update(zip((Path(path).name for path in shard.paths), shard.embeddings, strict=True))
        failures += shard.failures
        assert shard.boxes.shape == (len(shard.paths), 4)
    assert found.keys() == wanted.keys()
    for name, row in found.items():
        np.testing.assert_allclose(row, wanted[name], atol=2e-6)
    assert [Path(image).name for image, _ in failures] == ["broken.jpg"]
    assert "not an image" in failures[0][1]


@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_a_folder_becomes_shards(crops: Path, model, wanted, tmp_path: Path, kind: str) -> None:
    told = []
    settings = {"model": model, "face": "whole", "shard_images": 6, "format": kind, "processes": 1}
    done = embed_images(crops, tmp_path / "out", **settings, progress=lambda *now: told.append(now))
    assert done.to_dict() == {"images": 21, "faces": 20, "failures": 1, "shards": 4, "resumed": 0}
    assert told[-1] == (4, 4)
    check(tmp_path / "out", wanted)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["key"], manifest["faces"], len(manifest["shards"])) == (model.key, 20, 4)
    again = embed_images(crops, tmp_path / "out", **settings)
    assert again.resumed == 4
    if kind == "parquet":
        import pyarrow.parquet as parquet

        table = parquet.read_table(tmp_path / "out" / "part-000000.parquet")
        assert table.schema.field("embedding").type.list_size == 128


def test_tars_and_lists_and_processes_make_the_same_bytes(crops: Path, model, wanted, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        for path in sorted(crops.rglob("*.jpg")):
            archive.add(path, path.relative_to(crops))
    (tmp_path / "list.txt").write_text("\n".join(str(path) for path in sorted(crops.rglob("*.jpg"))))
    settings = {"model": model, "face": "whole", "shard_images": 6}
    rows = {}
    for name, source, processes in (
        ("folder", crops, 1),
        ("tar", tmp_path / "all.tar", 1),
        ("list", tmp_path / "list.txt", 2),
    ):
        embed_images(source, tmp_path / name, **settings, processes=processes)
        check(tmp_path / name, wanted)
        rows[name] = np.concatenate([shard.embeddings for shard in read_shards(tmp_path / name)]).tobytes()
    assert rows["folder"] == rows["tar"] == rows["list"]
    (shard, *_) = read_shards(tmp_path / "tar")
    assert shard.paths[0].startswith(f"{tmp_path / 'all.tar'}#a/")


def test_a_killed_job_goes_on(crops: Path, model, wanted, tmp_path: Path) -> None:
    out = tmp_path / "out"
    files = model.files
    command = [sys.executable, "-c", STUCK, "embed", crops, "--out", out, "--face", "whole", "--shard-images", 3]
    command += [
        "--prototxt",
        files["prototxt"],
        "--caffemodel",
        files["caffemodel"],
        "--recipe",
        "mobilefacenet",
        "-j",
        1,
    ]
    running = subprocess.Popen([str(word) for word in command], cwd=ROOT)
    deadline = time.monotonic() + 300
    while not (out / "part-000001.json").exists():
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.wait()
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*.npy")}
    finished = len(list(out.glob("part-*.json")))
    assert finished >= 2
    with pytest.raises(DatasetError, match="finishes the job"):
        list(read_shards(out))
    done = embed_images(crops, out, model=model, face="whole", shard_images=3, processes=1)
    assert (done.shards, done.resumed) == (7, finished)
    check(out, wanted)
    assert before["part-000000.npy"] == (out / "part-000000.npy").stat().st_mtime_ns


STUCK = """
import sys, time
from pathlib import Path
from spherecv.cli import main
from spherecv.embed import FaceEmbedder

embed = FaceEmbedder.embed


def embed_or_wait(self, crops):
    while Path(sys.argv[4], "part-000001.json").exists():
        time.sleep(1)  # to be killed before the job is done, however late that is
    return embed(self, crops)


FaceEmbedder.embed = embed_or_wait
main()
"""


def test_only_what_changed_is_embedded_again(crops: Path, model, tmp_path: Path) -> None:
    settings = {"model": model, "face": "whole", "shard_images": 6, "processes": 1}
    embed_images(crops, tmp_path / "out", **settings)
    (tmp_path / "out" / "part-000002.npy").write_bytes(b"cut")
    (tmp_path / "out" / "part-000001.json").write_bytes(b"{")
    with pytest.raises(DatasetError, match="part-00000"):
        list(read_shards(tmp_path / "out"))
    assert embed_images(crops, tmp_path / "out", **settings).resumed == 2
    assert sum(len(shard.paths) for shard in read_shards(tmp_path / "out")) == 20
    job = json.loads((tmp_path / "out" / "job.json").read_text())
    (tmp_path / "out" / "job.json").write_text(json.dumps(job | {"backend": "of an older version"}))
    assert embed_images(crops, tmp_path / "out", **settings).resumed == 4
    with pytest.raises(GalleryMismatchError, match="another backend"):
        embed_images(crops, tmp_path / "out", **settings, backend="opencv")
    with pytest.raises(GalleryMismatchError, match="another face"):
        embed_images(crops, tmp_path / "out", **{**settings, "face": "center"})


def test_shards_become_a_gallery(crops: Path, model, tmp_path: Path) -> None:
    embed_images(crops, tmp_path / "out", model=model, face="whole", shard_images=6, processes=1)
    with FaceGallery.open(tmp_path / "g.db", model=model) as gallery:
        done = gallery.enrol_shards(tmp_path / "out", lambda path: Path(path).parent.name)
        assert (done.faces, len(done.failures)) == (20, 1)
        assert gallery.enrol_shards(tmp_path / "out", lambda path: Path(path).parent.name).unchanged == 20
        assert {person.name: person.images for person in gallery.identities()} == {"a": 11, "b": 9}
        gallery.enrol_shards(tmp_path / "out")
        assert len(gallery.store.table("unknown").ids) == 20
        photo = next(path for path in sorted((crops / "b").iterdir()))
        (match,) = gallery.identify(photo, threshold=0.01, face="whole")
        assert (match.identity, match.candidates[0].image) == ("b", str(photo))


def test_ray_makes_the_same_bytes_and_resumes(crops: Path, model, wanted, tmp_path: Path) -> None:
    """In a process of its own: Ray starts by forking, which threads of other tests' libraries hold up."""
    pytest.importorskip("ray")
    settings = {"model": model, "face": "whole", "shard_images": 6}
    embed_images(crops, tmp_path / "local", **settings, processes=1)
    command = [sys.executable, "-m", "spherecv", "embed", crops, "--out", tmp_path / "ray", "--face", "whole"]
    command += ["--prototxt", model.files["prototxt"], "--caffemodel", model.files["caffemodel"]]
    command += ["--recipe", "mobilefacenet", "--shard-images", 6, "--engine", "ray", "-j", 2, "--json"]
    done = subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert {name: json.loads(done.stdout.splitlines()[-1])[name] for name in ("shards", "resumed")} == {
        "shards": 4,
        "resumed": 0,
    }
    check(tmp_path / "ray", wanted)
    for path in sorted((tmp_path / "local").glob("part-*.npy")):
        assert path.read_bytes() == (tmp_path / "ray" / path.name).read_bytes()
    (tmp_path / "ray" / "part-000003.json").unlink()
    (tmp_path / "ray" / "manifest.json").unlink()
    assert embed_images(crops, tmp_path / "ray", **settings, engine="local", processes=1).resumed == 3
    assert embed_images(crops, tmp_path / "ray", **settings, engine="ray").resumed == 4


@pytest.mark.parametrize("processes", [1, 2])
def test_a_worker_says_what_is_wrong(crops: Path, model, tmp_path: Path, processes: int) -> None:
    out = tmp_path / "out"
    settings = {"model": model, "face": "whole", "shard_images": 12, "processes": processes}
    with pytest.raises(InvalidArgumentError, match="mtcnn, yunet"):
        embed_images(crops, out, detector="nonsense", **settings)
    assert not (out / "job.json").exists()  # the folder is free for the job without the mistake


def test_failures_travel_between_processes() -> None:
    error = pickle.loads(pickle.dumps(MissingDependencyError("a", "b", "c")))
    assert "pip install 'spherecv[b]'" in str(error)


def test_ray_that_does_not_start_is_one_line(crops: Path, model, tmp_path: Path, monkeypatch) -> None:
    ray = pytest.importorskip("ray")

    def too_slow(**_):
        raise Exception("The current node timed out during startup.")  # noqa: TRY002 - as Ray does

    monkeypatch.setattr(ray, "init", too_slow)
    with pytest.raises(BackendError, match="timed out"):
        embed_images(crops, tmp_path / "out", model=model, face="whole", engine="ray")


def test_what_cannot_be(crops: Path, model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    for settings, words in (
        ({"shard_images": 0}, "shard_images"),
        ({"processes": 0}, "processes"),
        ({"engine": "spark"}, "local, ray"),
        ({"format": "csv"}, "npy or parquet"),
        ({"face": "nose"}, "largest"),
    ):
        with pytest.raises(InvalidArgumentError, match=words):
            embed_images(crops, out, model=model, **settings)
    (tmp_path / "void").mkdir()
    with pytest.raises(ImageError, match="holds no images"):
        embed_images(tmp_path / "void", out, model=model)
    (tmp_path / "bad.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(ImageError, match="broken"):
        embed_images(tmp_path / "bad.tar", out, model=model)
    with pytest.raises(StorageError):
        embed_images(crops, "/proc/none/out", model=model)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(MissingDependencyError, match=r"spherecv\[gallery\]"):
            embed_images(crops, out, model=model, format="parquet")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"spherecv\[ray\]"):
        embed_images(crops, out, model=model, engine="ray")
