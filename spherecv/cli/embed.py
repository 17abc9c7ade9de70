"""`spherecv embed`: faces of an image, a folder or a list, as embeddings in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spherecv.cli import options
from spherecv.cli.counting import counted, counting, resumable
from spherecv.cli.faces import Failures, images_of
from spherecv.cli.wording import numbered
from spherecv.errors import InvalidArgumentError, SphereCVError

if TYPE_CHECKING:
    from spherecv.config import PipelineConfig


@options.grouped
def embed(
    source: options.Source,
    *,
    pipeline: options.PipelineOptions,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Where to write: one .npz, or else a folder of shards with a manifest.")
    ],
    face: options.AnyFaceOptions,
    processes: Annotated[
        int | None, typer.Option("--processes", "-j", help="Shards: workers; by default one for each core.")
    ] = None,
    shard_images: Annotated[int, typer.Option("--shard-images", help="Shards: images to each.")] = 2000,
    shard_format: Annotated[
        str, typer.Option("--format", help="Shards: npy or parquet.", autocompletion=options.one_of("npy", "parquet"))
    ] = "npy",
    engine: Annotated[str, typer.Option("--engine", help="Shards: local processes, or ray.")] = "local",
    address: Annotated[
        str | None, typer.Option("--address", help="Of a Ray cluster, as auto; by default Ray starts on this machine.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Embed faces into one .npz: embeddings, paths, boxes, scores, qualities; no pickle in it.

    With a folder for --out, into shards, by all cores: for images by the million, which may lie in .tar files. The same
    command resumes an interrupted run. It compares names, not contents: where images have changed under their old
    names, embed into a new folder.

    An image without a face is reported and the rest goes on; exit code 2 only where none could be embedded.

    Examples:

      spherecv embed images/ --out images.npz

      spherecv embed crops/ --face whole --out crops.npz

      spherecv embed shards/ --out embeddings/ --format parquet
    """
    if out.suffix.lower() != ".npz":
        job: dict[str, Any] = {"face": face.which(), "processes": processes, "shard_images": shard_images}
        job |= {"format": shard_format, "engine": engine, "address": address}
        _embed_in_shards(source, out, pipeline.pipeline_config(), job, as_json)
        return
    if engine != "local" or address is not None:
        raise InvalidArgumentError("--engine and --address go with a folder of shards for --out, not with one .npz")
    from spherecv.facetable import write_embeddings

    paths = images_of(source)
    opened = pipeline.pipeline_config().open()
    embedder = opened.embedder
    failures = Failures(len(paths), as_json)
    with write_embeddings(out, opened.fingerprint) as writer:
        answers = opened.run(paths, face=face.which(), errors="return")
        for path, answer in zip(paths, counting(answers, len(paths), "embedding"), strict=True):
            if isinstance(answer, SphereCVError):
                failures.add(path, answer)
                continue
            for embedded in answer:
                writer.add(path, embedded.embedding, embedded.face)
        failures.close()
    summary = {"out": str(out), "images": len(paths), "faces": len(writer), "failed": failures.count}
    if as_json:
        typer.echo(json.dumps({**summary, "model": embedder.name, "recipe": embedder.recipe.fingerprint}))
    else:
        written = f"wrote {numbered(len(writer), 'embedding')} of {numbered(len(paths), 'image')} to {out}"
        typer.echo(f"{written}; {numbered(failures.count, 'image')} failed")


def _embed_in_shards(source: str, out: Path, config: PipelineConfig, job: dict[str, Any], as_json: bool) -> None:
    from spherecv.gallery.bulk import embed_images

    with resumable(), counted("embedding shards") as progress:
        done = embed_images(source, out, model=config, **job, progress=progress)
    if as_json:
        typer.echo(json.dumps({"out": str(out), **done.to_dict()}))
    else:
        resumed = f", {done.resumed} of them from before" if done.resumed else ""
        typer.echo(
            f"wrote {numbered(done.faces, 'embedding')} of {numbered(done.images, 'image')} to {out}, "
            f"{numbered(done.shards, 'shard')}{resumed}; "
            f"{numbered(done.failures, 'image')} failed"
        )
    if not done.faces:
        raise SphereCVError(f"none of the {done.images} images could be used: {out} says why for each")
