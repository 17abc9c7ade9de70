"""The trainer: Caffe's files and semantics, on NumPy or CuPy. See `spherecv train --help`.

Needs the `train` extra. The names below are imported when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spherecv.train.backend import open_backend
    from spherecv.train.net import Net
    from spherecv.train.policies import Policy
    from spherecv.train.solver import Solver, SolverSettings

_HOME = {
    "Net": "net",
    "Policy": "policies",
    "Solver": "solver",
    "SolverSettings": "solver",
    "open_backend": "backend",
}

__all__ = ["Net", "Policy", "Solver", "SolverSettings", "open_backend"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
