"""docs/caffe.md says what the code does, and its facts stand on golden values that other tests run."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "caffe.md").read_text(encoding="utf8")
# What test_golden_files and test_golden_layers run, but for what is refused though Caffe takes it.
BEYOND = {"files/rule_phase_field", "Parameter/plain", "Parameter/rank_1", "BatchNorm/test_batch"}


def _cases() -> set[str]:
    references = Path(__file__).parent / "references"
    with np.load(references / "files.npz") as files, np.load(references / "layers.npz") as layers:
        names = {key.partition("|")[0] for key in layers.files}
        return names | {f"files/{key.partition('|')[0]}" for key in files.files}


def test_every_fact_stands_on_cases_that_are_run():
    facts = PAGE.partition("## What Caffe really does")[2].partition("\n## ")[0]
    rows = [line for line in facts.splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 40
    known = _cases() - BEYOND
    for row in rows:
        named = re.findall(r"`(\w+/\w+)`", row.rsplit(" | ", 1)[1])
        assert named, row
        assert set(named) <= known, row


def test_the_table_of_layers_is_that_of_the_code():
    spec = importlib.util.spec_from_file_location("make_caffe", ROOT / "docs" / "make_caffe.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    assert make.page(PAGE) == PAGE, "run docs/make_caffe.py"
    assert "| Convolution | " in PAGE
