"""Counts with their nouns, in the singular where they are one."""

from __future__ import annotations

_PLURALS = {"person": "people", "identity": "identities", "index": "indexes"}


def numbered(count: int, noun: str) -> str:
    """Write `1 face`, `0 faces`, `1,200 people`."""
    return f"{count:,} {noun if count == 1 else _PLURALS.get(noun, f'{noun}s')}"
