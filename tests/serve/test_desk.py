from __future__ import annotations

import asyncio
import threading
import time

import pytest

from spherecv.serve.desk import Desk
from spherecv.serve.problems import Problem
from spherecv.serve.settings import ServiceSettings


def test_what_would_wait_for_half_of_its_time_is_refused_at_once() -> None:
    waiting = [4.9]
    desk = Desk(ServiceSettings(time_limit=10.0), lambda: waiting[0])
    assert asyncio.run(desk.run(lambda: "an answer")) == "an answer"
    waiting[0] = 5.1
    with pytest.raises(Problem) as refused:
        asyncio.run(desk.run(lambda: "an answer"))
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "6")
    waiting[0] = 0.0
    assert asyncio.run(desk.run(lambda: "an answer")) == "an answer"


def test_a_slow_pipeline_refuses_what_it_would_not_get_to(staged, tools, monkeypatch) -> None:
    service = staged.make(time_limit=10.0)
    (detector,) = staged.detectors
    monkeypatch.setattr(staged.pool, "_seconds_each", 3.0)  # as the last images went
    detector.open.clear()
    answers: list[int] = []

    def ask() -> None:
        answers.append(client.post("/v1/detect", files={"img": tools.red}).status_code)

    with tools.serving(service) as client:
        asked = [threading.Thread(target=ask) for _ in range(3)]  # one at work, two that wait 6 s
        for number, thread in enumerate(asked):
            thread.start()
            until = time.monotonic() + tools.patience
            while len(detector.batches) + staged.pool.waiting <= number:
                assert time.monotonic() < until
                time.sleep(0.01)
        refused = client.post("/v1/detect", files={"img": tools.red})
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "6")
        detector.open.set()
        for thread in asked:
            thread.join()
        assert answers == [200] * 3
