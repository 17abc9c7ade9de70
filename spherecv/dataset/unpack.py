"""RecordIO files made into folders of images, so that whatever takes a folder takes them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spherecv.errors import DatasetError
from spherecv.files import write_bytes
from spherecv.recordio import read_record, read_records

_PNG = b"\x89PNG"


@dataclass(frozen=True)
class Unpacked:
    """What was unpacked.

    Attributes
    ----------
    folder : Path
    images, identities : int
    written : int
        Those that were not there yet.
    """

    folder: Path
    images: int
    identities: int
    written: int


def unpack_records(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Unpacked:
    """Write the images of a `.rec` as `LABEL/NUMBER.jpg`, as they are encoded; those that are there are passed over.

    Parameters
    ----------
    path : path
        Of InsightFace or MXNet.
    out : path
        The folder; made if it is not there.
    progress : callable, optional
        Called with the number of images done and in all.

    Returns
    -------
    Unpacked

    Raises
    ------
    DatasetError
        The file is broken, or `out` holds another image at a place.
    StorageError
        It cannot be written; what is done stays.
    """
    records = read_records(path)
    folder = Path(out)
    width = len(str(max(record.label for record in records)))
    digits = len(str(len(records)))
    written = 0
    for number, record in enumerate(records, start=1):
        data = read_record(path, record)
        suffix = ".png" if data.startswith(_PNG) else ".jpg"
        file = folder / f"{record.label:0{width}d}" / f"{number:0{digits}d}{suffix}"
        if not file.exists():
            write_bytes(file, data)
            written += 1
        elif file.stat().st_size != len(data):
            raise DatasetError(f"{file} is there already, and is of another file: choose another folder")
        if progress is not None:
            progress(number, len(records))
    return Unpacked(folder, len(records), len({record.label for record in records}), written)
