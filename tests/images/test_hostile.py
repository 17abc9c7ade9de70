"""A short form of `benchmarks/reliability/hostile_images.py`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "reliability" / "hostile_images.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hostile_images", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_hostile_files_are_images_or_errors(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert len({name.split("/")[0] for name in script.seeds()}) >= 20
    first, again = (list(script.generated(5, 30)) for _ in range(2))
    assert first == again
    assert script.through_load_image(5, 400, limit_mb=float("inf")) == 0, capsys.readouterr().out
    said = capsys.readouterr().out
    assert "an image" in said
    assert "ImageError" in said


def test_a_fault_is_counted(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import spherecv

    def broken(source: object) -> None:
        raise ValueError("not ours")

    monkeypatch.setattr(spherecv, "load_image", broken)
    assert script.through_load_image(5, 3, limit_mb=float("inf")) == 3
    assert "FAULT file 2" in capsys.readouterr().out
