"""Models of the user's own by name: a folder each, with files, recipe and calibration."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from spherecv.errors import InvalidArgumentError, ModelFileError, ModelNotFoundError, StorageError
from spherecv.files import sha256_of, write_toml
from spherecv.zoo.entries import NAME
from spherecv.zoo.manifest import MANIFEST, get_recipe, model_info, own_dir, read_manifest, shipped_manifest
from spherecv.zoo.model import ModelInfo
from spherecv.zoo.recipe import Recipe

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

    Its files are copied, and their hashes are kept and checked whenever the model is opened.

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
    temporary = goal.with_name(f".{name}-{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        for role, path in paths.items():
            shutil.copyfile(path, temporary / f"{name}.{role}")
        write_toml(temporary / MANIFEST, _manifest(name, temporary, used, CALIBRATION if calibration else ""))
        if calibration:
            shutil.copyfile(calibration, temporary / CALIBRATION)
        read_manifest(temporary / MANIFEST)  # nothing is kept that could not be read again
        aside = goal.with_name(f".{name}-{secrets.token_hex(4)}")
        if goal.exists():
            goal.replace(aside)
        try:
            temporary.replace(goal)
        except OSError:
            if aside.exists():  # the one that was there is there again
                aside.replace(goal)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise StorageError(f"{goal} cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
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
    try:
        _discard(own_dir() / name)
    except OSError as error:
        raise StorageError(f"{own_dir() / name} cannot be removed: {error.strerror or error}") from None


def _discard(folder: Path) -> None:
    """Remove a folder so that nobody sees half of it."""
    aside = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    folder.replace(aside)
    with suppress(OSError):  # what is left of it is not a model any more
        shutil.rmtree(aside)


def _state(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": sha256_of(path)}


def _manifest(name: str, folder: Path, recipe: Recipe, calibration: str) -> dict[str, Any]:
    paths = sorted(folder.iterdir(), reverse=True)  # the prototxt before the caffemodel
    files = [{"role": path.suffix[1:], "name": path.name, "own": True, **_state(path)} for path in paths]
    model = {
        "title": f"{name}, a model of your own",
        "kind": "embedder",
        "format": "onnx" if len(files) == 1 else "caffe",
        "recipe": name,
        "licence": "not stated",
        "terms": "A model of your own.",
        "training_data": "not stated",
        "homepage": "not stated",
        "calibration": calibration,
        "files": files,
    }
    values = {key: value for key, value in recipe.to_dict().items() if key != "name"}
    return {"recipes": {name: values}, "models": {name: model}}
