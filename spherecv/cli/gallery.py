"""`spherecv gallery`: keep known faces, ask who is on an image, group unknown ones, forget people."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from spherecv.addresses import is_text_image
from spherecv.cli import galleries, options
from spherecv.cli.counting import counted
from spherecv.cli.wording import numbered
from spherecv.errors import InvalidArgumentError

app = typer.Typer(
    no_args_is_help=True,
    help="Keep known people in one file, or on a Milvus server; ask who is on an image.",
)


@app.command("enrol")
@options.grouped
def enrol(
    location: galleries.Location,
    sources: Annotated[list[str], typer.Argument(metavar="SRC...", help="Images, or a folder of them.")],
    *,
    pipeline: options.PipelineOptions,
    identity: Annotated[
        str | None, typer.Option("--identity", "-i", help="Who is on them; without it SRC is a PERSON/IMAGE tree.")
    ] = None,
    metadata: Annotated[str | None, typer.Option("--metadata", help="JSON to keep with the person.")] = None,
    min_quality: Annotated[
        float | None, typer.Option("--min-quality", help="Leave out faces of a lower quality, 0 to 1.")
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="Give somebody of that name further faces: the default.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a person's images by these.")] = False,
    refuse: Annotated[bool, typer.Option("--new", help="Refuse where somebody of that name is in already.")] = False,
    unknown: Annotated[bool, typer.Option("--unknown", help="Take in all faces, nameless, to cluster them.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Drop images of the tree whose files are gone, or were moved here.")
    ] = False,
    face: options.AnyFaceOptions,
    as_json: options.Json = False,
) -> None:
    """Enrol a person by images, or a tree with a folder for each person. What is enrolled already is skipped.

    SRC may also be what `spherecv embed` wrote: one .npz, or a folder of shards.

    Images without a face are reported and the rest goes on. With SPHERECV_GALLERY_KEY set, a new gallery is encrypted.

    Examples:

      spherecv gallery enrol people.db images/

      spherecv gallery enrol people.db ann1.jpg ann2.jpg --identity Ann
    """
    if add + replace + refuse > 1:
        raise InvalidArgumentError("give one of --add, --replace and --new")
    from spherecv.templates import SetWarning

    warnings.simplefilter("ignore", SetWarning)  # the answer says so itself
    if identity is not None and unknown:
        raise InvalidArgumentError("give --identity or --unknown, not both")
    which = face.which()
    with galleries.open_gallery(location, pipeline) as gallery, counted("enrolling") as progress:
        file, text = Path(sources[0]), is_text_image(sources[0])
        if not text and file.suffix.lower() == ".npz":
            if len(sources) > 1 or metadata is not None or replace or prune:
                raise InvalidArgumentError("an .npz comes alone, without --metadata, --replace and --prune")
            name = None if unknown else _folder_name if identity is None else lambda _image: identity
            done = gallery.enrol_file(file, name)
        elif identity is not None:
            done = gallery.enrol(
                identity,
                sources,
                _metadata(metadata),
                face=which,
                min_quality=min_quality,
                if_exists="raise" if refuse else "replace" if replace else "add",
                errors="raise" if len(sources) == 1 and (text or not file.is_dir()) else "return",
            )
        else:
            source = Path(_only(sources))
            if (source / "manifest.json").is_file():
                done = gallery.enrol_shards(source, None if unknown else _folder_name, progress=progress)
            elif unknown:
                done = gallery.add_unknown(source, prune=prune, progress=progress)
            else:
                done = gallery.enrol_folder(source, face=which, min_quality=min_quality, prune=prune, progress=progress)
    galleries.report(done, as_json)


@app.command("identify")
@options.grouped
def identify(
    location: galleries.Location,
    photo: Annotated[str, typer.Argument(metavar="PHOTO", help="Who is on it?")],
    *,
    pipeline: options.PipelineOptions,
    decision: options.DecisionOptions,
    k: Annotated[int, typer.Option("-k", help="Candidates to name for each face.")] = 5,
    template: galleries.Template = "best",
    classify: Annotated[bool, typer.Option("--classify", help="Ask the classifier that was fitted.")] = False,
    index: galleries.Index = "auto",
    face: options.EveryFaceOptions,
    as_json: options.Json = False,
) -> None:
    """Say who is on an image, a line for each face; the answer may be nobody.

    The false accept rate is that of one comparison: with N people enrolled a stranger has N chances, and the answer
    states what that comes to. --far asks for a stricter one.

    Examples:

      spherecv gallery identify people.db party.jpg --far 0.001
    """
    which = face.which()
    opened = galleries.open_gallery(location, pipeline, **decision.of_gallery(), index=index, create=False)
    with opened as gallery:
        if classify:
            matches = gallery.classify(photo, k, face=which)
        else:
            matches = gallery.identify(photo, k, **decision.question(), template=_any(template), face=which)
    if as_json:
        typer.echo(json.dumps([match.to_dict() for match in matches]))
    else:
        typer.echo(galleries.identified_text(photo, matches))


@app.command("list")
def list_(location: galleries.Location, as_json: options.Json = False) -> None:
    """Show everybody in the gallery."""
    with galleries.open_plainly(location) as gallery:
        people = gallery.identities()
    if as_json:
        typer.echo(json.dumps([person.to_dict() for person in people]))
        return
    for person in people:
        note = f"  {json.dumps(dict(person.metadata), ensure_ascii=False)}" if person.metadata else ""
        typer.echo(f"{person.name}: {numbered(person.images, 'image')}, {numbered(person.faces, 'face')}{note}")


@app.command("remove")
def remove(
    location: galleries.Location,
    identity: Annotated[
        str | None, typer.Argument(metavar="IDENTITY", help="The person; left out for an image without a name.")
    ] = None,
    image: Annotated[Path | None, typer.Option("--image", help="One image only.", show_default=False)] = None,
    as_json: options.Json = False,
) -> None:
    """Forget a person, or one image, with every byte that was kept.

    Examples:

      spherecv gallery remove people.db Ann

      spherecv gallery remove people.db Ann --image ann1.jpg
    """
    with galleries.open_plainly(location) as gallery:
        gone = gallery.remove(identity, image)
    if as_json:
        typer.echo(json.dumps(gone._asdict()))
        return
    typer.echo(f"removed {numbered(gone.faces, 'face')} of {numbered(gone.images, 'image')}")
    if not gone.erased:
        typer.echo("another process still reads the gallery: open it again when that is done, to erase the last copy")


@app.command("rename")
def rename(
    location: galleries.Location,
    old: Annotated[str, typer.Argument(metavar="OLD")],
    new: Annotated[str, typer.Argument(metavar="NEW")],
    merge: Annotated[bool, typer.Option("--merge", help="NEW may be in the gallery: make the two one.")] = False,
) -> None:
    """Give a person another name, or merge two into one."""
    with galleries.open_plainly(location) as gallery:
        if merge:
            gallery.merge([old], new)
        else:
            gallery.rename(old, new)
    typer.echo(f"{old} is {new} now")


@app.command("cluster")
@options.grouped
def cluster(
    location: galleries.Location,
    source: Annotated[
        Path | None, typer.Argument(metavar="SRC", help="Images to take in first: a folder or a list.")
    ] = None,
    *,
    pipeline: options.PipelineOptions,
    decision: options.DecisionOptions,
    min_faces: Annotated[int, typer.Option("--min-faces", help="Neighbours that make a group dense.")] = 2,
    by_folder: Annotated[
        bool, typer.Option("--labels-from-folders", help="Measure precision and recall: folders are people.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Group the faces of unknown people: who is on which images, without knowing anybody.

    Faces are neighbours within the distance that was measured for the model; --threshold or --far choose another.

    Examples:

      spherecv gallery cluster holiday.db holiday/ --far 0.0001
    """
    from spherecv.gallery.clustering import pair_scores

    created = source is not None
    with galleries.open_gallery(location, pipeline, **decision.of_gallery(), create=created) as gallery:
        if source is not None:
            gallery.clustering_distance(**decision.question())  # before the work, not after
            with counted("looking") as progress:
                galleries.report(gallery.add_unknown(source, progress=progress), as_json, quiet=True)
        found = gallery.cluster(**decision.question(), min_faces=min_faces)
        if by_folder:
            truth = [Path(image).parent.name for image, _ in found.faces]
            precision, recall, f1 = pair_scores(found.labels, truth)
            found = replace(found, precision=precision, recall=recall, f1=f1)
    if as_json:
        typer.echo(json.dumps(found.to_dict()))
        return
    for number, group in enumerate(found.groups, 1):
        typer.echo(f"person {number}: {numbered(len(group), 'face')}")
        typer.echo("\n".join(f"  {found.faces[face][0]}" for face in group))
    typer.echo(f"{numbered(len(found.groups), 'person')}; {numbered(int((found.labels < 0).sum()), 'face')} alone")
    worth = f", measured: {found.measured}" if found.measured else " (given)"
    typer.echo(f"neighbours within a {gallery.metric} distance of {found.distance:.3f}{worth}")
    if found.f1 is not None:
        typer.echo(f"pairs: precision {found.precision:.4f}, recall {found.recall:.4f}, F1 {found.f1:.4f}")


@app.command("fit")
def fit(
    location: galleries.Location,
    kind: Annotated[
        str, typer.Option("--kind", help="logistic or svm.", autocompletion=options.one_of("logistic", "svm"))
    ] = "logistic",
    strangers: Annotated[
        float, typer.Option("--strangers", help="Share of strangers' faces that may be given a name.")
    ] = 0.01,
    as_json: options.Json = False,
) -> None:
    """Train a classifier on the enrolled faces, for `identify --classify`."""
    with galleries.open_plainly(location) as gallery:
        done = gallery.fit_classifier(_any(kind), strangers=strangers)
    typer.echo(
        json.dumps(done.to_dict())
        if as_json
        else f"{done.kind} classifier of {done.people} people, {done.faces} faces: accuracy {done.accuracy:.4f}, "
        f"strangers named {done.strangers_named:.4f} (both on faces it had not seen)"
    )


@app.command("index")
def index_(
    location: galleries.Location,
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            help="hnsw (fastest) or ivf (built sooner, smaller).",
            autocompletion=options.one_of("hnsw", "ivf"),
        ),
    ] = "hnsw",
    metric: options.Metric = "cosine",
) -> None:
    """Build a FAISS index, for galleries of some 100,000 faces and more."""
    from spherecv.gallery import FaceGallery
    from spherecv.metrics import check_metric

    with FaceGallery.open(location, create=False, metric=check_metric(metric)) as gallery:
        typer.echo(f"{numbered(gallery.build_index(_any(kind)), 'face')} in the index")


@app.command("export")
def export(
    location: galleries.Location,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file (.npz).")],
    decrypt: Annotated[bool, typer.Option("--decrypt", help="Write an encrypted gallery for all to read.")] = False,
) -> None:
    """Write the gallery to an .npz that `import` and NumPy read."""
    with galleries.open_plainly(location) as gallery:
        typer.echo(f"wrote {numbered(gallery.export(out, decrypt=decrypt), 'face')} to {out}")


@app.command("import")
def import_(
    location: galleries.Location,
    source: Annotated[Path, typer.Argument(metavar="FILE", help="What `export` wrote (.npz).")],
    add: Annotated[bool, typer.Option("--add", help="Add to people who are in the gallery already.")] = False,
    as_json: options.Json = False,
) -> None:
    """Take in an exported gallery, all or nothing."""
    from spherecv.gallery import FaceGallery

    with FaceGallery.open(location) as gallery:
        galleries.report(gallery.import_file(source, if_exists="add" if add else "raise"), as_json)


@app.command("check")
def check(location: galleries.Location, as_json: options.Json = False) -> None:
    """Read everything in the gallery's files and say what is damaged. Exit 0: whole, 1: damaged.

    What is damaged is left out of every answer, with a warning; people can be removed all the same.

    Examples:

      spherecv gallery check people.db
    """
    with galleries.open_plainly(location) as gallery:
        found = gallery.check()
    if as_json:
        typer.echo(json.dumps(found.to_dict()))
    else:
        typer.echo("\n".join(found.damaged) or "whole")
        read = (numbered(found.identities, "person"), numbered(found.images, "image"), numbered(found.faces, "face"))
        typer.echo(f"{', '.join(read)} read")
        if not found.checksums:
            typer.echo("it was written by an earlier version, without checksums: the next change adds them")
    raise typer.Exit(0 if found.whole else 1)


@app.command("stats")
def stats(location: galleries.Location, as_json: options.Json = False) -> None:
    """Count what the gallery holds, and tell what made it."""
    with galleries.open_plainly(location) as gallery:
        found = gallery.stats()
    typer.echo(json.dumps(found) if as_json else "\n".join(f"{name}: {value}" for name, value in found.items()))


def _folder_name(image: str) -> str | None:
    """Who is on an image of a PERSON/IMAGE tree, or of a tar of one."""
    return Path(image.rpartition("#")[2]).parent.name or None


@app.command("caches")
def caches(
    *,
    clear: Annotated[bool, typer.Option("--clear", help="Delete all of them.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Delete those of folders that are gone.")] = False,
    as_json: options.Json = False,
) -> None:
    """List the indexes that `spherecv find` keeps of folders, or delete them.

    Examples:

      spherecv gallery caches

      spherecv gallery caches --prune

      spherecv gallery caches --clear
    """
    from spherecv.gallery.caches import clear as delete
    from spherecv.gallery.caches import folder_indexes

    found = [one for one in folder_indexes() if clear or not prune or one.is_gone]
    shown = [one.to_dict() for one in found]
    if clear or prune:
        delete(found)
    if as_json:
        typer.echo(json.dumps({"cleared": clear or prune, "indexes": shown}))
        return
    for row in shown:
        state = "" if row["exists"] or row["folder"] is None else "  (gone)"
        place = row["folder"] or f"no folder known (empty, or encrypted with another key): {row['index']}"
        typer.echo(f"{row['images']:>6} images  {row['bytes']:>10,} bytes  {place}{state}")
    typer.echo(f"{numbered(len(shown), 'index')} {'deleted' if clear or prune else 'kept'}")


def _only(sources: list[str]) -> str:
    if len(sources) > 1:
        raise InvalidArgumentError("several SRC need --identity; a tree of people is one folder")
    return sources[0]


def _metadata(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidArgumentError(f"--metadata is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidArgumentError('--metadata must be a JSON object, as {"team": "blue"}')
    return value


def _any(value: Any) -> Any:
    return value
