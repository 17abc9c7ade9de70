"""Models of the user's own by name: a folder each, with files, recipe and calibration."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spherecv.errors import InvalidArgumentError, ModelFileError, ModelNotFoundError, StorageError
from spherecv.files import copy_file, locked_folder, refused, sha256_of, write_toml
from spherecv.zoo.entries import NAME
from spherecv.zoo.learnt import Learnt
from spherecv.zoo.manifest import MANIFEST, get_recipe, model_info, own_dir, read_manifest, shipped_manifest
from spherecv.zoo.model import ModelInfo
from spherecv.zoo.recipe import Recipe
from spherecv.zoo.terms import Terms

CALIBRATION = "calibration.toml"


def add_model(
    name: str,
    files: Mapping[str, str | os.PathLike[str]],
    *,
    recipe: Recipe | str | os.PathLike[str] | Mapping[str, Any],
    calibration: str | os.PathLike[str] | None = None,
    replace: bool = False,
) -> ModelInfo:
    """Keep a model under a name, which then works everywhere that a model is named.

    Its files are copied, and their hashes are kept and checked whenever the model is opened. The terms that lie beside
    its weights (`Terms.beside`), and what they were tuned on (`Learnt.beside`), are kept with it.

    Parameters
    ----------
    name : str
        Of a-z, 0-9, dot and dash.
    files : mapping of str to path
        By role: `prototxt` and `caffemodel`, or `onnx`.
    recipe : Recipe, str, path or mapping
        How the model wants its input.
    calibration : path, optional
        What `spherecv calibrate` measured of it: used where the model decides with the calibration's metric and
        detector, and none is given.
    replace : bool
        Whether a model of the user's own of that name gives way.

    Returns
    -------
    ModelInfo

    Raises
    ------
    InvalidArgumentError
        A name that cannot be, or is taken; other roles; or not a recipe.
    ModelFileError
        A file is missing.
    StorageError
        The folder cannot be written.
    """
    if not NAME.fullmatch(name):
        raise InvalidArgumentError(f"a model's name is made of a-z, 0-9, dot and dash, but got {name!r}")
    if name in shipped_manifest().models:
        raise InvalidArgumentError(f"{name} is the name of a model that SphereCV knows: choose another")
    goal = own_dir() / name
    if goal.exists() and not replace:
        raise InvalidArgumentError(f"there is a model {name} of your own: remove it first, or replace it (--replace)")
    if set(files) not in ({"prototxt", "caffemodel"}, {"onnx"}):
        raise InvalidArgumentError(f"a model has a prototxt and a caffemodel, or an onnx, but got {', '.join(files)}")
    paths = {role: Path(path) for role, path in files.items()}
    for path in (*paths.values(), *((Path(calibration),) if calibration else ())):
        if not path.is_file():
            raise ModelFileError(f"{path}: no such file")
    used = get_recipe(recipe)
    weights = "onnx" if "onnx" in paths else "caffemodel"
    terms, learnt = Terms.beside(paths[weights]) or Terms(), Learnt.beside(paths[weights])
    with _alone(), refused(goal):
        fresh, old = _beside(name, "new"), _beside(name, "old")
        try:
            fresh.mkdir()
            for role, path in paths.items():
                copy_file(path, fresh / f"{name}.{role}")
            write_toml(fresh / MANIFEST, _manifest(name, fresh, used, terms, CALIBRATION if calibration else ""))
            if calibration:
                copy_file(Path(calibration), fresh / CALIBRATION)
            if learnt is not None:
                learnt.save(fresh / f"{name}.{weights}")
            read_manifest(fresh / MANIFEST)  # nothing is kept that could not be read again
            if goal.exists():
                goal.replace(old)
            fresh.replace(goal)
        except StorageError as error:  # of a file in a folder that nobody asked for
            raise error.__cause__ or error from None
        finally:
            _sweep()  # the one that was there is there again where this failed
    return model_info(name)


def remove_model(name: str) -> None:
    """Remove a model of the user's own, its files too.

    Raises
    ------
    ModelNotFoundError
        No model of the user's own has this name.
    StorageError
        Its folder cannot be changed.
    """
    if not NAME.fullmatch(name) or not (own_dir() / name / MANIFEST).is_file():
        kind = "one that SphereCV knows" if name in shipped_manifest().models else "not a model"
        raise ModelNotFoundError(f"{name!r} is {kind}, not one of your own: see `spherecv models list`")
    goal, old = own_dir() / name, _beside(name, "gone")
    try:
        with _alone():
            goal.replace(old)  # so that nobody sees half of it
            _sweep()
    except OSError as error:
        raise StorageError(f"{goal} cannot be removed: {error.strerror or error}") from None


def _beside(name: str, role: str) -> Path:
    return own_dir() / f".{name}.{role}"


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the folder of own models against other processes, and settle what a killed one left of its change."""
    folder = own_dir()
    with refused(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked_folder(folder):
        _sweep()
        yield


def _sweep() -> None:
    for left in own_dir().glob(".*"):
        name, _, role = left.name[1:].rpartition(".")
        if role == "old" and not (own_dir() / name).exists():
            left.replace(own_dir() / name)  # its replacement was not whole yet
        elif role in ("old", "new", "gone"):
            shutil.rmtree(left, ignore_errors=True)


def _state(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": sha256_of(path)}


def _manifest(name: str, folder: Path, recipe: Recipe, terms: Terms, calibration: str) -> dict[str, Any]:
    paths = sorted(folder.iterdir(), reverse=True)  # the prototxt before the caffemodel
    files = [{"role": path.suffix[1:], "name": path.name, "own": True, **_state(path)} for path in paths]
    model = {
        "title": f"{name}, a model of your own",
        "kind": "embedder",
        "format": "onnx" if len(files) == 1 else "caffe",
        "recipe": name,
        **asdict(terms),
        "homepage": "not stated",
        "calibration": calibration,
        "files": files,
    }
    values = {key: value for key, value in recipe.to_dict().items() if key != "name"}
    return {"recipes": {name: values}, "models": {name: model}}
