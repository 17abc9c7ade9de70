"""The notebook on LFW, run on a few of its people."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def part(lfw_dir: Path, tmp_path: Path) -> Path:
    """Eight people with two photos each, and their pairs in two folds."""
    people = [folder for folder in sorted((lfw_dir / "images").iterdir()) if len(list(folder.iterdir())) > 1][:8]
    rows = []
    for one, two in zip(people, people[1:] + people[:1], strict=True):
        shutil.copytree(one, tmp_path / "images" / one.name)
        first, second = (int(path.stem[-4:]) for path in sorted(one.iterdir())[:2])
        other = int(sorted(two.iterdir())[0].stem[-4:])
        rows.append((f"{one.name}\t{first}\t{second}", f"{one.name}\t{first}\t{two.name}\t{other}"))
    folds = [line for part in (rows[:4], rows[4:]) for column in zip(*part, strict=True) for line in column]
    (tmp_path / "pairs.txt").write_text("\n".join(["2\t4", *folds]))
    return tmp_path


@pytest.mark.runtime
def test_evaluate_lfw(part: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # in a checkout that is not installed too
    monkeypatch.setenv("SPHERECV_EXAMPLE_LFW", str(part))
    monkeypatch.setenv("SPHERECV_EXAMPLE_MODEL", str(data_dir / "mobilefacenet-caffe"))
    monkeypatch.setenv("SPHERECV_EXAMPLE_FAR", "0.3")
    (tmp_path / "work").mkdir()
    notebook = nbformat.read(ROOT / "examples" / "02_evaluate_lfw.ipynb", as_version=4)
    settings = {"metadata": {"path": str(tmp_path / "work")}}
    nbclient.NotebookClient(notebook, timeout=280, resources=settings).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "\n".join(str(output.get("text") or output.get("data", {}).get("text/plain")) for output in outputs)
    assert "LFW view 2" in text
    assert "AVE\t" in text
    assert "report.html" in text
    assert "FAR 0.3:" in text
    assert "True 0.3 FAR 0.3 on images" in text
    assert any("image/png" in output.get("data", {}) for output in outputs)
