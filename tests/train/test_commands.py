"""`spherecv train`, through its own sub-application."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from spherecv.caffe import load
from spherecv.cli.samples import sample_portrait
from spherecv.cli.train import app, sizes
from spherecv.cli.train.result import conclude
from spherecv.errors import InvalidArgumentError, ModelFileError, PrototxtError, TrainingError
from spherecv.images import load_image
from spherecv.records import WHOLE
from spherecv.thresholds import Calibration
from spherecv.train.data import Dataset, open_dataset
from spherecv.train.finetune import FineTuning
from spherecv.train.validation import Validation
from spherecv.zoo import Learnt, ModelSource, Terms, add_model, get_recipe, model_info


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def answer(*words: str | Path) -> dict:
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_run_resume_list_export(small_run: Path) -> None:
    folder = small_run.parent
    prefix = folder / "run" / "small"
    told = answer("run", small_run, "--workers", "0", "--max-iter", "4")
    assert told["iterations"] == 4
    assert np.isfinite(told["loss"])
    told = answer("run", small_run, "--workers", "0", "--resume", f"{prefix}_iter_4.solverstate")
    assert told["model"] == f"{prefix}_iter_8.caffemodel"
    assert Path(told["table"]).read_text().count("\n") == 9
    listed = answer("show", folder)["snapshots"]
    assert sorted(Path(name).name for name in listed) == ["small_iter_4.solverstate", "small_iter_8.solverstate"]
    assert set(listed.values()) == {"resumes exactly"}
    out = folder / "use"
    told = answer("export", folder / "train.prototxt", told["model"], "--size", "12x10", "-o", out)
    assert told["outputs"] == ["fc5"]
    assert load(told["prototxt"], told["caffemodel"]).inputs == {"data": (1, 3, 12, 10)}


def test_resuming_says_from_where_and_what_is_changed(small_run: Path, picture_folder: Path) -> None:
    state = small_run.parent / "run" / "small_iter_2.solverstate"
    answer("run", small_run, "--workers", "0", "--max-iter", "2")
    same = run("run", small_run, "--workers", "0", "--max-iter", "2", "--resume", state)
    assert f"going on from {state} at iteration 2 of 2" in same.stderr
    assert "changed" not in same.stderr
    shutil.rmtree(picture_folder / "person3")
    other = ("--data", picture_folder, "--batch-size", "3", "--base-lr", "0.002")
    result = run("run", small_run, "--workers", "0", "--max-iter", "3", "--resume", state, *other)
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stderr.splitlines() if "changed since" in line]
    for word in ("batch size ", "-> 3", "base_lr ", " -> 0.002,", "max_iter 2 -> 3", "-> 15 images of 3 people"):
        assert word in line
    assert "net" not in line
    logged = Path(f"{state.parent / 'small'}.log").read_text()
    assert "going on from" in logged
    assert "changed since that snapshot" in logged


def test_run_on_other_data_from_weights(small_run: Path, picture_folder: Path) -> None:
    answer("run", small_run, "--workers", "0", "--max-iter", "1")
    weights = small_run.parent / "run" / "small_iter_1.caffemodel"
    result = run(
        "run",
        small_run,
        "--workers",
        0,
        "--data",
        picture_folder,
        "--weights",
        weights,
        "--max-iter",
        1,
        "--base-lr",
        0.001,
        "--batch-size",
        4,
        "--augment",
        "mirror=1",
        "--augment",
        "shift=1",
        "--prefix",
        small_run.parent / "other" / "x",
    )
    assert result.exit_code == 0
    assert "9 blobs taken" in result.output
    assert (small_run.parent / "other" / "x_iter_1.solverstate").is_file()


def test_finetune(small_run: Path, picture_folder: Path) -> None:
    folder = small_run.parent
    answer("run", small_run, "--workers", "0", "--max-iter", "1")
    model = folder / "run" / "small_iter_1.caffemodel"
    answer("export", folder / "train.prototxt", model, "--size", "12x10", "-o", folder / "use")
    told = answer(
        "finetune",
        f"{folder / 'use.prototxt'},{folder / 'use.caffemodel'}",
        picture_folder,
        "-o",
        folder / "mine",
        "--iterations",
        "5",
        "--batch-size",
        "6",
        "--workers",
        "0",
        "--loss",
        "softmax",
        "--freeze",
        "conv1",
    )
    assert told["iterations"] == 5
    assert load(folder / "mine" / "deploy.prototxt", told["model"]).outputs == ("fc5",)


def test_list_names_what_there_is() -> None:
    told = answer("show")
    assert set(told) == {"nets", "losses", "solvers", "policies", "augmentations"}
    assert {"a-softmax", "triplet", "arcface"} <= set(told["losses"])
    assert "sphereface-20" in run("show").stdout


def test_two_processes(small_run: Path) -> None:
    """The other process gets the same command line; here it is this one's, without pytest's."""
    import subprocess
    import sys

    root = Path(__file__).resolve().parents[2]
    code = "import sys; from spherecv.cli.train import app; app()"
    words = ["run", str(small_run), "--workers", "0", "--processes", "2", "--threads", "1", "--max-iter", "2", "--json"]
    told = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["iterations"] == 2


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (("export", "a", "b", "-o", "c", "--size", "large"), InvalidArgumentError, "HEIGHTxWIDTH"),
        (("show", "nowhere"), InvalidArgumentError, "not a folder"),
        (("run", "nowhere.prototxt"), ModelFileError, "no such file"),
        (("run", "nowhere.prototxt", "--gpus", "0,first"), InvalidArgumentError, "numbers with commas between"),
    ],
)
def test_mistakes(words: tuple[str, ...], error: type[Exception], message: str) -> None:
    result = run(*words)
    assert isinstance(result.exception, error)
    assert message in str(result.exception)


def test_a_net_in_place_of_a_solver(small_run: Path) -> None:
    result = run("run", small_run.parent / "train.prototxt")
    assert isinstance(result.exception, PrototxtError)
    assert "train.prototxt is a net, not a solver" in str(result.exception)
    small_run.write_text(small_run.read_text() + '\nname: "no field of a solver"')
    assert "SolverParameter has no field 'name'" in str(run("run", small_run).exception)


def test_augmentations_that_are_none(small_run: Path) -> None:
    for setting, message in (("flip=1", "unknown augmentation"), ("blur=much", "NAME=NUMBER")):
        result = run("run", small_run, "--augment", setting)
        assert isinstance(result.exception, InvalidArgumentError)
        assert message in str(result.exception)


def test_divergence_stops_with_advice(small_run: Path) -> None:
    text = small_run.read_text().replace("base_lr: 0.05", "base_lr: 1e30")
    small_run.write_text(text)
    result = run("run", small_run, "--workers", "0")
    assert isinstance(result.exception, TrainingError)
    assert "lower base_lr" in str(result.exception)


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Eight people with four images of 20x16 each, half as large again as the net of `small_run` takes."""
    rng = np.random.default_rng(5)
    for person in range(8):
        (tmp_path / "people8" / f"p{person}").mkdir(parents=True)
        pattern = rng.integers(0, 256, (6, 5, 3)).repeat(3, axis=0).repeat(3, axis=1)
        for number in range(4):
            noisy = np.clip(pattern + rng.normal(0, 40, pattern.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(tmp_path / "people8" / f"p{person}" / f"{number}.png")
    return tmp_path / "people8"


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """Two people with two images of 112x96 each."""
    rng = np.random.default_rng(6)
    for person in ("p0", "p1"):
        (tmp_path / "crops" / person).mkdir(parents=True)
        for number in range(2):
            pixels = rng.integers(0, 256, (112, 96, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "crops" / person / f"{number}.png")
    return tmp_path / "crops"


@pytest.fixture
def used(small_run: Path) -> str:
    """PROTOTXT,CAFFEMODEL of a net for use."""
    folder = small_run.parent
    answer("run", small_run, "--workers", "0", "--max-iter", "1")
    model = folder / "run" / "small_iter_1.caffemodel"
    answer("export", folder / "train.prototxt", model, "--size", "12x10", "-o", folder / "use")
    return f"{folder / 'use.prototxt'},{folder / 'use.caffemodel'}"


def test_finetune_ends_with_rates_thresholds_and_how_to_use_them(used: str, people: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    words = ["finetune", used, people, "-o", out, "--iterations", 10, "--batch-size", 6, "--workers", 0, "--no-align"]
    result = run(*words)
    assert result.exit_code == 0, result.output
    scaled = "images are 15x18, and the net takes 10x12: scaled"
    for said in (scaled, "held out", "equal error rate", "TAR at FAR 1e-2", "separation d' "):
        assert said in result.output
    command = next(line for line in result.output.splitlines() if "models add mine" in line).split()
    options = dict(zip(command[4::2], command[5::2], strict=True))
    assert set(options) == {"--prototxt", "--caffemodel", "--recipe", "--calibration"}
    assert all(Path(path).is_file() for path in options.values())
    calibration = Calibration.load(options["--calibration"])
    source = ModelSource.from_caffe(options["--prototxt"], options["--caffemodel"], recipe=options["--recipe"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibration.check(model=source.name, model_key=source.key, metric="cosine", detector=WHOLE)
    told = answer(*words)
    assert told["held_out"] == 2
    assert told["after"]["separation"] >= told["before"]["separation"]
    assert (out / "held-out.csv").read_text().startswith("iteration,eer,tar,within,between,separation\n0,")


def test_the_images_learnt_are_taken_down_beside_the_weights(used: str, people: Path, tmp_path: Path) -> None:
    """Of a net that was tuned before, those of then too; held-out people are not among them."""
    first, second = tmp_path / "first", tmp_path / "second"
    options = ("--iterations", 1, "--batch-size", 6, "--workers", 0, "--no-align")
    assert run("finetune", used, people, "-o", first, *options).exit_code == 0
    images = sorted(path for path in people.rglob("*") if path.is_file())
    learnt = Learnt.beside(first / "model.caffemodel")
    assert learnt is not None
    held = len(list((first / "held-out").rglob("*.png")))
    assert held > 0
    assert learnt.count(images) == len(images) - held
    model = f"{first / 'deploy.prototxt'},{first / 'model.caffemodel'}"
    assert run("finetune", model, people, "-o", second, *options, "--seed", 3).exit_code == 0
    both = Learnt.beside(second / "model.caffemodel")
    assert both is not None
    assert both.digests > learnt.digests


def test_the_terms_of_the_net_it_started_from_go_with_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crops: Path
) -> None:
    """From a model by its name; from what that wrote, by its files; and from a model of one's own."""
    monkeypatch.setenv("SPHERECV_MODELS", str(tmp_path / "own"))
    base, model = model_info("sphereface-mini"), "sphereface-mini"
    for name in ("first", "second", "third"):
        out = tmp_path / name
        result = run("finetune", model, crops, "-o", out, "--iterations", 1, "--batch-size", 2, "--workers", 0)
        assert result.exit_code == 0, result.output
        files = {"prototxt": out / "deploy.prototxt", "caffemodel": out / "model.caffemodel"}
        info = add_model(name, files, recipe="sphereface-mini")
        assert info.licence == base.licence
        assert "Tuned from sphereface-mini, whose terms hold for it too" in info.terms
        assert base.terms in info.terms
        assert info.training_data == f"{base.training_data.removesuffix('.')}; then images of the user's own"
        model = f"{files['prototxt']},{files['caffemodel']}" if name == "first" else "second"
    assert info.terms.startswith("Tuned from second, ")


def test_weights_of_unknown_terms_take_none_over(used: str, picture_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    out.mkdir()
    Terms(licence="of weights that were here before").save(out / "model.caffemodel")
    assert run("finetune", used, picture_folder, "-o", out, "--iterations", 1, "--workers", 0).exit_code == 0
    assert Terms.beside(out / "model.caffemodel") == Terms()


def test_finetune_without_anybody_held_out(used: str, picture_folder: Path, tmp_path: Path) -> None:
    result = run("finetune", used, picture_folder, "-o", tmp_path / "m", "--iterations", 2, "--workers", 0)
    assert result.exit_code == 0, result.output
    assert "nobody was held out, so what was gained is not known: it takes 6 people with two images" in result.output
    assert (tmp_path / "m" / "model.caffemodel").is_file()


def concluded(out: Path, before: tuple[float, float], after: tuple[float, float], **fit: Any) -> str:
    """What is said of a fine-tuning whose EER and TAR went from one to the other."""
    tuning = FineTuning(None, None, None)  # type: ignore[arg-type]
    files = (out / "deploy.prototxt", out / "model.caffemodel")
    result = conclude(tuning, files, get_recipe("sphereface-mini"), sizes.Fit(**fit), out, able=8)
    looks = [Validation(eer, tar, 30.0, 80.0, 4.0) for eer, tar in (before, after)]
    tuning.held = Dataset([], ("a", "b"))
    tuning.before, tuning.best, tuning.best_iteration = *looks, 60
    return result.text()


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [
        ((0.0061, 1.0), (0.0131, 0.9833), True),
        ((0.0061, 1.0), (0.0131, 1.0), True),
        ((0.0131, 0.9833), (0.0061, 1.0), False),
        ((0.0131, 0.9833), (0.0131, 0.9833), False),
        ((0.0131, 0.9833), (0.0061, 0.97), False),  # the one rate against the other: nobody knows
    ],
)
def test_a_net_that_got_worse_is_not_recommended(
    before: tuple[float, float], after: tuple[float, float], worse: bool, tmp_path: Path
) -> None:
    said = concluded(tmp_path / "mine", before, after)
    assert ("WORSE: the new weights" in said) is worse
    assert ("Keep the old net." in said) is worse
    assert ("to use it all the same:" in said) is worse
    assert "models add mine " in said


def test_the_printed_commands_say_what_images_they_take(tmp_path: Path) -> None:
    said = concluded(tmp_path / "mine", (0.1, 0.9), (0.1, 0.9))
    assert "--face whole" in said
    assert "must be crops aligned like the images trained on" in said
    assert "on other people than those trained on" in said
    photos = concluded(tmp_path / "mine", (0.1, 0.9), (0.1, 0.9), aligned_from=(tmp_path,))
    assert "--face whole" not in photos
    assert "must be crops" not in photos


def test_the_printed_name_is_the_folders_and_gives_no_model_up_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPHERECV_MODELS", str(tmp_path / "own"))
    for folder, name in (("mine2", "mine2"), ("My net_1", "my-net-1"), ("sface", "sface-tuned"), ("__", "mine")):
        said = concluded(tmp_path / folder, (0.1, 0.9), (0.1, 0.9))
        assert f"models add {name} " in said
        assert f"--model {name}" in said
        assert "--replace" not in said
    (tmp_path / "own" / "mine2").mkdir(parents=True)
    assert "--recipe sphereface-mini --replace\n" in concluded(tmp_path / "mine2", (0.1, 0.9), (0.1, 0.9))


def test_an_explosion_leaves_the_last_good_weights_on_disk(used: str, people: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    words = ["finetune", used, people, "-o", out, "--iterations", 10, "--batch-size", 6, "--workers", 0, "--resize"]
    result = run(*words, "--base-lr", 1e9, "--clip-gradients", -1)
    assert isinstance(result.exception, TrainingError)
    assert "--base-lr 1e+08" in str(result.exception)
    assert "--clip-gradients 5" in str(result.exception)
    assert load(out / "deploy.prototxt", out / "model.caffemodel").outputs == ("fc5",)


def test_two_ways_to_the_nets_size_are_one_too_many(used: str, people: Path, tmp_path: Path) -> None:
    result = run("finetune", used, people, "--align", "--resize", "--recipe", "sphereface", "-o", tmp_path / "m")
    assert "choose one" in str(result.exception)
    result = run("finetune", used, people, "--align", "-o", tmp_path / "m")
    assert "--align needs to know where the net wants the landmarks" in str(result.exception)


def test_photos_are_aligned_by_themselves(people: Path, tmp_path: Path) -> None:
    """Portraits in the public domain, of the wheel of scikit-image and matplotlib."""
    folder = tmp_path / "photos"
    for name in ("eileen-collins", "grace-hopper"):
        portrait = sample_portrait(name)
        (folder / name).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(np.ascontiguousarray(portrait[number:, :, ::-1])).save(folder / name / f"{number}.png")
    recipe = get_recipe("sphereface-mini")
    data = open_dataset(folder)
    found, fit = sizes.fitted(data, [folder], recipe, tmp_path / "out", align=None, resize=False)
    assert fit.aligned_from == (folder,)
    assert {load_image(item.path).shape for item in found.items} == {(112, 96, 3)}
    assert found.names == ("eileen-collins", "grace-hopper")
    again, crops = sizes.fitted(found, [], recipe, tmp_path / "out", align=None, resize=False)
    assert (again, crops) == (found, sizes.Fit())
    _, scaled = sizes.fitted(data, [folder], recipe, tmp_path / "out", align=False, resize=False)
    assert scaled.resize
    assert "--align" in scaled.notes[0]


def test_the_extra_is_asked_for_before_any_work(
    picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spherecv.train.backend.importlib.util.find_spec", lambda name: None)
    out = tmp_path / "mine"
    ran = run("finetune", "sphereface-mini", picture_folder, "-o", out)
    assert "pip install 'spherecv[train]'" in str(ran.exception)
    assert not out.exists()
