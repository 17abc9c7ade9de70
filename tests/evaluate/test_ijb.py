"""IJB's template protocols, against a transcription by definition in float64, and their files, good and broken."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spherecv.align import FaceAligner
from spherecv.errors import DatasetError, InvalidArgumentError, NotEnoughDataError
from spherecv.evaluate import templatesets
from spherecv.evaluate.curves import roc_curve, tar_at_far
from spherecv.evaluate.ijbfiles import read_landmarks, read_media, read_subjects, read_template_pairs
from spherecv.evaluate.ijbrun import IjbFiles, MediaImages, evaluate_ijb
from spherecv.evaluate.templatesets import compare_templates, pool_templates, search_rates, verification_rates


def world(seed: int, people: int = 8, templates: int = 30, images: int = 160, width: int = 6):
    """Images of templates and media; some templates have one image, some media several."""
    generator = np.random.default_rng(seed)
    subject = generator.integers(people, size=templates)
    of = np.concatenate([np.arange(templates), generator.integers(templates, size=images - templates)])
    media = generator.integers(4, size=images) + 10 * of
    centres = generator.normal(size=(people, width))
    rows = (centres[subject[of]] + 0.8 * generator.normal(size=(images, width))).astype(np.float32)
    flipped = rows + 0.2 * generator.normal(size=rows.shape).astype(np.float32)
    scores = generator.uniform(0.2, 1.0, size=images)
    numbers = np.sort(generator.choice(100_000, templates, replace=False)).astype(np.int64)
    return np.hstack([rows, flipped]), numbers[of], media.astype(np.int64), scores, numbers, subject


def their_templates(rows, templates, media, scores, flip: str, weighing: str):
    """One template after the other, one medium after the other, as the field's script does it."""
    table = rows.astype(np.float64)
    half = table.shape[1] // 2
    table = table[:, :half] + table[:, half:] if flip == "add" else table
    if weighing == "unit":
        table = table / np.sqrt((table**2).sum(-1, keepdims=True))
    if scores is not None:
        table = table * scores[:, np.newaxis]
    pooled = []
    for template in np.unique(templates):
        (inside,) = np.where(templates == template)
        means = [np.mean(table[inside][media[inside] == medium], axis=0) for medium in np.unique(media[inside])]
        total = np.sum(means, axis=0)
        pooled.append(total / np.sqrt(np.sum(total**2)))
    return np.array(pooled)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    templates=st.integers(2, 40),
    more=st.integers(0, 150),
    flip=st.sampled_from(["add", "concatenate"]),
    weighing=st.sampled_from(["length", "unit"]),
    scored=st.booleans(),
    block=st.sampled_from([1, 7, 8192]),
)
def test_pooling_is_the_transcriptions(seed, templates, more, flip, weighing, scored, block) -> None:
    rows, of, media, scores, numbers, _ = world(seed, templates=templates, images=templates + more)
    order = np.random.default_rng(seed).permutation(len(rows))
    rows, of, media, scores = rows[order], of[order], media[order], scores[order]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(templatesets, "_ROWS", block)
        found = pool_templates(rows, of, media, flip=flip, weighing=weighing, scores=scores if scored else None)
    expected = their_templates(rows, of, media, scores if scored else None, flip, weighing)
    assert found.numbers.tolist() == numbers.tolist()
    np.testing.assert_allclose(found.embeddings, expected, rtol=0, atol=1e-12)
    assert not found.empty.any()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), pairs=st.integers(1, 400), tile=st.sampled_from([1, 5, 512]))
def test_similarities_are_the_products(seed, pairs, tile) -> None:
    generator = np.random.default_rng(seed)
    table = generator.normal(size=(23, 7))
    first, second = generator.integers(23, size=(2, pairs)).astype(np.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(templatesets, "_TILE", tile)
        found = compare_templates(table, first, second)
    np.testing.assert_allclose(found, [table[a] @ table[b] for a, b in zip(first, second, strict=True)], atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), rounded=st.booleans())
def test_tar_at_far_is_that_of_the_roc(seed, rounded) -> None:
    rows, of, media, scores, numbers, subject = world(seed)
    pooled = pool_templates(rows, of, media, scores=scores)
    if rounded:  # many ties
        pooled = templatesets.Templates(pooled.numbers, pooled.embeddings.round(0), pooled.empty)
    first, second = (side.astype(np.int32) for side in np.triu_indices(len(numbers), 1))
    same = subject[first] == subject[second]
    found = verification_rates(pooled, first, second, same, rates=(0.1, 0.02, 1e-3, 1e-6), replicates=10)
    products = np.array([pooled.embeddings[a] @ pooled.embeddings[b] for a, b in zip(first, second, strict=True)])
    roc = roc_curve(-products.round(9), same)
    for far, figure in found.tar.items():
        assert figure.value == pytest.approx(tar_at_far(roc, far)[0], abs=1e-12)
        assert figure.interval[0] <= figure.interval[1]
    assert 1e-6 not in found.tar
    assert 1e-6 in found.unsupported
    assert (found.genuine, found.impostors) == (same.sum(), (~same).sum())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), probes=st.integers(1, 60), rounded=st.booleans())
def test_searches_by_definition(seed, probes, rounded) -> None:
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(12, 4))
    gallery = centres + 0.3 * generator.normal(size=centres.shape)
    of = np.r_[0, generator.integers(16, size=probes - 1)] if probes > 1 else np.zeros(1, int)
    table = np.vstack([centres, generator.normal(size=(4, 4))])[of] + 0.6 * generator.normal(size=(probes, 4))
    gallery, table = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (gallery, table))
    if rounded:
        gallery, table = gallery.round(0), table.round(0)
    found = search_rates(gallery, np.arange(12), table, of, rates=(0.1, 0.34), candidates=3)
    ranks, mates, tops = [], [], []
    for row, person in zip(table, of, strict=True):
        products = [float(row @ other) for other in gallery]
        if person < 12:
            ranks.append(1 + sum(p >= products[person] for i, p in enumerate(products) if i != person))
            mates.append(products[person])
        else:
            tops.append(max(products))
    for rank, share in found.ranks.items():
        assert share == pytest.approx(np.mean([r <= rank for r in ranks]))
    for rate, share in found.tpir.items():
        allowed = int(rate * len(tops) + 1e-9)
        if not allowed:
            assert share is None
            continue
        # The least threshold, among the tops, that at most so many of them lie above.
        cut = min(t for t in tops if sum(u > t for u in tops) <= allowed) if allowed < len(tops) else -np.inf
        expected = np.mean([m > cut and r <= 3 for m, r in zip(mates, ranks, strict=True)])
        assert share == pytest.approx(expected)
    assert (found.mated, found.unmated) == (len(mates), len(tops))


def test_a_template_without_images_counts_as_a_miss() -> None:
    rows, of, media, _, numbers, subject = world(4)
    rows[of == numbers[3]] = np.nan
    pooled = pool_templates(rows, of, media)
    assert np.flatnonzero(pooled.empty).tolist() == [3]
    first, second = (side.astype(np.int32) for side in np.triu_indices(len(numbers), 1))
    same = subject[first] == subject[second]
    found = verification_rates(pooled, first, second, same, rates=(0.1, 0.99), replicates=0)
    touched = (first == 3) | (second == 3)
    assert found.rejected == touched.sum()
    assert found.tar[0.99].value == pytest.approx(1 - (touched & same).sum() / same.sum())
    searched = search_rates(
        pooled.embeddings[:10],
        np.arange(10),
        pooled.embeddings[:10],
        np.arange(10),
        gallery_empty=pooled.empty[:10],
        probes_empty=pooled.empty[:10],
    )
    assert searched.ranks == {1: 0.9, 5: 0.9, 10: 0.9}
    assert searched.failed == 1
    with pytest.raises(NotEnoughDataError, match="no image"):
        pool_templates(rows * np.nan, of, media)


def test_refusals() -> None:
    rows, of, media, _, numbers, _ = world(1)
    with pytest.raises(InvalidArgumentError, match=r"\(N, D\)"):
        pool_templates(rows, of[:3], media)
    with pytest.raises(InvalidArgumentError, match="scores must have shape"):
        pool_templates(rows, of, media, scores=[1.0])
    with pytest.raises(InvalidArgumentError, match="one of length, unit"):
        pool_templates(rows, of, media, weighing="none")
    pooled = pool_templates(rows, of, media)
    one = np.zeros(2, np.int32)
    with pytest.raises(NotEnoughDataError, match="both kinds"):
        verification_rates(pooled, one, one, np.ones(2, bool))
    with pytest.raises(NotEnoughDataError, match="anybody"):
        search_rates(pooled.embeddings, np.zeros(len(numbers)), pooled.embeddings[:1], [5])
    with pytest.raises(InvalidArgumentError, match="one subject"):
        search_rates(pooled.embeddings, [1], pooled.embeddings[:1], [5])


def test_the_files(tmp_path: Path) -> None:
    media = tmp_path / "tid_mid.txt"
    media.write_text("1.jpg 5 70\n2.jpg 5 70\n\n3.jpg 9 71\n")
    listed = read_media(media)
    assert (listed.names, listed.templates.tolist(), listed.media.tolist()) == (
        ("1.jpg", "2.jpg", "3.jpg"),
        [5, 5, 9],
        [70, 70, 71],
    )
    pairs = tmp_path / "pairs.txt"
    templates = np.array([5, 9])
    for text in ("5 9 0\n9 5 1\n5 5 1\n", "5 9 0\r\n9 5 1\r\n5 5 1", "5\t9\t0\n\n9 5  1\n5 5 1\n\n"):
        pairs.write_bytes(text.encode())
        found = read_template_pairs(pairs, templates)
        assert [found.first.tolist(), found.second.tolist()] == [[0, 1, 0], [1, 0, 0]]
        assert found.same.tolist() == [False, True, True]
    points = tmp_path / "points.txt"
    points.write_text("2.jpg " + " ".join(map(str, range(10))) + " 0.5\nother.jpg 1\n1.jpg " + "1 " * 11 + "\n")
    found = read_landmarks(points, ["1.jpg", "2.jpg"])
    assert found.points[1].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    assert found.scores.tolist() == [1.0, 0.5]
    table = tmp_path / "G1.csv"
    table.write_text("TEMPLATE_ID,SUBJECT_ID,FILENAME\n9,1,a.jpg\n5,2,b.jpg\n9,1,c.jpg\n")
    assert [part.tolist() for part in read_subjects(table)] == [[5, 9], [2, 1]]


def test_pairs_in_many_blocks(tmp_path: Path, monkeypatch) -> None:
    rows = np.random.default_rng(0).integers(0, 40, (500, 2))
    (tmp_path / "pairs.txt").write_text("".join(f"{a} {b} {a % 2}\n" for a, b in rows))
    monkeypatch.setattr("spherecv.evaluate.ijbfiles._BLOCK", 17)
    found = read_template_pairs(tmp_path / "pairs.txt", np.arange(40))
    np.testing.assert_array_equal(np.stack([found.first, found.second], axis=1), rows)
    np.testing.assert_array_equal(found.same, rows[:, 0] % 2 == 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5 9 0\n5 9\n", "line 2: expected `TEMPLATE"),
        ("5 9 0\n5 9 x\n", "line 2"),
        ("5 9 2\n", "label must be 0 or 1"),
        ("5 9 0\n5 8 1\n", "names template 8"),
        ("", "holds no pairs"),
        ("5 9 1.5\n", "line 1"),
        ("9" * 30 + " 5 1\n", "names template"),
        ("5 9 0 0\n5 9\n", "line 1|label"),
        (b"\xff\xfe\x00", "line 1"),
    ],
)
def test_broken_pairs(tmp_path: Path, text, message: str) -> None:
    file = tmp_path / "pairs.txt"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DatasetError, match=message):
        read_template_pairs(file, np.array([5, 9]))


def test_broken_lists(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    for read in (read_media, lambda path: read_template_pairs(path, np.array([1])), read_subjects):
        with pytest.raises(DatasetError, match="cannot be read"):
            read(tmp_path / "no.txt")
    for text, message in (("1.jpg 5\n", "line 1"), ("", "no images"), ("1.jpg a 5\n", "line 1")):
        file.write_text(text)
        with pytest.raises(DatasetError, match=message):
            read_media(file)
    for text, message in (("a 1 2\n", "11 numbers"), ("b 1\n", "lacks 1 of the 1"), ("a " + "nan " * 11, "lacks 1")):
        file.write_text(text)
        with pytest.raises(DatasetError, match=message):
            read_landmarks(file, ["a"])
    for text, message in (
        ("T,S\n", "no templates"),
        ("T,S\n1\n", "line 2"),
        ("T,S\n1,2\n1,3\n", "two subjects, 2 and 3"),
    ):
        file.write_text(text)
        with pytest.raises(DatasetError, match=message):
            read_subjects(file)


@pytest.fixture
def ijb(tmp_path: Path) -> dict[str, Path]:
    """Twelve people, two templates each of three images; one image is missing, and one template with it."""
    generator = np.random.default_rng(0)
    media, pairs, gallery, probes = [], [], [], []
    (tmp_path / "crops").mkdir()
    for person in range(12):
        pattern = generator.uniform(0, 255, (8, 8, 3))
        for side in (0, 1):
            template = 10 * person + side
            for i in range(3):
                name = f"{template}_{i}.png"
                image = np.clip(pattern + 40 * generator.normal(size=(8, 8, 3)), 1, 255).astype(np.uint8)
                cv2.imwrite(str(tmp_path / "crops" / name), image.repeat(14, axis=0).repeat(12, axis=1))
                media.append(f"{name} {template} {template * 5 + i // 2}")
            (gallery if side == 0 and person < 9 else probes).append(f"{template},{person}")
        pairs += [f"{10 * person} {10 * other + 1} {int(person == other)}" for other in range(12)]
    for i in range(3):
        (tmp_path / "crops" / f"20_{i}.png").unlink()
    for name, lines in (
        ("media", media),
        ("pairs", pairs),
        ("gallery", ["T,S", *gallery]),
        ("probes", ["T,S", *probes]),
    ):
        (tmp_path / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return {name: tmp_path / f"{name}.txt" for name in ("media", "pairs", "gallery", "probes")} | {
        "crops": tmp_path / "crops"
    }


def test_from_files_to_figures(ijb, subject, tmp_path: Path) -> None:
    found = evaluate_ijb(
        ijb["crops"],
        IjbFiles(ijb["media"], pairs=ijb["pairs"], galleries=[ijb["gallery"]], probes=ijb["probes"]),
        subject,
        saved=lambda stamp: str(tmp_path / "rows.f32"),
        replicates=20,
    )
    assert found.templates == 24
    assert sorted(found.failures) == ["20_0.png", "20_1.png", "20_2.png"]
    assert found.empty == 1
    assert found.verification.rejected == 12
    assert found.verification.tar[0.1].value == pytest.approx(11 / 12)
    (searched,) = found.searches
    assert searched.name == "gallery"
    assert (searched.mated, searched.unmated, searched.failed) == (9, 6, 1)
    assert searched.ranks[1] == pytest.approx(8 / 9)
    assert "rank 1: 88.89 %" in str(found)
    assert found.to_dict()["templates_without_image"] == 1
    again = evaluate_ijb(
        ijb["crops"],
        IjbFiles(ijb["media"], pairs=ijb["pairs"]),
        subject,
        saved=lambda stamp: str(tmp_path / "rows.f32"),
        replicates=20,
    )
    assert again.verification.to_dict() == found.verification.to_dict()
    assert len(subject.stages.opened) == 1
    with pytest.raises(DatasetError, match="go together"):
        evaluate_ijb(ijb["crops"], IjbFiles(ijb["media"], galleries=[ijb["gallery"]]), subject)


def test_faces_are_cut_out_by_the_landmarks_given(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    (tmp_path / "points.txt").write_text("a.png 20 20 50 22 35 30 22 45 48 44 0.9\n")
    aligner = FaceAligner("arcface", alignment="umeyama")
    source = MediaImages(tmp_path, ["a.png"], read_landmarks(tmp_path / "points.txt", ["a.png"]), aligner)
    points = np.array([[20, 20], [50, 22], [35, 30], [22, 45], [48, 44]], np.float64)
    expected = cv2.warpAffine(image, aligner.transform(points), (112, 112))
    np.testing.assert_array_equal(source.load(0), expected)
