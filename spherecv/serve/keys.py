"""API keys, stored as hashes."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from spherecv.errors import InvalidArgumentError, StorageError
from spherecv.files import open_whole

VARIABLE = "SPHERECV_API_KEYS"
"""The environment's variable of key lines, separated by commas."""

_PREFIX = "scv_"
_LINE = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,64})\s+sha256:(?P<digest>[0-9a-f]{64})")
_HEAD = "# Keys of `spherecv serve`: NAME sha256:HASH\n"
_LARGEST_FILE = 1 << 20


class ApiKeys:
    """The keys that open the service; none at all leaves it open.

    Keys are 32 random bytes (`new_key`), so that a plain SHA-256 cannot be turned around, and checking a wrong one is
    cheap for the service too.

    Parameters
    ----------
    digests : mapping of str to str
        What each key is called in the log, and the SHA-256 of the key, in hexadecimal.
    """

    def __init__(self, digests: Mapping[str, str] | None = None) -> None:
        self._digests = {name: bytes.fromhex(digest) for name, digest in (digests or {}).items()}

    def __bool__(self) -> bool:
        return bool(self._digests)

    def __len__(self) -> int:
        return len(self._digests)

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> ApiKeys:
        """Read the keys of a file, or else of the environment.

        Parameters
        ----------
        path : path, optional
            A line for each key, `NAME sha256:DIGEST`; what follows a `#` is a remark. Without it, the lines of the
            environment's `SPHERECV_API_KEYS`, separated by commas.

        Raises
        ------
        InvalidArgumentError
            The file cannot be read, is larger than 1 MiB, holds no key, or a line that is not one. What the line says
            is not repeated: it may be a key in plain.
        """
        if path is None:
            lines = os.environ.get(VARIABLE, "").split(",")
            return cls._parsed(lines, VARIABLE)
        try:
            with Path(path).open("rb") as stream:
                data = stream.read(_LARGEST_FILE + 1)
            lines = data.decode().splitlines()
        except OSError as error:
            raise InvalidArgumentError(f"the file of keys {path} cannot be read: {error.strerror or error}") from None
        except ValueError:
            raise InvalidArgumentError(f"the file of keys {path} is not text") from None
        if len(data) > _LARGEST_FILE:
            raise InvalidArgumentError(f"the file of keys {path} is larger than 1 MiB")
        keys = cls._parsed(lines, str(path))
        if not keys:
            raise InvalidArgumentError(f"{path} holds no key: `spherecv serve --new-key NAME --keys {path}` makes one")
        return keys

    @classmethod
    def _parsed(cls, lines: list[str], where: str) -> ApiKeys:
        digests: dict[str, str] = {}
        for number, line in enumerate(lines, 1):
            text = line.partition("#")[0].strip()
            if not text:
                continue
            found = _LINE.fullmatch(text)
            if found is None:
                raise InvalidArgumentError(
                    f"{where}, entry {number}: a key is written NAME sha256:DIGEST (`spherecv serve --new-key NAME`)"
                )
            if found["name"] in digests:
                raise InvalidArgumentError(f"{where}, entry {number}: there are two keys called {found['name']}")
            digests[found["name"]] = found["digest"]
        return cls(digests)

    def knows(self, name: str) -> bool:
        """Whether a key has this name."""
        return name in self._digests

    def owner(self, key: str | None) -> str | None:
        """Tell whose key this is, in the same time for any key, right or wrong.

        Parameters
        ----------
        key : str or None
            As the caller sent it; None where nothing was sent.

        Returns
        -------
        str or None
            What the key is called; None for a key that is not known.
        """
        # What is compared are hashes, each of them to its end, and all of them whichever fits.
        digest = hashlib.sha256((key or "").encode(errors="surrogateescape")).digest()
        found = None
        for name, known in self._digests.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found


def new_key(name: str) -> tuple[str, str]:
    """Make a key.

    Parameters
    ----------
    name : str
        What the log calls it: letters, digits, `.`, `_` and `-`.

    Returns
    -------
    key : str
        What the caller sends; it is kept nowhere.
    line : str
        What the service is given, `NAME sha256:DIGEST`.
    """
    key = _PREFIX + secrets.token_urlsafe(32)
    line = f"{name} sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    if _LINE.fullmatch(line) is None:
        raise InvalidArgumentError(f"a key's name is up to 64 letters, digits, '.', '_' or '-', but got {name!r}")
    return key, line


def add_key(path: str | os.PathLike[str], name: str) -> str:
    """Make a key, and add its hash to a file that only its owner may read; returns the key.

    Raises
    ------
    InvalidArgumentError
        The name is taken or not valid.
    StorageError
        The file cannot be written.
    """
    key, line = new_key(name)
    target = Path(path)
    try:
        held = target.read_text(encoding="utf-8") if target.exists() else _HEAD
    except (OSError, ValueError) as error:
        raise StorageError(f"{target} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if ApiKeys._parsed(held.splitlines(), str(target)).knows(name):
        raise InvalidArgumentError(
            f"{target} has a key called {name} already: choose another name, or delete that line first, and the old "
            "key opens nothing any more"
        )
    text = held + ("" if held.endswith("\n") else "\n") + line + "\n"
    with open_whole(target, mode=0o600) as stream:
        stream.write(text.encode())
    return key
