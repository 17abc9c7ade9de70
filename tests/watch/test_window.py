from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from spherecv.errors import DeviceError
from spherecv.watch.window import Window


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A screen on which somebody presses keys."""
    state = SimpleNamespace(shown=[], key=-1, visible=1.0)
    monkeypatch.setenv("DISPLAY", ":9")
    monkeypatch.setattr(cv2, "namedWindow", lambda title, flags: None)
    monkeypatch.setattr(cv2, "imshow", lambda title, image: state.shown.append(image))
    monkeypatch.setattr(cv2, "waitKey", lambda milliseconds: state.key)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda title, what: state.visible)
    monkeypatch.setattr(cv2, "destroyWindow", lambda title: state.shown.append(None))
    return state


def test_a_window_shows_until_somebody_has_had_enough(screen) -> None:
    window, image = Window("door"), np.zeros((4, 4, 3), np.uint8)
    assert window.show(image)
    for screen.key in (ord("q"), 27):
        assert not window.show(image)
    screen.key, screen.visible = -1, 0.0
    assert not window.show(image)
    window.close()
    assert screen.shown[-1] is None


@pytest.mark.runtime
def test_without_windows_there_is_a_clear_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_):
        raise cv2.error("The function is not implemented")

    monkeypatch.setenv("DISPLAY", ":9")
    monkeypatch.setattr(cv2, "namedWindow", refuse)  # what the headless flavour does, whichever is installed here
    with pytest.raises(DeviceError, match="pip install opencv-contrib-python; or write the video with --out"):
        Window("door")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(DeviceError, match="no screen"):
        Window("door")
