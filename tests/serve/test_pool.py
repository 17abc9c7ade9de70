"""What many ask at once goes through together, and everybody gets their own answer."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from spherecv.config import PipelineConfig
from spherecv.errors import BackendError, ImageError, NoFaceError
from spherecv.pipeline import FacePipeline
from spherecv.serve.pool import DEADLINE, ClosedError, OverdueError, open_pool
from spherecv.serve.uploads import checked_upload


def upload(data: bytes, name: str = "img"):
    return checked_upload(data, name, 10**6)


def until(condition, patience) -> None:
    waited = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < waited
        time.sleep(0.002)


def test_concurrent_requests_are_batched_and_answered_each_with_its_own(staged, tools) -> None:
    pool = staged.make(workers=1, batch=8).pool
    (detector,) = staged.detectors
    detector.open.clear()
    colours = [(10 * number, 200, 30) for number in range(20)]
    with ThreadPoolExecutor(21) as threads:
        first = threads.submit(lambda: pool.faces(upload(tools.blue)))
        until(lambda: detector.batches, tools.patience)
        asked = [threads.submit(pool.faces, upload(tools.picture(colour))) for colour in colours]
        until(lambda: pool.waiting == 20, tools.patience)
        detector.open.set()
        answers = [future.result() for future in asked]
        first.result()
    assert detector.batches == [1, 8, 8, 4]
    for (blue, green, red), (face,) in zip([c[::-1] for c in colours], answers, strict=True):
        np.testing.assert_allclose(face.embedding + 127.5, (blue, green, red), atol=4)  # black border
    pool.close()


def test_a_failure_is_its_own_callers_alone(staged, tools) -> None:
    pool = staged.make().pool
    broken = upload(tools.picture(size=(64, 13)), "img2")
    sources = [upload(tools.red), upload(tools.grey, "img1"), upload(tools.blue[:-30], "img3"), broken]
    answers = list(pool.run(sources, errors="return"))
    assert [type(answer) for answer in answers] == [list, NoFaceError, ImageError, BackendError]
    assert "no face found in img1 (128x128)" in str(answers[1])
    with pytest.raises(ImageError, match="img3 is a broken image"):
        list(pool.run(sources[2:3]))
    assert pool.detect(upload(tools.grey)).faces == []
    assert pool.detect(upload(tools.red)).width == 128
    pool.close()


def test_detections_and_embeddings_do_not_mix_in_a_batch_and_none_starves(staged, tools) -> None:
    pool = staged.make(workers=1).pool
    (detector,) = staged.detectors
    detector.open.clear()
    with ThreadPoolExecutor(17) as threads:
        threads.submit(pool.detect, upload(tools.red))
        until(lambda: detector.batches, tools.patience)
        asked = []
        for number in range(16):
            asked.append(threads.submit(pool.faces if number % 2 else pool.detect, upload(tools.red)))
            until(lambda number=number: pool.waiting == number + 1, tools.patience)
        detector.open.set()
        for future in asked:
            future.result()
    assert detector.batches == [1, 8, 8]
    pool.close()


def test_workers_share_what_waits(staged, tools) -> None:
    pool = staged.make(workers=2, batch=8).pool
    for detector in staged.detectors:
        detector.open.clear()
    sources = [upload(tools.red) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(pool.faces, source) for source in sources]
        until(lambda: all(detector.batches for detector in staged.detectors), tools.patience)
        for detector in staged.detectors:
            detector.open.set()
        for future in asked:
            future.result()
    assert sum(map(sum, (detector.batches for detector in staged.detectors))) == 8
    pool.close()


def test_who_waits_too_long_is_told_so_and_not_worked_for(staged, tools) -> None:
    pool = staged.make(workers=1).pool
    (detector,) = staged.detectors
    detector.open.clear()

    def hurried():
        DEADLINE.set(time.monotonic() + 0.05)
        return pool.faces(upload(tools.red))

    with ThreadPoolExecutor(2) as threads:
        working = threads.submit(pool.faces, upload(tools.red))
        until(lambda: detector.batches, tools.patience)
        with pytest.raises(OverdueError, match="in time"):
            threads.submit(hurried).result()
        detector.open.set()
        working.result()
    pool.close()
    assert detector.batches == [1]


def test_closing_finishes_what_waits_and_takes_nothing_more(staged, tools) -> None:
    pool = staged.make(workers=1, batch=2).pool
    (detector,) = staged.detectors
    detector.open.clear()
    with ThreadPoolExecutor(5) as threads:
        asked = [threads.submit(pool.faces, upload(tools.red)) for _ in range(5)]
        until(lambda: pool.waiting + sum(detector.batches) == 5, tools.patience)
        closing = threading.Thread(target=pool.close)
        closing.start()
        detector.open.set()
        assert all(future.result() for future in asked)
        closing.join()
    with pytest.raises(ClosedError):
        pool.faces(upload(tools.red))


def test_a_fault_reaches_the_caller_and_spares_the_worker(staged, tools, monkeypatch) -> None:
    pool = staged.make(workers=1).pool
    (detector,) = staged.detectors
    with monkeypatch.context() as patch:
        patch.setattr(type(detector), "_faces", staticmethod(lambda _image: 1 / 0))
        with pytest.raises(ZeroDivisionError):
            pool.faces(upload(tools.red))
    assert pool.faces(upload(tools.red))
    pool.close()


def test_a_fault_in_a_batch_is_its_own_callers_alone(staged, tools, monkeypatch) -> None:
    pool = staged.make(workers=1, batch=8).pool
    (detector,) = staged.detectors
    detector.open.clear()
    faces = type(detector)._faces
    fail_on_small = staticmethod(lambda image: faces(image) if len(image) > 99 else 1 / 0)
    monkeypatch.setattr(type(detector), "_faces", fail_on_small)
    with ThreadPoolExecutor(9) as threads:
        threads.submit(pool.faces, upload(tools.red))
        until(lambda: detector.batches, tools.patience)
        good = [threads.submit(pool.faces, upload(tools.red)) for _ in range(7)]
        bad = threads.submit(pool.faces, upload(tools.picture(size=(64, 64))))
        until(lambda: pool.waiting == 8, tools.patience)
        detector.open.set()
        assert all(future.result() for future in good)
        with pytest.raises(ZeroDivisionError):
            bad.result()
    assert detector.batches[:2] == [1, 8]
    pool.close()


def test_batches_give_what_a_pipeline_alone_gives(net, data_dir) -> None:
    portraits = [cv2.imread(str(data_dir / "deepface-pairs" / f"img{number}.jpg")) for number in (1, 4, 7, 16)]
    photos = [cv2.imencode(".png", cv2.resize(portrait, (360, 480)))[1].tobytes() for portrait in portraits]
    pool = open_pool(PipelineConfig.of(net), workers=2)
    expected = [found[0] for found in FacePipeline(pool.embedder, detector=pool.detector).run(photos)]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda photo: pool.faces(checked_upload(photo, "x", 10**8), face="largest"), photos))
    for (answer,), one in zip(answers, expected, strict=True):
        np.testing.assert_allclose(answer.face.box, one.face.box, atol=1e-2)
        np.testing.assert_allclose(answer.embedding, one.embedding, atol=1e-4)
    pool.close()
