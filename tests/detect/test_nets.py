from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from spherecv.detect.nets import NetPool, worker_map
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
    with worker_map(3) as side_by_side:
        assert len(list(side_by_side(pool.run, [PICTURES] * 30))) == 30
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


def test_one_worker_is_no_thread():
    with worker_map(1) as in_a_row:
        assert set(in_a_row(lambda _: threading.current_thread(), range(3))) == {threading.current_thread()}
