"""`spherecv evaluate megaface`: find people among a growing number of strangers."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spherecv.cli import options, subjects
from spherecv.cli.counting import counted

if TYPE_CHECKING:
    from spherecv.evaluate import Identification, Subject


@options.grouped
def megaface(
    probes: Annotated[Path, typer.Argument(metavar="PROBES", help="Folder of people, as PERSON/IMAGE.")],
    distractors: Annotated[
        Path, typer.Argument(metavar="DISTRACTORS", help="Folder of strangers, or their embeddings (.npy, not loaded).")
    ],
    *,
    subject: subjects.SubjectOptions,
    embeddings: subjects.Embeddings = None,
    report: Annotated[Path | None, typer.Option("--report", help="Write the CMC curves into this folder.")] = None,
    as_json: options.Json = False,
) -> None:
    """Rank-1, CMC against 10 to 1,000,000 distractors, and TAR at FAR down to 1e-6, in blocks.

    Example:

      spherecv evaluate megaface facescrub/ megaface-1M.npy -m sphereface-20
    """
    from spherecv.evaluate.paired import compare_searches

    chosen = subject.subjects()
    results = [(s.source.name, _identify(s, probes, distractors, embeddings, len(chosen) > 1)) for s in chosen]
    if report is not None:
        from spherecv.evaluate.plots import cmc_png
        from spherecv.files import write_bytes

        write_bytes(report / "cmc.png", cmc_png(results))
        typer.echo(f"wrote {report / 'cmc.png'}", err=True)
    pairs = list(combinations(results, 2))
    compared = [compare_searches(a, b, names=(one, two)) for (one, a), (two, b) in pairs]
    if as_json:
        rows = [{"model": name, **result.to_dict(), "comparisons": []} for name, result in results]
        for (row, _), tests in zip(combinations(rows, 2), compared, strict=True):
            row["comparisons"] += [test.to_dict() for test in tests]
        typer.echo(json.dumps(rows))
    else:
        parts = [shown(name, result) for name, result in results]
        typer.echo("\n\n".join([*parts, *("\n".join(map(str, tests)) for tests in compared if tests)]))


def _identify(
    subject: Subject, probes: Path, distractors: Path, embeddings: Path | None, several: bool
) -> Identification:
    from spherecv.evaluate.collection import embed_images
    from spherecv.evaluate.identification import identify
    from spherecv.evaluate.pairs import folder_pairs

    saved = subjects.saved_at(embeddings, subject, several)
    images, identities, _ = folder_pairs(probes)
    mirror = subject.source.recipe.mirror
    with counted("embedding probes") as progress:
        found = embed_images(probes, images, subject, saved=saved(probes, mirror), progress=progress)
    known = dict(zip(images, identities.tolist(), strict=True))
    kept = [name for name in found.names if name in known]
    strangers = _strangers(subject, distractors, several)
    with counted("comparing") as progress:
        return identify(
            found.by(subject.source.recipe)[found.rows(kept)],
            [known[name] for name in kept],
            strangers,
            progress=lambda done: progress(done, len(strangers)),
        )


def _strangers(subject: Subject, distractors: Path, several: bool) -> Any:
    """Embeddings of the distractors, by the subject's recipe."""
    import numpy as np

    from spherecv.errors import DatasetError
    from spherecv.evaluate.collection import embed_images
    from spherecv.images import find_images

    if distractors.suffix == ".npy":
        try:
            return np.load(distractors, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DatasetError(f"{distractors} cannot be read as embeddings: {error}") from None
    names = [path.relative_to(distractors).as_posix() for path in find_images(distractors)]
    mirror = subject.source.recipe.mirror
    saved = subjects.saved_at(None, subject, several)(distractors, mirror)
    with counted("embedding distractors") as progress:
        found = embed_images(distractors, names, subject, saved=saved, progress=progress)
    return found.by(subject.source.recipe)[found.rows([name for name in names if name not in found.failures])]


def shown(name: str, result: Identification) -> str:
    """Draw the figures as text."""
    lines = [f"{name}: {result.trials:,} trials"]
    lines += [f"  rank-1 among {count:,} distractors: {100 * share:.2f} %" for count, share in result.rank1().items()]
    lines += [f"  TAR at FAR {far:g}: {100 * tar:.2f} %" for far, tar in result.tar.items()]
    if result.unsupported:
        rates = ", ".join(f"{far:g}" for far in result.unsupported)
        lines.append(f"  no TAR at FAR {rates}: {result.impostors:,} impostor pairs do not support it")
    return "\n".join([*lines, *(f"note: {note}" for note in result.notes)])
