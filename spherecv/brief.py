"""Reprs of records that fit a screen: arrays by their shape, long texts and sequences shortened."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any


class _Brief(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxtuple = self.maxlist = self.maxset = self.maxfrozenset = 4
        self.maxdict = 6
        self.maxstring = self.maxother = 100

    def repr_ndarray(self, array: Any, _level: int) -> str:
        """Shape and type of an array; the numbers of a box or a point as they are."""
        if array.size <= 4:
            return f"{array.tolist()}"
        return f"<{array.dtype} of {' x '.join(str(length) for length in array.shape)}>"

    def repr_float(self, number: float, _level: int) -> str:
        """Six digits of a number."""
        return f"{number:.6g}"

    def repr_instance(self, value: Any, level: int) -> str:
        """A record by its fields, anything else by its own repr."""
        if is_dataclass(value) and type(value).__repr__ is brief:
            return self.record(value, level - 1)
        return super().repr_instance(value, level)

    def record(self, value: Any, level: int) -> str:
        """Name and fields of a record; those that say nothing are left out."""
        if level <= 0:
            return f"{type(value).__name__}(...)"
        shown = ((one.name, getattr(value, one.name)) for one in fields(value) if one.repr)
        parts = [f"{name}={self.repr1(part, level)}" for name, part in shown if _says_something(part)]
        return f"{type(value).__name__}({', '.join(parts)})"


def _says_something(part: Any) -> bool:
    return part is not None and not (isinstance(part, str | tuple | list | Mapping) and not part)


_BRIEF = _Brief()
_SCREEN = 1200
"""Characters that are read at a glance: fifteen lines of a terminal."""


def brief(record: Any) -> str:
    """Write a dataclass in a few lines; `__repr__ = brief` in its body makes it its repr.

    Records within records are shown as deep as a screen has room for.
    """
    texts = (_BRIEF.record(record, level) for level in (5, 4, 3, 2))
    return next((text for text in texts if len(text) <= _SCREEN), _BRIEF.record(record, 1))
