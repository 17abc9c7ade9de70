"""Names, order and defaults of arguments are those of the packages whose code shall run unchanged."""

from __future__ import annotations

import ast
import inspect
import json
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

from spherecv.compat import deepface, face_recognition

RECORDED = json.loads(Path(__file__).with_name("signatures.json").read_text(encoding="utf-8"))
FILES = {"deepface": "deepface/DeepFace.py", "face_recognition": "face_recognition/api.py"}
OURS = {"deepface": deepface, "face_recognition": face_recognition}


def signatures_in(path: Path) -> dict[str, list[list[object]]]:
    """`[name, default]` of each argument of each public function, `[name]` without a default; nothing is imported."""
    found: dict[str, list[list[object]]] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            names = [argument.arg for argument in node.args.args]
            values = [[ast.literal_eval(value)] for value in node.args.defaults]
            padded: list[list[object]] = [*([[]] * (len(names) - len(values))), *values]
            found[node.name] = [[name, *value] for name, value in zip(names, padded, strict=True)]
    return found


@pytest.mark.parametrize(("package", "name"), [(package, name) for package in RECORDED for name in RECORDED[package]])
def test_a_function_is_called_as_in_the_package(package: str, name: str) -> None:
    module: ModuleType = OURS[package]
    parameters = inspect.signature(getattr(module, name)).parameters.values()
    assert all(one.kind is one.POSITIONAL_OR_KEYWORD for one in parameters)
    ours = [[one.name] if one.default is one.empty else [one.name, one.default] for one in parameters]
    assert ours == RECORDED[package][name]


@pytest.mark.usefixtures("peers")
@pytest.mark.parametrize("package", FILES)
def test_the_record_is_what_the_package_says(package: str) -> None:
    spec = find_spec(package)  # finds it without running it
    assert spec is not None
    assert spec.origin is not None
    said = signatures_in(Path(spec.origin).parent.parent / FILES[package])
    assert {name: said[name] for name in RECORDED[package]} == RECORDED[package]
