"""The functions of the deepface package, on SphereCV's models: change the import, keep the code.

    from spherecv.compat.deepface import DeepFace

Names, defaults, keys and types are those of deepface 0.0.103. A model or detector that is left out is SphereCV's own
default, and answers name it; one that is named must be here too: `"SFace"`, SphereCV's names and models of your own;
`"mtcnn"`, `"fastmtcnn"`, `"retinaface"`, `"ssd"`, `"yunet"` and `"skip"`. Everything else is refused in one sentence,
never replaced. Thresholds are those that SphereCV measured for its own alignment, by five landmarks, and so differ from
deepface's; embeddings that deepface stored cannot be compared with these.
"""

from __future__ import annotations

import sys
import time
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv import metrics
from spherecv.checks import check_choice, check_count, plain_number, shown
from spherecv.compat.deepface import database, faces, folder
from spherecv.compat.deepface.errors import (
    DataTypeError,
    DimensionMismatchError,
    EmptyDatasource,
    FaceNotDetected,
    ImgNotFound,
    ThresholdUnknown,
    UnimplementedError,
    deepface_errors,
)
from spherecv.compat.deepface.stages import (
    DEEPFACE_DETECTOR,
    DEEPFACE_MODEL,
    Metric,
    check_metric,
    check_most,
    check_options,
    check_spoofing,
    confidence,
    distances,
    open_stages,
)

__all__ = [
    "DataTypeError",
    "DeepFace",
    "DimensionMismatchError",
    "EmptyDatasource",
    "FaceNotDetected",
    "ImgNotFound",
    "ThresholdUnknown",
    "UnimplementedError",
    "analyze",
    "build_index",
    "extract_faces",
    "find",
    "register",
    "represent",
    "search",
    "stream",
    "verify",
]

DeepFace = sys.modules[__name__]
"""This module, for `from spherecv.compat.deepface import DeepFace`."""

__version__ = "0.0.103"
_WIDEST = 1000
_FORMATS = ("npz", "feather", "parquet")


def verify(
    img1_path: Any,
    img2_path: Any,
    model_name: str = DEEPFACE_MODEL,
    detector_backend: str = DEEPFACE_DETECTOR,
    distance_metric: Metric = "cosine",
    enforce_detection: bool = True,
    align: bool = True,
    expand_percentage: int = 0,
    normalization: str = "base",
    silent: bool = False,
    threshold: float | None = None,
    anti_spoofing: bool = False,
) -> dict[str, Any]:
    """Decide whether two images show the same person: the nearest two of all their faces are compared.

    Parameters
    ----------
    img1_path, img2_path : path, address, base64 text, binary file object, BGR ndarray, or list of float
        An image, or an embedding that `represent` made before.
    model_name : str
        `"SFace"` or a model of SphereCV; left out, SphereCV's default.
    detector_backend : str
        Left out, MTCNN. With `"skip"` the images are ready-made crops.
    distance_metric : {"cosine", "euclidean", "euclidean_l2", "angular"} or callable
        A function of two embeddings needs a threshold.
    enforce_detection : bool
        Whether an image without a face is an error, or taken as a crop.
    align : bool
        By five landmarks; without it, crops are cut by their boxes, of which no threshold is known.
    expand_percentage, normalization, anti_spoofing
        As they are by default: another value is refused.
    silent : bool
        Accepted: nothing is written.
    threshold : float, optional
        The largest distance that counts as the same person; by default the one measured for the model.

    Returns
    -------
    dict
        `verified`, `distance`, `threshold`, `confidence` (51 to 100 when verified, 0 to 49 when not; how far the
        distance is from the threshold, no probability), `model`, `detector_backend`, `similarity_metric`,
        `facial_areas` (of `img1` and `img2`: `x`, `y`, `w`, `h`, `left_eye`, `right_eye`) and `time` in seconds.

    Raises
    ------
    FaceNotDetected, ImgNotFound, UnimplementedError, ThresholdUnknown, DimensionMismatchError, DataTypeError
        All of them `ValueError` and `SphereCVError`.
    """
    del silent
    started = time.perf_counter()
    check_metric(distance_metric)
    check_options(
        normalization=normalization, anti_spoofing=anti_spoofing, expand_percentage=expand_percentage
    )
    stages = open_stages(model_name, detector_backend, align)
    limit = stages.threshold(distance_metric, threshold)
    sides: list[list[tuple[NDArray[np.float32], faces.Area]]] = []
    for number, source in enumerate((img1_path, img2_path), 1):
        if isinstance(source, list):
            sides.append([(faces.ready_embedding(source, stages, number), faces.NO_AREA)])
        else:
            found = faces.embedded(stages, source, enforce=enforce_detection, where=f"img{number}_path: ")
            sides.append([(face.embedding, face.area) for face in found])
    pairs = [(row, one, other) for row, one in sides[0] for other in sides[1]]
    away = [float(distances(row[None], other[0], distance_metric)[0]) for row, _, other in pairs]
    nearest = int(np.argmin(away))
    _, area, (_, other_area) = pairs[nearest]
    distance = round(away[nearest], 6)
    return {
        "verified": distance <= limit,
        "distance": distance,
        "threshold": limit,
        "confidence": confidence(distance, limit, distance_metric),
        "model": stages.model,
        "detector_backend": stages.detector,
        "similarity_metric": distance_metric,
        "facial_areas": {"img1": area, "img2": other_area},
        "time": round(time.perf_counter() - started, 2),
    }


def represent(
    img_path: Any,
    model_name: str = DEEPFACE_MODEL,
    enforce_detection: bool = True,
    detector_backend: str = DEEPFACE_DETECTOR,
    align: bool = True,
    expand_percentage: int = 0,
    normalization: str = "base",
    anti_spoofing: bool = False,
    max_faces: int | None = None,
    l2_normalize: bool = False,
    minmax_normalize: bool = False,
    return_face: bool = False,
) -> Any:
    """Embed the faces of an image, or of several.

    Parameters
    ----------
    img_path : image, or list of images
        As for `verify`; a list, or an array of four axes, is several images.
    model_name, enforce_detection, detector_backend, align, expand_percentage, normalization, anti_spoofing
        As for `verify`.
    max_faces : int, optional
        Most faces of an image, the largest ones.
    l2_normalize : bool
        Scale embeddings to length 1.
    minmax_normalize : bool
        Refused: the ranges are those of deepface's models.
    return_face : bool
        Answer the crop that the model saw too: BGR, float 0..1.

    Returns
    -------
    list of dict, or list of such lists for several images
        `embedding` (list of float), `facial_area`, `face_confidence` (0..1; 0 where nothing looked for a face).

    Raises
    ------
    FaceNotDetected, ImgNotFound, UnimplementedError
    """
    check_options(
        normalization=normalization, anti_spoofing=anti_spoofing, expand_percentage=expand_percentage
    )
    if minmax_normalize:
        raise UnimplementedError("minmax_normalize must be False: l2_normalize scales embeddings to length 1")
    most = check_most("max_faces", max_faces)
    stages = open_stages(model_name, detector_backend, align)
    images, several = faces.images_of(img_path)
    answers = []
    for image in images:
        answer = []
        for found in faces.embedded(stages, image, enforce=enforce_detection, most=most):
            row = found.embedding.astype(np.float64)
            row = row / (np.linalg.norm(row) or 1.0) if l2_normalize else row
            one = {"embedding": row.tolist(), "facial_area": found.area, "face_confidence": found.confidence}
            if return_face and found.embedded.crop is not None:
                one["face"] = found.embedded.crop.astype(np.float32) / 255
            answer.append(one)
        answers.append(answer)
    return answers if several and len(answers) != 1 else answers[0]


def extract_faces(
    img_path: Any,
    detector_backend: str = DEEPFACE_DETECTOR,
    enforce_detection: bool = True,
    align: bool = True,
    expand_percentage: int = 0,
    grayscale: bool = False,
    color_face: str = "rgb",
    normalize_face: bool = True,
    anti_spoofing: bool = False,
) -> Any:
    """Cut the faces out of an image, or of several.

    Parameters
    ----------
    img_path : image, or list of images
        As for `represent`.
    detector_backend, enforce_detection, anti_spoofing
        As for `verify`.
    align : bool
        Turn each face so that its eyes lie level.
    expand_percentage : int
        Make the crops wider and higher by so many per cent of their boxes.
    grayscale : bool
        deepface's older word for `color_face="gray"`.
    color_face : {"rgb", "bgr", "gray"}
    normalize_face : bool
        Float 0..1, or uint8.

    Returns
    -------
    list of dict, or list of such lists for several images
        `face` (ndarray of shape (h, w, 3), or (h, w) in grey), `facial_area`, `confidence` (0..1).

    Raises
    ------
    FaceNotDetected, ImgNotFound, UnimplementedError
    """
    check_spoofing(anti_spoofing)
    wider = plain_number(expand_percentage)
    if not isinstance(wider, int | float) or not 0 <= wider <= _WIDEST:
        raise UnimplementedError(f"expand_percentage must be within 0..{_WIDEST}, but got {shown(expand_percentage)}")
    color = "gray" if grayscale else color_face
    stages = open_stages(DEEPFACE_MODEL, detector_backend, align=True)
    images, several = faces.images_of(img_path)
    answers = []
    for source in images:
        image = faces.loaded(source)
        found = faces.located(stages, image, enforce=enforce_detection)
        crops = [(face, faces.cut(face, image, align=align, expand=wider)) for face in found]
        answer = [
            {
                "face": faces.coloured(crop, color, normalize=normalize_face),
                "facial_area": faces.area_of(face, image, stages.detector),
                "confidence": round(float(face.score), 2),
            }
            for face, crop in faces.nonempty(iter(crops))
        ]
        whole = {
            "face": faces.coloured(image, color, normalize=normalize_face),
            "facial_area": faces.whole_area(image),
            "confidence": 0.0,
        }
        answers.append(answer or [whole])
    return answers if several else answers[0]


def find(
    img_path: Any,
    db_path: str,
    model_name: str = DEEPFACE_MODEL,
    distance_metric: Metric = "cosine",
    enforce_detection: bool = True,
    detector_backend: str = DEEPFACE_DETECTOR,
    align: bool = True,
    similarity_search: bool = False,
    k: int | None = None,
    expand_percentage: int = 0,
    threshold: float | None = None,
    normalization: str = "base",
    silent: bool = False,
    refresh_database: bool = True,
    anti_spoofing: bool = False,
    datastore_format: str = "npz",
    return_type: str | None = None,
) -> Any:
    """Find images of the people on an image in a folder, the nearest first.

    The folder's faces are embedded once and kept where `spherecv find` keeps them, in SphereCV's cache (`spherecv
    gallery caches`); later calls look at new and changed images only. Images without a face are left out.

    Parameters
    ----------
    img_path : image
        As for `verify`, but no embedding.
    db_path : path
        A folder of images.
    model_name, distance_metric, enforce_detection, detector_backend, align, expand_percentage, normalization
        As for `verify`; `enforce_detection` is about the image asked with.
    similarity_search : bool
        Answer all faces of the folder, not only those within the threshold.
    k : int, optional
        Most faces to answer.
    threshold, silent, anti_spoofing
        As for `verify`.
    refresh_database : bool
        Whether the folder is looked at again.
    datastore_format : {"npz", "feather", "parquet"}
        Accepted: the index has a form of its own.
    return_type : {"pandas", "dict"}, optional
        By default data frames where pandas is installed (extra `deepface`), as deepface does.

    Returns
    -------
    list of pandas.DataFrame, or list of list of dict
        One for each face of the image, with the columns `identity`, `hash`, `target_x` to `target_h`, `threshold`,
        `source_x` to `source_h`, `distance` and `confidence`.

    Raises
    ------
    EmptyDatasource
        No image in the folder.
    FaceNotDetected, ImgNotFound, UnimplementedError, ThresholdUnknown, MissingDependencyError
    """
    del silent
    check_metric(distance_metric)
    check_choice("datastore_format", datastore_format, _FORMATS)
    check_options(
        normalization=normalization, anti_spoofing=anti_spoofing, expand_percentage=expand_percentage
    )
    kind, most = folder.answer_type(return_type), check_most("k", k)
    stages = open_stages(model_name, detector_backend, align)
    limit = stages.threshold(distance_metric, threshold)
    image = faces.loaded(img_path, "img_path: ")
    kept = folder.Folder(db_path, stages, refresh=refresh_database)
    asked = faces.embedded(stages, image, enforce=enforce_detection, where="img_path: ")
    found = [kept.near(face, distance_metric, limit, everybody=similarity_search, most=most) for face in asked]
    return [folder.as_answer(rows, folder.COLUMNS, kind) for rows in found]


def stream(
    db_path: str = "",
    model_name: str = DEEPFACE_MODEL,
    detector_backend: str = DEEPFACE_DETECTOR,
    distance_metric: str = "cosine",
    enable_face_analysis: bool = True,
    source: Any = 0,
    time_threshold: int = 5,
    frame_threshold: int = 5,
    anti_spoofing: bool = False,
    output_path: str | None = None,
    debug: bool = False,
) -> None:
    """Show a camera's or file's video with the names of people: those on the images of a folder.

    Each person is decided about over many frames, at the false accept rate of `spherecv watch`, in place of single
    frames that are frozen.

    Parameters
    ----------
    db_path : path
        A folder of images; a person is called by the path of theirs. Empty: people are followed without names.
    model_name, detector_backend, distance_metric, anti_spoofing
        As for `verify`; the metric is `"cosine"` or `"euclidean"`.
    enable_face_analysis : bool
        Age, gender and emotion are not there: a warning says so.
    source : int, path or address
        A camera's number, a file, a stream.
    time_threshold, frame_threshold, debug
        Accepted and not needed: no frame is frozen.
    output_path : path, optional
        Write the video there. Then a window is shown only where OpenCV has one.

    Raises
    ------
    DeviceError
        No window, and no `output_path`.
    VideoError, StorageError, EmptyDatasource, UnimplementedError
    """
    from contextlib import ExitStack, suppress

    from spherecv.errors import DeviceError
    from spherecv.images import find_images
    from spherecv.verify import FaceVerifier
    from spherecv.video.frames import open_frames
    from spherecv.watch import FaceWatcher, Session, VideoFile
    from spherecv.watch.window import Window

    del debug
    check_spoofing(anti_spoofing)
    check_count("time_threshold", time_threshold)
    check_count("frame_threshold", frame_threshold)
    metric = metrics.check_metric(distance_metric)
    if enable_face_analysis:
        warnings.warn("SphereCV shows names only, no age, gender or emotion", UserWarning, stacklevel=2)
    stages = open_stages(model_name, detector_backend, align=True)
    verifier = FaceVerifier(stages.pipeline, metric=metric)
    with ExitStack() as stack, deepface_errors():
        window = None
        with suppress(*[DeviceError] if output_path else []):
            window = Window("img")
            stack.callback(window.close)
        people = {str(path): str(path) for path in find_images(db_path)} if db_path else None
        frames = open_frames(source)
        stack.callback(frames.close)
        session = Session(FaceWatcher(verifier, references=people), frames, window=window)
        if output_path:
            session.video = stack.enter_context(VideoFile(output_path, rate=frames.rate))
        session.run()


def register(
    img: Any,
    img_name: str | None = None,
    model_name: str = DEEPFACE_MODEL,
    detector_backend: str = DEEPFACE_DETECTOR,
    enforce_detection: bool = True,
    align: bool = True,
    l2_normalize: bool = False,
    expand_percentage: int = 0,
    normalization: str = "base",
    anti_spoofing: bool = False,
    database_type: str = "postgres",
    connection_details: Any = None,
    connection: Any = None,
) -> dict[str, Any]:
    """Put the faces of images into a database: with `database_type="sqlite"`, a gallery in one file.

    Parameters
    ----------
    img : image, or list of images
    img_name : str, optional
        What to call them; by default an image's path.
    model_name, detector_backend, enforce_detection, align, expand_percentage, normalization, anti_spoofing
        As for `verify`.
    l2_normalize : bool
        Accepted: the metric settles what lengths mean.
    database_type : {"sqlite"}
        Other databases are refused.
    connection_details : path
        Of the gallery, made where it is missing; by default the environment's `DEEPFACE_SQLITE_PATH`.
    connection : None

    Returns
    -------
    dict
        `inserted`, the number of new faces.
    """
    del l2_normalize
    check_options(
        normalization=normalization, anti_spoofing=anti_spoofing, expand_percentage=expand_percentage
    )
    stages = open_stages(model_name, detector_backend, align)
    images, _ = faces.images_of(img)
    with database.open_database(stages, database_type, connection, connection_details, create=True) as gallery:
        found = [(image, faces.embedded(stages, image, enforce=enforce_detection)) for image in images]
        return {"inserted": sum(database.add(gallery, image, img_name, one) for image, one in found)}


def search(
    img: Any,
    model_name: str = DEEPFACE_MODEL,
    detector_backend: str = DEEPFACE_DETECTOR,
    distance_metric: str = "cosine",
    enforce_detection: bool = True,
    align: bool = True,
    l2_normalize: bool = False,
    expand_percentage: int = 0,
    normalization: str = "base",
    anti_spoofing: bool = False,
    similarity_search: bool = False,
    k: int | None = None,
    database_type: str = "postgres",
    connection_details: Any = None,
    connection: Any = None,
    search_method: str = "exact",
    return_type: str | None = None,
) -> Any:
    """Find the registered faces of the people on an image; arguments as for `register` and `find`.

    Parameters
    ----------
    img, model_name, detector_backend, distance_metric, enforce_detection, align, l2_normalize, expand_percentage
    normalization, anti_spoofing, similarity_search, k, database_type, connection_details, connection
    search_method : {"exact", "ann"}
        `"ann"` goes through the index that `build_index` made, where there is one.
    return_type : {"pandas", "dict"}, optional

    Returns
    -------
    list of pandas.DataFrame, or list of list of dict
        One for each face of the images, with `id`, `img_name`, `distance`, `threshold`, `confidence` and the settings.
    """
    check_metric(distance_metric)
    check_choice("search_method", search_method, ("exact", "ann"))
    check_options(
        normalization=normalization, anti_spoofing=anti_spoofing, expand_percentage=expand_percentage
    )
    kind, most = folder.answer_type(return_type), check_most("k", k)
    stages = open_stages(model_name, detector_backend, align)
    limit = stages.threshold(distance_metric, None)
    images, _ = faces.images_of(img)
    with database.open_database(stages, database_type, connection, connection_details, create=False) as gallery:
        found = [
            database.nearest(
                gallery, stages, face, metric=distance_metric, threshold=limit, everybody=similarity_search, most=most,
                method=search_method, align=align, l2_normalize=l2_normalize,
            )
            for image in images
            for face in faces.embedded(stages, image, enforce=enforce_detection)
        ]  # fmt: skip
    return [folder.as_answer(rows, database.COLUMNS, kind) for rows in found]


def build_index(
    model_name: str = DEEPFACE_MODEL,
    detector_backend: str = DEEPFACE_DETECTOR,
    align: bool = True,
    l2_normalize: bool = False,
    database_type: str = "postgres",
    connection: Any = None,
    connection_details: Any = None,
    max_neighbors_per_node: int = 32,
) -> None:
    """Build the index that `search(..., search_method="ann")` goes through (FAISS, extra `gallery`).

    A database of a thousand faces and fewer gets none: an exact search is as fast. Faces registered later are taken in
    as they come.

    Parameters
    ----------
    model_name, detector_backend, align, l2_normalize, database_type, connection, connection_details
        As for `register`.
    max_neighbors_per_node : int
        Accepted: the index has 32.

    Raises
    ------
    EmptyDatasource
        Nobody was registered.
    MissingDependencyError, UnimplementedError
    """
    del l2_normalize
    check_count("max_neighbors_per_node", max_neighbors_per_node)
    stages = open_stages(model_name, detector_backend, align)
    with database.open_database(stages, database_type, connection, connection_details, create=False) as gallery:
        database.index(gallery)


def analyze(*_: Any, **__: Any) -> None:
    """Refuse: SphereCV has no models of age, gender, emotion or race.

    Raises
    ------
    UnimplementedError
    """
    raise UnimplementedError("DeepFace.analyze is not in SphereCV, which has no models of age, gender, emotion or race")
