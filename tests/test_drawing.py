from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherecv.drawing import BOX, POINT, Picture, draw_aligned, draw_faces, save_picture
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
    with pytest.raises(StorageError, match=r"missing.x\.png cannot be written: No such file"):
        picture.save(tmp_path / "missing" / "x.png")
    with pytest.raises(InvalidArgumentError, match="suffix"):
        picture.save(tmp_path / "x.xyz")
    picture.save(tmp_path / "x.png")
    picture.save(stream := io.BytesIO(), format="PNG")
    with Image.open(tmp_path / "x.png") as saved:
        assert saved.size == Image.open(stream).size == (4, 3)
