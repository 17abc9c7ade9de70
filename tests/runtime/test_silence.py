from __future__ import annotations

import cv2
import pytest

from spherecv.runtime.silence import silent_opencv

pytestmark = pytest.mark.runtime


def test_the_level_comes_back_after_an_error_too() -> None:
    logging = cv2.utils.logging
    before = logging.getLogLevel()
    levels = []

    def fail() -> None:
        with silent_opencv(cv2):
            levels.append(logging.getLogLevel())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert levels == [logging.LOG_LEVEL_SILENT]
    assert logging.getLogLevel() == before
