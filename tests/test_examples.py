"""The notebooks: run as they are, without test data, and their saved outputs are what they give."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NOTEBOOKS = sorted(path.name for path in EXAMPLES.glob("*.ipynb"))


@pytest.fixture(autouse=True)
def kernels_find_spherecv(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a checkout that is not installed too."""
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent))
    for name in ("LFW", "MODEL", "FAR", "ITERATIONS"):
        monkeypatch.delenv(f"SPHERECV_EXAMPLE_{name}", raising=False)


def told(notebook: Any) -> list[tuple[str, bool]]:
    """Of each cell of code: its text without figures, and whether it shows a picture."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        texts, picture = [], False
        for output in cell.outputs:
            data = output.get("data", {})
            picture |= any(kind.startswith("image/") for kind in data)
            if output.output_type == "stream" and output.name == "stdout":
                texts.append(output.text)
            elif not picture:
                texts.append(str(data.get("text/plain", "")))
        words = re.sub(r"[-+]?\d[\d,.]*(e[-+]?\d+)?", "#", "".join(texts))
        found.append((" ".join(words.split()), picture))
    return found


def finetuned(text: str) -> None:
    before, after = (float(ratio) for ratio in re.findall(r"ratio ([\d.]+)", text))
    assert after > before
    assert float(text.rsplit("embedding, to ", 1)[1]) < 1e-3


def remembered(text: str) -> None:
    assert text.startswith("Grace Hopper 0.")
    assert "2 faces; ['no face found'] 3 unchanged the second time" in text
    assert "True Removed(faces=1, images=1, erased=True) False None" in text


# Where figures decide, what they must say.
FIGURES = {"03_finetune.ipynb": finetuned, "04_gallery.ipynb": remembered}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_gives_what_it_shows(name: str, tmp_path: Path) -> None:
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    saved = told(notebook)
    assert any(picture for _, picture in saved), "no picture is saved"
    nbclient.NotebookClient(notebook, timeout=170, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert told(notebook) == saved
    if name in FIGURES:
        outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
        FIGURES[name](" ".join("".join(str(output.get("text", "")) for output in outputs).split()))
