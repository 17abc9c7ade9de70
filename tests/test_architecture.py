from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_picture_of_the_house_is_up_to_date() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_architecture.py"))
    drawn = (ROOT / "docs" / "architecture.svg").read_text()
    assert drawn == made["draw"](), "python docs/make_architecture.py draws it again"


def test_what_the_page_names_is_there() -> None:
    for line in (ROOT / "docs" / "architecture.md").read_text().splitlines():
        for word in line.split("`")[1::2]:
            if word.startswith(("spherecv/", "tests/", "models/")) and " " not in word:
                assert (ROOT / word).exists(), word
