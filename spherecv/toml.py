"""Plain values as TOML, which Python reads but does not write."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


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
