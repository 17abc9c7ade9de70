"""A window on the screen, where OpenCV has windows."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import DeviceError

_ESCAPE = 27
_CURE = "write the video with --out, or look at it through `spherecv serve`"


class Window:
    """Shows images until somebody presses q or Esc, or closes it.

    Parameters
    ----------
    title : str

    Raises
    ------
    DeviceError
        This OpenCV was built without windows, or there is no screen.
    """

    def __init__(self, title: str) -> None:
        import cv2

        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise DeviceError(f"there is no screen for a window (DISPLAY is not set): {_CURE}")
        self._title = title
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        except cv2.error:
            raise DeviceError(
                "this OpenCV has no windows: pip uninstall opencv-contrib-python-headless && pip install "
                f"opencv-contrib-python; or {_CURE}"
            ) from None

    def show(self, image: NDArray[np.uint8]) -> bool:
        """Show an image; returns False once the user has closed the window."""
        import cv2

        cv2.imshow(self._title, image)
        if cv2.waitKey(1) & 0xFF in (ord("q"), _ESCAPE):
            return False
        return bool(cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1)

    def close(self) -> None:
        """Take the window off the screen."""
        import cv2

        with suppress(cv2.error):  # the user closed it first
            cv2.destroyWindow(self._title)
