"""What PyInstaller is told; that a plain build then answers is tried by hand, since it takes a minute or more."""

from __future__ import annotations

import runpy
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from spherecv import _pyinstaller
from spherecv.zoo import expected_paths, models_dir


def test_pyinstaller_finds_the_hook() -> None:
    found = [one for one in entry_points(group="pyinstaller40") if one.value.startswith("spherecv.")]
    if not found:
        pytest.skip("spherecv was installed before it had the entry point: install it again")
    (folder,) = found[0].load()()
    assert (Path(folder) / "hook-spherecv.py").is_file()


def test_the_hook_packs_every_file_that_is_opened_by_its_path() -> None:
    pytest.importorskip("PyInstaller", reason="pyinstaller is not installed")
    (folder,) = _pyinstaller.get_hook_dirs()
    said = runpy.run_path(str(Path(folder) / "hook-spherecv.py"))
    packed = {Path(source).resolve() for source, _ in said["datas"] if Path(source).is_file()}
    wanted = [*models_dir().glob("*.toml"), *models_dir().glob("*.prototxt"), *models_dir().glob("*.caffemodel")]
    wanted += [*expected_paths("sphereface-mini").values(), *expected_paths("mtcnn").values()]
    assert {path.resolve() for path in wanted} <= packed
    assert {"onnxruntime", "spherecv.cli.gallery"} <= {*said["hiddenimports"]}
    for name in said["hiddenimports"]:
        import_module(name)
