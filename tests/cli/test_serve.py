"""spherecv serve as a user meets it: keys, and what is refused before anything is opened."""

from __future__ import annotations

import pytest

from spherecv.serve.keys import VARIABLE, ApiKeys


@pytest.fixture(autouse=True)
def no_keys(monkeypatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def test_a_new_key_opens_what_its_hash_is_given_to(run, tmp_path, monkeypatch) -> None:
    path = tmp_path / "keys.txt"
    made = run("serve", "--new-key", "laptop", "--keys", path)
    assert made.exit_code == 0, made.output
    key = made.stdout.strip()
    assert ApiKeys.load(path).owner(key) == "laptop"
    assert key not in path.read_text()
    made = run("serve", "--new-key", "ci")
    monkeypatch.setenv(VARIABLE, made.stderr.partition(f"{VARIABLE}=")[2].strip().strip("'"))
    assert ApiKeys.load().owner(made.stdout.strip()) == "ci"


def test_what_is_refused(run, failure, tmp_path, monkeypatch) -> None:
    for host in ("0.0.0.0", "::", "faces.example"):
        assert "--new-key" in failure(run("serve", "--host", host))
    assert "cannot be read" in failure(run("serve", "--keys", tmp_path / "none"))
    monkeypatch.setenv(VARIABLE, "plain-key")
    refused = failure(run("serve"))
    assert VARIABLE in refused
    assert "plain-key" not in refused
    monkeypatch.delenv(VARIABLE)
    assert "--max-pixels must be above 0" in failure(run("serve", "--max-pixels", "0"))
    for value in ("nan", "inf", "-1"):
        assert "max_upload must be above 0" in failure(run("serve", "--max-upload", value))
    (tmp_path / "text.pem").write_text("no certificate")
    assert "not in PEM" in failure(run("serve", "--tls-cert", tmp_path / "text.pem"))
    assert "needs its certificate" in failure(run("serve", "--tls-key", tmp_path / "text.pem"))
