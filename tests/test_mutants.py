"""The changes that mutation testing makes."""

from __future__ import annotations

import ast
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

spec = spec_from_file_location("mutants", Path(__file__).with_name("mutants.py"))
mutants = module_from_spec(spec)
sys.modules["mutants"] = mutants
spec.loader.exec_module(mutants)


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("a = b < c", ["b < c -> b <= c"]),
        ("a = b + 2 * c", ["b + 2 * c -> b - 2 * c", "2 * c -> 3 * c", "2 * c -> 2 / c"]),
        ("a = b and not c", ["b and (not c) -> b or not c", "b and (not c) -> b and c"]),
        ("a = -1.5", ["-1.5 -> -2.5"]),
        ("a = True", ["True -> False"]),
        ("f(a, b, c=d)", ["f(a, b, c=d) -> f(b, a, c=d)", "f(a, b, c=d) -> f(a, b)"]),
        ("zip(*a, strict=True)\nmin(a, b)\nf(a, a)", []),
        ("if a:\n    b()", ["a -> not a"]),
        ("def f(a: int = 1) -> int:\n    return a", ["1 -> 2", "a -> None"]),
        ("a -= 1", ["a -= 1 -> a += 1", "1 -> 2"]),
        ("raise E(f'{a + 1}')\nb: c | d", []),
        ("if TYPE_CHECKING:\n    a = 1", []),
    ],
)
def test_each_kind_of_change(source: str, changes: list[str]) -> None:
    found = list(mutants.mutants_of(source))
    assert sorted(mutant.change for mutant in found) == sorted(changes)
    assert all(ast.dump(ast.parse(mutant.text)) != ast.dump(ast.parse(source)) for mutant in found)
