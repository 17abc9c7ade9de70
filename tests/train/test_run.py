"""Runs as a solver prototxt describes them, and what may be wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherecv.caffe import write_blob, write_caffemodel
from spherecv.errors import CaffeModelError, ImageError, InvalidArgumentError, PrototxtError
from spherecv.train.data import ShuffledOrder
from spherecv.train.run import open_run
from spherecv.train.weights import load_weights


def _change(run: Path, old: str, new: str) -> None:
    net = run.parent / "train.prototxt"
    assert old in net.read_text()
    net.write_text(net.read_text().replace(old, new))


def test_image_data_is_read_as_caffe_reads_it(small_run: Path) -> None:
    with open_run(small_run, workers=0) as run:
        loader = run.trainer.batches
        assert isinstance(loader.order, ShuffledOrder)  # type: ignore[attr-defined]
        view = loader.view  # type: ignore[attr-defined]
        assert (view.height, view.width, view.augmentation.mirror) == (12, 10, True)
        assert run.trainer.feed.pixels.mean == (127.5,)
        assert run.trainer.feed.pixels.scale == pytest.approx(1 / 128)
        assert run.trainer.net.inputs == {"data": (6, 3, 12, 10), "label": (6,)}


def test_the_authors_files_run_unchanged(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Solver, net and list where `sphereface_train.sh` has them; only batch and length are ours."""
    files, list_file = data_dir / "sphereface-prototxt", tmp_path / "data" / "CASIA-WebFace-112X96.txt"
    rng = np.random.default_rng(0)
    list_file.parent.mkdir()
    for label in range(2):
        Image.fromarray(rng.integers(0, 256, (112, 96, 3), np.uint8)).save(tmp_path / f"{label}.png")
    list_file.write_text("".join(f"{tmp_path}/{label}.png {label}\n" for label in range(2)))
    monkeypatch.chdir(tmp_path)
    solver, settings = files / "sphereface_solver.prototxt", {"workers": 0, "batch_size": 2, "max_iter": 1}
    with open_run(solver, snapshot_after_train=False, **settings) as run:  # type: ignore[arg-type]
        assert run.trainer.net.inputs["data"] == (2, 3, 112, 96)
        loss = run.trainer.run()
        assert loss == pytest.approx(np.log(10572), rel=0.2)
        assert run.trainer.net.state()["fc6"] == {"t": 1}


def test_mean_file_and_crop(small_run: Path) -> None:
    write_caffemodel(write_blob(np.array([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)), small_run.parent / "mean.binaryproto")
    _change(small_run, "mean_value: 127.5", 'mean_file: "mean.binaryproto" crop_size: 8')
    with open_run(small_run, workers=0) as run:
        assert run.trainer.feed.pixels.mean == (1.0, 2.0, 3.0)
        assert run.trainer.net.inputs["data"] == (6, 3, 8, 8)
        run.trainer.step()


def test_data_in_place_of_the_list(small_run: Path, picture_folder: Path) -> None:
    (small_run.parent / "people.txt").unlink()
    with pytest.raises(InvalidArgumentError, match=r"people\.txt"), open_run(small_run, workers=0):
        pass
    with open_run(small_run, data=(picture_folder,), workers=0, batch_size=3) as run:
        run.trainer.step()
        assert run.trainer.net.inputs["data"] == (3, 3, 12, 10)


def test_more_people_than_outputs(small_run: Path) -> None:
    _change(small_run, "num_output: 4", "num_output: 3")
    with (
        pytest.raises(InvalidArgumentError, match="3 outputs, but the data has 4 identities: set num_output: 4"),
        open_run(small_run, workers=0),
    ):
        pass


def test_weights_that_fit_in_part_are_listed(small_run: Path) -> None:
    with open_run(small_run, workers=0) as run:
        run.trainer.run(1)
        run.trainer.snapshot()
    weights = small_run.parent / "run" / "small_iter_1.caffemodel"
    _change(small_run, "num_output: 16", "num_output: 20")
    _change(small_run, 'name: "relu1"', 'name: "relu_one"')
    with open_run(small_run, workers=0, weights=weights) as run:
        report = run.weights
        assert report is not None
        assert report.taken == ("conv1/0", "conv1/1", "conv2/0", "conv2/1", "relu2/0")
        assert report.missing == ("relu_one/0",)
        assert [entry.split()[0] for entry in report.differing] == ["fc5/0", "fc5/1", "fc6/0"]
        assert "fc5/0 (16, 240) for (20, 240)" in str(report)
        with pytest.raises(CaffeModelError, match=r"do not fit.*relu_one/0"):
            load_weights(run.trainer.net, weights)
    with pytest.raises(InvalidArgumentError, match="not both"), open_run(small_run, weights=weights, resume=weights):
        pass


def test_weights_of_another_net(small_run: Path, data_dir: Path) -> None:
    foreign = next((data_dir / "mtcnn-caffe").glob("det1.caffemodel"))
    with pytest.raises(CaffeModelError, match="do not fit"), open_run(small_run, workers=0, weights=foreign):
        pass


def test_other_data_layers(small_run: Path) -> None:
    _change(small_run, 'type: "ImageData"', 'type: "Data"')
    with pytest.raises(Exception, match="ImageData layers only"), open_run(small_run, workers=0):
        pass


def test_no_data_layer(small_run: Path) -> None:
    net = small_run.parent / "train.prototxt"
    net.write_text('input: "data" input_shape { dim: 1 dim: 3 dim: 4 dim: 4 }')
    with pytest.raises(PrototxtError, match="0 data layers"), open_run(small_run, workers=0):
        pass


def test_unreadable_pictures_beyond_the_limit(small_run: Path, picture_folder: Path) -> None:
    for file in list(picture_folder.rglob("*.png"))[1:4]:
        file.write_bytes(b"")
    with (
        pytest.raises(ImageError, match="more than the 2 allowed"),
        open_run(small_run, workers=0, skip_limit=2) as run,
    ):
        run.trainer.run()


def _changed(solver: Path, *, more: str = "", net: str = "") -> None:
    """Append `more` to the solver, and replace in the net what stands before an arrow."""
    solver.write_text(f"{solver.read_text()}{more}\n")
    old, _, new = net.partition(" => ")
    train = solver.parent / "train.prototxt"
    train.write_text(train.read_text().replace(old, new) if old else train.read_text())


def test_train_state_chooses_layers(small_run: Path) -> None:
    _changed(small_run, net='name: "relu1" => name: "relu1" include { stage: "kinked" min_level: 2 }')
    with open_run(small_run, workers=0) as run:
        assert "relu1" not in [layer.name for layer in run.trainer.net.layers]
    _changed(small_run, more='train_state { stage: "kinked" level: 2 }')
    with open_run(small_run, workers=0) as run:
        assert "relu1" in [layer.name for layer in run.trainer.net.layers]


def test_the_solvers_weights(small_run: Path) -> None:
    """In turn, as Caffe loads them; those of the command line take their place."""
    with open_run(small_run, workers=0, random_seed=5) as run:
        first = run.trainer.snapshot(small_run.parent / "first").with_suffix(".caffemodel")
        expected = run.trainer.net.params[0].to_caffe(run.trainer.net.backend)
    with open_run(small_run, workers=0, random_seed=6) as run:
        second = run.trainer.snapshot(small_run.parent / "second").with_suffix(".caffemodel")
    _changed(small_run, more=f'weights: "{second}, {first.name}"')
    for weights, same in ((None, True), (second, False)):
        with open_run(small_run, workers=0, random_seed=7, weights=weights) as run:
            found = run.trainer.net.params[0].to_caffe(run.trainer.net.backend)
        assert np.array_equal(found, expected) == same
    _changed(small_run, more='weights: "gone.caffemodel"')
    with pytest.raises(InvalidArgumentError, match=r"gone\.caffemodel"), open_run(small_run, workers=0):
        pass


def test_a_net_inside_the_solver(small_run: Path) -> None:
    net = (small_run.parent / "train.prototxt").read_text()
    small_run.write_text(small_run.read_text().replace('net: "train.prototxt"', f"net_param {{ {net} }}"))
    with open_run(small_run, workers=0) as run:
        run.trainer.step()
        assert run.trainer.net.name == "small"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("image_data_param { rand_skip: 3", "rand_skip"),
        ("image_data_param { new_height: 3", "new_height and new_width"),
        ("transform_param { mean_file: 'x'", "mean_file and mean_value"),
        ("transform_param { mean_value: 3", "2 means for 3 channels"),
    ],
)
def test_settings_of_image_data_that_are_refused(small_run: Path, settings: str, message: str) -> None:
    block = settings.split(" {")[0]
    _changed(small_run, net=f"{block} {{ => {settings} ")
    with pytest.raises(Exception, match=message), open_run(small_run, workers=0):
        pass


def test_older_fields_of_image_data(small_run: Path) -> None:
    """In `layer` they have no effect; `layers` moves them to transform_param's place."""
    _changed(small_run, net="image_data_param { => image_data_param { scale: 4 mirror: false crop_size: 5")
    with open_run(small_run, workers=0) as run:
        assert run.trainer.feed.pixels.scale == 0.0078125
        assert run.trainer.net.inputs["data"] == (6, 3, 12, 10)
    text = """layers { name: "data" type: IMAGE_DATA top: "data" top: "label"
      transform_param { scale: 3 mean_value: 5 } image_data_param { source: "people.txt" batch_size: 6 scale: 0.5 } }
    layers { name: "fc" type: INNER_PRODUCT bottom: "data" top: "fc" inner_product_param { num_output: 4 } }
    layers { name: "loss" type: SOFTMAX_LOSS bottom: "fc" bottom: "label" top: "loss" }"""
    (small_run.parent / "train.prototxt").write_text(text)
    with open_run(small_run, workers=0) as run:
        assert (run.trainer.feed.pixels.scale, run.trainer.feed.pixels.mean) == (0.5, (5.0,))
