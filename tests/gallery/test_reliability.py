"""Short forms of the scripts in benchmarks/reliability: damaged files of every kind, and traffic at one gallery."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "reliability"


def run(name: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, SCRIPTS / name, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_nothing_damaged_is_served_in_silence_and_everybody_can_be_forgotten() -> None:
    pytest.importorskip("faiss")
    pytest.importorskip("cryptography")
    pytest.importorskip("pyarrow")
    said = run("mutations.py", "--count", "57", "--seed", "3")
    assert "0 answers changed in silence, 0 raw exceptions, 0 hangs, every removal succeeded" in said


def test_writers_and_readers_at_one_gallery_are_never_refused() -> None:
    assert "nobody refused, nobody missing" in run("traffic.py", "--seconds", "2")
