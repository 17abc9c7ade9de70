"""Draws docs/architecture.svg: the layers that import-linter holds, and what each module says of itself.

    python docs/make_architecture.py
"""

from __future__ import annotations

import ast
import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "spherecv"
OUT = ROOT / "docs" / "architecture.svg"
SPINE = ("images", "detect", "align", "embed", "pipeline", "decision", "verify")
"""Through which an image goes on its way to an answer."""

WIDTH, GAP, PAD = 1180, 8, 16
LINE, LETTER = 15, 6.1
"""Height of a line and width of a letter of the small print, in pixels."""


def layers() -> list[list[str]]:
    """The layers from the top down, of the modules that there are."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rows = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    named = [[name.strip("() ") for name in row.split(":")] for row in rows]
    return [kept for row in named if (kept := [name for name in row if source_of(name) and name != "__main__"])]


def source_of(module: str) -> Path | None:
    """The file that holds a module's first line."""
    places = (PACKAGE / f"{module}.py", PACKAGE / module / "__init__.py")
    return next((path for path in places if path.is_file()), None)


def first_line(module: str) -> str:
    """What a module says of itself."""
    path = source_of(module)
    text = ast.get_docstring(ast.parse(path.read_text())) if path else None
    return (text or "").splitlines()[0].rstrip(".") if text else ""


def wrapped(text: str, letters: int) -> list[str]:
    """A text in lines of at most so many letters."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > letters:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def draw() -> str:
    """The picture as SVG."""
    parts: list[str] = []
    top = PAD
    for row in layers():
        width = (WIDTH - 2 * PAD - GAP * (len(row) - 1)) / len(row)
        texts = [wrapped(first_line(name), max(int((width - 16) / LETTER), 8)) for name in row]
        height = 30 + LINE * max(len(lines) for lines in texts)
        for place, (name, lines) in enumerate(zip(row, texts, strict=True)):
            left = PAD + place * (width + GAP)
            kind = "spine" if name in SPINE else "box"
            parts.append(
                f'<rect class="{kind}" x="{left:.1f}" y="{top}" width="{width:.1f}" height="{height}" rx="6"/>'
                f'<text class="name" x="{left + 8:.1f}" y="{top + 19}">{escape(name)}</text>'
            )
            parts += [
                f'<text class="small" x="{left + 8:.1f}" y="{top + 36 + LINE * number}">{escape(line)}</text>'
                for number, line in enumerate(lines)
            ]
        top += height + GAP
    caption = f"Each row may import the rows below it. In blue: an image's way, {' → '.join(SPINE)}."
    parts.append(f'<text class="small" x="{PAD}" y="{top + 14}">{caption}</text>')
    style = (
        "rect{stroke:#667;fill:#f4f5f8}.spine{fill:#dbe8fb;stroke:#36c}"
        "text{font-family:sans-serif;fill:#123}.name{font-weight:bold;font-size:14px}.small{font-size:11.5px}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 28}" role="img" '
        f'aria-label="The layers of SphereCV"><style>{style}</style>\n' + "\n".join(parts) + "\n</svg>\n"
    )


if __name__ == "__main__":
    OUT.write_text(draw())
