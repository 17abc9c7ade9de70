"""Fine-tuning from a user's folder: what is taken, what stays, and that it learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spherecv.caffe import load, read_caffemodel
from spherecv.caffe.builder import NetBuilder, constant, xavier
from spherecv.errors import InvalidArgumentError, PrototxtError
from spherecv.train.backend import open_backend
from spherecv.train.data import open_dataset
from spherecv.train.finetune import open_finetuning
from spherecv.train.net import Net
from spherecv.train.policies import Policy
from spherecv.train.recipes import LOSSES, deployed, make_loss, save
from spherecv.train.solver import SolverSettings
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
