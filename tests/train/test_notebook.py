from __future__ import annotations

import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_finetune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent))
    monkeypatch.delenv("SPHERECV_TEST_DATA", raising=False)
    monkeypatch.setenv("SPHERECV_EXAMPLE_ITERATIONS", "25")
    notebook = nbformat.read(EXAMPLES / "03_finetune.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.get("text", "") for output in outputs)
    before, after = (float(ratio) for ratio in re.findall(r"ratio ([\d.]+)", text))
    assert after > before
    assert float(text.rsplit("embedding, to ", 1)[1]) < 1e-3
    assert any("image/png" in output.get("data", {}) for output in outputs)
