"""A Session gives what the ONNX reference gives, whatever the backend, the batch and the thread."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from spherecv.errors import SphereCVError
from spherecv.runtime import Session

pytestmark = pytest.mark.runtime

NAMES = ("dense", "depthwise", "any_size", "two_inputs", "one_at_a_time")


@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_the_reference(name, backend, models, shapes, expected, noise, difference):
    session = Session(models[name], backend=backend)
    for sizes in shapes[name]:
        feeds = {key: noise(*shape) for key, shape in sizes.items()}
        answers = session.run(feeds)
        batch = len(next(iter(feeds.values())))
        wanted = expected(models["dense" if name == "one_at_a_time" else name], feeds)
        assert tuple(answers) == session.outputs == tuple(wanted)
        for key, answer in answers.items():
            assert answer.dtype == np.float32
            assert answer.flags.c_contiguous
            assert len(answer) == batch
            assert difference(answer, wanted[key]) < 1e-5


@pytest.mark.parametrize("name", ["det1", "det2", "det3", "det4", "mobilefacenet"])
def test_real_nets_agree_with_onnx_runtime(name, backend, caffe_onnx, noise, difference):
    if backend == "onnxruntime":
        pytest.skip("it is the oracle")
    model = caffe_onnx(name)
    oracle = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    exact, fast = Session(model, backend=backend, winograd=False), Session(model, backend=backend, winograd=True)
    channels, *sides = exact.inputs["data"][1:]
    sizes = [tuple(sides)] if None not in sides else [(40, 51), (12, 12), (83, 20)]
    for batch in (1, 2, 7, 1):
        for size in sizes:
            data = noise(batch, channels, *size)
            wanted = dict(zip(exact.outputs, oracle.run(list(exact.outputs), {"data": data}), strict=True))
            for session, most in ((exact, 1e-5), (fast, 1e-4)):
                answers = session.run(data)
                assert max(difference(answers[key], wanted[key]) for key in wanted) < most


@pytest.mark.parametrize("name", NAMES)
def test_no_items_give_no_items_of_the_right_shape(name, backend, models, shapes):
    session = Session(models[name], backend=backend)
    for sizes in shapes[name][:1]:
        one = session.run({key: np.zeros((1, *shape[1:]), np.float32) for key, shape in sizes.items()})
        none = session.run({key: np.zeros((0, *shape[1:]), np.float32) for key, shape in sizes.items()})
        assert {key: array.shape for key, array in none.items()} == {
            key: (0, *array.shape[1:]) for key, array in one.items()
        }
        assert all(array.dtype == np.float32 for array in none.values())


def test_outputs_belong_to_the_caller(backend, models, noise):
    session = Session(models["dense"], backend=backend)
    data = noise(3, 3, 28, 24)
    first = session.run(data)["fc5"]
    kept = first.copy()
    second = session.run(data * 2)["fc5"]
    assert np.array_equal(first, kept)
    assert not np.array_equal(first, second)
    second[:] = 0
    assert np.array_equal(session.run(data)["fc5"], kept)
    del session
    gc.collect()
    assert np.array_equal(first, kept)


def test_inputs_are_left_alone_and_may_be_views(backend, models, noise):
    session = Session(models["dense"], backend=backend)
    images = noise(5, 28, 24, 3)
    view = images.transpose(0, 3, 1, 2)[::-1]
    view.flags.writeable = False
    before = images.copy()
    answer = session.run(view)["fc5"]
    assert np.array_equal(images, before)
    assert np.array_equal(answer, session.run(np.ascontiguousarray(view))["fc5"])


def test_outputs_asked_for_in_the_order_asked_for(backend, models, noise):
    data = noise(1, 3, 20, 20)
    both = Session(models["any_size"], backend=backend).run(data)
    turned = Session(models["any_size"], backend=backend, outputs=["boxes", "scores"])
    assert turned.outputs == ("boxes", "scores")
    answers = turned.run(data)
    assert list(answers) == ["boxes", "scores"]
    assert all(np.array_equal(answers[key], both[key]) for key in both)
    assert list(Session(models["any_size"], backend=backend, outputs=["boxes"]).run(data)) == ["boxes"]


def test_from_a_path_as_from_bytes(backend, models, noise, tmp_path):
    path = tmp_path / "нет é.onnx"
    path.write_bytes(models["dense"])
    data = noise(2, 3, 28, 24)
    wanted = Session(models["dense"], backend=backend).run(data)["fc5"]
    for source in (path, str(path), bytearray(models["dense"]), memoryview(models["dense"])):
        assert np.array_equal(Session(source, backend=backend).run(data)["fc5"], wanted)


def test_what_a_session_says_of_itself(models):
    session = Session(models["any_size"], threads=1)
    assert session.inputs == {"data": (None, 3, None, None)}
    assert session.outputs == ("scores", "boxes")
    assert (session.backend, session.device, session.threads) == ("opencv", "cpu", 1)
    assert repr(session) == "Session(data (None, 3, None, None) -> scores, boxes; opencv, cpu)"
    assert Session(models["one_at_a_time"]).inputs == {"data": (None, 3, 28, 24)}


def test_nan_passes_through(backend, models, noise):
    data = noise(2, 3, 28, 24)
    data[1] = np.nan
    answer = Session(models["dense"], backend=backend).run(data)["fc5"]
    assert np.isfinite(answer[0]).all()
    assert np.isnan(answer[1]).all()


def test_many_threads_share_one_session(backend, models, noise):
    """Eight threads, batches of their own, and exactly what one thread alone gets."""
    session = Session(models["dense"], backend=backend)
    batches = [noise(size, 3, 28, 24) for size in (1, 2, 3, 5, 8, 13, 21, 34)]
    wanted = [session.run(batch)["fc5"] for batch in batches]
    wrong: list[object] = []
    ready = threading.Barrier(len(batches))

    def work(index: int) -> None:
        ready.wait()
        try:
            for _ in range(12):
                answer = session.run(batches[index])["fc5"]
                if not np.array_equal(answer, wanted[index]):
                    wrong.append((index, np.abs(answer - wanted[index]).max()))
        except SphereCVError as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_number_of_threads_does_not_change_the_answer(backend, models, noise, difference):
    data = noise(4, 3, 28, 24)
    one, two = (Session(models["dense"], backend=backend, threads=count) for count in (1, 2))
    assert (one.threads, two.threads) == (1, 2)
    assert difference(one.run(data)["fc5"], two.run(data)["fc5"]) < 1e-6
    assert Session(models["dense"], backend=backend).threads >= 1


def test_auto_finds_something_that_works(models, noise, installed):
    session = Session(models["dense"], backend="auto", device="auto")
    assert session.backend in installed
    assert session.device in ("cpu", "cuda")
    assert session.run(noise(2, 3, 28, 24))["fc5"].shape == (2, 8)


GROWTH = """
import sys
from pathlib import Path
import numpy as np
from spherecv.detect import FaceDetector

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20

detector = FaceDetector(backend="openvino", threads=1)
for side in range(300, 310):
    detector.detect(np.zeros((side, side, 3), np.uint8))
before = resident()
for side in range(200, 300):
    detector.detect(np.zeros((side, side + 50, 3), np.uint8))
print(resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
@pytest.mark.skipif(not find_spec("openvino"), reason="openvino is not installed")
def test_openvino_does_not_grow_with_every_image_size() -> None:
    """In a process of its own; with OpenVINO's own setting it grows by some two megabytes for each of 100 sizes."""
    done = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 40
