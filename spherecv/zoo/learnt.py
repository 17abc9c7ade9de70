"""Images that weights were tuned on, by their hashes: a threshold that is measured on them is too good to be true."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from spherecv.errors import ModelFileError
from spherecv.files import write_bytes

_SUFFIX = ".learnt.txt"
_DIGITS = 32
_HEAD = "# Images that the weights beside were tuned on, by half of their SHA-256. Kept by `spherecv models add`.\n"


@dataclass(frozen=True)
class Learnt:
    """Images that weights were tuned on.

    Attributes
    ----------
    digests : frozenset of str
    """

    digests: frozenset[str] = field(repr=False)

    @classmethod
    def of(cls, images: Iterable[bytes]) -> Learnt:
        """Take down images: the contents of their files."""
        return cls(frozenset(_digest(image) for image in images))

    @classmethod
    def beside(cls, weights: str | os.PathLike[str]) -> Learnt | None:
        """Read what lies beside weights: of ``model.caffemodel`` in ``model.learnt.txt``; None where no file is.

        Raises
        ------
        ModelFileError
            It cannot be read.
        """
        path = Path(weights).with_suffix(_SUFFIX)
        if not path.is_file():
            return None
        try:
            lines = path.read_text(encoding="ascii").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ModelFileError(f"{path} cannot be read: {error}") from None
        return cls(frozenset(line for line in lines if len(line) == _DIGITS and not line.startswith("#")))

    def __or__(self, other: Learnt | None) -> Learnt:
        """Return the images of both."""
        return self if other is None else Learnt(self.digests | other.digests)

    def save(self, weights: str | os.PathLike[str]) -> None:
        """Write them beside weights; raises `StorageError` where that fails."""
        text = _HEAD + "".join(f"{digest}\n" for digest in sorted(self.digests))
        write_bytes(Path(weights).with_suffix(_SUFFIX), text.encode("ascii"))

    def count(self, paths: Iterable[Path]) -> int:
        """Return how many files are among them; one that cannot be read is not."""
        return sum(self._holds(path) for path in paths)

    def _holds(self, path: Path) -> bool:
        try:
            return _digest(path.read_bytes()) in self.digests
        except OSError:
            return False


def _digest(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()[:_DIGITS]
