"""`spherecv classify`: probabilities of age, sex and the like for faces of an image, a folder or a list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spherecv.cli import options
from spherecv.cli.counting import counting
from spherecv.cli.faces import Failures
from spherecv.cli.wording import numbered
from spherecv.errors import InvalidArgumentError, SphereCVError

if TYPE_CHECKING:
    from spherecv.classify import ClassifiedFace


@options.grouped
def classify(
    source: options.Source,
    *,
    detector: options.DetectorOptions,
    prototxt: Annotated[Path, typer.Option("--prototxt", help="The classifier's prototxt.", show_default=False)],
    caffemodel: Annotated[Path, typer.Option("--caffemodel", help="The classifier's weights.", show_default=False)],
    labels: Annotated[
        list[str],
        typer.Option(
            "--labels",
            help="Labels in the output's order: a,b,c, or a file, one a line. Of several outputs: BLOB=a,b,c each.",
            show_default=False,
        ),
    ],
    recipe: options.Recipe = None,
    crop: Annotated[str, typer.Option("--crop", help="What is fed: box, square, aligned or whole.")] = "box",
    margin: Annotated[float, typer.Option("--margin", help="Added to the box on each side, a share of it.")] = 0.0,
    precision: options.Precision = None,
    as_json: options.Json = False,
) -> None:
    """Classify faces with a Caffe net: the probability of every label. With --json, a line for each image.

    An image that cannot be read is reported and the rest goes on; exit code 2 only where none could be read.

    Examples:

      spherecv classify group.jpg --prototxt gender.prototxt --caffemodel gender.caffemodel --labels male,female

      spherecv classify photos/ --prototxt mask.prototxt --caffemodel mask.caffemodel --labels mask.txt --margin 0.2
    """
    from spherecv.classify import FaceClassifier
    from spherecv.config import PipelineConfig
    from spherecv.images import find_images

    paths = find_images(source)
    settings = detector.settings()
    chosen: dict[str, Any] = {"labels": _labels(labels), "recipe": recipe, "crop": crop, "margin": margin}
    chosen |= {"backend": detector.backend, "device": detector.device or "cpu", "threads": detector.threads}
    chosen |= {"precision": precision or "float32"}
    finder = PipelineConfig(**settings).open_detector() if crop != "whole" else "mtcnn"
    classifier = FaceClassifier.from_caffe(prototxt, caffemodel, detector=finder, **chosen)
    failures = Failures(len(paths), as_json)
    answers = classifier.run(paths, errors="return")
    for path, answer in zip(paths, counting(answers, len(paths), "classifying"), strict=True):
        if isinstance(answer, SphereCVError):
            failures.add(path, answer)
        elif as_json:
            typer.echo(json.dumps({"image": str(path), "faces": [face.to_dict() for face in answer]}))
        else:
            typer.echo(_text(path, answer))
    failures.close()


def _labels(given: list[str]) -> list[str] | dict[str, list[str]]:
    """Labels of the one output, or by output."""
    named = {name: words for name, _, words in (text.partition("=") for text in given) if words}
    if not named and len(given) == 1:
        return _words(given[0])
    if len(named) < len(given):
        raise InvalidArgumentError("--labels of several outputs must be BLOB=a,b,c, once for each output")
    return {name: _words(words) for name, words in named.items()}


def _words(text: str) -> list[str]:
    path = Path(text)
    try:
        if "," in text or not path.is_file():
            return [word.strip() for word in text.split(",")]
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(f"--labels: {text} cannot be read: {error}") from None


def _text(path: Path, faces: list[ClassifiedFace]) -> str:
    count = numbered(len(faces), "face") if faces else "no face"
    rows = []
    for one in faces:
        rows.append(f"  box {' '.join(f'{value:.0f}' for value in one.face.box)}")
        for name, head in one.heads.items():
            best = sorted(head.items(), key=lambda item: -item[1])
            words = ", ".join(f"{label} {share:.3f}" for label, share in best)
            rows.append(f"    {name}: {words}" + (" (softmax added)" if name in one.softmax else ""))
    return "\n".join([f"{path}: {count}", *rows])
