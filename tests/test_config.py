from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spherecv import FaceVerifier
from spherecv.cli.samples import altered_copy, sample_portrait
from spherecv.config import PipelineConfig, describe
from spherecv.detect import FaceDetector
from spherecv.errors import InvalidArgumentError
from spherecv.pipeline import FacePipeline
from spherecv.runtime import Session
from spherecv.zoo import DEFAULT_MODEL, get_recipe, models_dir, open_model
from spherecv.zoo.key import ModelKey

MINI = (str(models_dir() / "sphereface-mini.prototxt"), str(models_dir() / "sphereface-mini.caffemodel"))

configs = st.builds(
    PipelineConfig,
    st.sampled_from([DEFAULT_MODEL, "net.onnx", ("a, b.prototxt", "c.caffemodel")]),
    recipe=st.sampled_from([None, "sphereface", "mobilefacenet"]),
    detector=st.just("mtcnn"),
    preset=st.sampled_from([None, "fast", "sphereface"]),
    min_size=st.none() | st.integers(10, 500) | st.floats(10, 500),
    backend=st.sampled_from([None, "opencv", "onnxruntime", "openvino", "auto"]),
    detector_backend=st.sampled_from([None, "opencv", "onnxruntime", "openvino", "auto"]),
    device=st.sampled_from(["cpu", "cuda", "auto"]),
    threads=st.none() | st.integers(1, 64),
    precision=st.sampled_from(["float32", "bfloat16", "int8", "auto"]),
    detector_precision=st.sampled_from(["float32", "bfloat16", "int8", "auto"]),
)


@given(configs)
def test_a_description_survives_dictionaries_and_pickles(config: PipelineConfig) -> None:
    pickled = pickle.loads(pickle.dumps(config))
    for other in (PipelineConfig.from_dict(config.to_dict()), pickled, copy.deepcopy(config)):
        assert other == config
        assert hash(other) == hash(config)


def test_a_description_survives_toml(tmp_path: Path) -> None:
    plain = PipelineConfig(detector="yunet", threads=2)
    plain.save(tmp_path / "plain.toml")
    assert PipelineConfig.load(tmp_path / "plain.toml") == plain
    whole = PipelineConfig(MINI, recipe="mobilefacenet", preset="sphereface", min_size=40)
    whole.save(tmp_path / "whole.toml")
    assert PipelineConfig.load(tmp_path / "whole.toml") == whole


def test_paths_in_a_file_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "door.toml").write_text('model = ["nets/a.prototxt", "nets/a.caffemodel"]\n')
    nets = tmp_path / "nets"
    assert PipelineConfig.load(tmp_path / "door.toml").model == (
        str(nets / "a.prototxt"), str(nets / "a.caffemodel")
    )  # fmt: skip
    (tmp_path / "named.toml").write_text('model = "sface"\n')
    assert PipelineConfig.load(tmp_path / "named.toml").model == "sface"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"detector": "haar"}, "a detector must be one of mtcnn"),
        ({"detector": "yunet", "preset": "sphereface"}, "preset cannot be set for yunet"),
        ({"detector": "yunet", "min_size": 20}, "min_size cannot be set for yunet"),
        ({"preset": "slow"}, "preset must be one of sphereface, fast"),
        ({"min_size": 3}, "min_size must be"),
        ({"min_size": 10**400}, "min_size must be a number from 10, but got a value of type int"),
        ({"recipe": ["sface"]}, "no recipe is called a value of type list"),
        ({"backend": "caffe"}, "backend must be one of opencv"),
        ({"device": "tpu"}, "device must be one of cpu"),
        ({"threads": 0}, "threads must be a whole number"),
        ({"precision": "float16"}, "precision must be one of float32"),
        ({"recipe": "unheard-of"}, "unheard-of"),
        ({"model": ("a.prototxt",)}, r"\(prototxt, caffemodel\), but got 1 files"),
        ({"model": 3}, "a model must be a name"),
    ],
)
def test_what_a_pipeline_cannot_have_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        PipelineConfig(**settings)


@pytest.mark.parametrize("size", [np.float32(30), np.float64(30), np.int64(30)])
def test_a_number_of_numpy_is_saved_as_plain_one(tmp_path: Path, size: float) -> None:
    config = PipelineConfig(min_size=size)
    config.save(tmp_path / "door.toml")
    assert PipelineConfig.load(tmp_path / "door.toml") == config == PipelineConfig(min_size=30)


def test_a_recipe_file_is_taken_from_the_folder_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('size = [96, 112]\ncolor = "RGB"\n')
    (tmp_path / "door.toml").write_text('recipe = "own.toml"\n')
    assert PipelineConfig.load(tmp_path / "door.toml").recipe == get_recipe(tmp_path / "own.toml")


def test_files_that_hold_something_else_are_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "door.toml"
    for text, message in (
        ("speed = 3", "door.toml: a pipeline has no setting 'speed'"),
        ("threads = 0", "door.toml: threads must be"),
        ("format = 9", "door.toml must be of format 1"),
    ):
        file.write_text(text)
        with pytest.raises(InvalidArgumentError, match=message):
            PipelineConfig.load(file)
    with pytest.raises(InvalidArgumentError, match=r"missing\.toml"):
        PipelineConfig.load(tmp_path / "missing.toml")


def test_one_fingerprint_by_name_by_files_and_open() -> None:
    named, by_files = PipelineConfig(), PipelineConfig(MINI)
    assert named.fingerprint == by_files.fingerprint == named.open().fingerprint
    assert named.fingerprint.key == open_model(DEFAULT_MODEL).key
    sphereface = PipelineConfig(preset="sphereface", min_size=30)
    assert sphereface.detector_name == sphereface.open_detector().name == "mtcnn preset=sphereface min_size=30"
    assert PipelineConfig(preset="fast") == PipelineConfig()


def test_a_source_that_was_found_is_not_looked_for_again() -> None:
    source = open_model(DEFAULT_MODEL)
    config = PipelineConfig.of(source, threads=1)
    assert config.source is source
    other = config.with_recipe(get_recipe("mobilefacenet"))
    assert other.source.recipe == get_recipe("mobilefacenet")
    assert other.source.files is source.files
    assert PipelineConfig.of(source, recipe="mobilefacenet").source.recipe == get_recipe("mobilefacenet")


def test_keywords_a_description_and_an_open_pipeline_are_one_argument() -> None:
    config = PipelineConfig(threads=1)
    assert describe(threads=1) == config
    assert describe(config) is config
    assert describe(config, preset="sphereface") == PipelineConfig(threads=1, preset="sphereface")
    pipeline = config.open()
    assert describe(pipeline) is pipeline
    with pytest.raises(InvalidArgumentError, match="leave out threads"):
        describe(pipeline, threads=2)
    own = describe(pipeline.embedder, preset="sphereface")
    assert isinstance(own, FacePipeline)
    assert own.embedder is pipeline.embedder
    assert own.detector.name == "mtcnn preset=sphereface"
    assert describe(config, detector=pipeline.detector).detector is pipeline.detector


def test_another_recipe_shares_the_open_net() -> None:
    pipeline = PipelineConfig(threads=1).open()
    pipeline = pipeline.with_recipe(replace(pipeline.source.recipe, mirror=False, normalize=False))
    crops = np.random.default_rng(0).integers(0, 256, (2, *pipeline.embedder.recipe.size, 3), np.uint8)
    mirrored = pipeline.with_recipe(replace(pipeline.source.recipe, mirror=True, normalize=False))
    plain, doubled = pipeline.embedder.embed(crops), mirrored.embedder.embed(crops)
    assert doubled.shape[1] == 2 * plain.shape[1]
    np.testing.assert_array_equal(doubled[:, : plain.shape[1]], plain)


def _distance(verifier: FaceVerifier) -> float:
    portrait = sample_portrait("grace-hopper")
    return verifier.distance(portrait, altered_copy(portrait))


def test_a_verifier_travels() -> None:
    verifier = FaceVerifier(far=1e-2, threads=1)
    wanted = _distance(verifier)
    for other in (pickle.loads(pickle.dumps(verifier)), copy.deepcopy(verifier)):
        assert _distance(other) == pytest.approx(wanted, abs=1e-5)
        assert other.threshold == verifier.threshold
    with get_context("spawn").Pool(1) as pool:
        assert pool.apply(_distance, (verifier,)) == pytest.approx(wanted, abs=1e-5)


def test_precision_is_part_of_the_fingerprint() -> None:
    plain, short = PipelineConfig(), PipelineConfig(precision="bfloat16", backend="openvino")
    files, _, recipe = plain.fingerprint.key.partition("-")
    assert short.fingerprint.key == f"{files}+bfloat16-{recipe}"
    assert short.with_recipe(get_recipe("mobilefacenet")).source.precision == "bfloat16"
    assert PipelineConfig.of(short.source, backend="openvino").precision == "bfloat16"
    assert ModelKey.of(short.fingerprint.key) == (files, "bfloat16", recipe)
    assert ModelKey.of(plain.fingerprint.key) == (files, "float32", recipe)


def backends_opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The backends of the sessions that are opened from now on."""
    opened: list[str] = []
    real = Session.__init__

    def spy(self, *args, **options):
        real(self, *args, **options)
        opened.append(self.backend)

    monkeypatch.setattr(Session, "__init__", spy)
    return opened


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "onnxruntime"),
        ({"backend": "opencv"}, "opencv"),
        ({"backend": "onnxruntime"}, "onnxruntime"),
        ({"backend": "onnxruntime", "detector_backend": "opencv"}, "opencv"),
        ({"detector_backend": "opencv"}, "opencv"),
        ({"backend": "onnxruntime", "threads": 1}, "onnxruntime"),
    ],
)
def test_one_backend_runs_the_detector_as_well(settings: dict[str, Any], expected: str, monkeypatch) -> None:
    opened = backends_opened(monkeypatch)
    PipelineConfig(**settings).open_detector()
    assert set(opened) == {expected}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, "onnxruntime"), ({"backend": "opencv"}, "opencv"), ({"backend": "openvino"}, "openvino")],
)
def test_the_embedder_runs_where_it_is_fastest_unless_a_backend_is_named(settings, expected) -> None:
    pytest.importorskip(expected if expected == "openvino" else "cv2")
    config = PipelineConfig(**settings)
    embedder = config.open_embedder()
    assert embedder.backend == expected
    assert config.fingerprint == PipelineConfig().fingerprint  # so that galleries and thresholds stay valid
    crops = np.random.default_rng(0).integers(0, 256, (5, 112, 96, 3), np.uint8)
    wanted = PipelineConfig(backend="opencv").open_embedder().embed(crops)
    np.testing.assert_allclose(embedder.embed(crops), wanted, atol=2e-5 * np.abs(wanted).max())  # OpenCV's Winograd


def test_everything_runs_on_opencv_where_onnx_runtime_is_left_out(monkeypatch) -> None:
    monkeypatch.setattr("spherecv.runtime.devices.find_spec", lambda _name: None)
    opened = backends_opened(monkeypatch)
    PipelineConfig().open()
    FaceDetector(backend="auto")
    assert set(opened) == {"opencv"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"device": "auto"}, "auto"), ({"device": "cuda"}, "auto"), ({"precision": "bfloat16"}, "auto"),
     ({"device": "cuda", "backend": "opencv"}, "opencv"), ({"precision": "int8", "backend": "opencv"}, "opencv")],
)  # fmt: skip
def test_elsewhere_and_otherwise_computed_the_backend_is_auto_unless_named(settings, expected) -> None:
    assert PipelineConfig(**settings).embedder_backend == expected


def test_a_detector_that_has_but_one_backend_keeps_it(monkeypatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("spherecv.config.FaceDetector", lambda kind, **given: asked.append(given["backend"]))
    PipelineConfig(detector="yunet", backend="onnxruntime").open_detector()
    PipelineConfig(detector="yunet", backend="onnxruntime", detector_backend="auto").open_detector()
    assert asked == [None, "auto"]


def test_the_detector_has_a_precision_of_its_own(monkeypatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("spherecv.config.FaceDetector", lambda kind, **given: asked.append(given["precision"]))
    PipelineConfig(precision="bfloat16").open_detector()
    PipelineConfig(detector_precision="bfloat16").open_detector()
    assert asked == ["float32", "bfloat16"]
    assert PipelineConfig(preset="sphereface", detector_precision="bfloat16").fingerprint.detector == (
        "mtcnn preset=sphereface precision=bfloat16"
    )
    assert PipelineConfig(detector_precision="auto").detector_name == "mtcnn"
    with pytest.raises(InvalidArgumentError, match="precision must be one of"):
        PipelineConfig(detector_precision="float16")


def test_an_unknown_backend_of_the_detector_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="backend must be one of"):
        PipelineConfig(detector_backend="caffe")


def test_a_format_is_a_number_and_a_path_may_be_of_the_users_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "door.toml"
    file.write_text("format = true\n")
    with pytest.raises(InvalidArgumentError, match="must be of format 1"):
        PipelineConfig.load(file)
    monkeypatch.setenv("HOME", "/people/ann")
    file.write_text('model = ["~/net.prototxt", "net.caffemodel"]\nrecipe = "sphereface"\n')
    assert PipelineConfig.load(file).model == ("/people/ann/net.prototxt", str(tmp_path / "net.caffemodel"))
    assert PipelineConfig(threads=np.int64(2)) == PipelineConfig(threads=2)
    assert type(PipelineConfig(threads=np.int64(2)).to_dict()["threads"]) is int
