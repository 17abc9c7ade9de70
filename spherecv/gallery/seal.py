"""Encryption at rest: stored values sealed with a key that is not in the file.

Sealed are names, metadata, paths, hashes, boxes and embeddings, in the file, its log and its index. To be seen are
numbers: how many people, images and faces there are, which belong together, scores, qualities, sizes and times of
files, and by what model. It protects a file that is stolen. Someone who can write to it can put one sealed value in the
place of another, which no key prevents.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from typing import Protocol

from spherecv.errors import GalleryKeyError, MissingDependencyError

KEY_VARIABLE = "SPHERECV_GALLERY_KEY"
_SALT_BYTES = 16
_NONCE_BYTES = 12
_SCRYPT_COST = 1 << 15
"""scrypt at N = 2^15, r = 8, p = 1: 32 MB and about 0.1 s for each guess of a passphrase (RFC 7914's parameters)."""
_CHECK = b"spherecv gallery"


class Seal(Protocol):
    """Turns values into what may be written down, and back."""

    def close(self, value: bytes) -> bytes:
        """Make of a value what is written."""

    def open(self, sealed: bytes) -> bytes:
        """Make of what is written the value."""

    def lookup(self, text: str) -> bytes:
        """Make of a text a word that is equal for equal texts, to look it up by."""


class NoSeal:
    """Writes values as they are."""

    def close(self, value: bytes) -> bytes:
        """Return the value."""
        return value

    def open(self, sealed: bytes) -> bytes:
        """Return the value."""
        return sealed

    def lookup(self, text: str) -> bytes:
        """Return the text's bytes."""
        return text.encode(errors="surrogateescape")


class AesSeal:
    """AES-256-GCM with a random nonce for each value, and HMAC-SHA-256 for lookups.

    Parameters
    ----------
    passphrase : str
        Any text; stretched by scrypt.
    salt : bytes
        Of the gallery; not secret.
    """

    def __init__(self, passphrase: str, salt: bytes) -> None:
        try:
            from cryptography.exceptions import InvalidTag
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError:
            raise MissingDependencyError("cryptography", "gallery", "an encrypted gallery") from None
        secret = hashlib.scrypt(
            passphrase.encode(), salt=salt, n=_SCRYPT_COST, r=8, p=1, maxmem=1 << 26, dklen=64
        )
        self._cipher = AESGCM(secret[:32])
        self._word_key = secret[32:]
        self._invalid = InvalidTag

    def close(self, value: bytes) -> bytes:
        """Encrypt a value."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, value, None)

    def open(self, sealed: bytes) -> bytes:
        """Decrypt a value; raises `GalleryKeyError` where it is not ours, or was changed."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)
        except (self._invalid, ValueError):
            raise GalleryKeyError("a value of the gallery is not sealed with its key: the file was changed") from None

    def lookup(self, text: str) -> bytes:
        """Make a keyed hash of the text: it finds a name, and does not tell it."""
        return hmac.digest(self._word_key, text.encode(errors="surrogateescape"), "sha256")


def new_seal(passphrase: str | None) -> tuple[Seal, str]:
    """Make the seal of a new gallery, and what the gallery writes down to know the key again (empty without one)."""
    if passphrase is None:
        return NoSeal(), ""
    salt = secrets.token_bytes(_SALT_BYTES)
    seal = AesSeal(passphrase, salt)
    return seal, f"scrypt-aes256gcm:{_text(salt)}:{_text(seal.close(_CHECK))}"


def open_seal(note: str, passphrase: str | None, label: str) -> Seal:
    """Make the seal of an old gallery from its note.

    Raises
    ------
    GalleryKeyError
        It is encrypted and there is no key, or another; or it is not encrypted and there is one.
    """
    if not note:
        if passphrase is not None:
            raise GalleryKeyError(
                f"{label} is not encrypted, but a key was given: leave {KEY_VARIABLE} unset, or export it and import "
                "it into a new gallery"
            )
        return NoSeal()
    if passphrase is None:
        raise GalleryKeyError(f"{label} is encrypted: set {KEY_VARIABLE} to its key")
    try:
        kind, salt, check = note.split(":")
        seal = AesSeal(passphrase, base64.b64decode(salt)) if kind == "scrypt-aes256gcm" else None
        sealed = base64.b64decode(check)
    except ValueError:
        seal = None
    if seal is None:
        raise GalleryKeyError(f"{label} is encrypted in a way that this version does not know")
    try:
        seal.open(sealed)
    except GalleryKeyError:
        raise GalleryKeyError(f"{label} is encrypted with another key than the one given") from None
    return seal


def passphrase_of(key: str | None) -> str | None:
    """Return the key given, or that of the environment; an empty one counts as none."""
    return (key if key is not None else os.environ.get(KEY_VARIABLE)) or None


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
