from __future__ import annotations

from copy import copy
from dataclasses import replace

import cv2
import numpy as np
import pytest

from spherecv.errors import CalibrationError, DatasetError
from spherecv.evaluate import collection
from spherecv.evaluate.collection import ImageEmbeddings, embed_images, saved_path
from spherecv.zoo import get_recipe


def names_of(people):
    return sorted(path.relative_to(people).as_posix() for path in people.rglob("*.png"))


def test_rows_come_back_by_name_and_by_recipe(tmp_path, people, subject) -> None:
    names = names_of(people)
    found = embed_images(people, names, subject, mirror=True, saved=tmp_path / "e.npz")
    loaded, meta = ImageEmbeddings.load(tmp_path / "e.npz")
    np.testing.assert_array_equal(loaded.embeddings, found.embeddings)
    assert loaded.names == tuple(names)
    assert loaded.stamps == found.stamps
    assert meta["model"] == "pattern"
    recipe = subject.source.recipe
    assert found.by(replace(recipe, mirror=False)).shape == (48, 192)
    unit = found.by(replace(recipe, normalize=True))
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    assert found.rows(names[5:7]).tolist() == [5, 6]
    with np.load(tmp_path / "e.npz", allow_pickle=False) as archive:
        assert archive["embeddings"].dtype == np.float32


def test_a_file_of_earlier_versions_goes_on_being_used(tmp_path, people, subject) -> None:
    names = names_of(people)
    found = embed_images(people, names[:40], subject, saved=tmp_path / "e.npz")
    assert found.boxes.shape == (40, 4)
    with np.load(tmp_path / "e.npz") as archive:
        kept = ("names", "embeddings", "qualities", "centred", "stamped", "stamps", "meta")
        held = {name: archive[name] for name in kept}
    np.savez(tmp_path / "e.npz", **held)
    again = embed_images(people, names, subject, saved=tmp_path / "e.npz")
    assert again.names == tuple(names)
    np.testing.assert_array_equal(again.embeddings[:40], found.embeddings)
    assert np.isnan(again.boxes[:40]).all()
    whole = embed_images(people, names, subject)
    np.testing.assert_array_equal(again.boxes[40:], whole.boxes[40:])
    assert len(ImageEmbeddings.load(tmp_path / "e.npz")[0]) == 48


def test_only_new_and_changed_images_are_embedded(tmp_path, people, subject) -> None:
    names = names_of(people)
    done = []
    embed_images(people, names[:40], subject, saved=tmp_path / "e.npz")
    embed_images(people, names, subject, saved=tmp_path / "e.npz", progress=lambda i, n: done.append(n))
    assert done == [8] * 8
    cv2.imwrite(str(people / names[0]), np.full((40, 40, 3), 77, np.uint8))
    changed = embed_images(people, names, subject, saved=tmp_path / "e.npz")
    assert changed.names[-1] == names[0]
    assert len(changed.names) == 48
    assert len(subject.stages.opened) == 3


def test_a_broken_image_stays_a_failure_until_it_is_mended(tmp_path, people, subject) -> None:
    names = names_of(people)
    good = (people / names[0]).read_bytes()
    (people / names[0]).write_bytes(b"not a picture")
    found = embed_images(people, names, subject, saved=tmp_path / "e.npz")
    assert list(found.failures) == [names[0]]
    embed_images(people, names, subject, saved=tmp_path / "e.npz")
    assert len(subject.stages.opened) == 1
    (people / names[0]).write_bytes(good)
    assert embed_images(people, names, subject, saved=tmp_path / "e.npz").failures == {}


def changed_stages(subject, **changes):
    stages = copy(subject.stages)
    vars(stages).update(changes)
    return replace(subject, stages=stages)


def test_embeddings_of_another_model_recipe_or_policy_are_refused(tmp_path, people, subject) -> None:
    names = names_of(people)
    embed_images(people, names, subject, saved=tmp_path / "e.npz")
    other_file = tmp_path / "other.onnx"
    other_file.write_bytes(b"another net")
    changed = [
        (changed_stages(subject, detector_name="yunet"), "another detector"),
        (replace(subject, face="largest"), "another face"),
        (replace(subject, no_face="center"), "another no face"),
        (changed_stages(subject, source=replace(subject.source, recipe=get_recipe("sface"))), "another recipe"),
        (changed_stages(subject, source=replace(subject.source, files={"onnx": other_file})), "another model key"),
    ]
    for other, message in changed:
        with pytest.raises(CalibrationError, match=message):
            embed_images(people, names, other, saved=tmp_path / "e.npz")
        default = saved_path(tmp_path, people, subject, mirror=True)
        assert saved_path(tmp_path, people, other, mirror=True) != default
    plain_recipe = replace(subject.source.recipe, mirror=False)
    plain = changed_stages(subject, source=replace(subject.source, recipe=plain_recipe))
    embed_images(people, names, plain, saved=tmp_path / "p.npz")
    with pytest.raises(CalibrationError, match="without their mirror images"):
        embed_images(people, names, plain, mirror=True, saved=tmp_path / "p.npz")


def test_a_broken_file_and_a_missing_image_are_named(tmp_path, people, subject) -> None:
    (tmp_path / "e.npz").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(DatasetError, match=r"e\.npz cannot be read as saved embeddings"):
        embed_images(people, names_of(people), subject, saved=tmp_path / "e.npz")
    with pytest.raises(DatasetError, match="No such file"):
        embed_images(people, ["gone.png"], subject)


def test_a_run_that_is_broken_off_goes_on_where_it_stopped(tmp_path, people, subject) -> None:
    names, place = names_of(people), tmp_path / "e.npz"

    def break_off(done: int, _total: int) -> None:
        if done == 17:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_images(people, names, subject, saved=place, progress=break_off)
    assert len(ImageEmbeddings.load(place)[0]) == 17
    rest = []
    found = embed_images(people, names, subject, saved=place, progress=lambda _done, total: rest.append(total))
    assert rest == [len(names) - 17] * (len(names) - 17)
    np.testing.assert_array_equal(found.embeddings, embed_images(people, names, subject).embeddings)


def test_a_run_saves_now_and_then_for_a_kill_lets_nothing_be_done(
    tmp_path, people, subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "_SAVE_EVERY", 0.0)
    names, place, held = names_of(people)[:5], tmp_path / "e.npz", []
    embed_images(
        people, names, subject, saved=place,
        progress=lambda _done, _total: held.append(len(ImageEmbeddings.load(place)[0]) if place.exists() else 0),
    )  # fmt: skip
    assert held[0] == 1
    assert held == sorted(held)
