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
        for option in ("--max-upload", "--time-limit"):
            assert f"{option} must be " in (refused := failure(run("serve", option, value)))
            assert f", but got {value}" in refused
    (tmp_path / "text.pem").write_text("no certificate")
    assert "not in PEM" in failure(run("serve", "--tls-cert", tmp_path / "text.pem"))
    assert "needs its certificate" in failure(run("serve", "--tls-key", tmp_path / "text.pem"))


def test_what_could_never_be_answered_is_refused_at_start(run, failure, tmp_path) -> None:
    for option, value, asked in (
        ("--max-upload", "1e-06", "at least 0.001024 megabytes"),
        ("--max-pixels", "0.001", "at least 0.009216 megapixels"),
        ("--time-limit", "0.001", "within 0.1..86400 seconds"),
        ("--time-limit", "86401", "within 0.1..86400 seconds"),
    ):
        refused = f"{option} must be {asked}, but got {value}"
        assert refused in failure(run("serve", option, value))
    assert "no face would ever be found" in failure(run("serve", "--min-size", "6000"))
    assert "known rates" in failure(run("serve", "--far", "1e-12"))
    (tmp_path / "text.db").write_text("no gallery " * 100)
    assert "is not a gallery" in failure(run("serve", "--workers", "1", "--gallery", tmp_path / "text.db"))


def test_uploads_larger_than_what_is_held_by_default_are_let_in(run, monkeypatch) -> None:
    """They were answered 429 for ever: try again later."""
    pytest.importorskip("fastapi")
    import spherecv.serve

    served = []
    monkeypatch.setattr(spherecv.serve, "run", lambda service, **_: (served.append(service.settings), service.close()))
    assert run("serve", "--workers", "1", "--max-upload", "300").exit_code == 0
    assert served[0].max_held >= served[0].max_body == 300_000_000


def test_a_gallery_that_cannot_be_changed_is_said_to_be(run, monkeypatch, tmp_path) -> None:
    pytest.importorskip("fastapi")
    import spherecv.serve
    from spherecv.gallery import FaceGallery
    from spherecv.gallery.database import Database

    monkeypatch.setattr(spherecv.serve, "run", lambda service, **_: service.close())
    with FaceGallery.open(tmp_path / "people.db"):
        pass
    words = ("serve", "--workers", "1", "--gallery", tmp_path / "people.db")
    assert "read-only" not in run(*words).output
    monkeypatch.setattr(Database, "_can_log", lambda _: False)  # the tests' user may be root, who may write anywhere
    assert "nobody can be enrolled" in run(*words).stderr
