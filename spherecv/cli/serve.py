"""`spherecv serve`: the HTTP service and its page."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from spherecv.cli import options
from spherecv.errors import InvalidArgumentError

_MEGA = 1_000_000


@dataclass
class ServedPipeline(options.PipelineOptions):
    """What finds and embeds faces, for images from anywhere."""

    max_pixels: Annotated[float, typer.Option("--max-pixels", help="Largest image, in megapixels.")] = 25.0


@options.grouped
def serve(
    host: Annotated[
        str, typer.Option("--host", help="Where to listen; anything but loopback needs keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="0 takes a free one.")] = 8000,
    gallery: Annotated[
        str | None,
        typer.Option("--gallery", "-g", help="A gallery to enrol in and ask; made if missing.", show_default=False),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option("--keys", help="A file of API keys; without it, SPHERECV_API_KEYS.", show_default=False),
    ] = None,
    new_key: Annotated[
        str | None, typer.Option("--new-key", metavar="NAME", help="Make an API key, and stop.", show_default=False)
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option("--tls-cert", help="For HTTPS: the certificate (PEM).", show_default=False)
    ] = None,
    private_key: Annotated[
        Path | None, typer.Option("--tls-key", help="For HTTPS: its private key (PEM).", show_default=False)
    ] = None,
    *,
    pipeline: ServedPipeline,
    decision: options.ProbabilityOptions,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Pipelines side by side; one for each core by default.")
    ] = None,
    queue: Annotated[int, typer.Option("--queue", min=1, help="Requests let in at once; more get 429.")] = 64,
    max_upload: Annotated[float, typer.Option("--max-upload", help="Largest request, in megabytes.")] = 16.0,
    time_limit: Annotated[float, typer.Option("--time-limit", help="Seconds for a request.")] = 30.0,
) -> None:
    """Serve verification, detection, embeddings and a gallery over HTTP.

    A page at the same address tries them.

    Images are kept nowhere; enrolled people as embeddings, until they are removed (docs/privacy.md). The log goes to
    standard error, a line of JSON for each request.

    Examples:

      spherecv serve --gallery people.db

      spherecv serve --new-key laptop --keys keys.txt

      spherecv serve --host 0.0.0.0 --keys keys.txt --gallery people.db --far 0.001
    """
    from spherecv.serve import ApiKeys

    if new_key is not None:
        _make_key(new_key, keys)
        return
    known = ApiKeys.load(keys)
    from spherecv.decision import DecisionRule
    from spherecv.serve import FaceService, ServiceSettings, run
    from spherecv.serve.pool import open_pool
    from spherecv.serve.server import check_certificate, check_open
    from spherecv.serve.settings import DAY, LEAST

    check_open(host, known)  # before the models are opened, which takes a while
    check_certificate(certificate, private_key)
    _check_limit("--max-upload", max_upload, LEAST["max_body"] / _MEGA, "megabytes")
    _check_limit("--max-pixels", pipeline.max_pixels, LEAST["max_pixels"] / _MEGA, "megapixels")
    _check_limit("--time-limit", time_limit, LEAST["time_limit"], "seconds", DAY)
    largest = round(max_upload * _MEGA)
    settings = ServiceSettings(
        max_body=largest, max_held=max(largest, ServiceSettings.max_held),
        max_pixels=round(pipeline.max_pixels * _MEGA), queue=queue, time_limit=time_limit,
    )  # fmt: skip
    _check_that_a_face_fits(pipeline.min_size, settings.max_pixels)
    config = pipeline.pipeline_config()
    _ = DecisionRule.of(config, **decision.settings()).threshold  # or refused, before the nets are opened
    pool = open_pool(config, workers=workers, batch=settings.batch)
    service = FaceService.open(pool, gallery, settings, **decision.settings())
    if service.read_only:
        typer.echo(f"{gallery} is read-only here: people are named, nobody can be enrolled", err=True)
    run(
        service, host=host, port=port, keys=known, certificate=certificate, private_key=private_key,
        ready=lambda address: typer.echo(f"listening on {address} (Ctrl+C stops)"),
    )  # fmt: skip


def _check_limit(option: str, value: float, least: float, unit: str, most: float = math.inf) -> None:
    """Refuse what `ServiceSettings` would refuse, under the name that the user knows and in its unit."""
    if not least <= value <= most or value == math.inf:
        asked = f"at least {least:g} {unit}" if most == math.inf else f"within {least:g}..{most:g} {unit}"
        raise InvalidArgumentError(f"{option} must be {asked}, but got {value:g}")


def _check_that_a_face_fits(min_size: int | None, max_pixels: int) -> None:
    if min_size is not None and min_size**2 > max_pixels:
        raise InvalidArgumentError(
            f"--min-size {min_size} is larger than any image that is let in ({max_pixels:,} pixels, --max-pixels): no "
            "face would ever be found"
        )


def _make_key(name: str, path: Path | None) -> None:
    from spherecv.serve.keys import VARIABLE, add_key, new_key

    if path is not None:
        typer.echo(add_key(path, name))
        typer.echo(f"this is the key, shown once; its hash is in {path}", err=True)
        return
    key, line = new_key(name)
    typer.echo(key)
    typer.echo(f"this is the key, shown once; for the service: {VARIABLE}={line!r}", err=True)
