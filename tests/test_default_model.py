"""The model that travels with the package: it answers at once, without network, and says at which rate."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from spherecv import FaceVerifier, caffe
from spherecv.zoo import DEFAULT_MODEL, model_info, models_dir, open_model

PLAIN_BLOCKS = {"Input", "Convolution", "PReLU", "Eltwise", "InnerProduct"}


@pytest.fixture(scope="module")
def net() -> caffe.CaffeNet:
    files = (models_dir() / f"{DEFAULT_MODEL}.{suffix}" for suffix in ("prototxt", "caffemodel"))
    return caffe.load(*files)


def test_it_is_small_and_plain(net: caffe.CaffeNet) -> None:
    summary = net.summary()
    assert (models_dir() / f"{DEFAULT_MODEL}.caffemodel").stat().st_size <= 12_000_000
    assert summary.macs <= 250_000_000
    assert {layer.type for layer in net.layers} <= PLAIN_BLOCKS
    assert net.inputs == {"data": (1, 3, 112, 96)}
    assert 128 <= np.prod(summary.rows[-1].output) <= 512


def test_its_terms_and_its_card_are_at_hand() -> None:
    info = model_info(DEFAULT_MODEL)
    assert "esearch only" in info.terms
    card = (models_dir() / info.card).read_text(encoding="utf-8")
    for word in ("UTKFace", "foamliu", "Apache-2.0", "not for", "DevTest", "MACs", "ms"):
        assert word in card


def test_thresholds_of_both_metrics_are_the_same_cut() -> None:
    rows = model_info(DEFAULT_MODEL).thresholds
    cuts = {(row.metric, row.far): row for row in rows}
    rates = (1e-2, 1e-3, 1e-4, 1e-5)
    assert set(cuts) == {(metric, far) for metric in ("cosine", "euclidean") for far in (None, *rates)}
    for far in rates:
        # On unit vectors the Euclidean distance is the root of twice the cosine distance.
        assert cuts["euclidean", far].threshold == pytest.approx(np.sqrt(2 * cuts["cosine", far].threshold), abs=1e-4)
        row = cuts["cosine", far]
        assert row.rate * row.pairs >= 30
        assert row.interval[0] <= far <= row.interval[1]
    assert all(row.reproduced for row in rows)
    assert all(np.diff([cuts["cosine", far].threshold for far in rates]) < 0)


@pytest.mark.runtime
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_pairs_it_never_saw_are_told_apart(data_dir: Path, metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """deepface's photographs: no image, no person and no threshold comes from there."""
    monkeypatch.setenv("SPHERECV_OFFLINE", "1")
    photos = data_dir / "deepface-pairs"
    with (photos / "master.csv").open() as table:
        rows = list(csv.DictReader(table))
    genuine = [row for row in rows if row["Decision"] == "Yes"]
    pairs = genuine + [row for row in rows if row["Decision"] == "No"][: len(genuine)]
    verifier = FaceVerifier(metric=metric)
    answers = verifier.verify_pairs([(photos / row["file_x"], photos / row["file_y"]) for row in pairs])
    right = [answer.verified == (row["Decision"] == "Yes") for answer, row in zip(answers, pairs, strict=True)]
    assert np.mean(right) >= 0.9
    strict = [answer.distance <= verifier.threshold_at(1e-3).value for answer in answers]
    assert not any(strict[len(genuine) :])
    # The probability is a statement on the same scale: high where the distance is small.
    chances, distances = ([getattr(answer, name) for answer in answers] for name in ("probability", "distance"))
    assert all(np.diff(np.array(chances)[np.argsort(distances)]) <= 0)
    assert answers[int(np.argmin(distances))].probability > 0.9 > 0.1 > answers[int(np.argmax(distances))].probability


def test_the_rate_that_is_stated_holds_on_other_people(data_dir: Path) -> None:
    """UTKFace's held-out shard: nearly every image shows another person."""
    import tarfile

    import cv2

    from spherecv import FaceEmbedder
    from spherecv.metrics import pairwise_distance

    crops = []
    with tarfile.open(data_dir / "faces-112-03.tar") as shard:
        for number, member in enumerate(shard):
            if number % 15 == 0 and member.isfile():
                data = np.frombuffer(shard.extractfile(member).read(), np.uint8)
                crops.append(cv2.imdecode(data, cv2.IMREAD_COLOR)[:, 8:104])
    rows = FaceEmbedder(open_model(DEFAULT_MODEL)).embed(np.stack(crops))
    assert rows.shape == (len(crops), 256)  # of the crop and of its mirror image
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    distances = pairwise_distance(rows, rows, "cosine")[np.triu_indices(len(rows), 1)]
    known = model_info(DEFAULT_MODEL).thresholds
    cut = next(row.threshold for row in known if (row.metric, row.far) == ("cosine", 1e-2))
    # Pairs of one age, sex and origin are many there, so the rate is higher than on LFW; ten times would not hold.
    assert (distances <= cut).mean() < 0.1


@pytest.mark.parametrize("name", ["sphereface-mini.toml", "sphereface-mini-polish.toml"])
def test_its_recipes_are_recipes(name: str) -> None:
    from spherecv.train.distill import DistillRecipe

    recipe = DistillRecipe.from_toml(models_dir() / name)
    assert (recipe.batch_size, recipe.mixtures) == (32, 17_700)
    settings = recipe.solver_settings(35_400)
    assert settings.policy(settings.max_iter - 1) < 1e-3 * recipe.base_lr
