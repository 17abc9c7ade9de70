"""TOML files: read with one line for what is wrong, and written, which Python does not do."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from spherecv.errors import SphereCVError


def read_toml(path: Path, error: type[SphereCVError], what: str = "") -> dict[str, Any]:
    """Read a file's values; what is wrong is raised as `error`, which names the file and, in a word, what it is."""
    name = f"{what} {path}".strip()
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise error(f"{name} cannot be read: {fault.strerror or fault}") from None
    except ValueError as fault:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise error(f"{name} is not TOML: {fault}") from None


def toml_table(head: str, values: Mapping[str, Any]) -> Iterator[str]:
    """Draw a table line by line, under a head such as `[name]` or `[[name]]`; values that are None are left out."""
    yield f"\n{head}"
    for key, value in values.items():
        if value is not None:
            yield f"{key} = {toml_value(value)}"


def toml_value(value: Any) -> str:
    """Draw one value; JSON's strings, numbers and booleans are TOML's too, and repr gives floats to the last digit."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    return json.dumps(value) if isinstance(value, bool | int) else repr(float(value))
