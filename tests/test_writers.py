"""Every file that the package writes goes through `spherecv/files.py`, or is named here with the reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "spherecv"
ALWAYS = {"imwrite", "imwritemulti", "VideoWriter", "tofile", "savetxt", "write_text"}
"""Write to a path, whatever they are called on."""
TO_A_STREAM = {"savez", "savez_compressed", "savefig", "to_csv", "to_parquet", "to_json"}
"""Write to a path, or to a stream that somebody opened."""
MODULES = {"np", "numpy", "onnx", "torch", "pickle", "json", "cv2"}
EXCEPTIONS = {
    "compat/cv2_dnn.py": ({"write_bytes"}, "into a temporary folder, for OpenCV to read"),
    "dataset/table.py": ({"open"}, "appended to without a buffer; a line that was cut is left out"),
    "evaluate/rowstore.py": ({"open"}, "appended to; rows count when the sidecar, written whole, says so"),
    "files.py": ({"open", "fdopen"}, "the one writer"),
    "runtime/opencv_backend.py": ({"open", "fdopen"}, "in memory or a temporary folder, for OpenCV to read"),
    "runtime/quantise.py": ({"save"}, "into a temporary folder, for the calibrator to read"),
    "train/data/worker.py": ({"fdopen"}, "the pipe to the parent"),
    "train/log.py": ({"open"}, "appended to without a buffer"),
    "watch/events.py": ({"open"}, "appended to without a buffer"),
    "watch/recording.py": ({"VideoWriter"}, "OpenCV asks for a name: a Part of files.py, read back before it is put"),
    "zoo/download.py": ({"open"}, "a part that a later call goes on with; its hash is checked before it is put"),
    "zoo/index.py": ({"open", "write_text"}, "into a temporary folder, for pip and from its wheel"),
}


def _streams(tree: ast.AST) -> set[str]:
    """Names that are streams: of a `with`, a `BytesIO`, or so annotated."""
    names = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.withitem) and isinstance(node.optional_vars, ast.Name):
            names.add(node.optional_vars.id)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and "IO(" in ast.unparse(node.value):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.arg) and node.annotation is not None and "IO" in ast.unparse(node.annotation):
            names.add(node.arg)
    return names


def _modes(call: ast.Call, place: int) -> set[str]:
    """Every mode that an `open` may be called with."""
    given = [keyword.value for keyword in call.keywords if keyword.arg == "mode"] or call.args[place : place + 1]
    inside = [node for value in given for node in ast.walk(value) if isinstance(node, ast.Constant)]
    return {str(node.value) for node in inside if isinstance(node.value, str) and set(node.value) <= set("rwaxbt+")}


def writes(source: str) -> Iterator[str]:
    """Calls in a module's text that write to a path by themselves."""
    tree = ast.parse(source)
    streams = _streams(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        module = owner.id if isinstance(owner, ast.Name) else ""
        first = node.args[0] if node.args else None
        to_stream = isinstance(first, ast.Name) and first.id in streams
        if name in ALWAYS or (name == "write_bytes" and owner is not None and module != "files"):
            yield name
        elif name in TO_A_STREAM or (name == "save" and module in MODULES):
            if not to_stream:
                yield name
        elif name in ("open", "fdopen") and not any(keyword.arg == "fileobj" for keyword in node.keywords):
            place = 0 if owner is not None and module not in ("io", "os", "gzip", "bz2", "lzma", "tarfile") else 1
            if module != "archive" and any(set(mode) & set("wax+") for mode in _modes(node, place)):
                yield name


def test_every_writer_goes_through_the_one_function() -> None:
    modules = {str(path.relative_to(PACKAGE).as_posix()): path.read_text("utf-8") for path in PACKAGE.rglob("*.py")}
    found = {name: calls for name, source in modules.items() if (calls := set(writes(source)))}
    assert found == {name: calls for name, (calls, _) in EXCEPTIONS.items()}, "use files.open_whole or write_bytes"


@pytest.mark.parametrize(
    ("source", "call"),
    [
        ("open('x', 'w')", "open"),
        ("path.open(mode='ab')", "open"),
        ("path.open('r+b' if here else 'wb')", "open"),
        ("os.fdopen(number, 'wb')", "fdopen"),
        ("tarfile.open(path, 'w')", "open"),
        ("path.write_text('x')", "write_text"),
        ("path.write_bytes(b'x')", "write_bytes"),
        ("cv2.imwrite(str(path), image)", "imwrite"),
        ("np.save(path, rows)", "save"),
        ("np.savez('x.npz', rows)", "savez"),
        ("figure.savefig(path)", "savefig"),
        ("onnx.save(net, str(path))", "save"),
        ("rows.tofile(path)", "tofile"),
    ],
)
def test_the_walk_sees(source: str, call: str) -> None:
    assert list(writes(source)) == [call]


@pytest.mark.parametrize(
    "source",
    [
        "open('x')",
        "path.open('rb')",
        "write_bytes(path, b'x')",
        "with open_whole(path) as stream:\n    np.savez(stream, rows)",
        "target = io.BytesIO()\nfigure.savefig(target)",
        "tarfile.open(fileobj=stream, mode='w')",
    ],
)
def test_the_walk_lets_pass(source: str) -> None:
    assert list(writes(source)) == []
