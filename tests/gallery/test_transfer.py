from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from spherecv.errors import DatasetError, GalleryError, GalleryMismatchError, IdentityError, StorageError
from spherecv.facetable import FaceRows, write_embeddings
from spherecv.gallery import FaceGallery, Origin
from spherecv.records import Face


def test_a_gallery_goes_out_and_comes_in(gallery: FaceGallery, tmp_path: Path, numbers) -> None:
    names, rows, images = numbers.crowd(10, 3)
    qualities = np.linspace(0, 1, 30)
    qualities[4] = np.nan
    gallery.enrol_embeddings(names, rows, images=images, qualities=qualities, metadata={names[0]: {"a": [1, "ü"]}})
    gallery.enrol_embeddings([None, None], rows[:2] + 1, images=["both.jpg", "both.jpg"])
    out = tmp_path / "out.npz"
    assert gallery.export(out) == 32
    with np.load(out, allow_pickle=False) as held:
        np.testing.assert_array_equal(held["embeddings"][:30], rows)
        text = json.loads(held["gallery"].tobytes())
    assert text["origin"]["key"] == numbers.ORIGIN.key
    with FaceGallery.open(tmp_path / "other.db", model=numbers.ORIGIN) as other:
        assert other.import_file(out).faces == 32
        assert other.identities() == gallery.identities()
        for a, b in zip(other.store.table()[:4], gallery.store.table()[:4], strict=True):
            np.testing.assert_array_equal(a, b)
        asked = [g.identify_embeddings(rows[5], threshold=0.2, template="mean")[0].to_dict() for g in (gallery, other)]
        assert asked[0] == asked[1]
        with pytest.raises(IdentityError, match="already"):
            other.import_file(out)
        again = other.import_file(out, if_exists="add")
        assert (again.faces, again.unchanged) == (0, 31)
    (tmp_path / ".out.part.npz").write_bytes(b"of an export that was killed as it took its place")
    with FaceGallery.open(tmp_path / "fourth.db", model=numbers.ORIGIN) as fourth:
        fourth.import_file(out)
    assert not (tmp_path / ".out.part.npz").exists()
    with FaceGallery.open(tmp_path / "third.db", model=Origin("other", "k9")) as third:
        third.enrol_embeddings(["x"], np.ones((1, 64)))
        with pytest.raises(GalleryMismatchError, match="cannot be compared"):
            third.import_file(out)


def test_an_empty_gallery_binds_nobody_to_its_model(gallery: FaceGallery, tmp_path: Path, numbers) -> None:
    gallery.export(tmp_path / "empty.npz")
    with FaceGallery.open(tmp_path / "other.db", model=numbers.ORIGIN) as other:
        assert other.import_file(tmp_path / "empty.npz").faces == 0
        other.enrol_embeddings(["Ann"], np.ones((1, 8)))


@pytest.mark.parametrize(
    ("field", "value"),
    [("digest", 7), ("identity", 7), ("image", None), ("size", 1 << 70), ("time", "now"), ("box", [1])],
)
def test_a_description_that_is_wrong(gallery: FaceGallery, tmp_path: Path, numbers, field: str, value: object) -> None:
    gallery.enrol_embeddings(*numbers.crowd(2, 1)[:2])
    gallery.export(tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as held:
        arrays = dict(held)
    text = json.loads(arrays["gallery"].tobytes())
    text["faces"][1][field] = value
    arrays["gallery"] = np.frombuffer(json.dumps(text).encode(), np.uint8)
    np.savez(tmp_path / "wrong.npz", **arrays)
    with FaceGallery.open(tmp_path / "other.db", model=numbers.ORIGIN) as other:
        with pytest.raises(GalleryError, match="not an exported gallery"):
            other.import_file(tmp_path / "wrong.npz")
        assert other.stats()["faces"] == 0


def test_files_that_are_no_exports(gallery: FaceGallery, tmp_path: Path, numbers) -> None:
    gallery.enrol_embeddings(*numbers.crowd(5, 2)[:2])
    out = tmp_path / "out.npz"
    gallery.export(out)
    whole = out.read_bytes()
    broken: dict = {
        "text.npz": b"no zip",
        "cut.npz": whole[: len(whole) // 2],
        "flip.npz": bytearray(whole),
        "empty.npz": b"",
    }
    broken["flip.npz"][len(whole) // 3] ^= 0xFF
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(GalleryError, match="not an exported gallery"):
            gallery.import_file(tmp_path / name, if_exists="add")
    np.savez(tmp_path / "other.npz", embeddings=np.ones((3, 4)))
    with pytest.raises(GalleryError):
        gallery.import_file(tmp_path / "other.npz")
    with pytest.raises(GalleryError, match="no such file"):
        gallery.import_file(tmp_path / "missing.npz")
    with pytest.raises(StorageError):
        gallery.export("/proc/none/out.npz")
    assert gallery.stats()["faces"] == 10


def embedded(path: Path, rows: np.ndarray, origin: Origin) -> Path:
    """What `spherecv embed` writes: two faces of each image."""
    with write_embeddings(path, origin) as writer:
        for number, row in enumerate(rows):
            found = Face((number, 0, number + 1, 2), 0.75, quality=0.5 if number else None)
            writer.add(f"Ann/{number // 2}.jpg", row, found)
    return path


def test_a_gallery_takes_in_what_embed_wrote(gallery: FaceGallery, tmp_path: Path, numbers) -> None:
    rows = np.random.default_rng(0).standard_normal((5, 64)).astype(np.float32)
    file = embedded(tmp_path / "e.npz", rows, numbers.ORIGIN)
    done = gallery.enrol_file(file, lambda image: image.partition("/")[0])
    assert (done.faces, done.images) == (5, 3)
    assert gallery.enrol_file(file, lambda image: image.partition("/")[0]).unchanged == 3
    table = gallery.store.table()
    np.testing.assert_array_equal(table.vectors, rows)
    np.testing.assert_array_equal(table.qualities, [np.nan, 0.5, 0.5, 0.5, 0.5])
    (match,) = gallery.identify_embeddings(rows[3], 1, threshold=0.1)
    assert (match.identity, match.candidates[0].image, match.candidates[0].box) == ("Ann", "Ann/1.jpg", (3, 0, 4, 2))
    gallery.enrol_file(file)
    assert len(gallery.store.table("unknown").ids) == 5
    with pytest.raises(DatasetError, match="no such file"):
        gallery.enrol_file(tmp_path / "none.npz")


@pytest.mark.parametrize("filled", [True, False])
def test_embeddings_of_another_model_are_refused(gallery: FaceGallery, tmp_path: Path, numbers, filled: bool) -> None:
    if filled:
        gallery.enrol_embeddings(["Ben"], np.ones((1, 64)))
    for model, key in (("numbers", "k1-r0"), ("numbers", "k0-r1"), ("other", "-r0"), ("numbers", "-r1")):
        origin = Origin(model, key)
        with pytest.raises(GalleryMismatchError, match="cannot be compared"):
            gallery.enrol_file(embedded(tmp_path / "e.npz", np.ones((2, 64), np.float32), origin))
    assert gallery.stats()["faces"] == int(filled)


def test_a_file_without_a_key_is_taken_where_the_recipe_is_the_gallerys(gallery, tmp_path: Path, numbers) -> None:
    rows = FaceRows()
    rows.add("Ann/1.jpg", np.ones(64, np.float32), Face((0, 0, 1, 1)))
    table = rows.table()
    columns = {"embeddings": table.embeddings, "boxes": table.boxes, "scores": table.scores, "paths": table.paths}
    np.savez(tmp_path / "old.npz", **columns, qualities=table.qualities, model="numbers", recipe="r0")
    assert gallery.enrol_file(tmp_path / "old.npz", lambda _: "Ann").faces == 1
    assert gallery.store.origin == numbers.ORIGIN
