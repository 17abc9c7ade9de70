from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherecv.drawing import (
    BOX,
    DIFFERENT,
    INK,
    POINT,
    SAME,
    Picture,
    draw_aligned,
    draw_faces,
    draw_verification,
    end_of,
    save_picture,
    wrapped,
)
from spherecv.errors import InvalidArgumentError, StorageError
from spherecv.records import Face

PHOTO = np.full((120, 160, 3), 30, np.uint8)
FACE = Face(box=(40, 30, 100, 110), score=0.9, landmarks=[[55, 55], [85, 55], [70, 70], [60, 90], [80, 90]])


def test_boxes_and_landmarks_are_drawn_where_they_are_on_a_copy() -> None:
    drawn = np.asarray(draw_faces(PHOTO, [FACE]))
    assert drawn.shape == PHOTO.shape
    assert tuple(drawn[70, 40]) == BOX
    for x, y in FACE.landmarks.astype(int):
        assert tuple(drawn[y, x]) == POINT
    assert (PHOTO == 30).all()
    assert (np.asarray(draw_faces(PHOTO, [])) == 30).all()


def test_crops_stand_beside_the_photo() -> None:
    crops = np.full((2, 112, 96, 3), (10, 20, 200), np.uint8)
    drawn = draw_aligned(PHOTO, [FACE, FACE], crops)
    assert drawn.height == 120
    assert drawn.getpixel((165, 10)) == (200, 20, 10)
    assert drawn.getpixel((165, 50)) == (200, 20, 10)
    assert draw_aligned(PHOTO, [], crops[:0]).size == (160, 120)


def test_a_face_without_landmarks_or_beyond_the_border_is_drawn_too() -> None:
    drawn = np.asarray(draw_faces(PHOTO, [Face(box=(-20, -10, 30, 500), score=0.5, quality=0.25)]))
    assert (drawn[:, 30] == BOX).all()  # the only side of the box that lies on the image
    assert (drawn[:, 34:] == 30).all()
    assert not (drawn == POINT).all(axis=2).any()


def test_a_label_stands_above_its_face_or_below_where_there_is_no_room() -> None:
    drawn = np.asarray(draw_faces(PHOTO, [FACE], labels=["M"], colors=[(9, 8, 7)]))
    low = np.asarray(draw_faces(PHOTO, [Face(box=(40, 2, 100, 80), score=0.9)], labels=["M"], colors=[(9, 8, 7)]))
    assert tuple(drawn[27, 41]) == tuple(low[84, 41]) == (9, 8, 7)
    assert (drawn[115:, :] == 30).all()


def test_pictures_are_saved_whole_or_not_at_all(tmp_path: Path) -> None:
    picture = draw_faces(PHOTO, [FACE])
    for name in ("a.png", "b.JPG"):
        save_picture(picture, tmp_path / name)
        with Image.open(tmp_path / name) as saved:
            assert saved.size == (160, 120)
    with pytest.raises(InvalidArgumentError, match=r"\.xyz"):
        save_picture(picture, tmp_path / "c.xyz")
    with pytest.raises(StorageError):
        save_picture(picture, tmp_path / "a.png" / "d.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.JPG"]


def test_a_plot_that_cannot_be_saved_says_so_in_one_line(tmp_path: Path) -> None:
    picture = Picture()
    picture.__setstate__(Image.new("RGB", (4, 3), "red").__getstate__())
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file.x\.png cannot be written: "):
        picture.save(tmp_path / "file" / "x.png")
    with pytest.raises(InvalidArgumentError, match="suffix"):
        picture.save(tmp_path / "x.xyz")
    picture.save(tmp_path / "x.png")
    picture.save(stream := io.BytesIO(), format="PNG")
    with Image.open(tmp_path / "x.png") as saved:
        assert saved.size == Image.open(stream).size == (4, 3)


def drawn(distance: float, threshold: float = 0.6, metric: str = "cosine", **more: object) -> Image.Image:
    settings = {"heading": "net", "labels": ("a.png", "b.png"), "notes": ["A note."], **more}
    return draw_verification(
        [PHOTO, PHOTO], [FACE, FACE], [None, None], distance=distance, threshold=threshold, metric=metric, **settings
    )


@pytest.mark.parametrize(("metric", "end"), [("cosine", 1.5), ("euclidean", 1.2)])
def test_the_scale_is_the_same_for_every_pair(metric: str, end: float) -> None:
    for distance in (0.0, 0.3, 0.9, 1.4, 9.0):
        sheet = np.asarray(drawn(distance, metric=metric))
        row = sheet[96 + 360 + 92 + 4]  # through the scale, off the middle of the mark
        color = SAME if distance <= 0.6 else DIFFERENT
        marks = np.flatnonzero((row == color).all(axis=1))
        assert marks.mean() == pytest.approx(30 + 1060 * min(distance / end, 1.0), abs=2)
        assert (sheet[96 + 360 + 92 - 5, round(30 + 1060 * 0.6 / end)] == INK).all()


def test_notes_are_not_cut_but_broken_between_words() -> None:
    words = " ".join(f"word{number}" for number in range(60))
    one, many = drawn(0.1), drawn(0.1, notes=[words, "and another"])
    lines = wrapped(words, 1060, 15)
    assert " ".join(lines) == words
    assert 3 <= len(lines) <= 6
    assert many.height - one.height == 20 * len(lines)


def test_the_names_of_the_images_stand_under_them() -> None:
    named, nameless = (np.asarray(drawn(0.1, labels=labels)) for labels in (("a.png", "b.png"), ("", "")))
    changed = np.argwhere((named != nameless).any(axis=2))
    assert changed[:, 0].min() > 96 + 360
    assert {bool(x < 560) for x in changed[:, 1]} == {True, False}
    assert end_of("short.jpg", 400, 15) == "short.jpg"
    shown = end_of("folder/" * 40 + "photo.jpg", 400, 15)
    assert shown.startswith("...")
    assert shown.endswith("folder/photo.jpg")
