"""Checks of arguments that several stages share: a message states what was expected and what was given."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, get_args

from spherecv.errors import InvalidArgumentError

T = TypeVar("T")

Metric = Literal["cosine", "euclidean"]
METRICS: tuple[Metric, ...] = get_args(Metric)

_LONGEST = 60


def check_metric(metric: str) -> Metric:
    """Return `metric`, or raise `InvalidArgumentError` where it is unknown."""
    return check_choice("metric", metric, METRICS)


def check_choice(name: str, value: object, choices: Iterable[T]) -> T:
    """Return a value that is one of several, or raise `InvalidArgumentError`, which names them."""
    for known in (several := tuple(choices)):
        if isinstance(value, type(known)) and value == known:
            return known
    raise InvalidArgumentError(f"{name} must be one of {', '.join(map(str, several))}, but got {shown(value)}")


def check_rate(name: str, value: Any) -> float:
    """Return a rate within 0..1, both exclusive, or raise `InvalidArgumentError`."""
    number = plain_number(value)
    if not _is_number(number) or not 0.0 < number < 1.0:  # written so that NaN fails too
        raise InvalidArgumentError(f"{name} must be a number within 0..1, both exclusive, but got {shown(value)}")
    return float(number)


def check_share(name: str, value: Any) -> float:
    """Return a share within 0..1, both inclusive, or raise `InvalidArgumentError`."""
    number = plain_number(value)
    if not _is_number(number) or not 0.0 <= number <= 1.0:
        raise InvalidArgumentError(f"{name} must be a number within 0..1, but got {shown(value)}")
    return float(number)


def check_count(name: str, value: Any) -> int:
    """Return a whole number from 1 on, or raise `InvalidArgumentError`."""
    number = plain_number(value)
    if isinstance(number, bool) or not isinstance(number, Integral) or number < 1:
        raise InvalidArgumentError(f"{name} must be a whole number from 1, but got {shown(value)}")
    return int(number)


def plain_number(value: Any) -> Any:
    """Turn NumPy's scalars, and arrays of no axes, into Python's numbers; anything else is returned as it is.

    Examples
    --------
    >>> import numpy as np
    >>> plain_number(np.float32(0.001)), plain_number(np.int64(2)), plain_number(np.array(0.5)), plain_number("2")
    (0.001, 2, 0.5, '2')
    """
    if getattr(value, "shape", None) != () or getattr(getattr(value, "dtype", None), "kind", "") not in "iuf":
        return value
    # A float32 of 0.001 means 0.001, the rate that tables know, not what float64 makes of its bits.
    return float(str(value)) if value.dtype.kind == "f" else int(value)


def check_distance(name: str, value: Any) -> float:
    """Return a distance, finite and not negative, or raise `InvalidArgumentError`."""
    number = plain_number(value)
    if not _is_number(number) or not 0.0 <= number < math.inf:
        raise InvalidArgumentError(f"{name} must be a distance of 0 or more, but got {shown(value)}")
    return float(number)


def check_path(what: str, value: Any) -> None:
    """Raise `InvalidArgumentError` unless a value is a path; `what` says what is wanted."""
    if not isinstance(value, str | os.PathLike):
        raise InvalidArgumentError(f"{what}, but got {shown(value)}")


def check_stage(what: str, value: Any, method: str) -> None:
    """Raise `InvalidArgumentError` unless a value can do what a stage does; `what` says what is wanted."""
    if not callable(getattr(value, method, None)):
        raise InvalidArgumentError(f"{what}, but got {shown(value)}")


def batch_of(name: str, values: Iterable[T]) -> Iterator[T]:
    """Iterate over a batch, or raise `InvalidArgumentError` for what is not one, such as a single image."""
    single: Any = values
    wanted = f"{name} must be several, in a list or another iterable"
    if isinstance(single, str | os.PathLike):
        text = shown(os.fspath(single))
        raise InvalidArgumentError(f"{wanted}, but got {text}: did you mean [{text}]?")
    if not (isinstance(single, bytes | bytearray | memoryview) or hasattr(single, "read") or _is_one_image(single)):
        try:
            return iter(values)
        except TypeError:
            pass
    raise InvalidArgumentError(f"{wanted}, but got {shown(single)}")


def _is_one_image(values: Any) -> bool:
    shape: tuple[int, ...] = getattr(values, "shape", ())
    kind = getattr(getattr(values, "dtype", None), "kind", "")
    return kind in ("u", "i", "f") and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4)))


def shown(value: Any) -> str:
    """What to call a value that was refused: itself where it is short, else its type."""
    text = repr(value) if value is None or isinstance(value, str | bool | Real) else ""
    return text if 0 < len(text) <= _LONGEST else f"a value of type {type(value).__name__}"


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
