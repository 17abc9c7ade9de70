from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import pytest

from spherecv.zoo import model_info, model_names


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPHERECV_CACHE", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.fixture
def run(run):
    return partial(run, "models")


def test_list_shows_every_model_with_its_licence_and_terms(run) -> None:
    answer = run("list")
    assert answer.exit_code == 0
    for name in model_names():
        info = model_info(name)
        (row,) = [line for line in answer.stdout.splitlines() if line.startswith(name) and info.kind in line]
        assert info.licence in row
        assert info.terms in answer.stdout


def test_list_wraps_terms_on_a_narrow_terminal_and_cuts_nothing(run, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    words = run("list").stdout.split()
    for name in model_names():
        for word in model_info(name).terms.split():
            assert word in words


def test_list_as_json(run) -> None:
    entries = json.loads(run("list", "--json").stdout)
    assert [entry["name"] for entry in entries] == model_names()
    assert {entry["state"] for entry in entries} <= {"ready", "not downloaded", "incomplete", "broken", "not installed"}
    assert [entry["name"] for entry in json.loads(run("list", "--kind", "detector", "--json").stdout)] == model_names(
        "detector"
    )


def test_info_tells_thresholds_with_where_they_come_from(run, cache) -> None:
    text = run("info", "sphereface-20", "--all").stdout
    assert "NOT reproduced: https://sefiks.com" in text
    assert "17.2122" in text
    assert str(cache / "models" / "sphereface-20" / "sphereface_model.caffemodel") in text
    assert "0B_geeR2lTMegb2F6dmlmOXhWaVk" in text
    assert model_info("sphereface-20").terms in text
    entry = json.loads(run("info", "sphereface-20", "--json").stdout)
    assert entry["recipe"]["fingerprint"] == "0b154b1b95bb"
    assert entry["files"][1]["path"].startswith(str(cache))
    assert [row["reproduced"] for row in entry["thresholds"]] == [False, False]


@pytest.mark.parametrize("name", model_names())
def test_info_fits_a_screen_and_says_what_it_leaves_out(run, name: str) -> None:
    text = run("info", name).stdout
    assert text.count("\n") <= 24
    assert text.endswith(f"\n`spherecv models info {name} --all` shows everything that is known of it.\n")
    info = model_info(name)
    assert {info.terms, info.licence} <= {part.partition(" ")[2].strip() for part in text.split("\n  ")}
    for row in info.thresholds:
        assert f"{row.metric} {row.threshold:.6g}" in text
        assert f"for {row.chosen_for}" in text
        assert row.source in text
    everything = run("info", name, "--all").stdout
    assert all(digest in everything for file in info.files for _, digest in file.digests)


@pytest.mark.parametrize("name", model_names())
def test_info_and_path_of_every_model(run, name: str) -> None:
    assert run("info", name).exit_code == 0
    assert json.loads(run("info", name, "--json").stdout)["name"] == name
    paths = json.loads(run("path", name, "--json").stdout)["paths"]
    assert set(paths) == {file.role for file in model_info(name).files}
    assert run("path", name).stdout.split() == list(paths.values())


def test_path_fails_where_a_file_is_missing_and_still_says_where_it_belongs(run, cache, monkeypatch) -> None:
    monkeypatch.setenv("SPHERECV_OFFLINE", "1")
    offline = "SPHERECV_OFFLINE forbids to download it: unset that and run `spherecv models download yunet`"
    assert f"is not there: {offline}" in run("path", "yunet").stderr
    monkeypatch.delenv("SPHERECV_OFFLINE")  # nothing is downloaded here
    answer = run("path", "yunet")
    goal = cache / "models" / "yunet" / "face_detection_yunet_2023mar.onnx"
    assert (answer.exit_code, answer.stdout.strip()) == (2, str(goal))
    assert f"{goal} is not there: `spherecv models download yunet` fetches it" in answer.stderr
    assert run("path", "mtcnn").exit_code == 0


@pytest.mark.parametrize("words", [("info", "x"), ("path", "x"), ("download", "x"), ("download", "yunet", "x")])
def test_unknown_names_are_one_line_and_exit_code_2(run, words) -> None:
    answer = run(*words)
    assert answer.exit_code == 2
    assert answer.stdout == ""
    assert answer.stderr.startswith("error: no model is called 'x': choose sphereface-mini")
    assert answer.stderr.count("\n") == 1


def test_unknown_kind_is_an_error(run) -> None:
    assert run("list", "--kind", "x").exit_code == 2


def test_download_is_refused_offline(run) -> None:
    assert os.environ["SPHERECV_OFFLINE"] == "1"
    answer = run("download", "yunet")
    assert answer.exit_code == 2
    assert "SPHERECV_OFFLINE forbids" in answer.stderr
    assert "MIT" in answer.stdout


def test_download_of_what_is_there_says_where(run) -> None:
    answer = run("download", "mtcnn")
    assert answer.exit_code == 0
    assert answer.stdout.count(".lz4") == 3


def test_the_card_is_shown_if_there_is_one(run, monkeypatch, tmp_path) -> None:
    info = model_info("yunet")
    (tmp_path / "card.md").write_text("# What it is for")
    object.__setattr__(info, "card", "card.md")
    monkeypatch.setattr("spherecv.zoo.models_dir", lambda: tmp_path)
    try:
        assert "# What it is for" in run("info", "yunet", "--all").stdout
        assert "# What it is for" not in run("info", "yunet").stdout
    finally:
        object.__setattr__(info, "card", "")
