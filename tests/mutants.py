"""Mutation testing: small faults put into one module at a time, and those that its tests do not notice.

    python tests/mutants.py spherecv/metrics.py
    python tests/mutants.py --sample 25

A mutant is a copy of the module with one change: a comparison, an operator, a number, a truth value, a condition, an
argument or a result. Each runs in a process of its own, in a copy of the working tree, under the tests that
`mutants.toml` names for the module, and is caught where they fail or exceed the time limit. Changes that `mutants.toml`
lists as equivalent cannot be seen from outside, and are left out. Messages, annotations and decorators are not changed.

The exit code is 1 where less than the wanted share was caught, and 2 where the tests fail without any change.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent
LOADED_ONCE = ("numpy", "scipy.stats", "scipy.sparse", "scipy.spatial.distance", "cv2", "PIL.Image")
"""What no mutant changes and most tests import: loaded before the processes fork."""
LEAST_LIMIT_S = 20.0
LIMIT_RATIO = 5.0
"""Time limit of a mutant, as a multiple of what the unchanged module's tests take."""

SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
SYMMETRIC = {"min", "max", "minimum", "maximum", "array_equal", "compare_digest", "TypeVar"}
"""Functions whose first two arguments may be exchanged, or whose value nothing but a type checker reads."""
UNSEEN = {"strict"}
"""Named arguments that only check what holds anyway, as that the columns of one table are equally long."""
UNCHANGED = {"annotation", "returns", "decorator_list", "type_params"}
"""Fields of the syntax tree that do not run, or whose change every test would notice."""


@dataclass(frozen=True)
class Mutant:
    """A changed module: where, what (`before -> after`), and its whole text."""

    line: int
    change: str
    text: str


def mutants_of(source: str) -> Iterator[Mutant]:
    """Every mutant of a module, from the top down."""
    tree = ast.parse(source)
    for parent, field, place, within in _slots(tree, None):
        holder = getattr(parent, field)
        child = holder if place is None else holder[place]
        for changed in _changes(parent, field, child):
            shown = within or (parent if isinstance(child, ast.operator) else child)
            before = ast.unparse(shown)
            _put(parent, field, place, changed)
            after = ast.unparse(changed if shown is child else shown)
            line = getattr(child, "lineno", getattr(parent, "lineno", 0))
            if after != before:  # f(x, x) with its arguments exchanged
                yield Mutant(line, f"{before} -> {after}", ast.unparse(tree))
            _put(parent, field, place, child)


def _slots(node: ast.AST, within: ast.expr | None) -> Iterator[tuple[ast.AST, str, int | None, ast.expr | None]]:
    """Places in the tree that hold a node which may be changed: parent, field, index in a list, expression to show."""
    if isinstance(node, ast.Raise | ast.JoinedStr) or (isinstance(node, ast.keyword) and node.arg in UNSEEN):
        return
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        return
    if isinstance(node, ast.stmt):
        within = None
    elif isinstance(node, ast.expr) and not (within and isinstance(node, ast.UnaryOp)):
        within = node
    for field, value in ast.iter_fields(node):
        if field in UNCHANGED:
            continue
        for place, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST):
                yield node, field, place, within
                yield from _slots(child, within)


def _changes(parent: ast.AST, field: str, child: ast.AST) -> Iterator[ast.AST]:
    if type(child) in SWAPPED:
        yield SWAPPED[type(child)]()
    elif isinstance(child, ast.Constant) and isinstance(child.value, bool):
        yield ast.Constant(not child.value)
    elif isinstance(child, ast.Constant) and isinstance(child.value, int | float):
        yield ast.Constant(child.value + 1)
    elif isinstance(child, ast.UnaryOp) and not isinstance(child.operand, ast.Constant):
        yield child.operand
    elif isinstance(child, ast.Call):
        yield from _other_arguments(child)
    if field == "test" and isinstance(child, ast.Name | ast.Attribute | ast.Call):
        yield ast.UnaryOp(ast.Not(), child)
    if isinstance(parent, ast.Return) and not (isinstance(child, ast.Constant) and child.value is None):
        yield ast.Constant(None)


def _other_arguments(call: ast.Call) -> Iterator[ast.Call]:
    """The call with its first two arguments exchanged, and without each that is named."""
    starred = any(isinstance(value, ast.Starred) for value in call.args[:2])
    if len(call.args) > 1 and not starred and ast.unparse(call.func).rpartition(".")[2] not in SYMMETRIC:
        yield ast.Call(call.func, [call.args[1], call.args[0], *call.args[2:]], call.keywords)
    for left_out in [keyword for keyword in call.keywords if keyword.arg not in UNSEEN]:
        yield ast.Call(call.func, call.args, [keyword for keyword in call.keywords if keyword is not left_out])


def _put(parent: ast.AST, field: str, place: int | None, child: ast.AST) -> None:
    if place is None:
        setattr(parent, field, child)
    else:
        getattr(parent, field)[place] = child


class Sandbox:
    """A copy of the working tree in which one module at a time is changed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
        for name in names:
            if name and (ROOT / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, root / name)
        os.environ.setdefault("SPHERECV_TEST_DATA", str(ROOT.parent / "shared" / "data"))
        # Two versions of a module that are written within one second would share their byte code.
        os.environ.update(PYTHONPATH=str(root), PYTHONDONTWRITEBYTECODE="1", OMP_NUM_THREADS="1")
        sys.dont_write_bytecode = True

    def passes(self, tests: list[str], limit_s: float) -> bool:
        """Whether the tests pass in time, in a process of their own."""
        child = os.fork()
        if not child:
            os.setsid()
            os.chdir(self.root)
            sys.path.insert(0, str(self.root))
            silence = os.open(os.devnull, os.O_RDWR)
            for stream in range(3):
                os.dup2(silence, stream)
            os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--no-header", *tests])))
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status) == 0
            time.sleep(0.02)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return False


def measure(sandbox: Sandbox, entry: dict, sample: int | None, seed: int) -> tuple[int, int] | None:
    """Count the mutants of a module that were caught, and all that ran; None where its tests fail unchanged."""
    target = sandbox.root / entry["path"]
    source = target.read_text(encoding="utf-8")
    equivalent = set(entry.get("equivalent", ()))
    found = list(mutants_of(source))
    for stale in equivalent - {mutant.change for mutant in found}:
        print(f"{entry['path']}: the equivalent change {stale!r} is not there any more")
    random.Random(seed).shuffle(found)
    chosen = sorted([mutant for mutant in found if mutant.change not in equivalent][:sample], key=lambda m: m.line)
    start = time.monotonic()
    if not sandbox.passes(entry["tests"], 600):
        print(f"{entry['path']}: {' '.join(entry['tests'])} fails without any change")
        return None
    limit_s = max(LEAST_LIMIT_S, LIMIT_RATIO * (time.monotonic() - start))
    caught = 0
    for mutant in chosen:
        target.write_text(mutant.text, encoding="utf-8")
        if sandbox.passes(entry["tests"], limit_s):
            print(f"{entry['path']}:{mutant.line}: survives: {mutant.change}", flush=True)
        else:
            caught += 1
    target.write_text(source, encoding="utf-8")
    print(f"{entry['path']}: {caught} of {len(chosen)} caught ({time.monotonic() - start:.0f} s)", flush=True)
    return caught, len(chosen)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="*", help="paths from the root; by default all of mutants.toml")
    parser.add_argument("--sample", type=int, help="mutants of each module, drawn at random; by default all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-least", type=float, default=0.93, help="share to be caught, 0..1 (default 0.93)")
    options = parser.parse_args()
    known = {entry["path"]: entry for entry in tomllib.loads((ROOT / "tests/mutants.toml").read_text())["modules"]}
    if unknown := [path for path in options.modules if path not in known]:
        parser.error(f"mutants.toml names no tests of {', '.join(unknown)}; it has {', '.join(known)}")
    for name in LOADED_ONCE:
        import_module(name)
    for plugin in metadata.entry_points(group="pytest11"):
        plugin.load()
    # The first failure is enough: nobody wants the smallest one.
    hypothesis.settings.register_profile("mutants", phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate])
    hypothesis.settings.load_profile("mutants")
    with tempfile.TemporaryDirectory() as folder:
        sandbox, chosen = Sandbox(Path(folder)), options.modules or known
        counts = [measure(sandbox, known[path], options.sample, options.seed) for path in chosen]
    if None in counts:
        return 2
    caught, ran = (sum(column) for column in zip(*filter(None, counts), strict=True))
    print(f"{caught} of {ran} caught: {caught / ran:.1%}")
    return 0 if caught >= options.at_least * ran else 1


if __name__ == "__main__":
    sys.exit(main())
