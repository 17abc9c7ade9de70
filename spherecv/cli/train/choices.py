"""Options that the commands of `spherecv train` share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spherecv.errors import InvalidArgumentError

if TYPE_CHECKING:
    from spherecv.train.data import Augmentation

Workers = Annotated[int, typer.Option("--workers", help="Processes that read images.")]
Resume = Annotated[Path | None, typer.Option("--resume", help="Go on from this .solverstate.", show_default=False)]
Augment = Annotated[
    list[str] | None,
    typer.Option(
        "--augment", help="A variation, as in mirror=1, shift=4, blur=0.2; may be repeated.", show_default=False
    ),
]
Processes = Annotated[int, typer.Option("--processes", help="CPU processes that train together.")]
Snapshot = Annotated[int | None, typer.Option("--snapshot", help="Iterations between snapshots.", show_default=False)]
SkipLimit = Annotated[int, typer.Option("--skip-limit", help="Images that may be unreadable.")]
Data = Annotated[
    list[Path], typer.Argument(metavar="DATA...", help="Folders IDENTITY/IMAGE, tar shards, or list files.")
]


def augmentation(settings: list[str] | None) -> Augmentation | None:
    """Read the variations that `--augment` names; None where it names none."""
    from spherecv.train.data import Augmentation

    if not settings:
        return None
    table: dict[str, Any] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        try:
            table[name.strip()] = float(value or 1)
        except ValueError:
            raise InvalidArgumentError(f"--augment must be NAME=NUMBER, but got {setting!r}") from None
    if "mirror" in table:
        table["mirror"] = bool(table["mirror"])
    return Augmentation.from_dict(table)
