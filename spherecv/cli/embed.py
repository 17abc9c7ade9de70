"""`spherecv embed`: faces of an image, a folder or a list, as embeddings in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from spherecv.cli import options
from spherecv.cli.faces import Failures
from spherecv.cli.progress import track_answers
from spherecv.errors import SphereCVError


def embed(
    source: options.Source,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the embeddings (.npz).")],
    model: options.Model = None,
    prototxt: options.Prototxt = None,
    caffemodel: options.Caffemodel = None,
    recipe: options.Recipe = None,
    detector: options.Detector = "mtcnn",
    face: options.Face = "largest",
    backend: options.Backend = "opencv",
    device: options.Device = "cpu",
    threads: options.Threads = None,
    as_json: options.Json = False,
) -> None:
    """Embed faces into one .npz: embeddings, paths, boxes, scores, qualities; no pickle in it.

    An image without a face is reported and the rest goes on; exit code 2 only where none could be embedded.

    Examples:

      spherecv embed photos/ --out photos.npz

      spherecv embed crops/ --face whole --out crops.npz
    """
    from spherecv.embeddings import write_embeddings
    from spherecv.pipeline import FacePipeline
    from spherecv.sources import find_images

    paths = find_images(source)
    embedder = options.make_embedder(model, prototxt, caffemodel, recipe, backend, device, threads)
    pipeline = FacePipeline(embedder, detector=options.make_detector(detector, device, threads))
    failures = Failures(len(paths), as_json)
    with write_embeddings(out, model=embedder.name, recipe=embedder.recipe.fingerprint) as writer:
        answers = pipeline.run(paths, face=options.which_face(face), errors="return")
        for path, answer in zip(paths, track_answers(answers, len(paths), "embedding"), strict=True):
            if isinstance(answer, SphereCVError):
                failures.add(path, answer)
                continue
            for embedded in answer:
                writer.add(path, embedded)
        failures.close()
    summary = {"out": str(out), "images": len(paths), "faces": writer.rows, "failed": failures.count}
    if as_json:
        typer.echo(json.dumps({**summary, "model": embedder.name, "recipe": embedder.recipe.fingerprint}))
    else:
        typer.echo(f"wrote {writer.rows} embeddings of {len(paths)} images to {out}; {failures.count} images failed")
