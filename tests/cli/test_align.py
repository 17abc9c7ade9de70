from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from spherecv.cli.lists import write_list


@pytest.fixture(scope="module")
def photos(lfw_dir: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for path in sorted((lfw_dir / "images").rglob("*.jpg"))[:3]:
        (folder / path.parent.name).mkdir(exist_ok=True)
        shutil.copy(path, folder / path.parent.name / path.name)
    return folder


@pytest.mark.runtime
def test_a_folder_is_aligned_and_goes_on(run, photos: Path, tmp_path: Path) -> None:
    result = run("align", photos, tmp_path / "out", "-j", 1, "--json")
    assert result.exit_code == 0, result.output
    assert {**json.loads(result.stdout), "seconds": 0} == {
        "table": str(tmp_path / "out" / "faces.csv"),
        "images": 3,
        "ok": 3,
        "resumed": 0,
        "processes": 1,
        "seconds": 0,
        "no_face": "skip",
    }
    with (tmp_path / "out" / "faces.csv").open() as stream:
        assert all((tmp_path / "out" / row["crop"]).is_file() for row in csv.DictReader(stream))
    again = run("align", photos, "--out", tmp_path / "out", "-j", 1)
    assert "3 images: 3 ok; 3 of them were done before" in again.stdout


@pytest.mark.runtime
def test_one_image_and_another_recipe(run, photos: Path, tmp_path: Path) -> None:
    import cv2

    image = next(photos.rglob("*.jpg"))
    result = run("align", image, tmp_path / "one", "--recipe", "mobilefacenet", "--format", "png")
    assert result.exit_code == 0, result.output
    assert cv2.imread(str(tmp_path / "one" / f"{image.stem}.png")).shape == (112, 112, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none", "out"), "no such file or folder"),
        ((".",), "say once where the crops go"),
        ((".", "out", "--out", "out"), "say once where the crops go"),
        ((".", "out", "--no-face", "guess"), "skip, center, fail"),
        ((".", "out", "--recipe", "none"), "none"),
    ],
)
def test_failures_are_one_line(run, tmp_path: Path, monkeypatch, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("align", *arguments)
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.runtime
def test_images_without_a_crop_are_named_with_the_reason(run, failure, photos: Path, tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "all"
    shutil.copytree(photos, folder)
    (folder / "broken.jpg").write_bytes(b"nonsense")
    Image.new("RGB", (300, 300), "grey").save(folder / "wall.png")
    some = run("align", folder, tmp_path / "some", "-j", 1)
    assert some.exit_code == 0
    assert "wall.png: no face found" in some.stderr
    assert "broken.jpg is not an image" in some.stderr
    assert "wall.png: no face found" in failure(run("align", folder / "wall.png", tmp_path / "wall", "-j", 1))
    assert "broken.jpg is not an image" in failure(run("align", folder / "broken.jpg", tmp_path / "broken", "-j", 1))
    shutil.rmtree(folder / next(photos.iterdir()).name)
    for one in [path for path in folder.iterdir() if path.is_dir()]:
        shutil.rmtree(one)
    assert "none of the 2 images gave a crop" in failure(run("align", folder, tmp_path / "none", "-j", 1))


def test_the_training_list_command(tmp_path: Path) -> None:
    for name in ("0000045/1.jpg", "0166921/1.jpg"):
        (tmp_path / "crops" / name).parent.mkdir(parents=True)
        (tmp_path / "crops" / name).touch()
    alone = typer.Typer()
    alone.command()(write_list)
    arguments = [str(tmp_path / "crops"), "--out", str(tmp_path / "t.txt"), "--exclude", "casia-lfw"]
    result = CliRunner().invoke(alone, arguments)
    assert "1 image of 1 identity" in result.output
    assert "left out: 0166921; not there: 1056413, 1193098" in result.output
    assert (tmp_path / "t.txt").read_text() == "crops/0000045/1.jpg 0\n"
    assert json.loads(CliRunner().invoke(alone, [*arguments, "--json"]).output)["excluded"] == ["0166921"]
