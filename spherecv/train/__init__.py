"""The trainer: Caffe's files and semantics, on NumPy or CuPy. See `spherecv train --help`.

Needs the `train` extra. The names below are imported when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spherecv.train.angles import measure_angles, pair_accuracy
    from spherecv.train.backend import open_backend
    from spherecv.train.deploy import export
    from spherecv.train.distill import DistillRecipe, open_distillation
    from spherecv.train.finetune import open_finetuning, plan
    from spherecv.train.net import Net
    from spherecv.train.policies import Policy
    from spherecv.train.recipes import save
    from spherecv.train.run import open_run
    from spherecv.train.solver import Solver, SolverSettings
    from spherecv.train.teacher import Teacher, TeacherRecipe
    from spherecv.train.trainer import Trainer

_HOME = {
    "DistillRecipe": "distill",
    "Net": "net",
    "Policy": "policies",
    "Solver": "solver",
    "SolverSettings": "solver",
    "Teacher": "teacher",
    "TeacherRecipe": "teacher",
    "Trainer": "trainer",
    "export": "deploy",
    "measure_angles": "angles",
    "open_backend": "backend",
    "open_distillation": "distill",
    "open_finetuning": "finetune",
    "open_run": "run",
    "pair_accuracy": "angles",
    "plan": "finetune",
    "save": "recipes",
}

__all__ = [
    "DistillRecipe",
    "Net",
    "Policy",
    "Solver",
    "SolverSettings",
    "Teacher",
    "TeacherRecipe",
    "Trainer",
    "export",
    "measure_angles",
    "open_backend",
    "open_distillation",
    "open_finetuning",
    "open_run",
    "pair_accuracy",
    "plan",
    "save",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
