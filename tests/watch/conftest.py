"""The fixtures of `tests/video`, which these tests share."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_path = Path(__file__).resolve().parent.parent / "video" / "conftest.py"
_spec = importlib.util.spec_from_file_location("watch_fixtures", _path)
_video = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_video)

people, pipeline, scenes, source, told, verifier = (
    getattr(_video, name) for name in ("people", "pipeline", "scenes", "source", "told", "verifier")
)
