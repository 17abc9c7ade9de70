from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from spherecv.errors import ImageError, InvalidArgumentError, NoFaceError, VideoError
from spherecv.metrics import distance
from spherecv.templates import pooled
from spherecv.video import embed_set
from spherecv.video.kinds import is_set
from spherecv.watch import VideoFile


@pytest.fixture(scope="module")
def person(people) -> list[Path]:
    return next(files for files in people.values() if len(files) >= 4)


@pytest.fixture(scope="module")
def clip(scenes, people, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody near, who stays, and somebody who passes by far behind."""
    names = list(people)[:2]
    main, other = (scenes.read(people[name][0]) for name in names)
    scene = scenes.Scene(
        (
            scenes.Actor("other", [other], scenes.line((20, 60), (700, 60), (0.45, 0.45))),
            scenes.Actor("main", [main], scenes.sway((220, 160), 30, size=0.8)),
        ),
        40,
        size=(300, 440),
    )
    path = tmp_path_factory.mktemp("clip") / "clip.avi"
    with VideoFile(path) as video:
        for frame in scene:
            video.write(frame)
    return path


@pytest.mark.runtime
def test_a_set_is_the_mean_of_its_faces_weighted_by_quality(pipeline, person, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((200, 200, 3), 90, np.uint8))
    found = embed_set(pipeline, [*person[:3], tmp_path / "wall.png", tmp_path / "missing.png"], best=2)
    faces = [pipeline.faces(path, face="largest")[0] for path in person[:3]]
    best = sorted(faces, key=lambda one: -one.face.quality)[:2]
    expected = pooled([one.embedding for one in best], [one.face.quality for one in best])
    np.testing.assert_allclose(found.face.embedding, expected, atol=1e-5)
    assert found.face.face.to_dict() == best[0].face.to_dict()
    assert found.faces == 3
    assert [type(error) for error in found.failures] == [NoFaceError, ImageError] or len(found.failures) == 2
    one = embed_set(pipeline, person[0])
    assert distance(one.face.embedding, faces[0].embedding)[0] == pytest.approx(0, abs=1e-6)


@pytest.mark.runtime
def test_a_clip_is_the_person_seen_most(pipeline, people, clip: Path) -> None:
    found = embed_set(pipeline, clip)
    main, other = (pipeline.faces(people[name][0], face="largest")[0] for name in list(people)[:2])
    away = [float(distance(found.face.embedding, one.embedding)[0]) for one in (main, other)]
    assert away[0] < 0.4 < away[1]
    assert found.faces >= 10
    assert found.image.shape == (300, 440, 3)


@pytest.mark.runtime
def test_verify_takes_sets_and_clips_on_either_side(verifier, people, clip: Path, tmp_path: Path) -> None:
    main, other = (people[name] for name in list(people)[:2])
    same = verifier.verify(clip, main[1:])
    assert same.verified
    assert same.templates[0] >= 10
    assert same.templates[1] == len(main) - 1
    assert (same.probability, same.to_dict()["faces_used"]["img2"]) == (None, len(main) - 1)
    assert same.plot().width == 1120
    assert same.distance == pytest.approx(verifier.distance(clip, main[1:]), abs=1e-5)
    assert not verifier.verify(tuple(other), str(clip)).verified
    (tmp_path / "list.txt").write_text("\n".join(map(str, main)))
    assert verifier.verify(main[0], tmp_path / "list.txt").verified
    assert verifier.verify(main[0], main[0].parent).verified
    assert verifier.verify(main[0], main[1]).templates == (1, 1)


def test_what_gives_no_face_is_an_error(pipeline, tmp_path: Path) -> None:
    wall = tmp_path / "wall.png"
    cv2.imwrite(str(wall), np.full((200, 200, 3), 90, np.uint8))
    with VideoFile(tmp_path / "wall.avi") as video:
        video.write(np.full((200, 200, 3), 90, np.uint8))
    for source, error, words in (
        ([wall, wall], NoFaceError, "none of the 2 images"),
        ([tmp_path / "a.png", tmp_path / "b.png"], ImageError, "a.png: no such file"),
        (tmp_path / "a.png", ImageError, "no such file"),
        ([], InvalidArgumentError, "at least one"),
        (tmp_path / "wall.avi", NoFaceError, "in the 1 frames of"),
        (tmp_path / "missing.mp4", VideoError, "no such file"),
    ):
        with pytest.raises(error, match=words):
            embed_set(pipeline, source)
    with pytest.raises(InvalidArgumentError, match="of one"):
        embed_set(pipeline, wall, face="all")


def test_sets_are_told_from_images(tmp_path: Path) -> None:
    assert all(map(is_set, (["a"], ("a", "b"), "a.mp4", tmp_path, "list.txt", "http://x/y.mp4", "rtsp://x/y")))
    assert not any(map(is_set, ("", "a.jpg", Path("a"), b"bytes", np.zeros((4, 4, 3), np.uint8))))
