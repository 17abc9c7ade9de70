"""Two public-domain portraits that lie in the wheels of other packages, for demonstrations without a download."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import InvalidArgumentError, MissingDependencyError
from spherecv.images import load_image

# A portrait of the US Navy and one of NASA, works of the US government: package, file inside it.
_PORTRAITS = {
    "grace-hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    "eileen-collins": ("skimage", "data/astronaut.png"),
}


def sample_portrait(who: str) -> NDArray[np.uint8]:
    """Load a sample portrait.

    Parameters
    ----------
    who : {"grace-hopper", "eileen-collins"}

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        BGR.

    Raises
    ------
    InvalidArgumentError
        There is no portrait of this name.
    MissingDependencyError
        The package that carries it is not installed: the extra `demo` brings both.
    """
    if who not in _PORTRAITS:
        raise InvalidArgumentError(f"there are portraits of {', '.join(_PORTRAITS)}, but not of {who!r}")
    package, file = _PORTRAITS[who]
    spec = importlib.util.find_spec(package)  # of a top-level package: found, not imported
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder, file)).is_file():
            return load_image(path)
    own = "two photos of your own need no other package: spherecv demo A.jpg B.jpg"
    raise MissingDependencyError(package, "demo", f"{own}. The sample portrait {who}")


def altered_copy(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Make the same photo as another camera might give it: smaller, turned, darker, softer, compressed.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
    """
    import cv2

    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 9, 0.8)
    turned = cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    darker = cv2.convertScaleAbs(cv2.GaussianBlur(turned, (0, 0), 1.2), alpha=0.75, beta=18)
    _, compressed = cv2.imencode(".jpg", darker, [cv2.IMWRITE_JPEG_QUALITY, 60])
    return np.asarray(cv2.imdecode(compressed, cv2.IMREAD_COLOR), dtype=np.uint8)
