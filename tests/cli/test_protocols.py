"""The protocols that researchers compare by, from the command line, with the model that is shipped."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

pytestmark = pytest.mark.runtime


def failure(result) -> str:
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.strip().splitlines() if not line.startswith("warning: ")]
    assert line.startswith("error: ")
    return line


def crop(person: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(person)
    pattern = generator.uniform(0, 255, (14, 12, 3))
    noise = 20 * np.random.default_rng(1000 + seed).normal(size=pattern.shape)
    return np.clip(pattern + noise, 0, 255).astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)


@pytest.fixture(scope="module")
def bins(tmp_path_factory) -> list[Path]:
    """Two sets of twenty pairs."""
    folder = tmp_path_factory.mktemp("bins")
    for name, protocol in (("lfw", 2), ("agedb_30", 4)):
        images, same = [], []
        for pair in range(20):
            people = (pair, pair) if pair % 2 else (pair, pair + 100)
            images += [cv2.imencode(".png", crop(person, 2 * pair + i))[1].tobytes() for i, person in enumerate(people)]
            same.append(bool(pair % 2))
        (folder / f"{name}.bin").write_bytes(pickle.dumps((images, same), protocol=protocol))
    return [folder / "lfw.bin", folder / "agedb_30.bin"]


def test_bins_side_by_side(run, bins, tmp_path: Path) -> None:
    text = run("evaluate", "bin", *bins, "--bootstrap", 20, "--folds", 5, "--embeddings", tmp_path)
    assert text.exit_code == 0, text.output
    assert text.stdout.splitlines()[0].split() == ["model", "lfw", "agedb_30"]
    assert "VAL@FAR 0.001" in text.stdout
    result = run(
        "evaluate",
        "bin",
        *bins,
        "--bootstrap",
        20,
        "--folds",
        5,
        "--embeddings",
        tmp_path,
        "--json",
        "--report",
        tmp_path / "report",
        "-m",
        "sphereface-mini",
        "-m",
        "sphereface-mini",
        "--recipe",
        "sphereface-mini",
        "--recipe",
        "sefiks",
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [row["set"] for row in found["results"]] == ["lfw", "agedb_30"] * 2
    assert found["results"][0]["figures"]["accuracy"] > 0.6
    assert [test["set"] for test in found["comparisons"]] == ["lfw", "agedb_30"]
    assert (tmp_path / "report" / "lfw" / "roc.png").stat().st_size > 5000


def test_bins_that_are_refused(run, bins, tmp_path: Path) -> None:
    (tmp_path / "cut.bin").write_bytes(bins[0].read_bytes()[:-100])
    assert "truncated" in failure(run("evaluate", "bin", tmp_path / "cut.bin"))
    (tmp_path / "trap.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert "os.system, which is not looked up" in failure(run("evaluate", "bin", tmp_path / "trap.bin"))
    assert "--flip must be one of" in failure(run("evaluate", "bin", bins[0], "--flip", "up"))
    assert "distance must be one of squared, angle" in failure(
        run("evaluate", "bin", bins[0], "--distance", "none", "--folds", 5)
    )


def test_templates(run, tmp_path: Path) -> None:
    media, pairs, gallery, probes = [], [], [], []
    (tmp_path / "crops").mkdir()
    for person in range(6):
        for side in (0, 1):
            for i in (0, 1):
                name = f"{person}{side}{i}.png"
                cv2.imwrite(str(tmp_path / "crops" / name), crop(person, 4 * person + 2 * side + i))
                media.append(f"{name} {10 * person + side} {4 * person + 2 * side}")
        pairs += [f"{10 * person} {10 * other + 1} {int(person == other)}" for other in range(6)]
        (probes if person == 5 else gallery).append(f"{10 * person},{person}")
        probes.append(f"{10 * person + 1},{person}")
    (tmp_path / "crops" / "500.png").unlink()
    for name, rows in (("media", media), ("pairs", pairs), ("G1", ["T,S", *gallery]), ("probes", ["T,S", *probes])):
        (tmp_path / name).write_text("\n".join(rows) + "\n")
    command = [
        "evaluate",
        "ijb",
        tmp_path / "crops",
        "--media",
        tmp_path / "media",
        "--pairs",
        tmp_path / "pairs",
        "--gallery",
        tmp_path / "G1",
        "--probes",
        tmp_path / "probes",
        "--bootstrap",
        20,
        "--embeddings",
        tmp_path,
    ]
    result = run(*command, "--json", "--report", tmp_path / "report")
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)["results"]
    assert found["verification"]["genuine_pairs"] == 6
    assert found["verification"]["tar_at_far"]["0.1"]["value"] > 0.5
    assert found["searches"][0]["mated_searches"] == 5
    assert list(found["failed_images"]) == ["500.png"]
    assert (tmp_path / "report" / "roc.png").stat().st_size > 5000
    assert "TAR at FAR 0.1" in run(*command).stdout
    two = ["-m", "sphereface-mini", "-m", "sphereface-mini", "--recipe", "sphereface-mini", "--recipe", "sefiks"]
    assert "TAR at FAR 0.1, sphereface-mini less sphereface-mini" in run(*command, *two).stdout
    assert "nothing to measure" in failure(run("evaluate", "ijb", tmp_path / "crops", "--media", tmp_path / "media"))


def test_feature_files_of_megaface(run, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    names = {"probes": [f"P{i // 2}/{i}.png" for i in range(8)], "others": [f"x/{i}.jpg" for i in range(30)]}
    for kind, listed in names.items():
        centres = generator.normal(size=(40, 5))
        for i, name in enumerate(listed):
            file = tmp_path / kind / f"{name}_m.bin"
            file.parent.mkdir(parents=True, exist_ok=True)
            row = centres[i // 2 if kind == "probes" else i] + 0.01 * generator.normal(size=5)
            file.write_bytes(struct.pack("4i5f", 5, 1, 4, 5, *row))
        (tmp_path / f"{kind}.json").write_text(json.dumps({"path": listed}))
    (tmp_path / "others" / "x" / "3.jpg_m.bin").unlink()
    (tmp_path / "noise.txt").write_text("x/4.jpg\n")
    command = [
        "evaluate",
        "megaface-features",
        tmp_path / "probes",
        tmp_path / "others",
        "--probe-list",
        tmp_path / "probes.json",
        "--list",
        tmp_path / "others.json",
        "--suffix",
        "_m.bin",
        "--without",
        tmp_path / "noise.txt",
    ]
    found = json.loads(run(*command, "--json").stdout)
    assert found["rank1"] == {"10": 1.0, "28": 1.0}
    assert list(found["failures"]) == ["x/3.jpg"]
    assert "1 feature files could not be used" in run(*command, "--report", tmp_path / "report").stdout
    assert (tmp_path / "report" / "cmc.png").is_file()


def test_a_submission_and_the_groups_of_rfw(run, tmp_path: Path) -> None:
    for group in ("African", "Asian", "Caucasian", "Indian"):
        (tmp_path / "txts" / group).mkdir(parents=True)
        lines = []
        for person in range(20):
            folder = tmp_path / "data" / group / f"m.{person}"
            folder.mkdir(parents=True)
            for i in (1, 2):
                cv2.imwrite(str(folder / f"m.{person}_{i:04d}.jpg"), crop(person, 2 * person + i))
            lines += [f"m.{person}\t1\t2", f"m.{person}\t1\tm.{(person + 1) % 20}\t2"]
        (tmp_path / "txts" / group / f"{group}_pairs.txt").write_text("\n".join(lines) + "\n")
    result = run(
        "evaluate", "rfw", tmp_path, "--bootstrap", 0, "--embeddings", tmp_path, "--report", tmp_path / "report"
    )
    assert (tmp_path / "report" / "Asian" / "report.html").is_file()
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].split() == ["model", "African", "Asian", "Caucasian", "Indian"]
    assert "largest error over smallest" in result.stdout
    (tmp_path / "list.txt").write_text("m.1/m.1_0001.jpg\nm.2/m.2_0001.jpg\nno.jpg\n")
    command = [
        "evaluate",
        "trillion",
        tmp_path / "data" / "Asian",
        "--list",
        tmp_path / "list.txt",
        "-o",
        tmp_path / "f.bin",
    ]
    found = json.loads(run(*command, "--json", "--embeddings", tmp_path).stdout)
    assert (found["images"], list(found["failures"])) == (3, ["2"])
    assert struct.unpack("4i", (tmp_path / "f.bin").read_bytes()[:16])[0] == 3
    assert "is not RFW's folder" in failure(run("evaluate", "rfw", tmp_path / "data"))


def test_classes_over_folds(run, tmp_path: Path) -> None:
    for person in range(3):
        (tmp_path / "crops" / f"class{person}").mkdir(parents=True)
        for i in range(6):
            file = tmp_path / "crops" / f"class{person}" / f"S{i:02d}_{person}.png"
            cv2.imwrite(str(file), crop(person, 10 * person + i))
    command = [
        "evaluate",
        "classify",
        tmp_path / "crops",
        "--folds",
        2,
        "--iterations",
        30,
        "--batch-size",
        6,
        "--bootstrap",
        20,
    ]
    result = run(*command, "--subject", "S[0-9]+", "--json", "--report", tmp_path / "report")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["classes"] == ["class0", "class1", "class2"]
    assert np.sum(found["confusion"]) == 18
    assert found["mean"] > 0.6
    assert found["groups"] == 6
    assert (tmp_path / "report" / "confusion.png").stat().st_size > 5000
    assert "does not match" in failure(run(*command, "--subject", "T[0-9]+"))
    assert "cannot be cut" in failure(run(*command[:3], "--folds", 40))


def test_nist(run, tmp_path: Path) -> None:
    rows = ["file_x,file_y,same"]
    for person in range(30):
        for i in (0, 1):
            cv2.imwrite(str(tmp_path / f"{person}_{i}.png"), crop(person, 2 * person + i))
        rows += [f"{person}_0.png,{person}_1.png,1"]
        rows += [f"{person}_0.png,{other}_1.png,0" for other in range(person)]
    rows.append("0_0.png,gone.png,1")
    (tmp_path / "pairs.csv").write_text("\n".join(rows) + "\n")
    names = [f"{person}_{i}.png" for person in range(30) for i in (0, 1)]
    table = [f"{name},{'mf'[k // 2 % 2]},{k}" for k, name in enumerate(names)]
    (tmp_path / "table.csv").write_text("\n".join(["file,sex,sharp", *table]) + "\n")
    command = ["evaluate", "nist", tmp_path, "--pairs", tmp_path / "pairs.csv", "--face", "whole", "--bootstrap", 20]
    command += ["--table", tmp_path / "table.csv", "--group-by", "sex", "--quality", "sharp", "--embeddings", tmp_path]
    result = run(*command, "--report", tmp_path / "report", "--json")
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)["results"]
    assert found["failed_images"] == 1
    assert found["failures"] == {"gone.png": "no such file"}
    assert "0.1" in found["fnmr_at_fmr"]
    assert found["groups"][0]["groups"] == ["f", "m"]
    assert [curve["quality"] for curve in found["error_versus_discard"]] == ["Face.quality", "sharp"]
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
        "det.png",
        "discard.png",
        "groups-1-sex.png",
        "report.json",
    ]
    two = ["-m", "sphereface-mini", "-m", "sphereface-mini", "--recipe", "sphereface-mini", "--recipe", "sefiks"]
    text = run(*command, *two).stdout
    assert "McNemar" in text
    assert "failure to acquire: 1 of 61 images" in text
    assert "worst over geometric mean" in text
