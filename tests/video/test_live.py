"""Live sources, played by a scripted one, and by a camera's stream over HTTP that breaks off."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from spherecv.errors import VideoError
from spherecv.video import open_frames
from spherecv.video.live import LiveFrames

WAIT = 120.0


class Scripted:
    """Gives numbered frames as they are asked for, waits where the script says so, and ends."""

    rate = 25.0
    length = None
    moment = None

    def __init__(self, count: int, gate: threading.Semaphore | None = None) -> None:
        self.left = count
        self.gate = gate
        self.released = False
        self.number = 0

    def read(self):
        if self.gate is not None:
            self.gate.acquire()
        if not self.left:
            return None
        self.left -= 1
        self.number += 1
        return np.full((4, 4, 3), self.number % 256, np.uint8)

    def release(self):
        self.released = True


def until(condition) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_who_is_slow_gets_the_newest_frame_and_misses_the_others() -> None:
    gate = threading.Semaphore(0)
    frames = LiveFrames(lambda: Scripted(99, gate), "camera 0")
    try:
        gate.release()
        assert frames.wait(WAIT).image[0, 0, 0] == 1
        assert frames.wait(0.01) is None
        gate.release(7)
        until(lambda: frames._read == 8)
        newest = frames.wait(WAIT)
        assert (newest.index, newest.image[0, 0, 0]) == (7, 8)
        assert frames.dropped == 6
        assert newest.at.endswith("+00:00")
        assert newest.time > 0
    finally:
        gate.release(200)
        frames.close()
    assert frames.closed
    assert list(frames) == []


def test_a_lost_source_is_found_again_after_growing_pauses() -> None:
    attempts = []

    def reopen():
        attempts.append(time.monotonic())
        if 1 < len(attempts) < 5:
            raise VideoError("camera 0 cannot be opened")
        return Scripted(1 if len(attempts) == 1 else 10**6)

    frames = LiveFrames(reopen, "camera 0", first_wait=0.02)
    until(lambda: len(attempts) == 5)
    first = frames.wait(WAIT)
    notices = []
    until(lambda: notices.extend(frames.notices()) or len(notices) == 2)
    frames.close()
    assert first is not None
    assert [notice.kind for notice in notices] == ["lost", "back"]
    assert "camera 0 was lost" in notices[0].text
    pauses = np.diff(attempts)[1:]
    assert (pauses >= 0.9 * np.array([0.04, 0.08, 0.16])).all()  # a busy machine may make them longer


def test_a_source_that_opens_and_sends_nothing_is_still_lost() -> None:
    attempts = []

    def reopen():
        attempts.append(time.monotonic())
        return Scripted(1 if len(attempts) == 1 else 0)

    frames = LiveFrames(reopen, "camera 0", first_wait=0.02)
    until(lambda: len(attempts) >= 6)
    frames.close()
    assert (np.diff(attempts)[:5] >= 0.9 * np.array([0.02, 0.04, 0.08, 0.16, 0.32])).all()
    assert [notice.kind for notice in frames.notices()] == ["lost"]
    frames = LiveFrames(lambda: Scripted(0), "camera 0", first_wait=0.01, give_up=0.1)
    with pytest.raises(VideoError, match=r"not found again in .* it can be opened, but sends nothing"):
        frames.wait(WAIT)
    frames.close()


def test_a_fault_of_opening_it_again_is_an_error() -> None:
    opened = []

    def reopen():
        opened.append(1)
        return Scripted(1) if len(opened) == 1 else 1 // 0

    frames = LiveFrames(reopen, "camera 0", first_wait=0.01)
    with pytest.raises(VideoError, match="camera 0 cannot be opened: ZeroDivisionError"):
        for _ in frames:
            pass
    frames.close()


def test_a_source_that_stays_away_is_given_up() -> None:
    opened = []

    def reopen():
        if opened:
            raise VideoError("camera 0 cannot be opened")
        opened.append(Scripted(2))
        return opened[0]

    frames = LiveFrames(reopen, "camera 0", give_up=0.1, first_wait=0.01)
    with pytest.raises(VideoError, match=r"camera 0 was lost and not found again in .* s: camera 0 cannot be opened"):
        for _ in frames:
            pass
    assert opened[0].released
    frames.close()


def test_a_source_that_is_not_there_is_an_error_at_once() -> None:
    def missing():
        raise VideoError("camera 7 cannot be opened")

    with pytest.raises(VideoError, match="camera 7"):
        LiveFrames(missing, "camera 7")


def test_a_source_that_breaks_is_an_error() -> None:
    broken = Scripted(1)
    broken.read = lambda: 1 // 0
    frames = LiveFrames(lambda: broken, "camera 0")
    with pytest.raises(VideoError, match="camera 0 cannot be read: ZeroDivisionError"):
        frames.wait(WAIT)
    assert broken.released
    frames.close()


def test_waiting_ends_when_the_source_is_closed() -> None:
    gate = threading.Semaphore(0)
    frames = LiveFrames(lambda: Scripted(9, gate), "camera 0")
    closing = threading.Timer(0.05, frames.close)
    closing.start()
    assert frames.wait(None) is None
    gate.release()
    closing.join()


class Camera(BaseHTTPRequestHandler):
    """A camera that speaks MJPEG over HTTP, and hangs up on its first caller after 20 pictures."""

    calls = 0

    def do_GET(self) -> None:
        type(self).calls += 1
        last = 20 if type(self).calls <= 1 else 10**6
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        _, data = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        try:
            for _ in range(last):
                self.wfile.write(head + data.tobytes() + b"\r\n")
                time.sleep(0.005)
        except OSError:
            pass

    def log_message(self, *_) -> None:
        pass


@pytest.mark.runtime
def test_a_camera_over_http_is_reached_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPHERECV_OFFLINE", raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    frames = open_frames(f"http://127.0.0.1:{server.server_port}/stream.mjpg")
    try:
        notices = []
        until(lambda: frames.wait(1.0) is not None and (notices.extend(frames.notices()) or len(notices) >= 2))
        assert frames.live
        assert [notice.kind for notice in notices[:2]] == ["lost", "back"]
    finally:
        frames.close()
        server.shutdown()
        server.server_close()
