"""A gallery as its users meet it; photos are of one colour, and a person is a colour."""

from __future__ import annotations

import sqlite3
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from spherecv.errors import (
    CalibrationError,
    GalleryMismatchError,
    IdentityError,
    ImageError,
    InvalidArgumentError,
    MissingThresholdError,
    NoFaceError,
    SeveralFacesError,
)
from spherecv.facetable import FaceRows, FaceTable
from spherecv.gallery import FaceGallery, Origin
from spherecv.gallery.intake import entries_of
from spherecv.gallery.sqlite import SqliteStore
from spherecv.metrics import distance
from spherecv.pipeline import FacePipeline
from spherecv.records import Face
from spherecv.templates import SetWarning
from spherecv.thresholds import CalibratedThreshold, Calibration, Threshold, ThresholdWarning
from spherecv.zoo import DEFAULT_MODEL, get_recipe, model_info, source
from spherecv.zoo.key import ModelKey
from spherecv.zoo.model import KnownPrecision, Shift


@pytest.fixture
def known(tmp_path: Path, stages, album: Path):
    with FaceGallery.open(tmp_path / "people.db", model=stages.pipeline) as gallery:
        gallery.enrol("Ann", [album / "Ann" / "1.png", album / "Ann" / "2.png"], {"team": "red"})
        gallery.enrol("Ben", album / "Ben" / "1.png")
        yield gallery


def test_who_is_this(known: FaceGallery, tmp_path: Path, numbers) -> None:
    (match,) = known.identify(numbers.paint(tmp_path / "probe.png", (235, 30, 35)), threshold=0.1)
    assert match.identity == "Ann"
    assert bool(match)
    assert [candidate.identity for candidate in match.candidates] == ["Ann", "Ben"]
    assert match.candidates[0].metadata == {"team": "red"}
    assert match.candidates[0].image.endswith(".png")
    assert match.candidates[0].box == (0, 0, 128, 128)
    assert match.distance == match.candidates[0].distance < 0.1
    assert match.to_dict()["candidates"][0]["identity"] == "Ann"
    (stranger,) = known.identify(numbers.paint(tmp_path / "blue.png", numbers.colours.blue), threshold=0.1)
    assert stranger.identity is None
    assert not stranger
    assert len(stranger.candidates) == 2


def test_an_empty_gallery_knows_nobody(tmp_path: Path, stages, album: Path) -> None:
    with FaceGallery.open(tmp_path / "g.db", model=stages.pipeline) as gallery:
        (match,) = gallery.identify(album / "Ann" / "1.png", threshold=0.1)
        assert (match.identity, match.distance, match.candidates) == (None, None, ())
        assert gallery.identities() == []


def test_images_of_every_kind_are_known_again(tmp_path: Path, stages, album: Path) -> None:
    path = album / "Ann" / "1.png"
    pixels = np.full((128, 128, 3), (30, 20, 230), np.uint8)
    with FaceGallery.open(tmp_path / "g.db", model=stages.pipeline) as gallery, path.open("rb") as stream:
        assert gallery.enrol("Ann", [path, path.read_bytes(), pixels]).images == 3
        again = gallery.enrol("Ann", [stream, pixels.copy(), str(path)], if_exists="add")
        assert (again.images, again.unchanged) == (0, 3)
        gallery.remove("Ann", path)
        assert gallery.identities()[0].images == 2


def test_enrolling_somebody_twice_adds_replaces_or_is_refused(known: FaceGallery, album: Path) -> None:
    with pytest.raises(IdentityError, match=r"'Ann' is in .* already"):
        known.enrol("Ann", album / "Ben" / "1.png", if_exists="raise")
    known.enrol("Ann", album / "Ben" / "1.png")
    assert {person.name: person.images for person in known.identities()} == {"Ann": 3, "Ben": 1}
    known.enrol("Ann", album / "Ann" / "1.png", {"team": "blue"}, if_exists="replace")
    assert known.identities()[0].to_dict() == {
        "identity": "Ann",
        "images": 1,
        "faces": 1,
        "metadata": {"team": "blue"},
    }


def test_one_bad_photo_enrols_nothing_or_is_reported(tmp_path: Path, stages, album: Path) -> None:
    photos = [album / "Ann" / "1.png", album / "Ben" / "wall.png", album / "missing.png"]
    with FaceGallery.open(tmp_path / "g.db", model=stages.pipeline) as gallery:
        with pytest.raises(NoFaceError, match=r"wall\.png"):
            gallery.enrol("Ann", photos)
        assert gallery.identities() == []
        done = gallery.enrol("Ann", photos, errors="return")
        assert done.faces == 1
        assert [type(error) for _, error in done.failures] == [NoFaceError, ImageError]
        assert gallery.enrol("Cleo", album / "missing.png", errors="return").faces == 0
        assert [person.name for person in gallery.identities()] == ["Ann"]
        with pytest.raises(InvalidArgumentError, match="at least one image"):
            gallery.enrol("Cleo", [])
        (album / "empty").mkdir()
        with pytest.raises(ImageError, match="holds no images"):
            gallery.enrol("Cleo", album / "empty")
        for name in ("", "  ", None, 7, "\ud800"):
            with pytest.raises(InvalidArgumentError, match="an identity must"):
                gallery.enrol(name, photos[0])
        with pytest.raises(InvalidArgumentError, match="JSON"):
            gallery.enrol("Cleo", photos[0], {"when": object()})


def crowded(stages: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> FacePipeline:
    """A pipeline that finds two faces of quality 0.5 in a picture that is wider than high."""
    find = stages.detector._faces
    monkeypatch.setattr(
        stages.detector, "_faces", lambda image: find(image) * (2 if image.shape[1] > image.shape[0] else 1)
    )
    return stages.pipeline


def test_several_faces_are_told_refused_or_too_poor(
    tmp_path: Path, stages, album: Path, numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = album / "Ann" / "wide.png"
    Image.new("RGB", (200, 128), numbers.colours.red).save(wide)
    with FaceGallery.open(tmp_path / "g.db", model=crowded(stages, monkeypatch)) as gallery:
        done = gallery.enrol("Ann", [wide, album / "Ann" / "1.png"])
        assert (done.faces, done.crowded, done.to_dict()["several_faces"]) == (2, (str(wide),), [str(wide)])
        assert not gallery.enrol("All", wide, face="all").crowded
        with pytest.raises(SeveralFacesError, match=r"2 faces found in .*wide\.png"):
            gallery.enrol("Cleo", wide, face="only")
        with pytest.raises(NoFaceError, match=r"has the quality 0\.50, and at least 0\.6 was asked for"):
            gallery.enrol("Cleo", album / "Ann" / "1.png", min_quality=0.6)
        with pytest.raises(InvalidArgumentError, match="min_quality must be a number within 0"):
            gallery.enrol("Cleo", album / "Ann" / "1.png", min_quality=2)
        assert {person.name for person in gallery.identities()} == {"All", "Ann"}
        (match,) = gallery.identify(wide, threshold=0.1, face="largest")
        assert (match.faces_found, match.people, match.fpir) == (2, 2, None)
        assert gallery.verify("Ann", wide, threshold=0.1).faces_found == 2


def test_a_folder_leaves_out_what_was_not_asked_for_and_looks_again(
    tmp_path: Path, stages, album: Path, numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (200, 128), numbers.colours.red).save(album / "Ann" / "wide.png")
    with FaceGallery.open(tmp_path / "g.db", model=crowded(stages, monkeypatch)) as gallery:
        poor = gallery.enrol_folder(album, min_quality=0.6)
        assert (poor.faces, len(poor.failures)) == (0, 5)
        first = gallery.enrol_folder(album, face="only")
        assert (first.faces, [type(error) for _, error in first.failures]) == (3, [NoFaceError, SeveralFacesError])
        again = gallery.enrol_folder(album)
        assert (again.faces, [Path(name).name for name in again.crowded]) == (1, ["wide.png"])


def test_faces_of_one_name_that_are_unlike_are_a_warning(
    tmp_path: Path, stages, album: Path, numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spherecv.decision.DecisionRule.usual_distance", 0.3)
    with FaceGallery.open(tmp_path / "g.db", model=stages.pipeline) as gallery:
        assert not gallery.enrol("Ann", [album / "Ann" / "1.png", album / "Ann" / "2.png"]).doubts
        with pytest.warns(SetWarning, match=r"Ann: 1 of the 3 faces is unlike the others \(1\.png\)"):
            done = gallery.enrol("Ann", album / "Ben" / "1.png")
        assert "is this one person?" in done.to_dict()["doubts"][0]
        numbers.paint(album / "Ben" / "2.png", numbers.colours.red)
        with pytest.warns(SetWarning, match="Ben: its two faces are unlike each other"):
            gallery.enrol_folder(album)


def test_what_a_gallery_of_n_people_does_to_the_rate(known: FaceGallery, album: Path) -> None:
    match = known.identify(album / "Ann" / "2.png", threshold=Threshold(0.1, far=0.01))[0]
    assert (match.people, match.fpir) == (2, pytest.approx(1 - 0.99**2))
    assert (match.to_dict()["people"], match.to_dict()["fpir"]) == (2, match.fpir)
    assert known.identify_embeddings([[1, 2, 3]], threshold=0.1)[0].threshold_source == "given by the caller"


def test_is_it_who_they_say(known: FaceGallery, album: Path) -> None:
    right = known.verify("Ann", album / "Ann" / "2.png", threshold=0.1)
    assert (right.identity, bool(right), right.candidates[0].metadata) == ("Ann", True, {"team": "red"})
    assert not known.verify("Ben", album / "Ann" / "2.png", threshold=0.1)
    with pytest.raises(IdentityError, match="nobody called 'Cleo'"):
        known.verify("Cleo", album / "Ann" / "2.png", threshold=0.1)
    with pytest.raises(InvalidArgumentError, match="largest, center, only, whole"):
        known.verify("Ann", album / "Ann" / "2.png", threshold=0.1, face="all")


def test_remove_rename_merge(known: FaceGallery, album: Path) -> None:
    probe = album / "Ben" / "1.png"
    known.rename("Ben", "Benjamin")
    assert known.identify(probe, threshold=0.1)[0].identity == "Benjamin"
    with pytest.raises(IdentityError, match="merge"):
        known.rename("Benjamin", "Ann")
    known.merge(["Benjamin"], "Ann")
    assert known.identify(probe, threshold=0.1)[0].identity == "Ann"
    assert [(person.name, person.images, person.metadata) for person in known.identities()] == [
        ("Ann", 3, {"team": "red"})
    ]
    assert known.remove("Ann", probe)[:2] == (1, 1)
    assert known.identify(probe, threshold=0.1)[0].identity is None
    assert known.remove("Ann").images == 2
    assert known.stats()["faces"] == known.stats()["identities"] == 0
    for call in (lambda: known.remove("Ann"), lambda: known.rename("Ann", "B"), lambda: known.merge(["Ann"], "B")):
        with pytest.raises(IdentityError, match="nobody called 'Ann'"):
            call()
    with pytest.raises(IdentityError, match="no image"):
        known.remove(None, album / "Ann" / "1.png")


def test_the_first_edition_of_the_default_model_is_refused(tmp_path: Path) -> None:
    recipe = get_recipe("sphereface-mini").fingerprint
    first = Origin(DEFAULT_MODEL, f"856de5ee4b511f90-{recipe}")
    with FaceGallery.open(tmp_path / "first.db", model=first) as gallery:
        gallery.enrol_embeddings(["Ann"], np.ones((1, 256)))
    told = pytest.raises(GalleryMismatchError, match="enrol the photographs again")
    with FaceGallery.open(tmp_path / "first.db") as gallery, told:
        gallery.identify(np.zeros((9, 9, 3), np.uint8))
    rows = FaceRows()
    rows.add("Ann/1.jpg", np.ones(256, np.float32), Face((0, 0, 1, 1)))
    table = rows.table()
    columns = {"embeddings": table.embeddings, "boxes": table.boxes, "scores": table.scores, "paths": table.paths}
    np.savez(tmp_path / "old.npz", **columns, qualities=table.qualities, model=DEFAULT_MODEL, recipe=recipe)
    with FaceGallery.open(tmp_path / "first.db") as gallery:  # a file without a key is of the first edition, too
        assert gallery.enrol_file(tmp_path / "old.npz", lambda _: "Ben").faces == 1
    with FaceGallery.open(tmp_path / "second.db", model=DEFAULT_MODEL) as gallery:
        with pytest.raises(GalleryMismatchError, match="earlier edition of sphereface-mini"):
            gallery.enrol_file(tmp_path / "old.npz", lambda _: "Ben")
        assert gallery.stats()["faces"] == 0


def test_another_model_is_refused(known: FaceGallery, tmp_path: Path, numbers, album: Path) -> None:
    other = FacePipeline(numbers.ColourEmbedder("colour-2"), detector=numbers.CountingDetector())
    with pytest.raises(GalleryMismatchError, match=r"colour-1.*colour-2"):
        FaceGallery.open(tmp_path / "people.db", model=other)
    with pytest.raises(GalleryMismatchError, match="cannot be compared"):
        FaceGallery.open(tmp_path / "people.db", model=Origin("colour", "colour-3"))
    with FaceGallery.open(tmp_path / "people.db", model=Origin("colour", "colour-1")) as same:
        with pytest.raises(GalleryMismatchError, match="3 numbers, but got 4"):
            same.enrol_embeddings(["Ann"], np.ones((1, 4)))
        with pytest.raises(GalleryMismatchError, match="3 numbers, but got 4"):
            same.identify_embeddings(np.ones((1, 4)), threshold=1)
        with pytest.raises(InvalidArgumentError, match="ready-made"):
            same.identify(album / "Ann" / "1.png", threshold=1)


def test_without_a_threshold_there_is_no_answer(known: FaceGallery, album: Path) -> None:
    with pytest.raises(MissingThresholdError, match="calibrate"):
        known.identify(album / "Ann" / "1.png")
    with pytest.raises(MissingThresholdError):
        known.identify(album / "Ann" / "1.png", far=1e-3)
    with pytest.raises(InvalidArgumentError, match="not both"):
        known.identify(album / "Ann" / "1.png", threshold=1, far=1e-3)


def test_a_calibration_gives_the_threshold(tmp_path: Path, stages, album: Path) -> None:
    figures = {"measured_far": 0.01, "far_interval": (0, 1), "measured_tar": 1, "tar_interval": (0, 1)}
    threshold = CalibratedThreshold(threshold=0.2, chosen_for="FAR 0.01", far=0.01, false_accepts=30, **figures)
    settings = {"recipe": stages.pipeline.embedder.recipe, "metric": "cosine", "face": "largest", "no_face": "skip"}
    counts = {
        "genuine": 9,
        "impostors": 9,
        "identities": 9,
        "images": 9,
        "failed": 0,
        "impostor_pairs_from": "listed pairs",
    }
    measured = {"model": "colour", "dataset": "paint", "detector": "counting", "thresholds": (threshold,)}
    right = Calibration(**measured, **settings, **counts, model_key="colour-1")
    wrong = Calibration(**measured, **settings, **counts, model_key="other-1")
    with FaceGallery.open(tmp_path / "g.db", model=stages.pipeline, calibration=right) as gallery:
        gallery.enrol("Ann", album / "Ann" / "1.png")
        (match,) = gallery.identify(album / "Ann" / "2.png", far=0.01)
        assert (match.identity, match.threshold, match.far) == ("Ann", 0.2, 0.01)
        assert "paint" in match.threshold_source
        with pytest.raises(MissingThresholdError, match=r"0\.01"):
            gallery.identify(album / "Ann" / "2.png", far=0.5)
    gallery = FaceGallery.open(tmp_path / "g.db", model=stages.pipeline, calibration=wrong)
    with gallery, pytest.raises(CalibrationError, match="other files"):
        gallery.identify(album / "Ann" / "2.png")


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_templates(tmp_path: Path, numbers, metric: str) -> None:
    names, rows, images = numbers.crowd(40, 5)
    qualities = np.random.default_rng(3).random(len(rows))
    probes = (rows[::5] + rows[1::5]) / 2
    with FaceGallery.open(tmp_path / "g.db", model=numbers.ORIGIN, metric=metric) as gallery:
        gallery.enrol_embeddings(names, rows, images=images, qualities=qualities)
        best = gallery.identify_embeddings(probes, 3, threshold=9, template="best")
        mean = gallery.identify_embeddings(probes, 3, threshold=9, template="mean")
    people = sorted(set(names))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True) if metric == "cosine" else rows
    for number, (one, other) in enumerate(zip(best, mean, strict=True)):
        away = np.array([distance(probes[number], rows[np.array(names) == person], metric).min() for person in people])
        assert [candidate.identity for candidate in one.candidates] == [people[p] for p in np.argsort(away)[:3]]
        np.testing.assert_allclose([c.distance for c in one.candidates], np.sort(away)[:3], atol=1e-6)
        centres = [
            np.average(unit[np.array(names) == p], axis=0, weights=qualities[np.array(names) == p]) for p in people
        ]
        away = distance(probes[number], centres, metric)
        assert [candidate.identity for candidate in other.candidates] == [people[p] for p in np.argsort(away)[:3]]
        np.testing.assert_allclose([c.distance for c in other.candidates], np.sort(away)[:3], atol=1e-6)


def test_somebody_with_many_images_does_not_crowd_out_the_others(tmp_path: Path, numbers) -> None:
    generator = np.random.default_rng(0)
    probe = generator.standard_normal(32).astype(np.float32)
    crowd = probe + 0.01 * generator.standard_normal((500, 32)).astype(np.float32)
    others = generator.standard_normal((3, 32)).astype(np.float32)
    with FaceGallery.open(tmp_path / "g.db", model=numbers.ORIGIN) as gallery:
        gallery.enrol_embeddings(["Ann"] * 500 + ["Ben", "Cleo", "Dan"], np.concatenate([crowd, others]))
        (match,) = gallery.identify_embeddings(probe, 4, threshold=0.1)
        assert sorted(candidate.identity for candidate in match.candidates) == ["Ann", "Ben", "Cleo", "Dan"]
        (match,) = gallery.identify_embeddings(probe, 9, threshold=0.1)
        assert len(match.candidates) == 4


def test_embeddings_that_do_not_fit(gallery: FaceGallery) -> None:
    for identities, rows, words in (
        (["a"], np.ones((2, 3)), "identities must have 2 entries"),
        (["a"], np.full((1, 3), np.nan), "finite"),
        (["a"], np.ones((1, 3, 3)), r"\(N, D\)"),
        (["a"], np.ones((1, 0)), r"\(N, D\)"),
        ([""], np.ones((1, 3)), "name"),
        (["a"], [["one", "two"]], "numbers"),
        (["a"], np.full((1, 3), 1e300), "finite"),
    ):
        with pytest.raises(InvalidArgumentError, match=words):
            gallery.enrol_embeddings(identities, rows)
    with pytest.raises(InvalidArgumentError, match="qualities must have 1 entries"):
        gallery.enrol_embeddings(["a"], np.ones((1, 3)), qualities=[1, 2])
    for k in (0, -1, 1.5, True):
        with pytest.raises(InvalidArgumentError, match="k must be"):
            gallery.identify_embeddings(np.ones((1, 3)), k, threshold=1)
    with pytest.raises(InvalidArgumentError, match="template must be"):
        gallery.identify_embeddings(np.ones((1, 3)), threshold=1, template="median")
    with pytest.raises(InvalidArgumentError, match="name of an image"):
        gallery.enrol_embeddings(["a"], np.ones((1, 3)), images=["\ud800"])
    assert gallery.identities() == []


def test_embeddings_in_any_order_of_memory(tmp_path: Path, numbers) -> None:
    names, rows, images = numbers.crowd(10, 1)
    with FaceGallery.open(tmp_path / "g.db", model=numbers.ORIGIN) as gallery:
        gallery.enrol_embeddings(names, np.asfortranarray(rows), images=images)
        found = gallery.identify_embeddings(np.asfortranarray(rows[::-1]), threshold=0.01)
    assert [match.identity for match in found] == names[::-1]


def test_an_image_known_by_two_names_goes_by_either(tmp_path: Path, stages, album: Path, monkeypatch) -> None:
    monkeypatch.chdir(album / "Ann")
    with FaceGallery.open(tmp_path / "g.db", model=stages.pipeline) as gallery:
        gallery.enrol("Ann", "1.png")
        gallery.enrol_embeddings(["Ann"], np.ones((1, 3)), images=["1.png"])
        assert gallery.remove("Ann", "1.png").images == 2
        assert gallery.identities() == []


def test_names_of_all_kinds(tmp_path: Path, numbers) -> None:
    names = ["Zoë 北京", "o'Hara; DROP TABLE faces", "100%_", "\udcff.jpg", "a" * 5000]
    rows = np.eye(5, dtype=np.float32)
    with FaceGallery.open(tmp_path / "g.db", model=numbers.ORIGIN) as gallery:
        gallery.enrol_embeddings(names, rows, images=names)
        assert {person.name for person in gallery.identities()} == set(names)
        assert [match.identity for match in gallery.identify_embeddings(rows, threshold=0.1)] == names
        for name in names:
            assert gallery.remove(name, name).faces == 1
        assert gallery.identities() == []


@pytest.mark.parametrize("location", [None, 3])
def test_what_is_no_address_is_refused(location: object) -> None:
    with pytest.raises(InvalidArgumentError, match=f"must be a path or a milvus:// address, but got {location}$"):
        FaceGallery.open(location)


def test_questions_of_the_wrong_type_are_refused(known: FaceGallery, album: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="an identity must be a text, but got None"):
        known.verify(None, album / "Ann" / "1.png", threshold=1)
    for settings, text in (({"threshold": True}, "a distance"), ({"far": "0.1"}, "a number"), ({"far": 2}, "a number")):
        with pytest.raises(InvalidArgumentError, match=text):
            known.identify(album / "Ann" / "1.png", **settings)


def test_a_name_is_one_in_either_unicode_form_and_without_space_around_it(tmp_path: Path) -> None:
    rows = np.eye(4, 8, dtype=np.float32)
    with FaceGallery.open(tmp_path / "a.db", model=Origin("m", "k")) as gallery:
        gallery.enrol_embeddings(["Jos\u00e9", "Jose\u0301", "Ann ", "Ann\n"], rows)
        assert [(person.name, person.faces) for person in gallery.identities()] == [("Ann", 2), ("Jos\u00e9", 2)]
        gallery.rename(" Ann", "Bea\u0301 ")
        gallery.remove("Jose\u0301")
        assert [person.name for person in gallery.identities()] == ["Be\u00e1"]


def test_names_of_an_earlier_version_are_settled_on_opening(tmp_path: Path) -> None:
    table = FaceTable(paths=("1", "2", "3"), embeddings=np.eye(3, 8, dtype=np.float32))
    store = SqliteStore(tmp_path / "a.db", create=True)
    store.add(entries_of(table, ["Jos\u00e9", "Jose\u0301", "Ann "]), Origin("m", "k"))
    assert len(store.names()) == 3
    store.close()
    with FaceGallery.open(tmp_path / "a.db") as gallery:
        assert [(person.name, person.faces) for person in gallery.identities()] == [("Ann", 1), ("Jos\u00e9", 2)]
        gallery.remove("Jos\u00e9")
        assert [person.name for person in gallery.identities()] == ["Ann"]


def test_names_are_settled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    names = SqliteStore.names
    monkeypatch.setattr(SqliteStore, "names", lambda store: asked.append(1) or names(store))
    for _ in range(3):
        with FaceGallery.open(tmp_path / "a.db", model=Origin("m", "k")) as gallery:
            gallery.enrol_embeddings(["Ann"], np.eye(1, 8, dtype=np.float32))
    assert asked == [1]


def test_opening_does_not_wait_for_a_writer_to_note_it(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "a.db", create=True).close()
    with sqlite3.connect(tmp_path / "a.db", isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with FaceGallery.open(tmp_path / "a.db", model=Origin("m", "k"), timeout=3600) as gallery:
            assert not gallery.store.names_settled
    writer.close()
    with FaceGallery.open(tmp_path / "a.db", model=Origin("m", "k")) as gallery:
        assert gallery.store.names_settled


def _made(known: bool, monkeypatch: pytest.MonkeyPatch, mixed: float) -> ModelKey:
    """A model of the manifest whose bfloat16 was measured, and its key."""
    info = model_info(DEFAULT_MODEL)
    recipe = get_recipe(info.recipe or "")
    row = KnownPrecision(
        precision="bfloat16", recipe=recipe.name, fingerprint=recipe.fingerprint, backends=("openvino",), dataset="x",
        detector="mtcnn", accuracy=(0.98, 0.98), tar=(0.9, 0.9), cosine=(1.0, 1.0), source="x",
        shifts=(Shift(metric="cosine", threshold=0.5, far=1e-3, measured=1e-3, mixed=mixed),),
    )  # fmt: skip
    changed = replace(info, precisions=(row,) if known else ())
    monkeypatch.setattr(source, "known_manifest", lambda: SimpleNamespace(models={info.name: changed}))
    return ModelKey("0123456789abcdef", "float32", recipe.fingerprint)


@pytest.mark.parametrize(("known", "mixed", "taken"), [(True, 1.05e-3, True), (True, 2e-3, False), (False, 0, False)])
def test_a_gallery_takes_the_precisions_that_were_shown_to_be_comparable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool, mixed: float, taken: bool
) -> None:
    key = _made(known, monkeypatch, mixed)
    rows = np.eye(3, dtype=np.float32)
    with FaceGallery.open(tmp_path / "g.db", model=Origin(DEFAULT_MODEL, str(key))) as gallery:
        gallery.enrol_embeddings(["Ann", "Ben", "Cat"], rows)
        assert gallery.stats()["precision"] == "float32"
    other = Origin(DEFAULT_MODEL, str(key._replace(precision="bfloat16")))
    if taken:
        with FaceGallery.open(tmp_path / "g.db", model=other) as gallery:
            assert gallery.stats()["precision"] == "float32"
    else:
        with pytest.raises(GalleryMismatchError, match=r"in float32, and nobody measured .*--precision float32"):
            FaceGallery.open(tmp_path / "g.db", model=other)


def test_another_detector_than_the_gallerys_is_a_warning(known: FaceGallery, album: Path, numbers) -> None:
    other = FacePipeline(numbers.ColourEmbedder(), detector=numbers.CountingDetector())
    with FaceGallery.open(known.store.label, model=other) as gallery, warnings.catch_warnings():
        warnings.simplefilter("error", ThresholdWarning)
        gallery.identify(album / "Ann" / "1.png", threshold=0.1)
    other.detector.name = "counting preset=slow"
    with (
        FaceGallery.open(known.store.label, model=other) as gallery,
        pytest.warns(ThresholdWarning, match="was filled with the detector counting, and is used with counting preset"),
    ):
        gallery.identify(album / "Ann" / "1.png", threshold=0.1)


@pytest.mark.parametrize("wrong", [5, b"x", ["a"], ("a", "b")])
def test_what_is_no_name_no_path_and_no_list_is_refused(gallery, wrong):
    for call in (gallery.remove, gallery.enrol_folder, gallery.add_unknown, gallery.export, gallery.import_file):
        with pytest.raises(InvalidArgumentError, match="must be a"):
            call(wrong)
    for names in (None, 5, "a"):
        with pytest.raises(InvalidArgumentError, match="identities must be several"):
            gallery.enrol_embeddings(names, np.ones((1, 4), np.float32))


def test_names_of_embeddings_come_in_any_iterable(gallery):
    rows = np.eye(4, dtype=np.float32)[:2]
    assert gallery.enrol_embeddings(iter(["Ann", "Ben"]), rows).faces == 2
