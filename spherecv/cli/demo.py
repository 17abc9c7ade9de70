"""`spherecv demo`: the main job on two public-domain portraits that lie in the wheels of other packages."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spherecv.cli import options
from spherecv.errors import MissingDependencyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# NASA's and the US Navy's portraits, works of the US government: who, package, file inside it.
_SAMPLES = (
    ("grace-hopper", "matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    ("eileen-collins", "skimage", "data/astronaut.png"),
)


def demo(
    model: options.Model = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures.")] = Path("demo-output"),
) -> None:
    """Run the main job on sample portraits and draw what happened.

    Without a model at hand it detects and aligns, and says how to get one; with one it verifies a pair of the same
    person (one portrait and an altered copy of it) and a pair of different people.
    """
    from spherecv.images import load_image

    portraits = {who: load_image(_sample(package, file)) for who, package, file in _SAMPLES}
    portraits["grace-hopper-altered"] = _altered(portraits["grace-hopper"])
    _detect_and_align(portraits, out)
    chosen = model or _model_at_hand()
    if chosen is None:
        _say_how_to_get_a_model()
        return
    _verify(portraits, chosen, out)


def _detect_and_align(portraits: dict[str, NDArray[np.uint8]], out: Path) -> None:
    from spherecv.align import FaceAligner
    from spherecv.detect import FaceDetector
    from spherecv.drawing import draw_aligned, save_picture

    detector, aligner = FaceDetector("mtcnn"), FaceAligner()
    for who, image in portraits.items():
        faces = detector.detect(image)
        goal = out / f"{who}.png"
        save_picture(draw_aligned(image, faces, aligner.align(image, faces)), goal)
        scores = ", ".join(f"{face.score:.3f}" for face in faces)
        typer.echo(f"{who}: {len(faces)} face(s), score {scores}; drawn in {goal}")


def _verify(portraits: dict[str, NDArray[np.uint8]], model: str, out: Path) -> None:
    from spherecv.drawing import save_picture
    from spherecv.verify import FaceVerifier

    verifier = FaceVerifier(model)
    for name, first, second, note in (
        ("same", "grace-hopper", "grace-hopper-altered", "an altered copy of the same portrait, so an easy pair"),
        ("different", "grace-hopper", "eileen-collins", "two people"),
    ):
        result = verifier.verify(portraits[first], portraits[second])
        goal = out / f"{name}.png"
        save_picture(result.plot(), goal)
        verdict = "same person" if result.verified else "different people"
        typer.echo(
            f"{first} and {second} ({note}): {verdict}, {result.metric} distance {result.distance:.3f}, "
            f"threshold {result.threshold:.3f}; drawn in {goal}"
        )


def _model_at_hand() -> str | None:
    from spherecv.errors import SphereCVError
    from spherecv.zoo import model_names, open_model, state_of

    for name in model_names("embedder"):
        if state_of(name) == "ready":
            try:
                if open_model(name).thresholds:
                    return name
            except SphereCVError:
                continue
    return None


def _say_how_to_get_a_model() -> None:
    typer.echo(
        "No face recogniser is on this machine yet, so nothing was verified. Get one, then run the demo again:\n"
        "  spherecv models list                 what there is, and on which terms\n"
        "  spherecv models download sface       38 MB, Apache-2.0, with a published threshold\n"
        "  spherecv demo --model sface\n"
        "or verify with your own Caffe files:\n"
        "  spherecv verify A.jpg B.jpg --prototxt net.prototxt --caffemodel net.caffemodel --recipe sphereface "
        "--threshold 0.6"
    )


def _sample(package: str, file: str) -> Path:
    spec = importlib.util.find_spec(package)  # of a top-level package: finds, does not import
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder, file)).is_file():
            return path
    raise MissingDependencyError(package, "demo", "the sample portrait")


def _altered(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same portrait as another camera might give it: smaller, turned, darker, softer, compressed."""
    import cv2

    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 9, 0.8)
    turned = cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    darker = cv2.convertScaleAbs(cv2.GaussianBlur(turned, (0, 0), 1.2), alpha=0.75, beta=18)
    _, compressed = cv2.imencode(".jpg", darker, [cv2.IMWRITE_JPEG_QUALITY, 60])
    return cv2.imdecode(compressed, cv2.IMREAD_COLOR)
