"""Terms of a model beside its weights: what a fine-tuning carries over from the model that it started from."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from spherecv.errors import ModelFileError
from spherecv.files import read_toml, write_toml
from spherecv.zoo.model import ModelInfo

_SUFFIX = ".terms.toml"
_THEN = "then images of the user's own"


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a user must know of weights.

    Attributes
    ----------
    licence, terms, training_data : str
        As of `ModelInfo`.
    """

    licence: str = "not stated"
    terms: str = "A model of your own."
    training_data: str = "not stated"

    @classmethod
    def tuned_from(cls, info: ModelInfo) -> Terms:
        """Return the terms of weights that were tuned from a model's: its own, and what was learnt since."""
        learnt = info.training_data
        return cls(
            licence=info.licence,
            terms=f"Tuned from {info.name}, whose terms hold for it too: {info.terms}",
            training_data=learnt if learnt.endswith(_THEN) else f"{learnt.removesuffix('.')}; {_THEN}",
        )

    @classmethod
    def beside(cls, weights: str | os.PathLike[str]) -> Terms | None:
        """Read the terms beside weights: of ``model.caffemodel`` in ``model.terms.toml``; None where no file is.

        Raises
        ------
        ModelFileError
            It cannot be read, or does not state all three as text.
        """
        path = Path(weights).with_suffix(_SUFFIX)
        if not path.is_file():
            return None
        values = read_toml(path, ModelFileError)
        names = list(asdict(cls()))
        if set(values) != set(names) or not all(isinstance(value, str) for value in values.values()):
            raise ModelFileError(f"{path} must state {', '.join(names)} as text, and nothing else")
        return cls(**values)

    def save(self, weights: str | os.PathLike[str]) -> None:
        """Write them beside weights; raises `StorageError` where that fails."""
        write_toml(Path(weights).with_suffix(_SUFFIX), asdict(self), comment="Taken over by `spherecv models add`.")
