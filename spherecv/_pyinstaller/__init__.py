"""What PyInstaller packs beside the code; found by its entry point, so that a plain build runs."""

from __future__ import annotations

from pathlib import Path


def get_hook_dirs() -> list[str]:
    """Folders of hooks, as PyInstaller asks for them."""
    return [str(Path(__file__).resolve().parent)]
