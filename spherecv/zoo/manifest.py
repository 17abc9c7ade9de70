"""Manifest of models and recipes: the one that travels with SphereCV, and the user's own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from spherecv.brief import brief
from spherecv.checks import shown
from spherecv.errors import InvalidArgumentError, ModelFileError, ModelNotFoundError
from spherecv.files import read_toml
from spherecv.zoo.entries import NAME, EntryError, each, read_model
from spherecv.zoo.model import ModelInfo
from spherecv.zoo.recipe import Recipe

DEFAULT_MODEL = "sphereface-mini"
"""The embedder where none is named."""

MANIFEST = "manifest.toml"
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

    __repr__ = brief


def models_dir() -> Path:
    """The folder of the files that travel with SphereCV, installed or in a checkout.

    Raises
    ------
    ModelFileError
        It is not there: the installation is damaged.
    """
    # An installed package has `models/` inside, a checkout has it beside `spherecv/`.
    for folder in (_PACKAGE / "models", _PACKAGE.parent / "models"):
        if (folder / MANIFEST).is_file():
            return folder
    raise ModelFileError(f"no manifest.toml in {_PACKAGE / 'models'}: install SphereCV again")


def own_dir() -> Path:
    """The folder of the models that the user added by name: `SPHERECV_MODELS`, else the user's data folder."""
    chosen = os.environ.get("SPHERECV_MODELS")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_data_path

    return user_data_path("spherecv", appauthor=False) / "models"


@cache
def shipped_manifest() -> Manifest:
    """The manifest that travels with SphereCV, read once."""
    return read_manifest(models_dir() / MANIFEST)


def known_manifest() -> Manifest:
    """What travels with SphereCV, and after it the models of the user's own.

    Raises
    ------
    ModelFileError
        A manifest of the user's own is damaged; the message names it.
    """
    shipped = shipped_manifest()
    own = [read_manifest(path) for path in sorted(own_dir().glob(f"[a-z0-9]*/{MANIFEST}"))]
    models, recipes = dict(shipped.models), dict(shipped.recipes)
    for manifest in own:  # a name that a later version of SphereCV knows too is that version's
        models |= {name: info for name, info in manifest.models.items() if name not in models}
        recipes |= {name: recipe for name, recipe in manifest.recipes.items() if name not in recipes}
    return Manifest(models, recipes)


def _own(name: str) -> Manifest:
    """The manifest of one model of the user's own, so that damage to another one's does not matter."""
    path = own_dir() / name / MANIFEST
    return read_manifest(path) if NAME.fullmatch(name) and path.is_file() else Manifest({}, {})


def model_names(kind: str | None = None) -> list[str]:
    """Names of all models, or of those of one kind ("embedder" or "detector")."""
    return [name for name, info in known_manifest().models.items() if kind in (None, info.kind)]


def is_known(name: str) -> bool:
    """Whether a model has this name; those of the user's own are looked at only where none of ours has it."""
    return name in shipped_manifest().models or name in _own(name).models


def model_info(name: str) -> ModelInfo:
    """What the manifest says of a model.

    Raises
    ------
    ModelNotFoundError
        No model has this name; the message lists those that there are.
    """
    shipped = shipped_manifest().models
    models = shipped if name in shipped else _own(name).models
    if name not in models:
        models = known_manifest().models
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
    shipped = shipped_manifest().recipes
    recipes = shipped if not isinstance(recipe, str) or recipe in shipped else _own(recipe).recipes
    if not isinstance(recipe, str) or recipe not in recipes:
        recipes = known_manifest().recipes
        raise InvalidArgumentError(
            f"no recipe is called {shown(recipe)}: choose {', '.join(recipes)}, or give a .toml file"
        )
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
