from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from spherecv.align import FaceAligner
from spherecv.errors import InvalidArgumentError
from spherecv.records import Face
from spherecv.zoo.recipe import TEMPLATES

SPHEREFACE_TEMPLATE, ARCFACE_TEMPLATE = np.array(TEMPLATES["sphereface"]), np.array(TEMPLATES["arcface"])
points = st.lists(st.tuples(st.floats(-500, 500), st.floats(-500, 500)), min_size=5, max_size=5).map(np.array)


def spread_out(landmarks: np.ndarray) -> bool:
    return bool(np.ptp(landmarks, axis=0).min() > 5)


def similarity(angle: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[c, -s, shift[0]], [s, c, shift[1]]])


def apply(transform: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    return landmarks @ transform[:, :2].T + transform[:, 2]


@given(points.filter(spread_out))
@settings(deadline=None, max_examples=100)
def test_umeyama_equals_scikit_image(landmarks: np.ndarray) -> None:
    from skimage import transform
    expected = transform.SimilarityTransform.from_estimate(landmarks, ARCFACE_TEMPLATE).params[:2]
    actual = FaceAligner("arcface", alignment="umeyama").transform(landmarks)
    np.testing.assert_allclose(actual, expected, atol=1e-8 * max(1, np.abs(expected).max()))


@given(points.filter(spread_out))
@settings(deadline=None, max_examples=100)
def test_cp2tform_is_the_inverse_of_the_least_squares_fit_to_the_photo(landmarks: np.ndarray) -> None:
    # MATLAB's findNonreflectiveSimilarity, written out: solve [x y 1 0; y -x 0 1] r = [u; v], then invert.
    x, y = (SPHEREFACE_TEMPLATE - 1).T
    ones, zeros = np.ones(5), np.zeros(5)
    system = np.vstack([np.column_stack([x, y, ones, zeros]), np.column_stack([y, -x, zeros, ones])])
    sc, ss, tx, ty = np.linalg.lstsq(system, landmarks.T.ravel(), rcond=None)[0]
    forward = np.array([[sc, ss, tx], [-ss, sc, ty], [0, 0, 1]])
    if abs(np.linalg.det(forward)) < 1e-6:
        return
    actual = FaceAligner().transform(landmarks)
    expected = np.linalg.inv(forward)[:2]
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@given(st.floats(-3, 3), st.floats(0.2, 8), st.tuples(st.floats(-50, 50), st.floats(-50, 50)))
@settings(deadline=None)
def test_a_true_similarity_is_found_by_both_directions_and_by_the_eyes_alone(angle, scale, shift) -> None:
    truth = similarity(angle, scale, shift)
    for aligner, offset in ((FaceAligner(), 1.0), (FaceAligner("arcface", alignment="umeyama"), 0.0)):
        landmarks = apply(truth, aligner.template - offset)
        for seen in (landmarks, landmarks[:2]):
            found = apply(aligner.transform(seen), seen)
            np.testing.assert_allclose(found, aligner.template[: len(seen)] - offset, atol=1e-6)


def test_a_mirrored_face_is_not_fitted_by_a_reflection() -> None:
    mirrored = SPHEREFACE_TEMPLATE * (-1, 1) + (200, 0)
    for alignment in ("cp2tform", "umeyama"):
        assert np.linalg.det(FaceAligner(alignment=alignment).transform(mirrored)[:, :2]) > 0


@pytest.mark.runtime
def test_the_crop_is_the_template_seen_in_the_photo() -> None:
    photo = np.zeros((300, 400, 3), np.uint8)
    landmarks = apply(similarity(0.3, 1.7, (120, 40)), SPHEREFACE_TEMPLATE - 1)
    for x, y in landmarks:
        cv2.circle(photo, (round(x), round(y)), 4, (255, 255, 255), -1)
    faces = [Face(box=(0, 0, 10, 10), landmarks=landmarks), Face(box=(0, 0, 10, 10), landmarks=landmarks[:2])]
    crops = FaceAligner().align(photo, faces)
    assert crops.shape == (2, 112, 96, 3)
    for crop in crops:
        for x, y in SPHEREFACE_TEMPLATE - 1:
            assert crop[round(y), round(x)].min() > 200
    assert FaceAligner().align(photo, []).shape == (0, 112, 96, 3)


def test_a_112x112_crop_is_the_112x96_crop_with_eight_more_columns_on_each_side() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    face = Face(box=(0, 0, 10, 10), landmarks=apply(similarity(-0.2, 1.0, (50, 30)), SPHEREFACE_TEMPLATE))
    narrow, wide = (
        FaceAligner(name, alignment="umeyama").align(photo, [face])[0] for name in ("sphereface", "arcface")
    )
    assert np.abs(wide[:, 8:104].astype(int) - narrow).mean() < 1.0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"template": "oval"}, "sphereface, arcface"),
        ({"template": np.zeros((4, 2))}, r"\(5, 2\)"),
        ({"template": np.zeros((5, 2))}, "size"),
        ({"alignment": "affine"}, "cp2tform"),
        ({"size": (0, 96)}, "positive"),
    ],
)
def test_wrong_settings_are_refused(arguments, text) -> None:
    with pytest.raises(InvalidArgumentError, match=text):
        FaceAligner(**arguments)


def test_unusable_landmarks_are_refused() -> None:
    for aligner in (FaceAligner(), FaceAligner("arcface", alignment="umeyama")):
        for landmarks in (np.ones((5, 2)), np.full((5, 2), np.nan), np.ones((3, 2))):
            with pytest.raises(InvalidArgumentError, match="landmarks"):
                aligner.transform(landmarks)
    with pytest.raises(InvalidArgumentError, match="without landmarks"):
        FaceAligner().align(np.zeros((9, 9, 3), np.uint8), [Face(box=(0, 0, 5, 5))])
    with pytest.raises(InvalidArgumentError, match="uint8"):
        FaceAligner().align(np.zeros((9, 9)), [])
    with pytest.raises(InvalidArgumentError, match=r"\(0, 9, 3\)"):
        FaceAligner().align(np.zeros((0, 9, 3), np.uint8), [])
    with pytest.raises(InvalidArgumentError, match="load_image"):
        FaceAligner().align("a.jpg", [])
    for faces in (None, Face(box=(0, 0, 5, 5)), [None], [np.zeros((5, 2))]):
        with pytest.raises(InvalidArgumentError, match="list of Face"):
            FaceAligner().align(np.zeros((9, 9, 3), np.uint8), faces)


def facenet_crop(image: np.ndarray, box: np.ndarray, margin: int, size: int) -> np.ndarray:
    """What FaceNet's `align_dataset_mtcnn.py` does with a detection, SciPy's `imresize` being Pillow's `resize`."""
    bounds = np.zeros(4, dtype=np.int32)
    bounds[0] = np.maximum(box[0] - margin / 2, 0)
    bounds[1] = np.maximum(box[1] - margin / 2, 0)
    bounds[2] = np.minimum(box[2] + margin / 2, image.shape[1])
    bounds[3] = np.minimum(box[3] + margin / 2, image.shape[0])
    part = image[bounds[1] : bounds[3], bounds[0] : bounds[2], ::-1]
    return np.asarray(Image.fromarray(part).resize((size, size), Image.BILINEAR))[:, :, ::-1]


@given(
    corner=st.tuples(st.floats(-20, 60), st.floats(-20, 40)),
    sides=st.tuples(st.floats(30, 90), st.floats(30, 90)),
    margin=st.sampled_from([0, 7, 32, 44]),
    size=st.sampled_from([160, 182]),
)
@settings(deadline=None, max_examples=50)
def test_a_box_with_a_margin_is_cut_out_as_facenet_does(corner, sides, margin, size) -> None:
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    box = np.array([*corner, corner[0] + sides[0], corner[1] + sides[1]], np.float32)
    crop = FaceAligner(size=(size, size), alignment="box", margin=margin).align(image, [Face(box=box)])
    np.testing.assert_array_equal(crop[0], facenet_crop(image, box.astype(np.float64), margin, size))


def test_a_box_needs_no_landmarks_and_never_is_empty() -> None:
    image = np.full((50, 60, 3), 7, np.uint8)
    aligner = FaceAligner(size=(8, 8), alignment="box")
    for box in ((70, 10, 90, 30), (-30, -30, -10, -10), (5.2, 5.2, 5.4, 5.4), (10, 55, 20, 80)):
        assert (aligner.align(image, [Face(box=box)]) == 7).all()
    with pytest.raises(InvalidArgumentError, match="no transform"):
        aligner.transform(np.zeros((5, 2)))
