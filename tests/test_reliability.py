"""Short forms of what benchmarks/reliability measures at length."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "benchmarks" / "reliability"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("kind", ["plain", "sealed", "files"])
def test_kills_lose_nothing(kind: str) -> None:
    command = [sys.executable, str(SCRIPTS / "kills.py"), "--kills", "12", "--seed", "3", "--only", kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 kills" in done.stdout
    assert "0 lost, 0 corrupt, 0 leftover, 0 raw" in done.stdout


def test_a_full_disk_loses_nothing() -> None:
    """Every kind of file, on a file system of some megabytes (or, where none may be mounted, of a limited size)."""
    command = [sys.executable, str(SCRIPTS / "disk_full.py"), "--short"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 lost, 0 unnamed, 0 leftover, 0 raw, 0 untried" in done.stdout


@pytest.mark.runtime
def test_half_a_minute_of_faults_loses_nothing() -> None:
    """Broken and slow uploads, kills of the service and of another writer, a full disk."""
    pytest.importorskip("fastapi")
    pytest.importorskip("matplotlib")
    pytest.importorskip("skimage")
    command = [sys.executable, str(SCRIPTS / "soak.py"), "--minutes", "0.5", "--seed", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 faults" in done.stdout
    for what in ("enrol 201", "kills of the service", "kills of the neighbour", "slow clients", "broken 422"):
        assert f'"{what}"' in done.stdout


def test_every_module_that_writes_is_tried_on_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))

    import disk_full

    import spherecv

    package = Path(spherecv.__file__).parent
    tried = {module for kind in disk_full.KINDS.values() for module in kind.modules}
    by_itself = re.compile(r"^from spherecv\.files import .*\b(open_whole|append_bytes|Part)\b", re.MULTILINE)
    writers = {path for path in package.rglob("*.py") if by_itself.search(path.read_text("utf-8"))}
    assert len(writers) > 12
    assert {path.relative_to(package).as_posix() for path in writers} - tried == set()


def test_a_loss_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The check of the kills fails where something is lost."""
    monkeypatch.syspath_prepend(str(SCRIPTS))

    import kills

    def forgetful(*_: object) -> list[object]:
        return [["begin", ["add", "person-a", ["a.jpg"]]], ["done", ["add", "person-a", ["a.jpg"]]]]

    monkeypatch.setattr(kills, "killed", forgetful)
    monkeypatch.setattr(kills, "in_child", lambda work: work())
    found = dict(kills.kill_gallery(tmp_path, 1, random.Random(0), None))
    assert "person-a" in found["lost"]
