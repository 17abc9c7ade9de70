"""examples/service_client.py against a service."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture
def example(client, monkeypatch):
    path = Path(__file__).resolve().parents[2] / "examples" / "service_client.py"
    spec = importlib.util.spec_from_file_location("service_client", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ADDRESS", str(client.base_url).rstrip("/"))
    monkeypatch.setenv("NO_PROXY", "*")
    return module


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
