"""Fine-tuning from a user's folder: what is taken, what stays, and that it learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spherecv.caffe import load, read_caffemodel
from spherecv.caffe.blobs import read_blob, write_blob
from spherecv.caffe.builder import NetBuilder, constant, xavier
from spherecv.caffe.writer import serialize
from spherecv.errors import InvalidArgumentError, NotEnoughDataError, PrototxtError, TrainingError
from spherecv.train import finetune
from spherecv.train.backend import open_backend
from spherecv.train.data import View, open_dataset
from spherecv.train.finetune import RedFirst, annealed, open_finetuning, plan
from spherecv.train.net import Net
from spherecv.train.policies import Policy
from spherecv.train.recipes import LOSSES, deployed, make_loss, save
from spherecv.train.solver import SolverSettings
from spherecv.train.trainer import Pixels
from spherecv.train.weights import to_caffemodel

SETTINGS = SolverSettings(
    policy=Policy("cosine", 0.05, max_iter=20), momentum=0.9, max_iter=20, snapshot_after_train=False
)


@pytest.fixture
def model(tmp_path: Path) -> tuple[Path, Path]:
    net = NetBuilder("small").input("data", (1, 3, 12, 10))
    net.conv("conv1", 8, 3, stride=2, pad=1, weight_filler=xavier(), bias_filler=constant(0)).prelu("relu1")
    definition = net.inner_product("fc5", 16, weight_filler=xavier(), bias_filler=constant(0)).build()
    trained = Net(definition, {"data": (1, 3, 12, 10)}, open_backend("cpu"), seed=4)
    save(trained, tmp_path / "m.prototxt", tmp_path / "m.caffemodel")
    assert [layer.name for layer in to_caffemodel(trained).layer] == ["conv1", "relu1", "fc5"]
    return tmp_path / "m.prototxt", tmp_path / "m.caffemodel"


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns(model: tuple[Path, Path], picture_folder: Path, loss: str) -> None:
    settings = SETTINGS.replaced(base_lr=0.002) if loss in ("cosface", "arcface") else SETTINGS
    with open_finetuning(
        *model, open_dataset(picture_folder), settings, loss=loss, batch_size=12, workers=0, pictures=3
    ) as ready:
        assert ready.weights is not None
        assert ready.weights.complete
        losses = [ready.trainer.step() for _ in range(20)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) or np.mean(losses[-5:]) == 0


def test_frozen_layers_stay_and_the_rest_is_saved(
    model: tuple[Path, Path], picture_folder: Path, tmp_path: Path
) -> None:
    with open_finetuning(
        *model, open_dataset(picture_folder), SETTINGS, batch_size=8, workers=0, frozen=("conv*", "relu1")
    ) as ready:
        ready.trainer.run()
        save(ready.trainer.net, tmp_path / "out.prototxt", tmp_path / "out.caffemodel")
    before, after = (
        {
            f"{layer.name}/{n}": bytes(blob.SerializeToString())
            for layer in net.layer
            for n, blob in enumerate(layer.blobs)
        }
        for net in (read_caffemodel(model[1]), read_caffemodel(tmp_path / "out.caffemodel"))
    )
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == {"fc5/0", "fc5/1"}
    assert load(tmp_path / "out.prototxt", tmp_path / "out.caffemodel").outputs == ("fc5",)


def test_resumes_with_the_losss_own_weights(model: tuple[Path, Path], picture_folder: Path, tmp_path: Path) -> None:
    def run(steps: int, resume: Path | None = None) -> tuple[list[float], Path]:
        settings = SETTINGS.replaced(snapshot_prefix=str(tmp_path / "s" / "x"))
        data = open_dataset(picture_folder)
        with open_finetuning(*model, data, settings, batch_size=8, workers=0, threads=2, resume=resume) as ready:
            return [ready.trainer.step() for _ in range(steps)], ready.trainer.snapshot()

    whole, _ = run(8)
    first, state = run(5)
    rest, _ = run(3, state)
    assert whole == first + rest


def test_wrong_wishes(model: tuple[Path, Path], picture_folder: Path) -> None:
    data = open_dataset(picture_folder)
    for settings, message in (({"loss": "magic"}, "loss must be one of"), ({"frozen": ("conv9",)}, "no layer 'conv9'")):
        with (
            pytest.raises(InvalidArgumentError, match=message),
            open_finetuning(*model, data, SETTINGS, workers=0, **settings),  # type: ignore[arg-type]
        ):
            pass
    with pytest.raises(InvalidArgumentError, match="loss must be"):
        make_loss("magic", 3)
    two = b'input: "data" input_shape { dim: 1 dim: 3 dim: 4 dim: 4 }' + b"".join(
        b'layer { name: "%s" type: "ReLU" bottom: "data" top: "%s" }' % (n, n) for n in (b"a", b"b")
    )
    with pytest.raises(PrototxtError, match="one embedding"):
        deployed(two)


def test_one_person_alone_is_refused(model: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "people" / "one").mkdir(parents=True)
    Image.new("RGB", (10, 12)).save(tmp_path / "people" / "one" / "1.png")
    data = open_dataset(tmp_path / "people")
    with pytest.raises(NotEnoughDataError, match="one person"), open_finetuning(*model, data, SETTINGS, workers=0):
        pass


@pytest.fixture
def crowd(tmp_path: Path) -> Path:
    """Nine people with four images of 12x10 each, not easy to tell apart."""
    rng = np.random.default_rng(2)
    for person in range(9):
        (tmp_path / "crowd" / f"person{person}").mkdir(parents=True)
        pattern = rng.integers(0, 256, (12, 10, 3))
        for number in range(4):
            noisy = np.clip(pattern + rng.normal(0, 80, pattern.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(tmp_path / "crowd" / f"person{person}" / f"{number}.png")
    return tmp_path / "crowd"


def test_the_best_weights_by_the_people_held_out_are_kept(model: tuple[Path, Path], crowd: Path) -> None:
    data = open_dataset(crowd)
    saved: list[list[np.ndarray]] = []
    with open_finetuning(*model, data, SETTINGS, batch_size=8, workers=0, validate_share=0.3) as ready:
        net = ready.trainer.net
        assert ready.held is not None
        assert (ready.held.classes, ready.trainer.loss.classes) == (3, 6)
        ready.measure = ready.look  # noise looks unlike its mirror image
        ready.run(on_best=lambda: saved.append([np.array(param.data) for param in net.params]))
        top, kept = 0.0, ready.looks[0]
        for look in ready.looks:
            top = max(top, look[1].separation)
            if look[1].separation > max(ready.looks[0][1].separation, 0.9 * top):
                kept = look
        assert (ready.best_iteration, ready.best) == kept
        assert ready.before == ready.looks[0][1]
        assert all(np.array_equal(a, param.data) for a, param in zip(saved[-1], net.params, strict=True))
        assert len(ready.looks) > 3


def test_weights_that_turn_out_worse_than_before_are_given_up(
    model: tuple[Path, Path], crowd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[np.ndarray] = []
    with open_finetuning(*model, open_dataset(crowd), SETTINGS, batch_size=8, workers=0, validate_share=0.3) as ready:
        weight = ready.trainer.net.params[0]
        start, found, measure = np.array(weight.data), iter((5.0, 4.0)), ready.measure
        assert measure is not None
        ready.measure = lambda: replace(measure(), separation=next(found))
        ready.run(on_best=lambda: saved.append(np.array(weight.data)))
    assert len(saved) > 2
    assert not np.array_equal(saved[-2], start)
    assert all(np.array_equal(array, start) for array in (saved[0], saved[-1], np.array(weight.data)))
    assert (ready.best, ready.best_iteration) == (ready.before, 0)


def test_looks_are_rare_while_the_rate_is_high_and_measures_see_mirror_images(
    model: tuple[Path, Path], crowd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    embed = finetune.embed

    def counted(net: Net, embedding: str, data: str, images: np.ndarray, pixels: Callable[..., Any]) -> np.ndarray:
        seen.append(len(images))
        return embed(net, embedding, data, images, pixels)

    monkeypatch.setattr(finetune, "embed", counted)
    monkeypatch.setattr(finetune, "_LOOKED_AT", 4)
    monkeypatch.setattr(finetune, "_FEWEST_LOOKED_AT", 2)
    settings = SETTINGS.replaced(max_iter=40)
    with open_finetuning(*model, open_dataset(crowd), settings, batch_size=8, workers=0, validate_share=0.4) as ready:
        assert ready.held is not None
        assert ready.held.classes == 3
        seen.clear()
        ready.run()
    done = [iteration for iteration, _ in ready.looks]
    assert done == [0, 10, 20, 24, 28, 32, 36, 40][: len(done)]
    looks = [12] * len(done)  # 12 images of 3 people: a look would be content with 4 of 2, and 3 // 2 is 1
    assert seen == [12, 12, *looks, 12, 12]


@pytest.mark.parametrize(("people", "looked_at"), [(12, 16), (4, 16)])
def test_a_look_at_many_people_takes_some_of_them_whole(
    people: int, looked_at: int, model: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    for person in range(people):
        for number in range(4):
            place = tmp_path / "many" / f"{person:02d}" / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(place)
    monkeypatch.setattr(finetune, "_LOOKED_AT", 16)
    held = open_dataset(tmp_path / "many")
    with open_finetuning(*model, held, SETTINGS, batch_size=8, workers=0) as ready:
        assert ready.trainer.embedding is not None
        seen: list[np.ndarray] = []
        monkeypatch.setattr(finetune, "validate", lambda _, labels: seen.append(labels))
        for call in finetune._looking(ready.trainer, ready.trainer.embedding, held, View(12, 10)):
            call()
    assert [len(labels) for labels in seen] == [looked_at, 4 * people]
    assert set(np.bincount(seen[0])) <= {0, 4}


@pytest.mark.parametrize(("rate", "clip"), [(1e9, -1.0), (1e30, 5.0)])
def test_an_explosion_says_what_mends_it_and_keeps_the_last_good_weights(
    model: tuple[Path, Path], crowd: Path, rate: float, clip: float
) -> None:
    settings = SETTINGS.replaced(base_lr=rate, clip_gradients=clip)
    with open_finetuning(*model, open_dataset(crowd), settings, batch_size=8, workers=0, validate_share=0.3) as ready:
        start = [np.array(param.data) for param in ready.trainer.net.params]
        with pytest.raises(TrainingError, match=r"--base-lr.*--lambda-min 10.*weights of iteration 0 stay") as caught:
            ready.run()
        assert ("--clip-gradients 5" in str(caught.value)) == (clip < 0)
        assert all(np.array_equal(a, param.data) for a, param in zip(start, ready.trainer.net.params, strict=True))


@pytest.mark.parametrize("rate", [1e-4, 1e-3, 1e-2, 1e-1])
def test_every_reasonable_rate_works(model: tuple[Path, Path], crowd: Path, rate: float) -> None:
    """With weights whose features are as long as a distillation on cosines leaves them."""
    drifted = read_caffemodel(model[1])
    for layer in drifted.layer:
        if layer.name in ("conv1", "fc5"):
            for blob in layer.blobs:
                write_blob(read_blob(blob) * np.float32(80), blob)
    settings = plan(36, iterations=20, base_lr=rate, snapshot_after_train=False)
    data = open_dataset(crowd)
    with open_finetuning(
        model[0], serialize(drifted), data, settings, batch_size=8, workers=0, validate_share=0.3
    ) as ready:
        assert ready.rescaling is not None
        assert ready.rescaling.before > 40
        assert np.isfinite(ready.run())
        assert ready.best is not None
        assert ready.best.separation >= ready.before.separation


def test_class_weights_start_from_the_peoples_features(model: tuple[Path, Path], crowd: Path) -> None:
    with open_finetuning(*model, open_dataset(crowd), SETTINGS, batch_size=8, workers=0) as ready:
        net, loss = ready.trainer.net, ready.trainer.loss
        view = View(12, 10)
        images = np.stack([view.read(item, np.random.default_rng(0)) for item in open_dataset(crowd).items])
        net.train(False)
        features = np.array(net.forward({"data": Pixels()(images)}, learn=False).blobs["fc5"], np.float64)
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        means = features.reshape(9, 4, -1).mean(axis=1)
        expected = means / np.linalg.norm(means, axis=1, keepdims=True)
        np.testing.assert_allclose(loss.params[0].data, expected, atol=1e-5)


def test_head_only_trains_the_last_layer(model: tuple[Path, Path], crowd: Path) -> None:
    with open_finetuning(*model, open_dataset(crowd), SETTINGS, batch_size=8, workers=0, head_only=True) as ready:
        before = {param.name: np.array(param.data) for param in ready.trainer.net.params}
        ready.trainer.run(3)
        changed = {p.name for p in ready.trainer.net.params if not np.array_equal(before[p.name], p.data)}
    assert changed == {"fc5/0", "fc5/1"}


def test_lambda_falls_to_its_minimum_half_way() -> None:
    for base, minimum in ((10.0, 5.0), (1000.0, 5.0), (20.0, 0.0), (3.0, 5.0)):
        schedule = annealed(100, base=base, minimum=minimum)
        assert schedule(51) == pytest.approx(max(minimum, 0.1), abs=0.1)
        assert schedule(1) <= max(base, minimum)
    assert annealed(100, from_nothing=True).base == 1000
    with pytest.raises(InvalidArgumentError, match="lambda must be at least 0"):
        annealed(100, minimum=-1)


def test_a_net_that_takes_red_first() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    np.testing.assert_allclose(RedFirst((1.0, 2.0, 3.0), 0.5)(image), (image[..., ::-1] - [1.0, 2.0, 3.0]) * 0.5)
