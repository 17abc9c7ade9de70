from __future__ import annotations

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture(autouse=True)
def kernels_find_spherecv(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a checkout that is not installed too."""
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent))


def run_notebook(name: str, folder: Path) -> list[str]:
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [str(output.get("text") or output.get("data", {}).get("text/plain")) for output in outputs]


def test_verify(tmp_path: Path) -> None:
    text = "\n".join(run_notebook("01_verify.ipynb", tmp_path))
    assert "True 0." in text
    assert "True\nFalse\nmissing.jpg: no such file" in text


def test_gallery(tmp_path: Path) -> None:
    text = " ".join("".join(run_notebook("04_gallery.ipynb", tmp_path)).split())
    assert text.startswith("Grace Hopper 0.")
    assert "{'rank': 'Rear Admiral'} None " in text
    assert "2 faces; ['no face found'] 3 unchanged the second time" in text
    assert "['Eileen Collins', 'Grace Hopper'] True False ['0.png', '1.png'] [['0.png', '1.png']]" in text
    assert text.endswith("True Removed(faces=1, images=1, erased=True) False None")


def test_video(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPHERECV_EXAMPLE_MODEL", str(data_dir / "mobilefacenet-caffe"))
    text = "\n".join(run_notebook("05_video.ipynb", tmp_path))
    assert text.count("track 1: from x") == text.count("track 2: from x") == 1
    assert "track 3" not in text
    assert text.count("same Grace Hopper") == 2  # decided, and ended
    assert "ended 74 track 1 different" in text
    assert "True (7, 2)" in text
    assert text.rstrip().endswith("False")
