from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from spherecv.errors import DownloadError, HashMismatchError, ModelNotFoundError
from spherecv.zoo import expected_paths, fetch, locate, model_info, require, state_of
from spherecv.zoo import files as module
from spherecv.zoo.files import is_offline


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and leave to download; returns where the toy model's files belong."""
    monkeypatch.setenv("SPHERECV_CACHE", str(tmp_path))
    monkeypatch.delenv("SPHERECV_OFFLINE")
    return tmp_path / "models" / "toy"


def test_fetch_then_locate(site, folder) -> None:
    model = site.model(site.file(lambda r: r.serve(), name="a"), site.file(lambda r: r.serve(), name="b"))
    assert state_of(model) == "not downloaded"
    paths = fetch(model)
    assert paths == locate(model) == expected_paths(model) == {"a": folder / "a", "b": folder / "b"}
    assert state_of(model) == "ready"
    fetch(model)
    assert len(site.asked) == 2


def test_locate_never_downloads_and_says_what_to_do(site, folder) -> None:
    model = site.model(site.file(lambda r: r.serve(), manual="the authors' page"))
    with pytest.raises(ModelNotFoundError) as caught:
        locate(model)
    assert str(caught.value) == (
        f"toy: {folder / 'weights.bin'} is not there: `spherecv models download toy` fetches it; "
        "or put it there by hand, from the authors' page"
    )
    assert not site.asked


def test_offline_the_variable_is_named_that_forbids_what_would_help(site, monkeypatch) -> None:
    monkeypatch.setenv("SPHERECV_OFFLINE", "1")
    with pytest.raises(ModelNotFoundError, match="SPHERECV_OFFLINE forbids to download it: unset that and run"):
        locate(site.model(site.file(lambda r: r.serve())))


def test_a_file_put_there_by_hand_works_offline(site, folder, monkeypatch) -> None:
    monkeypatch.setenv("SPHERECV_OFFLINE", "1")
    folder.mkdir(parents=True)
    (folder / "weights.bin").write_bytes(site.payload)
    model = site.model(site.file(lambda r: r.serve()))
    assert require(model) == fetch(model) == {"weights.bin": folder / "weights.bin"}
    assert not site.asked


def test_a_wrong_file_put_there_by_hand_is_refused_and_kept(site, folder) -> None:
    folder.mkdir(parents=True)
    (folder / "weights.bin").write_bytes(b"mine")
    model = site.model(site.file(lambda r: r.serve()))
    for find in (locate, require):
        with pytest.raises(HashMismatchError, match="has 4 bytes, not 1,048,576: `spherecv models download"):
            find(model)
    assert (folder / "weights.bin").read_bytes() == b"mine"
    assert state_of(model) == "broken"
    assert fetch(model)
    assert (folder / "weights.bin").read_bytes() == site.payload


def test_require_downloads_on_first_use(site) -> None:
    model = site.model(site.file(lambda r: r.serve()))
    assert require(model)["weights.bin"].read_bytes() == site.payload
    require(model)
    assert len(site.asked) == 1


@pytest.mark.parametrize("word", ["1", "true", "yes", " ON "])
def test_offline_downloads_nothing(site, monkeypatch, word) -> None:
    monkeypatch.setenv("SPHERECV_OFFLINE", word)
    model = site.model(site.file(lambda r: r.serve()))
    with pytest.raises(DownloadError, match=r"weights.bin is missing or broken, and SPHERECV_OFFLINE forbids"):
        fetch(model)
    with pytest.raises(ModelNotFoundError, match="models download toy"):
        require(model)
    assert not site.asked


@pytest.mark.parametrize("word", ["", "0", "false", "No", "off"])
def test_offline_knows_a_no(monkeypatch, word) -> None:
    monkeypatch.setenv("SPHERECV_OFFLINE", word)
    assert not is_offline()


def test_a_failed_download_names_the_path_and_the_command(site, folder) -> None:
    model = site.model(site.file("http://127.0.0.1:9/x", manual="the authors' page"))
    with pytest.raises(DownloadError) as caught:
        fetch(model)
    message = str(caught.value)
    assert str(folder / "weights.bin") in message
    assert "`spherecv models download toy`" in message
    assert "by hand, from the authors' page" in message


def test_a_partly_downloaded_model_is_incomplete(site, folder) -> None:
    model = site.model(site.file(lambda r: r.serve(), name="a"), site.file(lambda r: r.serve(), name="b"))
    folder.mkdir(parents=True)
    (folder / "a").write_bytes(site.payload)
    assert state_of(model) == "incomplete"


@pytest.mark.parametrize("wanted", [True, False, None])
def test_the_bar_is_drawn_on_a_terminal_only(site, capfd, wanted) -> None:
    fetch(site.model(site.file(lambda r: r.serve())), progress=wanted)
    out, err = capfd.readouterr()
    assert not out
    assert ("weights.bin" in err) is (wanted is True)


def test_mtcnn_weights_are_found_without_running_mtcnn() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from spherecv.zoo import locate; paths = locate('mtcnn'); "
        "assert set(paths) == {'pnet', 'rnet', 'onet'} and all(p.is_file() for p in paths.values()); "
        "print([m for m in sys.modules if m.split('.')[0] in "
        "{'mtcnn', 'tensorflow', 'joblib', 'numpy', 'cv2', 'onnx', 'urllib3', 'rich', 'filelock', 'google'}], "
        "'urllib.request' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[] False"


def test_a_missing_package_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelNotFoundError, match=r"the package mtcnn is not installed: .*pip install mtcnn==1.0.0"):
        locate("mtcnn")
    assert state_of("mtcnn") == "not installed"
    assert expected_paths("mtcnn") == {}


def test_a_package_without_its_weights_says_what_to_install(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(module, "_package_dir", lambda name: tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"pnet.lz4 is not there: .*pip install mtcnn==1.0.0"):
        locate("mtcnn")


def test_packaged_files_are_found(monkeypatch, tmp_path) -> None:
    info = model_info("sphereface-20")
    monkeypatch.setattr(module, "models_dir", lambda: tmp_path)
    assert expected_paths(info)["prototxt"] == tmp_path / info.file("prototxt").name
    with pytest.raises(ModelNotFoundError, match="install SphereCV again"):
        locate(info)
    shutil.copy(__file__, tmp_path / info.file("prototxt").name)
    with pytest.raises(ModelNotFoundError, match=r"sphereface_model.caffemodel is not there.*Google Drive"):
        locate(info)
