"""Reads `manifest.toml`, the one list of the models and recipes that SphereCV knows by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from spherecv.errors import InvalidArgumentError, ModelFileError, ModelNotFoundError
from spherecv.files import read_toml
from spherecv.zoo.entries import EntryError, each, read_model
from spherecv.zoo.model import ModelInfo
from spherecv.zoo.recipe import Recipe

DEFAULT_MODEL = "sphereface-mini"
"""The embedder of whoever names none."""

_PACKAGE = Path(__file__).resolve().parent.parent

@dataclass(frozen=True)
class Manifest:
    """What a manifest file holds.

    Attributes
    ----------
    models : dict of str to ModelInfo
        By name, in the order of the file.
    recipes : dict of str to Recipe
        By name.
    """

    models: dict[str, ModelInfo]
    recipes: dict[str, Recipe]


def models_dir() -> Path:
    """The folder of the files that travel with SphereCV, installed or in a checkout.

    Raises
    ------
    ModelFileError
        It is not there: the installation is damaged.
    """
    # An installed package has `models/` inside, a checkout has it beside `spherecv/`.
    for folder in (_PACKAGE / "models", _PACKAGE.parent / "models"):
        if (folder / "manifest.toml").is_file():
            return folder
    raise ModelFileError(f"no manifest.toml in {_PACKAGE / 'models'}: install SphereCV again")


@cache
def shipped_manifest() -> Manifest:
    """The manifest that travels with SphereCV, read once."""
    return read_manifest(models_dir() / "manifest.toml")


def model_names(kind: str | None = None) -> list[str]:
    """Names of all models, or of those of one kind ("embedder" or "detector")."""
    return [name for name, info in shipped_manifest().models.items() if kind in (None, info.kind)]


def model_info(name: str) -> ModelInfo:
    """What the manifest says of a model.

    Raises
    ------
    ModelNotFoundError
        No model has this name; the message lists those that there are.
    """
    models = shipped_manifest().models
    if name not in models:
        raise ModelNotFoundError(f"no model is called {name!r}: choose {', '.join(models)} (`spherecv models list`)")
    return models[name]


def get_recipe(recipe: Recipe | str | os.PathLike[str] | Mapping[str, Any]) -> Recipe:
    """A recipe, from whatever says which.

    Parameters
    ----------
    recipe : Recipe, str, path or mapping
        A recipe; the name of one in the manifest; the path of a `.toml` file; or values for `Recipe.from_dict`.

    Raises
    ------
    InvalidArgumentError
        No such recipe, or not a recipe; the message lists the names there are.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, Mapping):
        return Recipe.from_dict(recipe)
    if isinstance(recipe, os.PathLike) or (isinstance(recipe, str) and recipe.endswith(".toml")):
        return Recipe.from_toml(os.fspath(recipe))
    recipes = shipped_manifest().recipes
    if not isinstance(recipe, str) or recipe not in recipes:
        raise InvalidArgumentError(f"no recipe is called {recipe!r}: choose {', '.join(recipes)}, or give a .toml file")
    return recipes[recipe]


def read_manifest(path: str | Path) -> Manifest:
    """Read and check a manifest.

    Raises
    ------
    ModelFileError
        It cannot be read, is not TOML, or says something that no manifest says; the message names the entry.
    """
    path = Path(path)
    table = read_toml(path, ModelFileError)
    try:
        if unknown := sorted(set(table) - {"models", "recipes"}):
            raise EntryError(f"a manifest has no {', '.join(unknown)}")
        recipes = each(table, "recipes", lambda name, entry: Recipe.from_dict({"name": name, **entry}))
        models = each(table, "models", lambda name, entry: read_model(name, entry, recipes))
    except (InvalidArgumentError, EntryError) as error:
        raise ModelFileError(f"{path}: {error}") from None
    return Manifest(models=models, recipes=recipes)
