"""examples/service_client.py against a service."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from spherecv.serve.keys import ApiKeys, new_key


@pytest.fixture
def example(client, monkeypatch):
    path = Path(__file__).resolve().parents[2] / "examples" / "service_client.py"
    spec = importlib.util.spec_from_file_location("service_client", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ADDRESS", str(client.base_url).rstrip("/"))
    monkeypatch.setenv("NO_PROXY", "*")
    return module


def test_without_a_key_the_services_own_sentence_is_shown(staged, tools, tmp_path) -> None:
    (tmp_path / "red.png").write_bytes(tools.red)
    key, line = new_key("laptop")
    name, _, digest = line.partition(" sha256:")
    script = Path(__file__).resolve().parents[2] / "examples" / "service_client.py"
    page = (script.parents[1] / "docs" / "service.md").read_text(encoding="utf-8")
    python = re.search(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1]
    curl = re.search(r"^curl .*/v1/verify$", page, re.MULTILINE)[0]
    python = python.replace(', "far": 0.001', "")  # nobody measured a rate of colours
    for photo in ("a.jpg", "b.jpg"):
        (tmp_path / photo).write_bytes(tools.red)
    with tools.serving(staged.make(), ApiKeys({name: digest})) as client:
        address = str(client.base_url).rstrip("/")
        python, curl = (text.replace("http://127.0.0.1:8000", address) for text in (python, curl))
        calls = {
            "example": [sys.executable, str(script), "verify", "red.png", "red.png"],
            "python": [sys.executable, "-c", python],
            "python, key": [sys.executable, "-c", python.replace("scv_...", key)],
            "curl, key": ["bash", "-c", f"KEY='Authorization: Bearer {key}'; {curl}"],
            "curl, no file": ["bash", "-c", f"KEY=; {curl.replace('@a.jpg', '@typo.jpg')}"],
        }
        said = {}
        for what, words in calls.items():
            env = {**os.environ, "SPHERECV_SERVICE": address, "NO_PROXY": "*"}
            done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
            said[what] = done.stdout + done.stderr
    assert said["example"] == "error: send a key: Authorization: Bearer KEY, or X-API-Key: KEY\n"
    assert said["python"] == "this key is not known: Authorization: Bearer KEY, or X-API-Key: KEY\n"
    assert said["python, key"] == "True\n"
    assert '"verified":true' in said["curl, key"]
    assert "typo.jpg" in said["curl, no file"] or "(26)" in said["curl, no file"]


def test_verify_enrol_identify_forget(example, tools, tmp_path, capsys) -> None:
    paths = {name: tmp_path / f"{name}.png" for name in ("red", "reddish", "blue")}
    for name, path in paths.items():
        path.write_bytes(getattr(tools, name))
    red, reddish, blue = map(str, paths.values())
    example.main(["verify", red, reddish])
    example.main(["verify", red, blue])
    example.main(["enrol", "Ann/Lee", red, reddish])
    example.main(["identify", reddish])
    example.main(["forget", "Ann/Lee"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[:2]] == ["same person", "different people"]
    assert lines[2] == "Ann/Lee: 2 new faces"
    assert lines[3] == "Ann/Lee (nearest distance 0.0000)"
    with pytest.raises(example.Refused, match="holds nobody called"):
        example.main(["forget", "Ann/Lee"])
