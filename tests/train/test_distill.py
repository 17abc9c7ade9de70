"""Distillation, with a teacher small enough to know what it says."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherecv.caffe import load
from spherecv.caffe.builder import NetBuilder, constant, xavier
from spherecv.caffe.writer import serialize, write_prototxt
from spherecv.errors import InvalidArgumentError, ModelFileError
from spherecv.train.backend import open_backend
from spherecv.train.data import Augmentation, Dataset, View, open_dataset
from spherecv.train.distill import DistillRecipe, open_distillation, with_mixtures
from spherecv.train.net import Net
from spherecv.train.teacher import Teacher, TeacherRecipe, centre, targets
from spherecv.train.weights import to_caffemodel

RECIPE = TeacherRecipe(height=12, width=12, rgb=True, mean=(127.5,), std=(128.0,))


def _net(width: int, size: tuple[int, int], name: str = "fc5") -> NetBuilder:
    net = NetBuilder("student").input("data", (1, 3, *size))
    net.conv("conv1", 8, 3, stride=2, pad=1, weight_filler=xavier(), bias_filler=constant(0)).prelu("relu1")
    return net.inner_product(name, width, weight_filler=xavier(), bias_filler=constant(0))


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    definition = _net(6, (12, 12)).build()
    net = Net(definition, {"data": (1, 3, 12, 12)}, open_backend("cpu"), seed=9)
    path = tmp_path_factory.mktemp("teacher") / "teacher.onnx"
    path.write_bytes(load(str(definition).encode(), serialize(to_caffemodel(net))).to_onnx())
    return path


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("faces") / "00.tar"
    with tarfile.open(path, "w") as archive:
        for number in range(40):
            target = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(target, "PNG")
            info = tarfile.TarInfo(f"{number}.png")
            info.size = target.tell()
            target.seek(0)
            archive.addfile(info, target)
    return open_dataset(path)


@pytest.fixture
def student(tmp_path: Path) -> Path:
    return write_prototxt(_net(5, (12, 10)).build(), tmp_path / "student.prototxt")


def test_teacher_is_fed_as_its_recipe_says(teacher_file: Path) -> None:
    """Red first, its own mean and scale, a larger picture cut in the middle, rows of unit length."""
    teacher = Teacher(teacher_file, RECIPE)
    images = np.random.default_rng(0).integers(0, 256, (3, 14, 16, 3), dtype=np.uint8)
    from spherecv.runtime import Session

    fed = (images[:, 1:13, 2:14, ::-1].astype(np.float32) - 127.5) / 128
    expected = Session(teacher_file).run(np.ascontiguousarray(fed.transpose(0, 3, 1, 2)))["fc5"]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(teacher.embed(images), expected, atol=1e-5)
    both = teacher.embed(images) + teacher.embed(images[:, :, ::-1])
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    np.testing.assert_allclose(teacher.embed_both(images), both, atol=1e-6)
    with pytest.raises(InvalidArgumentError, match="smaller than"):
        centre(images, 20, 12)
    with pytest.raises(ModelFileError, match="cannot be read"):
        Teacher(teacher_file.with_name("gone.onnx"))


def test_targets_are_computed_once(teacher_file: Path, faces: Dataset, tmp_path: Path) -> None:
    teacher, view, calls = Teacher(teacher_file, RECIPE), View(12, 12), []
    first = targets(teacher, faces, view, tmp_path / "t.npz", batch_size=16, progress=lambda *a: calls.append(a))
    assert calls == [(16, 40), (32, 40), (40, 40)]
    again = targets(teacher, faces, view, tmp_path / "t.npz", progress=lambda *a: calls.append(a))
    assert np.array_equal(first, again)
    assert len(calls) == 3
    targets(teacher, faces.subset(range(10)), view, tmp_path / "t.npz", progress=lambda *a: calls.append(a))
    assert calls[-1] == (10, 10)
    (tmp_path / "t.npz").write_bytes(b"damaged")
    assert np.array_equal(targets(teacher, faces, view, tmp_path / "t.npz"), first)
    images = np.stack([view.read(item, np.random.default_rng(0)) for item in faces.items[:2]])
    np.testing.assert_allclose(first[:2], teacher.embed_both(images), atol=1e-6)


@pytest.mark.parametrize("same_view", [False, True])
def test_the_student_comes_closer(teacher_file: Path, faces: Dataset, student: Path, same_view: bool) -> None:
    recipe = DistillRecipe(
        epochs=20,
        batch_size=10,
        base_lr=0.01,
        same_view=same_view,
        teacher=RECIPE,
        warmup=0.1,
        augmentation=Augmentation(mirror=True, shift=1),
    )
    teacher = Teacher(teacher_file, RECIPE)
    with open_distillation(teacher, faces, student, recipe, workers=0, snapshot_after_train=False) as trainer:
        assert trainer.settings.max_iter == 80
        first = trainer.step()
        last = trainer.run()
        assert trainer.net.inputs["data"] == (10, 3, 12, 10)
    assert first > 0.5
    assert last < 0.7 * first


def test_it_resumes_exactly(teacher_file: Path, faces: Dataset, student: Path, tmp_path: Path) -> None:
    recipe = DistillRecipe(epochs=2, batch_size=10, teacher=RECIPE)
    teacher = Teacher(teacher_file, RECIPE)

    def run(steps: int, resume: Path | None = None) -> tuple[list[float], Path]:
        with open_distillation(
            teacher, faces, student, recipe, workers=0, threads=2, resume=resume, snapshot_prefix=str(tmp_path / "s")
        ) as trainer:
            return [trainer.step() for _ in range(steps)], trainer.snapshot()

    whole, _ = run(8)
    first, state = run(3)
    rest, _ = run(5, state)
    assert whole == first + rest


def test_recipes_from_toml(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text(
        "epochs = 3\nbase_lr = 0.002\nmean = [104, 117, 123]\n[augmentation]\nblur = 0.2\n[teacher]\nstd = [128.0]\n"
    )
    recipe = DistillRecipe.from_toml(file)
    assert (recipe.epochs, recipe.augmentation.blur, recipe.teacher.std) == (3, 0.2, (128.0,))
    assert recipe.mean == (104, 117, 123)
    settings = recipe.solver_settings(640)
    assert (settings.max_iter, settings.policy.warmup) == (30, 3)
    for text, message in (
        ("epoch = 3", "unknown setting 'epoch'"),
        ("[augmentation]\nflip = 1", "unknown augmentation 'flip'"),
        ("[teacher]\nsize = 3", "unknown setting of the teacher: 'size'"),
        ("epochs = ", "is not TOML"),
    ):
        file.write_text(text)
        with pytest.raises(InvalidArgumentError, match=message):
            DistillRecipe.from_toml(file)


def test_mixtures_are_added(teacher_file: Path, faces: Dataset, student: Path, tmp_path: Path) -> None:
    recipe = DistillRecipe(epochs=1, batch_size=10, teacher=RECIPE, mixtures=30)
    both = with_mixtures(faces, recipe, tmp_path)
    assert (len(both.items), both.items[:40]) == (70, faces.items)
    assert with_mixtures(faces, replace(recipe, mixtures=0), tmp_path) is faces
    with open_distillation(Teacher(teacher_file, RECIPE), both, student, recipe, workers=0) as trainer:
        assert trainer.settings.max_iter == 7


def test_two_processes_do_what_one_does(teacher_file: Path, faces: Dataset, student: Path, tmp_path: Path) -> None:
    """The other process runs the same command; each takes half of the batch."""
    (tmp_path / "recipe.toml").write_text(
        "epochs = 1\nbatch_size = 8\n[teacher]\nheight = 12\nwidth = 12\nmean = [127.5]\nstd = [128.0]\n"
        "[augmentation]\nmirror = false\n"
    )
    code = "from spherecv.cli.train import app; app()"
    words = ["distill", str(teacher_file), str(faces.items[0].path), "--student", str(student), "--json"]
    words += ["--settings", str(tmp_path / "recipe.toml"), "--workers", "0", "--threads", "1"]
    losses = {}
    for count in (1, 2):
        out = tmp_path / str(count)
        told = subprocess.run(
            [sys.executable, "-c", code, *words, "--processes", str(count), "-o", str(out)],
            cwd=Path(__file__).resolve().parents[2],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert told.returncode == 0, told.stderr
        assert json.loads(told.stdout)["iterations"] == 5
        losses[count] = np.loadtxt(out / "snapshot.csv", delimiter=",", skiprows=1, usecols=1)
    np.testing.assert_allclose(losses[2], losses[1], rtol=1e-4)
    assert losses[1][-1] < losses[1][0]


def _with_crops(tmp_path: Path, size: tuple[int, int]) -> Dataset:
    rng = np.random.default_rng(0)
    (tmp_path / "crops" / "all").mkdir(parents=True)
    for number in range(6):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "crops" / "all" / f"{number}.png")
    return open_dataset(tmp_path / "crops")


@pytest.mark.parametrize(("size", "said"), [((12, 10), "10x12"), ((40, 40), "40x40")])
def test_crops_of_the_wrong_size_are_named(
    teacher_file: Path, student: Path, tmp_path: Path, size: tuple[int, int], said: str
) -> None:
    teacher, recipe = Teacher(teacher_file, RECIPE), DistillRecipe(teacher=RECIPE)
    with (
        pytest.raises(InvalidArgumentError, match=rf"is {said}, and the teacher takes aligned crops of 12x12"),
        open_distillation(teacher, _with_crops(tmp_path, size), student, recipe, workers=0),
    ):
        pass


def test_a_teacher_of_another_size_than_its_recipe_is_named(teacher_file: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="takes images of 12x12, but its recipe says 112x112"):
        Teacher(teacher_file)


def test_a_student_larger_than_the_teacher_is_refused(teacher_file: Path, faces: Dataset, tmp_path: Path) -> None:
    large = write_prototxt(_net(5, (16, 12)).build(), tmp_path / "large.prototxt")
    recipe = DistillRecipe(teacher=RECIPE)
    with (
        pytest.raises(InvalidArgumentError, match="the student takes 12x16"),
        open_distillation(Teacher(teacher_file, RECIPE), faces, large, recipe, workers=0),
    ):
        pass


def test_a_teacher_that_finds_all_alike_is_doubted(teacher_file: Path, faces: Dataset, student: Path) -> None:
    """Its pixels a thousandth of what they should be, a teacher sees its biases only."""
    wrong = replace(RECIPE, mean=(-1e5,), std=(1e4,))
    with (
        pytest.warns(UserWarning, match=r"finds different images alike \(mean cosine (0\.9|1\.0)"),
        open_distillation(Teacher(teacher_file, wrong), faces, student, DistillRecipe(teacher=wrong), workers=0),
    ):
        pass
