from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from onnx import TensorProto, helper

from spherecv.runtime.backend import Model
from spherecv.runtime.forks import ForkLock, Gate
from spherecv.runtime.onnxruntime_backend import under_way
from spherecv.runtime.opencv_settings import nets
from spherecv.runtime.reference import Reference
from spherecv.runtime.signature import read_signature

pytestmark = [
    pytest.mark.runtime,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def ends_well(work: Callable[[], object], seconds: float = 20.0) -> bool:
    """Whether a forked child gets through some work in time."""
    child = os.fork()
    if not child:
        failed = 1
        try:
            work()
            failed = 0
        finally:
            os._exit(failed)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status == 0
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def held(lock: ForkLock, release: threading.Event) -> threading.Thread:
    taken = threading.Event()

    def hold() -> None:
        with lock:
            taken.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(20)
    return thread


def test_a_lock_that_another_thread_held_is_free_in_the_child_alone() -> None:
    lock, release = ForkLock(), threading.Event()
    thread = held(lock, release)
    try:
        assert ends_well(lock.__enter__)
        waiting = threading.Thread(target=lock.__enter__, daemon=True)
        waiting.start()
        waiting.join(0.1)
        assert waiting.is_alive()  # here it is held as before
    finally:
        release.set()
        thread.join()
        waiting.join(20)
    assert not waiting.is_alive()


def test_a_fork_waits_for_the_nets_under_way() -> None:
    running, done = threading.Event(), threading.Event()

    def run() -> None:
        with nets.running(cv2, None):
            running.set()
            time.sleep(0.2)
            done.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert running.wait(20)

    def child() -> None:
        assert done.is_set()
        with nets.running(cv2, 1):
            pass

    assert ends_well(child)
    assert done.is_set()
    thread.join()
    with nets.running(cv2, 1):  # and the parent goes on
        pass


def test_a_fork_waits_for_calls_under_the_gate() -> None:
    gate, begun, done = Gate(), threading.Event(), threading.Event()

    def call() -> None:
        with gate:
            begun.set()
            time.sleep(0.2)
            done.set()

    thread = threading.Thread(target=call)
    thread.start()
    assert begun.wait(20)
    gate.close()
    assert done.is_set()
    waiting = threading.Thread(target=call)
    begun.clear()
    waiting.start()
    assert not begun.wait(0.1)  # none begins while it is closed
    gate.open()
    assert begun.wait(20)
    gate.forked()
    gate.close()  # in a child no call is under way
    gate.open()
    thread.join()
    waiting.join()


def test_a_fork_waits_for_the_reference_of_a_check() -> None:
    """Opened and asked while another thread is about to fork: both wait until the fork is over."""
    node = helper.make_node("Relu", ["x"], ["y"])
    ports = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])] for name in "xy"]
    made = helper.make_model(helper.make_graph([node], "g", *ports), opset_imports=[helper.make_opsetid("", 13)])
    made.ir_version = 8
    blob = made.SerializeToString()
    steps: list[object] = []

    def check() -> None:
        steps.append(found := Reference(Model(blob, read_signature(blob, "net"), "net"), ["y"]))
        steps.append(found.run({"x": np.ones(1, np.float32)}))

    under_way.close()
    thread = threading.Thread(target=check)
    thread.start()
    thread.join(0.3)
    assert not steps
    under_way.open()
    thread.join(20)
    assert len(steps) == 2


ONNX = """
import faulthandler, os, threading, numpy as np
from spherecv.detect.mtcnn import open_mtcnn
from spherecv.embed import FaceEmbedder

mtcnn = open_mtcnn(backend="onnxruntime")
embedder = FaceEmbedder("sphereface-mini", backend="onnxruntime", threads=2)  # which have a pool of their own
image, stop = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8), threading.Event()
crops = np.random.default_rng(1).integers(0, 255, (8, *embedder.recipe.size, 3), np.uint8)

def work():
    mtcnn.find([image])
    return embedder.embed(crops)

wanted = work()

def loop():
    while not stop.is_set():
        work()

threads = [threading.Thread(target=loop) for _ in range(3)]
for thread in threads:
    thread.start()
ends = []
for _ in range(40):
    child = os.fork()
    if not child:
        faulthandler.dump_traceback_later(20, exit=True)
        os._exit(not np.array_equal(work(), wanted))
    ends.append(os.waitpid(child, 0)[1])
stop.set()
for thread in threads:
    thread.join()
print(sum(ends))
"""


def test_a_child_finds_and_embeds_faces_while_threads_of_the_parent_do() -> None:
    """In a process of its own: a child that waits for what other threads held ends it with a traceback."""
    quiet = "ignore:This process:DeprecationWarning"
    done = subprocess.run([sys.executable, "-W", quiet, "-c", ONNX], capture_output=True, text=True, timeout=250)
    assert (done.stdout.strip(), done.stderr) == ("0", "")


POOL = """
import faulthandler, os, cv2, numpy as np
from spherecv.runtime.opencv_settings import nets

image, turn = np.zeros((3000, 3000, 3), np.uint8), np.eye(2, 3)
for _ in range(5):  # by the pool, whose threads are there from now on
    cv2.warpAffine(image, turn, (3000, 3000))
ends = []
for _ in range(12):  # one child in three waits for good, if any does
    child = os.fork()
    if not child:
        faulthandler.dump_traceback_later(10, exit=True)
        with nets.running(cv2, 1):
            cv2.warpAffine(image, turn, (3000, 3000))
        os._exit(0)
    ends.append(os.waitpid(child, 0)[1])
print(sum(ends))
"""


@pytest.mark.skipif(cv2.getNumberOfCPUs() < 2, reason="OpenCV has no pool with one core")
def test_a_child_does_not_wait_for_the_threads_of_opencvs_pool() -> None:
    """In a process of its own: only where the pool was never told its size do its threads outlive a call."""
    quiet = "ignore:This process:DeprecationWarning"  # Python 3.12 and later warn of every fork beside threads
    done = subprocess.run([sys.executable, "-W", quiet, "-c", POOL], capture_output=True, text=True, timeout=200)
    assert (done.stdout.strip(), done.stderr) == ("0", "")
