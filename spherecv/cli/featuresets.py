"""`spherecv evaluate megaface-features` and `trillion`: files of features, as the challenges want and give them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spherecv.cli import options, subjects
from spherecv.cli.bins import check_flip, row_file
from spherecv.cli.counting import counted

if TYPE_CHECKING:
    from spherecv.evaluate.ijbrun import MediaImages

Suffix = Annotated[str, typer.Option("--suffix", help="Behind each name: _ALGORITHM.bin.")]


def megaface_features(
    probes: Annotated[Path, typer.Argument(metavar="PROBES", help="Folder of FaceScrub's feature files.")],
    distractors: Annotated[Path, typer.Argument(metavar="DISTRACTORS", help="Folder of MegaFace's feature files.")],
    probe_list: Annotated[Path, typer.Option("--probe-list", help="The devkit's facescrub_features_list.json.")],
    distractor_list: Annotated[
        Path, typer.Option("--list", help="The devkit's megaface_features_list.json_1000000_1.")
    ],
    suffix: Suffix = ".bin",
    without: Annotated[
        list[Path] | None, typer.Option("--without", help="A list of noise, a name a line; several times for both.")
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Write the CMC curves into this folder.")] = None,
    as_json: options.Json = False,
) -> None:
    """MegaFace's first challenge on feature files that were made by any program, with the devkit's lists.

    Missing and broken files are counted, and named in --json.

    Example:

      spherecv evaluate megaface-features facescrub/ megaface/ --probe-list facescrub_features_list.json
      --list megaface_features_list.json_1000000_1 --suffix _mymodel.bin --without facescrub_noises.txt
    """
    from spherecv.cli.megaface import shown
    from spherecv.evaluate.featurefiles import gather_features, read_feature_list
    from spherecv.evaluate.identification import identify

    noise = [name for path in without or () for name in read_feature_list(path)[0]]
    names, people = read_feature_list(probe_list)
    strangers, _ = read_feature_list(distractor_list)
    with tempfile.TemporaryDirectory() as folder:
        settings: dict[str, Any] = {"suffix": suffix, "without": noise}
        rows, kept, lost = gather_features(probes, names, Path(folder) / "probes.npy", **settings)
        with counted("reading distractors") as progress:
            others, _, missing = gather_features(
                distractors, strangers, Path(folder) / "distractors.npy", progress=progress, **settings
            )
        total = len(others)
        with counted("comparing") as progress:
            result = identify(
                rows, [people[place] for place in kept], others, progress=lambda done: progress(done, total)
            )
        failures = {**lost, **missing}
        del rows, others  # a mapped file cannot be removed everywhere
    if report is not None:
        from spherecv.evaluate.plots import cmc_png
        from spherecv.files import write_bytes

        write_bytes(report / "cmc.png", cmc_png([(probes.name, result)]))
        typer.echo(f"wrote {report / 'cmc.png'}", err=True)
    if as_json:
        typer.echo(json.dumps({"probes": str(probes), **result.to_dict(), "failures": failures}))
        return
    typer.echo(shown(probes.name, result))
    if failures:
        name, why = next(iter(failures.items()))
        typer.echo(f"note: {len(failures)} feature files could not be used; {name}: {why}")


@options.grouped
def trillion(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder of the images.")],
    *,
    listed: Annotated[
        Path, typer.Option("--list", help="A path a line, or a path and five `x y` of landmarks: testdata_lmk.txt.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The submission: a header and the features as float32.")],
    subject: subjects.CropOptions,
    flip: Annotated[
        str, typer.Option("--flip", help="The mirror image's embedding: add, concatenate or none.")
    ] = "add",
    embeddings: Annotated[
        Path | None, typer.Option("--embeddings", help="Folder to keep embeddings in.  [default: the cache]")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Write a submission to Trillion Pairs: features of length 1 in the list's order, resumable.

    An image that cannot be used has a row of zeros, and is counted.

    Example:

      spherecv evaluate trillion testdata/ --list testdata_lmk.txt -o features.bin -m sphereface-20
    """
    from spherecv.errors import InvalidArgumentError
    from spherecv.evaluate.featureruns import read_listed, write_submission

    chosen = subject.subjects()
    if len(chosen) != 1:
        raise InvalidArgumentError(f"a submission is of one model, but got {len(chosen)}")
    check_flip(flip)
    one = chosen[0]
    source: MediaImages = read_listed(images, listed, one)
    saved = row_file(embeddings, one, flip, json.dumps(source.stamp(), sort_keys=True))
    with counted(f"embedding, {one.source.name}") as progress:
        failures = write_submission(source, one, out, flip=flip, saved=saved, progress=progress)
    if as_json:
        typer.echo(json.dumps({"out": str(out), "images": len(source), "failures": failures}))
        return
    typer.echo(f"wrote {out}: {len(source):,} features, {len(failures):,} of them zero for want of an image")
