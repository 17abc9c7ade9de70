from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest

from spherecv.detect.nets import NetPool
from spherecv.detect.workers import Workers
from spherecv.errors import ModelFileError

PICTURES = np.zeros((5, 3, 24, 24), np.float32)


class FakeNet:
    def __init__(self, **channels):
        self.channels = channels

    def run(self, pictures):
        return {name: np.full((len(pictures), count), count, np.float32) for name, count in self.channels.items()}


def test_outputs_are_known_by_their_channels_whatever_their_names():
    pool = NetPool(lambda: FakeNet(a=4, b=10, c=2), "third net", ("scores", "offsets", "points"))
    outputs = pool.run(PICTURES)
    assert [outputs.scores.shape[1], outputs.offsets.shape[1], outputs.points.shape[1]] == [2, 4, 10]


def test_what_a_net_need_not_give_is_empty():
    outputs = NetPool(lambda: FakeNet(a=4, b=2), "second net", ("scores", "offsets")).run(PICTURES)
    assert outputs.points.shape == (5, 0)


def test_another_net_is_refused():
    pool = NetPool(lambda: FakeNet(fc5=512), "second net", ("scores", "offsets"))
    with pytest.raises(ModelFileError, match="not the second net of MTCNN: no scores, offsets"):
        pool.run(PICTURES)


def test_threads_never_share_a_net():
    busy, made = set(), []

    class Alone:
        def __init__(self):
            made.append(self)

        def run(self, pictures):
            assert self not in busy
            busy.add(self)
            time.sleep(0.005)
            busy.remove(self)
            return FakeNet(a=4, b=2).run(pictures)

    pool = NetPool(Alone, "first net", ("scores", "offsets"))
    assert len(list(Workers(3).map(pool.run, [PICTURES] * 30))) == 30
    assert 1 <= len(made) <= 3


def test_a_net_that_failed_once_is_used_again():
    class FailsOnce(FakeNet):
        failed = False

        def run(self, pictures):
            if not self.failed:
                self.failed = True
                raise RuntimeError("once")
            return super().run(pictures)

    pool = NetPool(lambda: FailsOnce(a=4, b=2), "first net", ("scores", "offsets"))
    with pytest.raises(RuntimeError, match="once"):
        pool.run(PICTURES)
    assert len(pool.run(PICTURES).scores) == 5


def test_there_are_no_more_copies_than_cores(monkeypatch):
    """However many threads call: each copy holds the buffers of the largest picture."""
    monkeypatch.setattr("spherecv.detect.nets.usable_cores", lambda: 2)
    made, at_work, most = [], [], []

    class Slow(FakeNet):
        def __init__(self):
            super().__init__(a=4, b=2)
            made.append(self)

        def run(self, pictures):
            at_work.append(self)
            most.append(len(at_work))
            time.sleep(0.002)
            at_work.remove(self)
            return super().run(pictures)

    pool = NetPool(Slow, "first net", ("scores", "offsets"))
    assert len(list(Workers(16).map(pool.run, [PICTURES] * 100))) == 100
    assert len(made) == 2
    assert max(most) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_does_not_wait_for_copies_at_work_in_its_parent(monkeypatch):
    monkeypatch.setattr("spherecv.detect.nets.usable_cores", lambda: 1)
    begun, ended = threading.Event(), threading.Event()

    class Waits(FakeNet):
        def run(self, pictures):
            if not ended.is_set():
                begun.set()
                ended.wait(60)
            return super().run(pictures)

    pool = NetPool(lambda: Waits(a=4, b=2), "first net", ("scores", "offsets"))
    thread = threading.Thread(target=pool.run, args=(PICTURES,))
    thread.start()
    begun.wait(60)
    child = os.fork()
    if child == 0:
        ended.set()
        os._exit(0 if len(pool.run(PICTURES).scores) == 5 else 1)
    try:
        until = time.monotonic() + 60
        while (done := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < until:
            time.sleep(0.01)
        assert done == (child, 0)
    finally:
        ended.set()
        thread.join()
        if done == (0, 0):
            os.kill(child, 9)
            os.waitpid(child, 0)
