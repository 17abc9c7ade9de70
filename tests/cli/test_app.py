"""The command line as a user meets it: answers, exit codes, one line for every failure."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import typer
from PIL import Image

from spherecv.cli import app, options
from spherecv.detect.detector import KINDS
from spherecv.detect.mtcnn import PRESETS
from spherecv.errors import StorageError
from spherecv.pipeline import WhichFace


def broken_images(folder: Path, photo: Path) -> dict[str, Path]:
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    huge = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    huge += struct.pack(">I", 9) + b"IDAT"
    contents = {"text.jpg": b"not a picture", "empty.jpg": b"", "huge.png": huge, "cut.jpg": photo.read_bytes()[:9000]}
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    Image.new("RGB", (300, 300), "grey").save(folder / "wall.png")
    (folder / "folder.jpg").mkdir()
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.runtime
def test_verify_answers_by_text_json_picture_and_exit_code(run, photos: Path, model, tmp_path: Path) -> None:
    plot = tmp_path / "answer.png"
    same = run("verify", photos / "img1.jpg", photos / "img2.jpg", *model, "--threshold", 0.7, "--plot", plot)
    assert same.exit_code == 0, same.output
    assert same.stdout.startswith("Same person:")
    with Image.open(plot) as drawn:
        assert drawn.width == 1120
    other = run("verify", photos / "img1.jpg", photos / "img3.jpg", *model, "--threshold", 0.7, "--json")
    answer = json.loads(other.stdout)
    assert other.exit_code == (0 if answer["verified"] else 1)
    assert run("verify", photos / "img1.jpg", photos / "img16.jpg", *model, "--threshold", 0.5).exit_code == 1


@pytest.mark.runtime
def test_verify_compares_all_faces(run, photos: Path, model) -> None:
    result = run(
        "verify", photos / "couple.jpg", photos / "img1.jpg", *model, "--threshold", 0.7, "--face", "all", "--json"
    )
    answer = json.loads(result.stdout)
    assert np.array(answer["distances"]).shape == (
        len(answer["facial_areas"]["img1"]),
        len(answer["facial_areas"]["img2"]),
    )
    assert len(answer["facial_areas"]["img1"]) >= 2


def test_verify_without_a_threshold_says_how_to_get_one(run, failure, photos: Path, model) -> None:
    assert "spherecv calibrate" in failure(run("verify", photos / "img1.jpg", photos / "img2.jpg", *model))


def test_every_bad_image_is_one_line_and_exit_code_2(run, failure, photos: Path, model, tmp_path: Path) -> None:
    images = broken_images(tmp_path, photos / "img1.jpg") | {"missing.jpg": tmp_path / "missing.jpg"}
    for name, text in {
        "missing.jpg": "no such file",
        "folder.jpg": "holds no images",
        "text.jpg": "not an image",
        "empty.jpg": "empty",
        "huge.png": "larger than the limit",
        "cut.jpg": "broken image",
        "dot.png": "no face",
        "wall.png": "no face",
    }.items():
        line = failure(run("verify", images[name], photos / "img2.jpg", *model, "--threshold", 0.7))
        assert text in line, (name, line)
        assert name in line, (name, line)


def test_every_bad_model_is_one_line_and_exit_code_2(
    run, failure, photos: Path, data_dir: Path, mobilefacenet: tuple[Path, Path], tmp_path: Path
) -> None:
    prototxt, caffemodel = mobilefacenet
    typo = tmp_path / "typo.prototxt"
    typo.write_text('name: "net"\nlayer {\n  name: "a" type: }\n')
    cut = tmp_path / "cut.caffemodel"
    cut.write_bytes(caffemodel.read_bytes()[:100_000])
    liar = tmp_path / "liar.caffemodel"
    liar.write_bytes(b"\xa2\x06\xff\xff\xff\xff\x0f" + b"\x00" * 3)
    for files, text in {
        (typo, caffemodel): "typo.prototxt:3:19",
        (prototxt, cut): "cut.caffemodel",
        (prototxt, liar): "liar.caffemodel",
        (prototxt, data_dir / "mtcnn-caffe" / "det1.caffemodel"): "det1.caffemodel",
        (prototxt, tmp_path / "missing"): "missing",
    }.items():
        settings = ("--prototxt", files[0], "--caffemodel", files[1], "--recipe", "mobilefacenet", "--threshold", 1)
        line = failure(run("verify", photos / "img1.jpg", photos / "img2.jpg", *settings))
        assert text in line, line


def test_wrong_settings_are_one_line_and_exit_code_2(run, failure, photos: Path, model) -> None:
    pair = (photos / "img1.jpg", photos / "img2.jpg", *model, "--threshold", "0.7")
    for option, value, text in (
        ("--metric", "manhattan", "cosine, euclidean"),
        ("--detector", "haar", "mtcnn"),
        ("--face", "nearest", "largest"),
        ("--backend", "caffe", "opencv"),
        ("--device", "tpu", "cpu"),
        ("--plot", "/nowhere/at/all.xyz", "suffix"),
    ):
        assert text in failure(run("verify", *pair, option, value)), option
    assert "not both" in failure(run("verify", *pair, "--model", "sphereface-20"))
    assert "give both" in failure(run("verify", *pair[:4], "--recipe", "mobilefacenet"))


@pytest.mark.runtime
def test_detect_goes_on_after_a_bad_image_and_draws(run, failure, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    broken_images(folder, photos / "img1.jpg")
    (folder / "sub").mkdir()
    (folder / "sub" / "ü.jpg").write_bytes((photos / "img2.jpg").read_bytes())
    result = run("detect", folder, "--json", "--draw", tmp_path / "drawn")
    assert result.exit_code == 0, result.output
    rows = {Path(row["image"]).name: row for row in map(json.loads, result.stdout.splitlines())}
    assert len(rows["ü.jpg"]["faces"]) == 1
    assert rows["wall.png"]["faces"] == []
    assert rows["cut.jpg"]["kind"] == "ImageError"
    assert (tmp_path / "drawn" / "sub" / "ü.png").is_file()
    assert "no such file" in failure(run("detect", tmp_path / "missing.jpg"))


@pytest.mark.runtime
def test_embed_writes_one_file_without_pickle(run, failure, photos: Path, model, tmp_path: Path) -> None:
    listing = tmp_path / "list.txt"
    listing.write_text(f"{photos / 'img1.jpg'} 0\n{tmp_path / 'missing.jpg'} 1\n{photos / 'img2.jpg'} 0\n")
    result = run("embed", listing, "--out", tmp_path / "out.npz", *model, "--json")
    assert result.exit_code == 0, result.output
    with np.load(tmp_path / "out.npz", allow_pickle=False) as saved:
        assert saved["embeddings"].shape == (2, 128)
        assert saved["embeddings"].dtype == np.float32
        assert [Path(path).name for path in saved["paths"]] == ["img1.jpg", "img2.jpg"]
        np.testing.assert_allclose(np.linalg.norm(saved["embeddings"], axis=1), 1, rtol=1e-5)
    failure(run("embed", tmp_path / "missing.jpg", "--out", tmp_path / "none.npz", *model))
    assert not (tmp_path / "none.npz").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["list.txt", "out.npz"]


@pytest.mark.runtime
def test_convert_writes_onnx_and_prints_the_net(run, failure, data_dir: Path, tmp_path: Path) -> None:
    import onnx
    det1 = data_dir / "mtcnn-caffe" / "det1"
    goal = tmp_path / "det1.onnx"
    result = run("convert", det1.with_suffix(".prototxt"), det1.with_suffix(".caffemodel"), "-o", goal, "--summary")
    assert result.exit_code == 0, result.output
    assert "conv4-2" in result.stdout
    onnx.checker.check_model(onnx.load(goal))
    assert "--out" in failure(run("convert", det1.with_suffix(".prototxt"), det1.with_suffix(".caffemodel")))


def test_doctor_tells_what_there_is(run) -> None:
    result = run("doctor", "--json")
    found = {finding["about"]: finding for finding in json.loads(result.stdout)}
    assert {"OpenCV", "backend opencv", "device cpu", "model mtcnn", "cache"} <= set(found)
    assert found["backend opencv"]["state"] == "ok"


@pytest.mark.runtime
def test_demo_verifies_with_the_model_that_travels_along(run, tmp_path: Path) -> None:
    result = run("demo", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.iterdir()} >= {"grace-hopper.png", "eileen-collins.png"}
    assert {path.name for path in tmp_path.iterdir()} >= {"same.png", "different.png"}
    assert result.stdout.count("1 face, score") == 3
    assert re.search(r"altered copy, an easy pair +0\.0\d+  same person", result.stdout)
    assert re.search(r"Hopper and Eileen Collins +0\.7\d+  different people", result.stdout)
    assert "False accepts: 1.4 %, about 1 in 73 pairs" in result.stdout
    assert "Licence of sphereface-mini: research only" in result.stdout
    assert len(result.stdout.splitlines()) <= 20


def test_help_teaches_every_command(run) -> None:
    listing = run("--help").stdout
    for command in ("verify", "detect", "embed", "convert", "models", "doctor", "demo"):
        assert command in listing
        assert run(command, "--help").exit_code == 0
    assert "Exit code" in run("verify", "--help").stdout


def test_a_fault_of_ours_is_not_the_answer_different(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPHERECV_DEBUG", raising=False)
    monkeypatch.setattr("spherecv.images.survey_images", lambda source: 1 / 0)
    result = run("detect", "x.jpg")
    assert result.exit_code == 2
    assert "internal error: division by zero" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and /dev/full of POSIX")
def test_a_reader_that_went_away_is_not_the_answer_different() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "spherecv", "models", "path", "mtcnn"]
    try:
        answer = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writer)
    assert (answer.returncode, answer.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_no_fault_of_ours() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "spherecv", "models", "list"]
        answer = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert answer.returncode == 2
    assert answer.stderr.splitlines() == ["error: the answer cannot be written: No space left on device"]


def test_importing_spherecv_loads_nothing_heavy() -> None:
    code = "import spherecv, sys; print([m for m in ('cv2', 'numpy', 'scipy', 'onnx', 'rich') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_a_threshold_and_a_rate_are_never_both_taken(run, failure, tmp_path: Path) -> None:
    both = ("--far", "0.001", "--threshold", "0.5")
    assert "not both" in failure(run("verify", "a.jpg", "b.jpg", *both))
    assert "not both" in failure(run("find", "a.jpg", tmp_path, "--index", tmp_path / "i.db", *both))
    for rate in ("nan", "0", "2"):
        assert "far must be a number within 0..1, both exclusive" in failure(run("verify", "a", "b", "--far", rate))


def test_a_picture_that_cannot_be_saved_stops_before_the_work(run, failure, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("spherecv.verify.FaceVerifier", lambda *_, **__: 1 / 0)
    (tmp_path / "file").touch()
    assert "suffix" in failure(run("verify", "a.jpg", "b.jpg", "--plot", tmp_path / "x.txt"))
    assert "no folder" in failure(run("verify", "a.jpg", "b.jpg", "--plot", tmp_path / "file" / "x.png"))


def test_the_answer_comes_before_its_picture(run, failure, photos: Path, tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr("spherecv.drawing.save_picture", full)
    result = run("verify", photos / "img1.jpg", photos / "img1.jpg", "--plot", tmp_path / "x.png", "--face", "whole")
    assert "the disk is full" in failure(result)
    assert result.stdout.startswith("Same person:")
    assert "above 0.999 that it is one person" in result.stdout
    assert "no detector" in result.stdout
    assert "not on whole images as crops" in result.stderr


def test_options_of_shards_do_not_go_with_one_file(run, failure, tmp_path: Path) -> None:
    assert "--engine" in failure(run("embed", tmp_path, "--out", tmp_path / "x.npz", "--engine", "ray"))


def test_a_broken_onnx_is_named(run, failure, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"junk")
    settings = ("--model", tmp_path / "bad.onnx", "--recipe", "sphereface")
    assert "bad.onnx" in failure(run("verify", "a.jpg", "b.jpg", *settings))


@pytest.mark.runtime
def test_detect_says_what_it_drew(run, photos: Path, tmp_path: Path) -> None:
    result = run("detect", photos / "img1.jpg", "--draw", tmp_path / "found.png")
    assert f"wrote {tmp_path / 'found.png'}" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_a_reader_that_went_away_from_a_table_is_told_as_from_any_answer() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "spherecv", "models", "list"]
    try:
        answer = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writer)
    assert (answer.returncode, answer.stderr) == (141, "")


def test_demo_draws_the_steps_on_images_of_the_users(run, failure, photos: Path, tmp_path: Path) -> None:
    result = run("demo", photos / "img1.jpg", photos / "img2.jpg", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.iterdir()} == {"img1.png", "img2.png", "answer.png"}
    assert "img1 and img2" in result.stdout
    assert "same person" in result.stdout.lower()
    assert "two images" in failure(run("demo", photos / "img1.jpg"))
    Image.new("RGB", (300, 300), "grey").save(tmp_path / "wall.png")
    assert "no face found in wall (300x300)" in failure(run("demo", tmp_path / "wall.png", photos / "img1.jpg"))
    same_name = tmp_path / "img1.jpg"
    same_name.write_bytes((photos / "img2.jpg").read_bytes())
    result = run("demo", photos / "img1.jpg", same_name, "--out", tmp_path)
    assert {"img1-1.png", "img1-2.png"} <= {path.name for path in tmp_path.iterdir()}


def test_help_names_what_is_installed_and_the_line_for_the_rest(run, monkeypatch: pytest.MonkeyPatch) -> None:
    words = run("--help").stdout
    assert "Not installed" not in words
    assert "Start with `spherecv verify" in " ".join(words.split())
    monkeypatch.setattr("spherecv.cli.app.find_spec", lambda name: None)
    usable, _, rest = run("--help").stdout.partition("Not installed")
    assert "verify" in usable
    assert not {"serve", "train"} & {line.split()[0] for line in usable.splitlines() if line.startswith("  ")}
    assert "pip install 'spherecv[server]'" in rest
    assert "pip install 'spherecv[train]'" in rest


def test_help_says_of_every_command_what_the_command_says_of_itself(run) -> None:
    """The list is a table, so that it needs no command's module."""
    root = typer.main.get_command(app.app)
    assert list(root.commands) == list(app.COMMANDS)
    said = {name: command.get_short_help_str(90) for name, command in root.commands.items()}
    assert said == {name: words for name, (_, words) in app.COMMANDS.items()}
    for name in app.COMMANDS:
        assert run(name, "--help").exit_code == 0, name
    assert "no such command 'verfy'" in run("verfy").stderr


def test_verify_imports_no_other_command_and_nothing_that_it_does_not_need(photos: Path) -> None:
    code = f"""
import sys
from spherecv.cli import main
sys.argv = ["spherecv", "verify", {str(photos / "img1.jpg")!r}, {str(photos / "img2.jpg")!r}]
try:
    main()
except SystemExit as end:
    print(end.code)
commands = sorted(name for name in sys.modules if name.startswith("spherecv.cli."))
heavy = "email joblib onnx openvino pydantic rich scipy spherecv.caffe.net spherecv.video.sets"
print(commands, [name for name in heavy.split() if name in sys.modules])
"""
    lines = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[-2:] == ["0", "['spherecv.cli.app', 'spherecv.cli.options', 'spherecv.cli.verify'] []"]


def test_values_are_checked_by_typer_and_what_is_not_given_is_as_declared(run, photos: Path) -> None:
    pair = (photos / "img1.jpg", photos / "img2.jpg")
    wrong = run("verify", *pair, "--threshold", "wide")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "--threshold" in wrong.stderr
    assert "B is missing" in run("verify", pair[0]).stderr
    answer = json.loads(run("verify", *pair, "--threshold", "0.7", "--json").stdout)
    assert answer["threshold"] == 0.7


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("verify a b --far abc", "--far must be a number, but got 'abc'; see spherecv verify --help"),
        ("verify a b --far 1%", "--far must be a number, but got '1%'; see spherecv verify --help"),
        ("verify", "A is missing; see spherecv verify --help"),
        ("calibrate pairs.csv", "--out is missing; see spherecv calibrate --help"),
        ("verify a b --fra 1", "no such option: --fra (did you mean --face or --far?); see spherecv verify --help"),
        ("verify a b --far", "option '--far' requires an argument"),
        ("verify a b c", "got unexpected extra argument (c); see spherecv verify --help"),
        ("gallery nix", "no such command 'nix'; see spherecv gallery --help"),
        ("calibrate p --out o --far 0.1 --far x", "--far must be a number, but got '0.1', 'x'; see spherecv calibrate"),
        ("serve --port x", "--port must be a whole number, but got 'x'; see spherecv serve --help"),
        ("--nix", "no such option: --nix"),
    ],
)
def test_wrong_usage_is_one_line_that_names_the_value(run, words: str, line: str) -> None:
    result = run(*words.split())
    assert (result.exit_code, result.stdout) == (2, "")
    (said,) = result.stderr.splitlines()
    assert said.startswith(f"error: {line}")
    assert run("serve", "--port", "70000").stderr.count("\n") == 1
    assert "Usage: spherecv gallery" in run("gallery").output


@pytest.mark.runtime
def test_a_folder_of_several_people_is_warned_of(run, photos: Path, tmp_path: Path) -> None:
    for number in (1, 2, 4, 16):
        (tmp_path / f"img{number}.jpg").write_bytes((photos / f"img{number}.jpg").read_bytes())
    result = run("verify", tmp_path, photos / "img5.jpg")
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert "1 of the 4 faces is unlike the others (img16.jpg): is this one person?" in line
    assert "is this one person?" not in result.stdout
    (note,) = json.loads(run("verify", tmp_path, photos / "img5.jpg", "--json").stdout)["notes"]
    assert "is this one person?" in note


def test_help_shows_examples_that_can_be_copied(run) -> None:
    said = run("verify", "--help").stdout
    assert "Usage: spherecv verify [OPTIONS] A B\n" in said
    long = [line.strip() for line in said.splitlines() if "--prototxt deploy.prototxt" in line]
    assert [line.endswith("--recipe sphereface --threshold 0.6") for line in long] == [True]
    forget = run("gallery", "remove", "--help").stdout
    assert "Usage: spherecv gallery remove [OPTIONS] GALLERY [IDENTITY]\n" in forget
    assert "spherecv gallery remove people.db Ann\n" in forget
    assert "[OPTIONS] GALLERY SRC...\n" in run("gallery", "enrol", "--help").stdout


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("verify -m sphereface-m", {"sphereface-mini"}),
        ("verify --detector y", {"yunet"}),
        ("verify --backend o", {"opencv", "onnxruntime", "openvino"}),
        ("align --preset ", {"fast", "sphereface"}),
        ("gallery identify --face ", {"largest", "center", "only", "whole", "all"}),
        ("gallery identify --template ", {"best", "mean"}),
        ("watch --template ", {"best", "mean"}),
        ("gallery index --kind ", {"hnsw", "ivf"}),
        ("align --face ", {"center", "largest"}),
        ("align --no-face ", {"skip", "center", "fail"}),
        ("align --format ", {"jpg", "png"}),
        ("evaluate pairs --face ", {"center", "largest", "whole"}),
        ("calibrate --no-face ", {"skip", "center", "fail"}),
        ("models list --kind ", {"embedder", "detector"}),
    ],
)
def test_the_shell_completes_values(typed: str, offered: set[str]) -> None:
    words = f"spherecv {typed}"
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1), "_SPHERECV_COMPLETE": "complete_bash"}
    code = "import sys; sys.argv = ['spherecv']; from spherecv.cli.app import app; app(prog_name='spherecv')"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True)
    assert set(done.stdout.split()) == offered, done.stderr


def test_values_that_are_written_out_for_the_shell_are_all_there_are() -> None:
    assert set(options.DETECTORS()) == set(KINDS)
    assert set(options.PRESETS()) == set(PRESETS)
    assert {*options.FACES, "all"} == set(get_args(WhichFace))


@pytest.mark.parametrize(
    ("how", "said"),
    [("nullcontext", "interrupted"), ("resumable", "interrupted: what is done is kept, and the same command goes on")],
)
def test_sigterm_ends_a_command_as_ctrl_c_does(how: str, said: str) -> None:
    code = """
import os, signal, sys, types
from contextlib import nullcontext
from spherecv.cli.counting import resumable
from spherecv.cli import app
def end():
    try:
        with HOW():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        print("kept", flush=True)
app.COMMANDS["end"] = ("ending", "")
sys.modules["spherecv.cli.ending"] = types.SimpleNamespace(end=end)
sys.argv = ["spherecv", "end"]
app.app()
"""
    done = subprocess.run([sys.executable, "-c", code.replace("HOW", how)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "kept\n")
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


@pytest.mark.runtime
def test_images_too_large_or_broken_off_are_taken_where_that_is_asked_for(
    run, failure, photos: Path, tmp_path: Path
) -> None:
    small = tmp_path / "cut.jpg"
    small.write_bytes((photos / "img1.jpg").read_bytes()[:-2])
    assert "truncated" in failure(run("detect", small))
    assert "1 face" in run("detect", small, "--truncated").stdout
    assert "larger than the limit of 1,000,000 pixels" in failure(run("detect", photos / "img1.jpg", "--max-pixels", 1))
    assert not {"SPHERECV_MAX_PIXELS", "SPHERECV_TRUNCATED"} & set(os.environ)
    assert "must be above 0" in failure(run("detect", small, "--max-pixels", 0))
    for command in ("verify", "find", "embed", "watch", "align", "classify", "calibrate", "serve"):
        assert "--max-pixels" in run(command, "--help").stdout, command
    for command in ("evaluate lfw", "evaluate pairs", "gallery enrol", "gallery identify", "gallery cluster"):
        assert "--max-pixels" in run(*command.split(), "--help").stdout, command


@pytest.mark.runtime
def test_several_faces_are_said_and_refused_on_the_command_line(run, failure, photos: Path, tmp_path: Path) -> None:
    couple, one = photos / "couple.jpg", photos / "img1.jpg"
    assert "2 faces, the largest taken" in run("verify", couple, one).stdout
    assert "2 faces found in" in failure(run("verify", couple, one, "--one-face"))
    assert json.loads(run("verify", couple, one, "--json").stdout)["faces_found"] == {"img1": 2, "img2": 1}
    place = tmp_path / "people.db"
    assert "several faces on 1 of them (couple.jpg)" in run("gallery", "enrol", place, couple, "-i", "Ann").stderr
    assert "2 faces found in" in failure(run("gallery", "enrol", place, couple, "-i", "Ann", "--one-face"))
    assert "0.99 was asked for" in failure(run("gallery", "enrol", place, one, "-i", "A", "--min-quality", 0.99))
    said = run("gallery", "identify", place, couple, "--face", "largest").stdout
    assert "1 face of 2 found" in said
    assert "with the 1 person enrolled, about 1.4 % of strangers are given a name" in said
    doubt = run("gallery", "enrol", place, photos / "img16.jpg", "-i", "Ann").stderr
    assert "Ann: its two faces are unlike each other" in doubt


@pytest.mark.runtime
def test_detect_computes_in_the_precision_asked_for_or_says_why_not(run, failure, photos: Path) -> None:
    assert "1 face" in run("detect", photos / "img2.jpg", "--precision", "float32").stdout
    line = failure(run("detect", photos / "img2.jpg", "--precision", "bfloat16", "--backend", "opencv"))
    assert "does not compute in bfloat16" in line
    assert "only for mtcnn and ssd" in failure(run("detect", photos / "img2.jpg", "-d", "yunet", "--precision", "int8"))
