"""Shards of embeddings: `.npy` or Parquet, each with a note beside it that is written last."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import DatasetError, GalleryMismatchError, InvalidArgumentError, MissingDependencyError
from spherecv.facetable import FaceTable
from spherecv.files import open_whole, sha256_of, sha256_so_far, write_bytes
from spherecv.gallery.bulk.parts import Part

Format = Literal["npy", "parquet"]
JOB, MANIFEST = "job.json", "manifest.json"
_FORMAT = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Shard(FaceTable):
    """Faces of one part.

    Attributes
    ----------
    failures : tuple of (str, str)
        Images that could not be used, and why.
    """

    failures: tuple[tuple[str, str], ...] = ()


def write_shard(folder: Path, part: Part, shard: Shard, kind: Format) -> dict[str, Any]:
    """Write a shard, then its note; returns the note.

    Raises
    ------
    StorageError
    MissingDependencyError
        Parquet without pyarrow.
    """
    goal = folder / f"{part.name}.{kind}"
    with open_whole(goal) as stream:
        if kind == "npy":
            np.lib.format.write_array(stream, shard.embeddings, allow_pickle=False)
        else:
            _write_parquet(stream, shard)
        digest = sha256_so_far(stream).hex()
        size = stream.tell()
    note: dict[str, Any] = {
        "file": goal.name,
        "bytes": size,
        "sha256": digest,
        "items": part.digest,
        "images": len(part.items),
        "faces": len(shard.paths),
        "failures": [list(failure) for failure in shard.failures],
    }
    if kind == "npy":
        columns = (shard.boxes.tolist(), shard.scores.tolist(), _plain(shard.qualities))
        note["rows"] = [list(row) for row in zip(shard.paths, *columns, strict=True)]
    note["note_sha256"] = _digest(note)
    write_bytes(folder / f"{part.name}.json", json.dumps(note).encode())
    return note


def _digest(note: dict[str, Any]) -> str:
    """Hash of all that a note or manifest says, its own hash left out."""
    told = {name: value for name, value in note.items() if name not in ("note_sha256", "manifest_sha256")}
    return sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def finished(folder: Path, part: Part, kind: Format) -> dict[str, Any] | None:
    """Note of a part that an earlier run finished with the same images; None where it must be done."""
    try:
        note = json.loads((folder / f"{part.name}.json").read_bytes())
        whole = (folder / note["file"]).stat().st_size == note["bytes"]
        fits = note["items"] == part.digest and note["file"] == f"{part.name}.{kind}"
        fits = fits and note.get("note_sha256") in (None, _digest(note))  # None: written by an earlier version
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return note if whole and fits else None


def begin(folder: Path, job: dict[str, Any], free: Collection[str] = ()) -> bool:
    """Claim a folder for a job (True), or make sure that it holds the same one, but for what is free to differ.

    Raises
    ------
    GalleryMismatchError
        Embeddings of another model, or made otherwise.
    """
    try:
        held = json.loads((folder / JOB).read_bytes())
    except FileNotFoundError:
        write_bytes(folder / JOB, json.dumps({"format": _FORMAT, **job}, indent=1).encode())
        return True
    except (OSError, ValueError) as error:
        raise DatasetError(f"{folder / JOB} cannot be read ({error}): choose another folder") from None
    asked = {name: value for name, value in {"format": _FORMAT, **job}.items() if name not in free}
    different = [name for name, value in asked.items() if held.get(name) != value]
    if different:
        name = different[0]
        raise GalleryMismatchError(
            f"{folder} holds embeddings made with another {name.removesuffix('_of_shards')} "
            f"({held.get(name)!r}, not {job.get(name, _FORMAT)!r}): choose another folder"
        )
    return False


def finish(folder: Path, notes: Sequence[dict[str, Any]]) -> None:
    """Write the manifest: what the embeddings were made by, and every shard with its hash."""
    job = json.loads((folder / JOB).read_bytes())
    told = ("file", "bytes", "sha256", "images", "faces", "note_sha256")
    shards = [{name: note[name] for name in told if name in note} for note in notes]
    sums = {name: sum(int(note[name]) for note in notes) for name in ("images", "faces")}
    failures = sum(len(note["failures"]) for note in notes)
    manifest = {**job, **sums, "failures": failures, "shards": shards}
    manifest["manifest_sha256"] = _digest(manifest)
    write_bytes(folder / MANIFEST, json.dumps(manifest, indent=1).encode())


def read_manifest(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the manifest of a finished job.

    Raises
    ------
    DatasetError
        There is none: the job was never finished.
    """
    place = Path(folder) / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(place.read_bytes())
        if manifest["format"] != _FORMAT or not isinstance(manifest["shards"], list):
            raise ValueError(f"format {manifest['format']}")
        if manifest.get("manifest_sha256") not in (None, _digest(manifest)):  # None: written by an earlier version
            raise ValueError("it is not what was written: embed again, which makes it from the shards' notes")
    except FileNotFoundError:
        raise DatasetError(f"{place}: no such file; `spherecv embed SRC --out {folder}` finishes the job") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DatasetError(f"{place} is not the manifest of embeddings ({error})") from None
    return manifest


def read_shards(folder: str | os.PathLike[str]) -> Iterator[Shard]:
    """Go through the shards of a finished job, one in memory at a time, each checked by its hash.

    Raises
    ------
    DatasetError
        The job was not finished, or a shard is missing or changed.
    """
    place = Path(folder)
    for row in read_manifest(folder)["shards"]:
        path = place / _file_of(row, place)
        try:
            if sha256_of(path) != row["sha256"]:
                raise DatasetError(f"{path} is not what the manifest says: embed its images again")
            yield _read_npy(path, row.get("note_sha256")) if path.suffix == ".npy" else _read_parquet(path)
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise DatasetError(f"{path} cannot be read: {error}") from None


def _file_of(row: object, folder: Path) -> str:
    name = row.get("file") if isinstance(row, dict) else None
    if not isinstance(name, str) or Path(name).name != name:
        raise DatasetError(f"{folder / MANIFEST} is damaged: a shard in it has no file")
    return name


def _read_npy(path: Path, digest: str | None) -> Shard:
    """Read a shard; `digest` is what the manifest says of its note, None in those of earlier versions."""
    place = path.with_suffix(".json")
    note = json.loads(place.read_bytes())
    if digest is not None and _digest(note) != digest:
        raise DatasetError(f"{place} is not what the manifest says: embed its images again")
    rows = note["rows"]
    return Shard(
        paths=tuple(row[0] for row in rows),
        embeddings=np.asarray(np.load(path, allow_pickle=False)),
        boxes=np.array([row[1] for row in rows], np.float32).reshape(-1, 4),
        scores=np.array([row[2] for row in rows], np.float32),
        qualities=np.array([np.nan if row[3] is None else row[3] for row in rows], np.float32),
        failures=tuple((image, problem) for image, problem in note["failures"]),
    )


def _write_parquet(stream: IO[bytes], shard: Shard) -> None:
    pa, parquet = _pyarrow()
    lists = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
        for name, values in (("box", shard.boxes), ("embedding", shard.embeddings))
    }
    table = pa.table(
        {
            "path": pa.array(list(shard.paths), pa.string()),
            "box": lists["box"],
            "score": pa.array(shard.scores),
            "quality": pa.array(shard.qualities),
            "embedding": lists["embedding"],
        },
        metadata={"failures": json.dumps([list(failure) for failure in shard.failures])},
    )
    parquet.write_table(table, stream, compression="zstd", use_dictionary=False)


def _read_parquet(path: Path) -> Shard:
    _, parquet = _pyarrow()
    table = parquet.read_table(path).combine_chunks()
    wide = {
        name: np.concatenate([chunk.flatten().to_numpy() for chunk in table[name].chunks] or [np.empty(0, np.float32)])
        for name in ("box", "embedding")
    }
    count = table.num_rows
    width = table.schema.field("embedding").type.list_size
    return Shard(
        paths=tuple(table["path"].to_pylist()),
        embeddings=wide["embedding"].reshape(count, width),
        boxes=wide["box"].reshape(count, 4),
        scores=table["score"].to_numpy(),
        qualities=table["quality"].to_numpy(),
        failures=tuple((image, problem) for image, problem in json.loads(table.schema.metadata[b"failures"])),
    )


def check_format(name: str) -> Format:
    """Return a format of shards, or raise `InvalidArgumentError`, or say what Parquet needs."""
    for known in ("npy", "parquet"):
        if name == known:
            if name == "parquet":
                _pyarrow()
            return known
    raise InvalidArgumentError(f"format must be npy or parquet, but got {name!r}")


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MissingDependencyError("pyarrow", "gallery", "Parquet") from None
    return pa, parquet


def _plain(values: NDArray[np.float32]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
