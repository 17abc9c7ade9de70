"""SSD nets: OpenCV's face detector against OpenCV 4.14's importer, batches, outputs, sizes, and what is refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from spherecv.caffe import load, onnx_of
from spherecv.errors import PrototxtError, UnsupportedLayerError
from spherecv.runtime import Session

pytestmark = pytest.mark.runtime

BACKENDS = ["opencv", "onnxruntime"]
NAMES = ("deploy.prototxt", "res10_300x300_ssd_iter_140000.caffemodel")

# Two maps with priors, as in any SSD net: what comes of them is joined before DetectionOutput.
HEAD = """
input: "data" input_shape { dim: 1 dim: 3 dim: 32 dim: 32 }
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1"
  convolution_param { num_output: 4 kernel_size: 3 stride: 4 pad: 1 } }
layer { name: "c2" type: "Convolution" bottom: "c1" top: "c2"
  convolution_param { num_output: 4 kernel_size: 3 stride: 2 pad: 1 } }
"""
MAP = """
layer { name: "loc@c" type: "Convolution" bottom: "c@" top: "loc@c"
  convolution_param { num_output: 8 kernel_size: 1 } }
layer { name: "loc@p" type: "Permute" bottom: "loc@c" top: "loc@p"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loc@" type: "Flatten" bottom: "loc@p" top: "loc@" }
layer { name: "conf@c" type: "Convolution" bottom: "c@" top: "conf@c"
  convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: "conf@p" type: "Permute" bottom: "conf@c" top: "conf@p"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "conf@" type: "Flatten" bottom: "conf@p" top: "conf@" }
layer { name: "prior@" type: "PriorBox" bottom: "c@" bottom: "data" top: "prior@" prior_box_param {
  min_size: @6.5 max_size: @9 variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 } }
"""
END = """
layer { name: "loc" type: "Concat" bottom: "loc1" bottom: "loc2" top: "loc" }
layer { name: "conf" type: "Concat" bottom: "conf1" bottom: "conf2" top: "conf" }
layer { name: "prior" type: "Concat" bottom: "prior1" bottom: "prior2" top: "prior" concat_param { axis: 2 } }
layer { name: "rows" type: "Reshape" bottom: "conf" top: "rows" reshape_param { shape { dim: 0 dim: -1 dim: 2 } } }
layer { name: "soft" type: "Softmax" bottom: "rows" top: "soft" softmax_param { axis: 2 } }
layer { name: "flat" type: "Flatten" bottom: "soft" top: "flat" }
layer { name: "out" type: "DetectionOutput" bottom: "loc" bottom: "flat" bottom: "prior" top: "out"
  detection_output_param { num_classes: 2 nms_param { nms_threshold: 0.45 top_k: 50 } code_type: CENTER_SIZE
  keep_top_k: 20 confidence_threshold: THRESHOLD } }
"""
SSD = HEAD + MAP.replace("@", "1") + MAP.replace("@", "2") + END


@pytest.fixture(scope="module")
def small(seeded_weights):
    """A small SSD net with seeded weights, at a threshold."""

    def make(threshold=0.5, **options):
        text = SSD.replace("THRESHOLD", str(threshold)).encode()
        return load(text, seeded_weights(load(text)).SerializeToString(), **options)

    return make


@pytest.mark.parametrize("backend", BACKENDS)
def test_opencv_s_face_detector(backend, data_dir):
    folder = data_dir / "ssd-res10-caffe"
    session = Session(load(*(folder / name for name in NAMES)).to_onnx(), backend=backend)
    with np.load(Path(__file__).parent / "references" / "res10.npz") as references:
        for name in references.files:
            image = cv2.imread(str(data_dir / "deepface-pairs" / name))
            blob = cv2.dnn.blobFromImage(image, 1.0, (300, 300), (104, 177, 123))
            found = session.run(blob)["detection_out"][0, 0]
            theirs = references[name]
            ours = found[found[:, 2] >= theirs[:, 2].min() - 1e-6]
            assert ours.shape == theirs.shape
            np.testing.assert_array_equal(ours[:, :2], theirs[:, :2])
            np.testing.assert_allclose(ours[:, 2], theirs[:, 2], atol=1e-4)
            np.testing.assert_allclose(ours[:, 3:] * 300, theirs[:, 3:] * 300, atol=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_tail_comes_out_of_the_cache(backend, data_dir, tmp_path):
    folder = data_dir / "ssd-res10-caffe"
    first = onnx_of(*(folder / name for name in NAMES), cache_dir=tmp_path)
    (entry,) = tmp_path.iterdir()
    again = onnx_of(*(folder / name for name in NAMES), cache_dir=tmp_path)
    assert first == again
    assert entry.stat().st_size > len(first)
    path = tmp_path / "res10.onnx"
    path.write_bytes(first)
    blob = np.zeros((1, 3, 300, 300), np.float32)
    answers = [Session(model, backend=backend).run(blob)["detection_out"] for model in (first, path)]
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_is_its_images_one_by_one(backend, small, numbers):
    session = Session(small().to_onnx(), backend=backend)
    x = numbers((40, 3, 32, 32)) * 4
    whole = session.run(x)["out"][0, 0]
    assert len(whole) > 40
    for index in (0, 17, 39):
        alone = session.run(x[index : index + 1])["out"][0, 0]
        mine = whole[whole[:, 0] == index]
        np.testing.assert_allclose(mine[:, 1:], alone[:, 1:], atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_found_is_a_row_for_each_image(backend, small, numbers):
    session = Session(small(0.999).to_onnx(), backend=backend)
    answer = session.run(numbers((3, 3, 32, 32)))["out"]
    assert answer.tolist() == [[[[float(image), *[-1.0] * 6] for image in range(3)]]]
    assert session.run(np.zeros((0, 3, 32, 32), np.float32))["out"].shape == (1, 1, 0, 7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_other_blobs_are_outputs_too(backend, small, numbers):
    net = small()
    model = net.to_onnx(outputs=["c1", "prior", "out", "flat"])
    session = Session(model, backend=backend)
    assert session.outputs == ("c1", "prior", "out", "flat")
    x = numbers((2, 3, 32, 32))
    answers = session.run(x)
    assert {name: array.shape for name, array in answers.items() if name != "out"} == {
        "c1": (2, 4, 8, 8), "prior": (1, 2, 640), "flat": (2, 320)
    }  # fmt: skip
    (alone,) = Session(model, backend=backend, outputs=["c1"]).run(x).values()
    np.testing.assert_array_equal(alone, answers["c1"])
    # 16.5 is cut to 16 before it is used.
    np.testing.assert_allclose(answers["prior"][0, 0, :4] * 32, [2 - 8, 2 - 8, 2 + 8, 2 + 8], atol=1e-5)
    np.testing.assert_array_equal(answers["prior"][0, 1, :4], np.float32([0.1, 0.1, 0.2, 0.2]))


def test_other_programs_get_what_the_net_gives(small, numbers):
    import onnxruntime

    model = small().to_onnx()
    parsed = onnx.load_from_string(model)
    onnx.checker.check_model(parsed)
    session = onnxruntime.InferenceSession(model)
    assert [output.name for output in session.get_outputs()] == ["loc", "flat"]
    tail = json.loads({entry.key: entry.value for entry in parsed.metadata_props}["spherecv.tail"])
    assert [step.get("function", "constant") for step in tail["steps"]] == ["constant", "DetectionOutput"]
    priors = np.frombuffer(base64.b64decode(tail["steps"][0]["constant"]["float32"]), "<f4")
    assert priors.shape == (1280,)


def test_another_size_has_other_priors(small, numbers):
    for side in (32, 48):
        session = Session(small(input_shapes={"data": (1, 3, side, side)}).to_onnx(outputs=["out", "prior"]))
        assert session.inputs == {"data": (None, 3, side, side)}
        answers = session.run(numbers((1, 3, side, side)))
        assert answers["prior"].shape == (1, 2, 8 * ((side // 4) ** 2 + (side // 8) ** 2))


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("num_classes: 2 background_label_id: -1", "without a background"),
        ("num_classes: 0", "num_classes is missing"),
        ("num_classes: 3", "confidences"),
        ("num_classes: 2 share_location: false", "locations"),
        ("num_classes: 2 nms_param { eta: 0 }", "eta"),
        ("num_classes: 2 clip: true", "not supported"),
        ("num_classes: 2 visualize: true", "draws or writes"),
        ('num_classes: 2 save_output_param { output_directory: "x" }', "draws or writes"),
    ],
)
def test_settings_of_detection_output_that_are_refused(setting, complaint):
    text = "".join(f'input: "{name}" input_shape {{ {size} }}\n' for name, size in
                   {"l": "dim: 1 dim: 8", "c": "dim: 1 dim: 4", "p": "dim: 1 dim: 2 dim: 8"}.items())  # fmt: skip
    text += 'layer { name: "o" type: "DetectionOutput" bottom: "l" bottom: "c" bottom: "p" top: "o" '
    text += f"detection_output_param {{ {setting} }} }}"
    with pytest.raises((PrototxtError, UnsupportedLayerError), match=f"layer 'o'.*{complaint}"):
        load(text.encode())


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("", "needs a min_size"),
        ("min_size: -1", "needs a min_size"),
        ("min_size: 8 max_size: 8", "greater"),
        ("min_size: 8 min_size: 9 max_size: 10", "2 min_size, but 1 max_size"),
        ("min_size: 8 aspect_ratio: 0", "aspect_ratio"),
        ("min_size: 8 width: 3", "PriorBoxClustered"),
        ("min_size: 8 variance: 1 variance: 2", "one variance or four"),
        ("min_size: 8 step: 4 step_h: 4", "step or step_h"),
        ("min_size: 8 step_h: 4", "must lie between"),
        ("min_size: 8 max_size: nan", "must lie between"),
        ("min_size: inf", "must lie between"),
        ("min_size: 8 variance: nan", "positive ones"),
        ("min_size: 8 img_size: 4 img_h: 4", "img_size or img_h"),
    ],
)
def test_settings_of_prior_box_that_are_refused(setting, complaint):
    text = 'input: "x" input_shape { dim: 1 dim: 2 dim: 3 dim: 3 } '
    text += 'input: "z" input_shape { dim: 1 dim: 3 dim: 9 dim: 9 }'
    text += f'layer {{ name: "o" type: "PriorBox" bottom: "x" bottom: "z" top: "o" prior_box_param {{ {setting} }} }}'
    with pytest.raises(PrototxtError, match=f"layer 'o'.*{complaint}"):
        load(text.encode()).to_onnx()


def test_priors_that_would_fill_the_memory():
    text = 'input: "x" input_shape { dim: 1 dim: 2 dim: 4000 dim: 4000 }'
    text += 'layer { name: "o" type: "PriorBox" bottom: "x" bottom: "x" top: "o" prior_box_param { min_size: 8 } }'
    with pytest.raises(UnsupportedLayerError, match=r"layer 'o'.*too large"):
        load(text.encode()).to_onnx()
