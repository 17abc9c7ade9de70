"""`spherecv train show`: what can be trained and with what, and the snapshots that there are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from spherecv.cli import options
from spherecv.errors import InvalidArgumentError


def show(
    folder: Annotated[Path | None, typer.Argument(metavar="FOLDER", help="A folder of runs.")] = None,
    as_json: options.Json = False,
) -> None:
    """List what can be trained, and with what; or with FOLDER, the snapshots that lie there."""
    answer = _snapshots(folder) if folder is not None else _catalogue()
    if as_json:
        typer.echo(json.dumps(answer))
        return
    for title, entries in answer.items():
        typer.echo(f"{title}:")
        for name, about in entries.items():
            typer.echo(f"  {name:<14} {about}")


def _catalogue() -> dict[str, dict[str, str]]:
    from spherecv.caffe.architectures import SPHEREFACE_UNITS
    from spherecv.train.data import Augmentation
    from spherecv.train.policies import POLICIES
    from spherecv.train.recipes import LOSSES

    return {
        "nets": {f"sphereface-{depth}": f"{depth} layers, 112x96, 512 numbers" for depth in SPHEREFACE_UNITS},
        "losses": {name: about for name, (about, _) in LOSSES.items()},
        "solvers": dict.fromkeys(("SGD", "Nesterov", "Adam"), ""),
        "policies": dict.fromkeys(POLICIES, ""),
        "augmentations": {name: f"off is {value!r}" for name, value in Augmentation().to_dict().items()},
    }


def _snapshots(folder: Path) -> dict[str, dict[str, str]]:
    if not folder.is_dir():
        raise InvalidArgumentError(f"{folder} is not a folder")
    found = sorted(folder.rglob("*.solverstate"), key=lambda path: path.stat().st_mtime)
    exact = {path: path.with_suffix(".resume.npz").exists() for path in found}
    about = {str(path): "resumes exactly" if exact[path] else "Caffe's: resumes without data order" for path in found}
    return {"snapshots": about}
