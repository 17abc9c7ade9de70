"""spherecv gallery and find as a user meets them."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def tree(photos: Path, tmp_path: Path) -> Path:
    """Angelina Jolie by three photos, Mark Zuckerberg by one, and one file that is no photo."""
    for person, names in {"Angelina": ("img1", "img2", "img4"), "Mark": ("img16",)}.items():
        (tmp_path / "tree" / person).mkdir(parents=True)
        for name in names:
            shutil.copy(photos / f"{name}.jpg", tmp_path / "tree" / person)
    (tmp_path / "tree" / "Mark" / "broken.jpg").write_bytes(b"no photo")
    return tmp_path / "tree"


@pytest.mark.runtime
def test_enrol_ask_list_and_forget(run, failure, photos: Path, model, tree: Path, tmp_path: Path) -> None:
    place = tmp_path / "people.db"
    first = run("gallery", "enrol", place, tree, *model)
    assert first.exit_code == 0, first.output
    assert "4 faces of 4 images enrolled, 1 failed" in first.stdout
    assert "broken.jpg" in first.stderr
    again = json.loads(run("gallery", "enrol", place, tree, *model, "--json").stdout)
    assert (again["images"], again["unchanged"], len(again["failures"])) == (0, 5, 1)
    answer = json.loads(
        run("gallery", "identify", place, photos / "couple.jpg", *model, "--threshold", 0.6, "--json").stdout
    )
    assert sorted(str(match["identity"]) for match in answer) == ["Angelina", "None"]
    text = run("gallery", "identify", place, photos / "img17.jpg", *model, "--threshold", 0.6, "--template", "mean")
    assert re.search(r"1  Mark: distance 0\.\d+; then Angelina", text.stdout), text.stdout
    assert "1 face, 1 of them known to the gallery" in text.stdout
    assert [row["identity"] for row in json.loads(run("gallery", "list", place, "--json").stdout)] == [
        "Angelina",
        "Mark",
    ]
    assert "Mark is Zuck now" in run("gallery", "rename", place, "Mark", "Zuck").stdout
    assert "merge the two" in failure(run("gallery", "rename", place, "Zuck", "Angelina"))
    assert json.loads(run("gallery", "remove", place, "Zuck", "--json").stdout) == {
        "faces": 1,
        "images": 2,
        "erased": True,
    }
    stats = json.loads(run("gallery", "stats", place, "--json").stdout)
    assert (stats["identities"], stats["faces"], stats["model"]) == (1, 3, "mobilefacenet")
    for arguments, words in (
        (("identify", place, photos / "img1.jpg"), "files of your own"),
        (("identify", place, photos / "img1.jpg", *model), "spherecv calibrate"),
        (("identify", tmp_path / "none.db", photos / "img1.jpg"), "no such gallery"),
        (("list", photos / "img1.jpg"), "is not a gallery"),
        (("remove", place, "Zuck"), "nobody called 'Zuck'"),
        (("enrol", place, photos / "img2.jpg", "-i", "Angelina", "--new", *model), "already"),
        (("enrol", place, photos / "img2.jpg", photos / "img3.jpg", *model), "--identity"),
        (("enrol", place, photos / "img2.jpg", *model), "--identity"),
        (("fit", place), "three people"),
        (("index", place), "1000"),
        (("cluster", place, "--threshold", 0.5), "unknown people"),
        (("enrol", place, photos / "img2.jpg", "-i", "X", "--metadata", "{", *model), "not JSON"),
        (("import", place, photos / "img1.jpg"), "it is no .npz"),
    ):
        assert words in failure(run("gallery", *arguments)), arguments


@pytest.mark.runtime
def test_cluster_photos_of_strangers(run, failure, model, tree: Path, tmp_path: Path, photos: Path) -> None:
    shutil.copy(photos / "img17.jpg", tree / "Mark")
    result = run(
        "gallery", "cluster", tmp_path / "g.db", tree, *model, "--threshold", 0.5, "--labels-from-folders", "--json"
    )
    found = json.loads(result.stdout)
    assert [len(person) for person in found["people"]] == [3, 2]
    assert (found["precision"], found["recall"], found["f1"]) == (1, 1, 1)
    again = run("gallery", "cluster", tmp_path / "g.db", *model, "--threshold", 0.5).stdout
    assert "2 people; 0 faces alone" in again
    assert "cosine distance of 0.500 (given)" in again
    assert "no cosine distance is known for grouping" in failure(run("gallery", "cluster", tmp_path / "g.db", *model))
    usual = run("gallery", "cluster", tmp_path / "own.db", tree, "--labels-from-folders").stdout
    assert "2 people; 0 faces alone" in usual
    assert "pairs: precision 1.0000" in usual
    assert "cosine distance of 0.475, measured: precision 0.9" in usual


def test_find_indexes_once(
    run, failure, model, tree: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPHERECV_CACHE", str(tmp_path / "cache"))
    first = run("find", photos / "img5.jpg", tree, *model, "--threshold", 0.5)
    assert first.exit_code == 0, first.output
    names = [Path(line.split()[-1]).name for line in first.stdout.splitlines() if line.startswith("  0.")]
    assert sorted(names) == ["img1.jpg", "img2.jpg", "img4.jpg"]
    (tree / "Angelina" / "img1.jpg").unlink()
    shutil.copy(photos / "img6.jpg", tree / "Angelina")
    os.utime(tree / "Angelina" / "img2.jpg")
    second = json.loads(run("find", photos / "img5.jpg", tree, *model, "--threshold", 0.5, "--json").stdout)
    found = [Path(candidate["image"]).name for candidate in second["faces"][0]["candidates"]]
    assert sorted(found) == ["img2.jpg", "img4.jpg", "img6.jpg"]
    assert Path(second["index"]).parent == tmp_path / "cache" / "find"
    assert "spherecv calibrate" in failure(run("find", photos / "img5.jpg", tree, *model))
    assert "no such file or folder" in failure(
        run("find", photos / "img5.jpg", tmp_path / "no", *model, "--threshold", 1)
    )


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds nothing of other tests."""
    monkeypatch.setenv("SPHERECV_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_find_keeps_is_listed_and_forgotten(
    run, failure, model, tree: Path, photos: Path, tmp_path: Path, own_cache: Path
) -> None:
    said = json.loads(run("find", photos / "img5.jpg", tree, *model, "--threshold", 0.5, "--json").stdout)
    (kept,) = json.loads(run("gallery", "caches", "--json").stdout)["indexes"]
    assert (kept["index"], kept["folder"], kept["exists"]) == (said["index"], str(tree), True)
    assert "nothing is kept" in run("find", "--forget", tmp_path / "other").stdout
    assert Path(said["index"]).exists()
    shutil.rmtree(tree)
    assert "(gone)" in run("gallery", "caches").stdout
    assert f"images of {tree}" in run("find", "--forget", tree).stdout
    assert not list((own_cache / "find").glob("*.db*"))
    assert "needs PHOTO and FOLDER" in failure(run("find"))
    tree.mkdir()
    for folder, words in ((tree, "holds no images"), (photos / "img5.jpg", "is one image, and find looks through")):
        assert words in failure(run("find", photos / "img5.jpg", folder, *model, "--threshold", 0.5))
    assert run("gallery", "caches").stdout == "0 indexes kept\n"


def test_all_that_find_keeps_can_be_cleared(run, model, tree: Path, photos: Path, own_cache: Path) -> None:
    run("find", photos / "img5.jpg", tree, *model, "--threshold", 0.5)
    assert "1 index deleted" in run("gallery", "caches", "--clear").stdout
    assert json.loads(run("gallery", "caches", "--json").stdout)["indexes"] == []


def test_a_renamed_folder_is_held_once(run, model, tree: Path, photos: Path, own_cache: Path) -> None:
    asked = (*model, "--threshold", 0.5)
    run("find", photos / "img5.jpg", tree, *asked)
    other = tree.with_name("others")
    other.mkdir()
    shutil.copy(photos / "img8.jpg", other)
    run("find", photos / "img5.jpg", other, *asked)
    assert "forgot" not in run("find", photos / "img5.jpg", tree, *asked).stderr
    renamed = tree.rename(tree.with_name("renamed"))
    assert f"forgot what was kept of {tree}" in run("find", photos / "img5.jpg", renamed, *asked).stderr
    listed = json.loads(run("gallery", "caches", "--json").stdout)["indexes"]
    assert {one["folder"] for one in listed} == {str(renamed), str(other)}


def test_indexes_of_folders_that_are_gone_are_pruned_together(
    run, model, tree: Path, photos: Path, own_cache: Path
) -> None:
    run("find", photos / "img5.jpg", tree, *model, "--threshold", 0.5)
    gone = tree.with_name("gone")
    gone.mkdir()
    shutil.copy(photos / "img8.jpg", gone)
    run("find", photos / "img5.jpg", gone, *model, "--threshold", 0.5)
    shutil.rmtree(gone)
    assert "1 index deleted" in run("gallery", "caches", "--prune").stdout
    (left,) = json.loads(run("gallery", "caches", "--json").stdout)["indexes"]
    assert left["folder"] == str(tree)


def test_find_answers_from_the_list_as_it_is(run, model, tree: Path, photos: Path, tmp_path: Path) -> None:
    listing, command = tmp_path / "list.txt", ("--threshold", 0.5, "--index", tmp_path / "i.db", "--json")
    for names in (("img1", "img2"), ("img2",)):
        listing.write_text("\n".join(str(tree / "Angelina" / f"{name}.jpg") for name in names))
        found = json.loads(run("find", photos / "img5.jpg", listing, *model, *command).stdout)
        assert sorted(Path(c["image"]).stem for c in found["faces"][0]["candidates"]) == list(names)


def test_export_and_import(run, failure, model, tree: Path, tmp_path: Path) -> None:
    run("gallery", "enrol", tmp_path / "a.db", tree, *model)
    assert "wrote 4 faces" in run("gallery", "export", tmp_path / "a.db", "--out", tmp_path / "a.npz").stdout
    assert "4 faces of 4 images" in run("gallery", "import", tmp_path / "b.db", tmp_path / "a.npz").stdout
    assert "already" in failure(run("gallery", "import", tmp_path / "b.db", tmp_path / "a.npz"))
    assert run("gallery", "list", tmp_path / "b.db").stdout.startswith("Angelina: 3 images, 3 faces")


def test_help_teaches_every_command(run) -> None:
    listing = run("gallery", "--help").stdout
    for command in (
        "enrol",
        "identify",
        "list",
        "remove",
        "rename",
        "cluster",
        "fit",
        "index",
        "export",
        "import",
        "stats",
    ):
        assert command in listing
        assert run("gallery", command, "--help").exit_code == 0
    assert run("find", "--help").exit_code == 0
