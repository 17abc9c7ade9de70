from __future__ import annotations

from collections.abc import Iterator

import cv2
import pytest

from spherecv.runtime.silence import silent_opencv

pytestmark = pytest.mark.runtime

logging = cv2.utils.logging


@pytest.fixture
def level() -> Iterator[int]:
    """A level at which OpenCV complains, whatever other tests left."""
    before = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_WARNING)
    yield logging.LOG_LEVEL_WARNING
    logging.setLogLevel(before)


def complaint(capfd: pytest.CaptureFixture[str]) -> str:
    """What OpenCV says of an image that is not there."""
    capfd.readouterr()
    assert cv2.imread("nowhere.png") is None
    return "".join(capfd.readouterr())


def test_nothing_is_printed_inside_the_block_alone(level: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert "nowhere.png" in complaint(capfd)
    with silent_opencv(cv2):
        assert complaint(capfd) == ""
    assert "nowhere.png" in complaint(capfd)


def test_the_level_comes_back_after_an_error_too(level: int) -> None:
    levels = []

    def fail() -> None:
        with silent_opencv(cv2):
            levels.append(logging.getLogLevel())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert levels == [logging.LOG_LEVEL_SILENT]
    assert logging.getLogLevel() == level
