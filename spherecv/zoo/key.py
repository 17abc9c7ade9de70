"""The key of a model: what its embeddings are kept under."""

from __future__ import annotations

from typing import NamedTuple


class ModelKey(NamedTuple):
    """The parts of `ModelSource.key`, as text `FILES-RECIPE`, or `FILES+PRECISION-RECIPE` where that is not float32.

    Attributes
    ----------
    files : str
        Hexadecimal digits of a SHA-256 over the model's files; empty where only the recipe is known.
    precision : str
    recipe : str
        `Recipe.fingerprint`.
    """

    files: str
    precision: str
    recipe: str

    def __str__(self) -> str:
        given = "" if self.precision == "float32" else f"+{self.precision}"
        return f"{self.files}{given}-{self.recipe}"

    @classmethod
    def of(cls, text: str) -> ModelKey:
        """Read what `str` wrote; every key of the time before there were precisions is of float32."""
        model, _, recipe = text.rpartition("-")
        files, _, precision = model.partition("+")
        return cls(files, precision or "float32", recipe)
