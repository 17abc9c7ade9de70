"""Evaluation and calibration from the command line, with a real net on a few photos of LFW."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from spherecv import FaceVerifier
from spherecv.errors import CalibrationError, MissingThresholdError
from spherecv.thresholds import Calibration
from spherecv.zoo import Learnt

pytestmark = pytest.mark.runtime


def failure(result) -> str:
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.strip().splitlines() if not line.startswith("warning: ")]
    assert line.startswith("error: ")
    return line


@pytest.fixture(scope="module")
def model(mobilefacenet: tuple[Path, Path]) -> list[str]:
    return ["--model", ",".join(map(str, mobilefacenet)), "--recipe", "mobilefacenet"]


@pytest.fixture(scope="module")
def world(lfw_dir: Path, tmp_path_factory) -> Path:
    """Twelve people with two or more photos, and the lists `test.txt`, `train.txt`, `folds.txt` and `pairs.csv`."""
    folder = tmp_path_factory.mktemp("world")
    people = [p for p in sorted((lfw_dir / "images").iterdir()) if len(list(p.iterdir())) > 1][:12]
    numbers = {}
    for person in people:
        (folder / "images" / person.name).mkdir(parents=True)
        photos = sorted(person.iterdir())[:2]
        numbers[person.name] = [int(path.stem[-4:]) for path in photos]
        for path in photos:
            shutil.copy(path, folder / "images" / person.name)
    names = list(numbers)
    matched = [f"{name}\t{numbers[name][0]}\t{numbers[name][1]}" for name in names]
    mixed = [f"{a}\t{numbers[a][0]}\t{b}\t{numbers[b][1]}" for a, b in zip(names, names[1:] + names[:1], strict=True)]
    (folder / "test.txt").write_text("\n".join(["6", *matched[:6], *mixed[:6]]))
    (folder / "train.txt").write_text("\n".join(["6", *matched[6:], *mixed[6:]]))
    folds = [line for f in range(3) for line in (*matched[4 * f : 4 * f + 4], *mixed[4 * f : 4 * f + 4])]
    (folder / "folds.txt").write_text("\n".join(["3\t4", *folds]))
    rows = [f"{a}/{a}_{numbers[a][0]:04d}.jpg,{a}/{a}_{numbers[a][1]:04d}.jpg,1" for a in names]
    for a in names:
        rows += [f"{a}/{a}_{numbers[a][0]:04d}.jpg,{b}/{b}_{numbers[b][1]:04d}.jpg,0" for b in names if b != a]
    (folder / "pairs.csv").write_text("\n".join(["first,second,same", *rows]))
    return folder


def test_lfw_with_a_report_and_saved_embeddings(run, world: Path, model, tmp_path: Path) -> None:
    arguments = [
        "evaluate", "lfw", world / "images", "--pairs", world / "folds.txt", *model, "--bootstrap", 20,
        "--embeddings", tmp_path / "lfw.npz",
    ]  # fmt: skip
    result = run(*arguments, "--report", tmp_path / "report", "--json")
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)
    assert found["protocol"] == "LFW view 2"
    assert found["compared"] == 24
    assert found["variants"][0]["folds"]["mean"] >= 0.9
    assert found["detector"] == "mtcnn preset=sphereface"
    assert (tmp_path / "report" / "report.html").stat().st_size > 50_000
    before = (tmp_path / "lfw.npz").stat().st_mtime_ns
    text = run(*arguments)
    assert "AVE\t" in text.stdout
    assert (tmp_path / "lfw.npz").stat().st_mtime_ns == before


def test_two_models_on_view_1_side_by_side(run, world: Path, model, tmp_path: Path) -> None:
    result = run(
        "evaluate", "lfw", world / "images", "--pairs", world / "test.txt", "--training-pairs", world / "train.txt",
        *model, "--model", model[1], "--bootstrap", 0, "--embeddings", tmp_path,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.stdout.count("LFW view 1: mobilefacenet") == 2
    assert "threshold of train.txt" in result.stdout
    assert "McNemar's exact test: p = 1" in result.stdout  # the model against itself
    both = run(
        "evaluate", "lfw", world / "images", "--pairs", world / "test.txt", *model, "--model", model[1],
        "--bootstrap", 0, "--embeddings", tmp_path, "--json",
    )  # fmt: skip
    one, two = json.loads(both.stdout)
    assert [test["pairs"] for test in one["comparisons"]] == [12]
    assert two["comparisons"] == []


def test_pairs_with_ready_crops_and_groups(run, world: Path, model, tmp_path: Path) -> None:
    assert run("align", world / "images", tmp_path / "crops", "--recipe", "mobilefacenet", "-j", 1).exit_code == 0
    names = sorted(path.name for path in (tmp_path / "crops").rglob("*_0001.jpg"))
    rows = ["file,sex", *(f"{name},{i % 2}" for i, name in enumerate(names))]
    (tmp_path / "groups.csv").write_text("\n".join(rows))
    result = run(
        "evaluate", "pairs", tmp_path / "crops", "--pairs", world / "pairs.csv", "--face", "whole", *model,
        "--bootstrap", 10, "--groups", tmp_path / "groups.csv", "--group-images", tmp_path / "crops", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)
    assert found["detector"] == "whole"
    assert found["variants"][0]["auc"]["value"] > 0.99
    assert list(found["variants"][0]["tar_at_far"]) == []
    assert found["groups"][0]["groups"] == ["0", "1"]


def test_all_pairs_of_a_folder_without_a_list(run, world: Path, model) -> None:
    arguments = ["evaluate", "pairs", world / "images", *model, "--bootstrap", 20]
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)
    assert (found["genuine_pairs"], found["impostor_pairs"]) == (12, 264)
    assert found["rates"] == []  # 264 pairs give 26 false accepts at 0.1
    assert "12 genuine and 264 impostor pairs of 12 people" in run(*arguments).stdout
    assert "need a list" in failure(run(*arguments, "--threshold", 0.5))


def test_megaface_style_against_a_file_of_embeddings(run, world: Path, model, tmp_path: Path) -> None:
    strangers = np.random.default_rng(0).normal(size=(5000, 128)).astype(np.float32)
    np.save(tmp_path / "d.npy", strangers)
    result = run(
        "evaluate", "megaface", world / "images", tmp_path / "d.npy", *model, "--report", tmp_path / "r", "--json"
    )
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)
    assert list(found["rank1"]) == ["10", "100", "1000", "5000"]
    assert found["rank1"]["10"] == 1.0
    assert found["rank1"]["5000"] > 0.8
    assert found["trials"] == 24
    assert (tmp_path / "r" / "cmc.png").read_bytes().startswith(b"\x89PNG")
    text = run("evaluate", "megaface", world / "images", world / "images", *model)
    assert "rank-1 among 24 distractors" in text.stdout


@pytest.fixture(scope="module")
def door(run, world: Path, model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("door") / "door.toml"
    result = run(
        "calibrate", world / "pairs.csv", "--images", world / "images", *model, "--far", 0.3, "--bootstrap", 50,
        "--out", path, "--plot", path.with_suffix(".png"),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "FAR 0.3" in result.stdout
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    return path


def test_a_calibration_names_the_images_that_could_not_be_used(run, world: Path, model, tmp_path: Path) -> None:
    shutil.copytree(world / "images", tmp_path / "images")
    first = (world / "pairs.csv").read_text().splitlines()[1].partition(",")[0]
    (tmp_path / "images" / first).write_bytes(b"no image")
    result = run(
        "calibrate", world / "pairs.csv", "--images", tmp_path / "images", *model, "--far", 0.3, "--bootstrap", 50,
        "--out", tmp_path / "c.toml",
    )  # fmt: skip
    (note,) = [line for line in result.stdout.splitlines() if "could not be used" in line]
    assert note.startswith("note: 1 of 24 images could not be used")
    assert first in note
    assert "not an image" in note
    assert ("0 of" in result.stdout) == ("people, not pairs: " in result.stdout)
    assert "0 of" in result.stdout


def test_a_calibration_on_images_that_trained_the_weights_says_so(
    run, world: Path, mobilefacenet: tuple[Path, Path], tmp_path: Path
) -> None:
    prototxt, weights = mobilefacenet[0], tmp_path / "tuned.caffemodel"
    weights.symlink_to(mobilefacenet[1])
    images = sorted((world / "images").rglob("*.jpg"))
    words = ("calibrate", world / "pairs.csv", "--images", world / "images", "--model", f"{prototxt},{weights}")
    words = (*words, "--recipe", "mobilefacenet", "--far", 0.3, "--bootstrap", 50, "--out", tmp_path / "c.toml")
    Learnt.of([b"none of these"]).save(weights)
    assert "tuned on" not in run(*words).stdout
    Learnt.of(path.read_bytes() for path in images[:5]).save(weights)
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert "note: WARNING: tuned was tuned on 5 of the 24 images" in result.stdout
    assert "calibrate on other people" in Calibration.load(tmp_path / "c.toml").notes[-1]


def test_a_calibration_decides_and_gives_a_probability(run, world: Path, model, door: Path) -> None:
    prototxt, caffemodel = model[1].split(",")
    photos = sorted((world / "images").rglob("*.jpg"))
    verifier = FaceVerifier.from_caffe(prototxt, caffemodel, recipe="mobilefacenet", calibration=door)
    same, different = verifier.verify(photos[0], photos[1]), verifier.verify(photos[0], photos[2])
    kept = Calibration.load(door)
    assert same.verified
    assert same.threshold == kept.thresholds[0].threshold
    assert same.far == 0.3
    assert "FAR 0.3 on pairs.csv" in same.threshold_source
    assert kept.thresholds[0].false_accepts == int(0.3 * kept.impostors)
    assert (kept.genuine, kept.impostors, kept.identities) == (12, 132, 12)
    assert kept.probability is None  # 12 genuine pairs do not support one
    assert same.probability is None
    assert same.distance < different.distance
    assert verifier.verify(photos[0], photos[1], far=0.3).threshold_source == same.threshold_source
    with pytest.raises(MissingThresholdError, match=r"FAR 0\.001"):
        verifier.verify(photos[0], photos[1], far=0.001)
    files = ["--prototxt", prototxt, "--caffemodel", caffemodel, *model[2:], "--calibration", door]
    answer = run("verify", photos[0], photos[1], *files, "--json")
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["far"] == 0.3


def test_a_probability_takes_a_prior_and_says_so(run, world: Path, model, tmp_path: Path, lfw_dir: Path) -> None:
    prototxt, caffemodel = model[1].split(",")
    photos = sorted((world / "images").rglob("*.jpg"))
    names = [f"{path.parent.name}/{path.name}" for path in photos]
    again = [f"{a},{b},1" for a, b in zip(names[::2], names[1::2], strict=True)] * 2  # a list may hold a pair twice
    mixed = [f"{a},{b},0" for i, a in enumerate(names) for b in names[i // 2 * 2 + 2 :]]
    (tmp_path / "p.csv").write_text("\n".join(again + mixed))
    arguments = [tmp_path / "p.csv", "--images", world / "images", *model, "--bootstrap", 10]
    result = run("calibrate", *arguments, "--out", tmp_path / "c.toml", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["probability"]["method"] in ("logistic", "isotonic")
    assert any("listed more than once" in note for note in answer["notes"])
    results = {}
    for prior in (0.5, 0.01):
        verifier = FaceVerifier.from_caffe(
            prototxt, caffemodel, recipe="mobilefacenet", calibration=tmp_path / "c.toml", prior=prior
        )
        results[prior] = verifier.verify(photos[0], photos[1])
        assert results[prior].to_dict()["prior"] == prior
        assert verifier.verify(photos[0], photos[5]).probability < 0.1
    assert results[0.5].probability > 0.9
    assert results[0.01].probability < results[0.5].probability
    odds = [r.probability / (1 - r.probability) for r in results.values()]
    assert odds[0] / odds[1] == pytest.approx(99, rel=1e-3)


def test_a_calibration_is_refused_with_anything_else(model, door: Path, data_dir: Path) -> None:
    prototxt, caffemodel = model[1].split(",")
    with pytest.raises(CalibrationError, match="metric"):
        FaceVerifier.from_caffe(prototxt, caffemodel, recipe="mobilefacenet", calibration=door, metric="euclidean")
    with pytest.raises(CalibrationError, match="recipe"):
        FaceVerifier.from_caffe(prototxt, caffemodel, recipe="sface", calibration=door)
    with pytest.raises(CalibrationError, match="other files"):
        FaceVerifier(str(data_dir / "teacher" / "mobilefacenet.onnx"), recipe="mobilefacenet", calibration=door)
    with pytest.raises(MissingThresholdError, match=r"known rates: 0\.3"):
        FaceVerifier.from_caffe(prototxt, caffemodel, recipe="mobilefacenet", calibration=door, far=0.01)


def test_all_pairs_of_a_folder_support_a_lower_rate(run, world: Path, model, tmp_path: Path) -> None:
    result = run("calibrate", world / "images", *model, "--far", 0.12, "--out", tmp_path / "all.toml")
    assert result.exit_code == 0, result.output
    kept = Calibration.load(tmp_path / "all.toml")
    assert kept.impostors == 24 * 22 // 2
    assert kept.impostor_pairs_from == "all pairs of different people"
    assert kept.thresholds[0].false_accepts == 31
    result = run(
        "calibrate", world / "folds.txt", "--images", world / "images", "--impostors", "all", *model, "--far", 0.15,
        "--out", tmp_path / "more.toml",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert Calibration.load(tmp_path / "more.toml").impostors > 132


def test_failures_are_one_line_and_write_nothing(run, world: Path, model, tmp_path: Path) -> None:
    pairs, images, out = world / "pairs.csv", world / "images", tmp_path / "c.toml"
    too_low = run("calibrate", pairs, "--images", images, *model, "--far", 0.001, "--out", out)
    assert "FAR 0.001 on 132 impostor pairs rests on 0.132 false accepts, and needs 30" in failure(too_low)
    assert not out.exists()
    (tmp_path / "bad.txt").write_text("Nobody_Here\t1\t2\n")
    line = failure(run("evaluate", "lfw", images, "--pairs", tmp_path / "bad.txt", *model))
    assert "Nobody_Here" in line
    (tmp_path / "self.csv").write_text("a.jpg,a.jpg,1\n")
    assert "paired with itself" in failure(run("evaluate", "pairs", images, "--pairs", tmp_path / "self.csv", *model))
    many = ["--model", "x.onnx", "--recipe", "sface", "--recipe", "sface"]
    assert "--recipe must be given once" in failure(run("evaluate", "lfw", images, "--pairs", pairs, *many))
    assert "together" in failure(run("evaluate", "lfw", images, "--pairs", pairs, *model, "--groups", pairs))
    assert "center, largest or whole" in failure(
        run("evaluate", "pairs", images, "--pairs", pairs, *model, "--face", "all")
    )
    (tmp_path / "d.npy").write_bytes(b"nothing")
    assert "cannot be read as embeddings" in failure(run("evaluate", "megaface", images, tmp_path / "d.npy", *model))
