"""The log and the metrics tell of requests, and of nobody."""

from __future__ import annotations

import json
import logging
import time

import pytest

from spherecv.serve.telemetry import LOGGER, JsonLines


@pytest.fixture
def lines():
    """What is logged, as it would be written."""
    written: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(JsonLines().format(record))

    handler, level = Keep(), LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    yield written
    LOGGER.removeHandler(handler)
    LOGGER.setLevel(level)


def until(lines: list[str], count: int) -> None:
    """A request is told of when it was answered, which the caller may see first."""
    waited = time.monotonic() + 60
    while len(lines) < count:
        assert time.monotonic() < waited
        time.sleep(0.005)


def test_a_line_for_each_request_without_names_or_faces(client, tools, lines) -> None:
    name = "Zebulon Quux"
    client.post("/v1/gallery", files={"img": tools.red}, data={"identity": name})
    client.get(f"/v1/gallery/{name}?x={name}")
    client.post("/v1/identify", files={"img": tools.red})
    client.post("/v1/embed", files={"img": b"broken"})
    client.get(f"/{name}")
    until(lines, 5)
    told = [json.loads(line) for line in lines]
    requests = [line for line in told if line["event"] == "request"]
    assert [(line["method"], line["operation"], line["status"]) for line in requests] == [
        ("POST", "enrol", 201), ("GET", "person", 200), ("POST", "identify", 200), ("POST", "embed", 422),
        ("GET", "none", 404),
    ]  # fmt: skip
    assert requests[3]["problem"] == "bad-image"
    assert requests[0]["received"] > len(tools.red)
    text = "\n".join(lines)
    for secret in ("Zebulon", "Quux", "sha256:", "embedding", "127.0.0.1:"):
        assert secret not in text.replace(str(client.base_url), "")


def test_callers_cannot_write_the_log(client, lines) -> None:
    forged = 'x"}\\n{"event": "forged'
    answer = client.get("/healthz", headers={"x-request-id": forged})
    assert answer.headers["x-request-id"] != forged
    assert client.get("/healthz", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    client.request("FORGED", "/healthz")
    client.get("/%0a%7b%22event%22%3a%22forged%22%7d")
    until(lines, 4)
    assert not any("forged" in line.lower() for line in lines)


def test_a_fault_is_logged_by_place_without_its_message(staged, tools, lines, monkeypatch) -> None:
    service = staged.make()

    def fail(_image):
        raise RuntimeError("what a caller sent")

    monkeypatch.setattr(type(staged.detectors[0]), "_faces", staticmethod(fail))
    with tools.serving(service) as client:
        identity = client.post("/v1/detect", files={"img": tools.red}).headers["x-request-id"]
    until(lines, 2)
    fault = next(line for line in map(json.loads, lines) if line["event"] == "fault")
    assert (fault["id"], fault["kind"]) == (identity, "RuntimeError")
    assert "test_telemetry.py" in fault["trace"][-1]
    assert "what a caller sent" not in "".join(lines)


def test_metrics_count_and_stay_few(client, tools) -> None:
    client.post("/v1/gallery", files={"img": tools.red}, data={"identity": "Ann"})
    for number in range(5):
        client.get(f"/nothing/{number}")
        client.request(f"METHOD{number}", "/healthz")
        client.get(f"/v1/gallery/{number}")
    text = client.get("/metrics").text
    assert 'spherecv_requests_total{method="POST",operation="enrol",status="201"} 1.0' in text
    assert 'spherecv_requests_total{method="GET",operation="none",status="404"} 5.0' in text
    assert 'spherecv_requests_total{method="GET",operation="person",status="404"} 5.0' in text
    assert 'spherecv_problems_total{problem="unknown-identity"} 5.0' in text
    assert "spherecv_gallery_faces 1.0" in text
    assert "spherecv_batch_images_count 1.0" in text
    assert "METHOD" not in text
    assert "Ann" not in text
