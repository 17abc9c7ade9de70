"""`spherecv evaluate pairs` without a list: every image of a labelled folder against every other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from spherecv.cli import subjects
from spherecv.cli.counting import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from spherecv.evaluate import AllPairs, Subject


def compare_folder(
    images: Path, chosen: Sequence[Subject], embeddings: Path | None, replicates: int, as_json: bool
) -> None:
    """Embed a PERSON/IMAGE folder with each model, compare all pairs in blocks, and print the rates."""
    from spherecv.evaluate.allpairs import compare_all
    from spherecv.evaluate.collection import embed_images
    from spherecv.evaluate.pairs import folder_pairs

    names, identities, people = folder_pairs(images)
    known = dict(zip(names, identities.tolist(), strict=True))
    answers = []
    for subject in chosen:
        recipe = subject.source.recipe
        saved = subjects.saved_at(embeddings, subject, len(chosen) > 1)(images, recipe.mirror)
        with counted(f"embedding, {subject.source.name}") as progress:
            found = embed_images(images, names, subject, saved=saved, progress=progress)
        kept = [name for name in names if name not in found.failures]
        with counted("comparing") as progress:
            result = compare_all(
                found.by(recipe)[found.rows(kept)],
                [known[name] for name in kept],
                replicates=max(replicates, 1),
                progress=_of(len(kept), progress),
            )
        answers.append((subject, len(names) - len(kept), result))
    if as_json:
        typer.echo(json.dumps([{**s.to_dict(), "failed_images": n, **result.to_dict()} for s, n, result in answers]))
    else:
        typer.echo("\n\n".join(_text(s, n, len(people), result) for s, n, result in answers))


def _of(total: int, progress: Callable[[int, int], None]) -> Callable[[int], None]:
    return lambda done: progress(done, total)


def _text(subject: Subject, failed: int, people: int, result: AllPairs) -> str:
    pairs = f"{len(result.genuine):,} genuine and {result.impostors:,} impostor pairs"
    lines = [
        f"all pairs: {subject.source.name} ({subject.source.recipe.name}), detector {subject.detector}",
        f"{pairs} of {people} people; {failed} images failed",
    ]
    lines += [
        f"  TAR at FAR {rate.far:g}: {100 * rate.tar:.2f} % at distance {rate.threshold:.4f}; measured FAR "
        f"{rate.measured:.2e} ({rate.interval[0]:.1e} to {rate.interval[1]:.1e}), {rate.false_accepts:,} false accepts"
        for rate in result.rates
    ]
    if result.unsupported:
        rates = ", ".join(f"{far:g}" for far in result.unsupported)
        lines.append(f"  no TAR at FAR {rates}: too few impostor pairs, or more false accepts than are kept")
    return "\n".join(lines)
