"""Response schemas of the service, for its OpenAPI document."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

_FACE = {
    "box": [101.5, 80.25, 211.0, 224.75],
    "score": 0.999871,
    "landmarks": [[131.2, 138.9], [181.6, 137.1], [157.3, 166.0], [136.8, 190.4], [178.9, 188.7]],
    "quality": 0.8123,
    "turn": 0,
}
_CANDIDATE = {
    "identity": "Ann",
    "distance": 0.31,
    "similarity": 0.69,
    "image": "sha256:2c26b46b68ffc68f",
    "box": [98.0, 77.5, 206.0, 219.0],
    "metadata": {"team": "blue"},
}
_ORIGIN = {"model": "a-model", "model_key": "0123456789abcdef-0123456789ab", "detector_backend": "mtcnn"}
_DECIDED = {
    "threshold": 0.59,
    "similarity_metric": "cosine",
    "far": 0.001,
    "threshold_source": "FAR 0.001 on LFW view 1, 12,545,135 pairs",
}


def _with_example(**values: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [values]})


class FaceAnswer(BaseModel):
    """A face in an image."""

    model_config = _with_example(**_FACE)

    box: list[float] = Field(description="x1, y1, x2, y2 in pixels of the image turned upright.")
    score: float = Field(description="The detector's confidence, 0..1.")
    landmarks: list[list[float]] | None = Field(
        description="x, y of the eye on the image's left, the one on its right, nose, mouth corners left and right."
    )
    quality: float | None = Field(description="How far the face can be trusted for recognition, 0..1.")
    turn: int = Field(description="By how many degrees clockwise the face lies turned in the image: 0, 90, 180 or 270.")


class EmbeddedAnswer(FaceAnswer):
    """A face with its embedding."""

    model_config = _with_example(**_FACE, embedding=[0.031, -0.112, 0.054])

    embedding: list[float] = Field(description="As the model's recipe gives it.")


class Areas(BaseModel):
    """The two faces that were compared."""

    img1: FaceAnswer
    img2: FaceAnswer


class FacesUsed(BaseModel):
    """Of how many faces each side was made: 1 for an image, more for several images of one person."""

    img1: int
    img2: int


class FacesFound(BaseModel):
    """How many faces each image shows; null where nothing was counted. Of several images, the best face's."""

    img1: int | None
    img2: int | None


class Crop(BaseModel):
    """A face as the net saw it."""

    png: str | None = Field(description="A PNG in base64.")
    landmarks: list[list[float]] | None = Field(description="Where the landmarks are in it.")


class Crops(BaseModel):
    """Both crops."""

    img1: Crop
    img2: Crop


class VerifyAnswer(BaseModel):
    """Whether two images show the same person."""

    model_config = _with_example(
        verified=True, distance=0.31, similarity=0.69, probability=0.998, prior=0.5, **_DECIDED,
        model="a-model", detector_backend="mtcnn", facial_areas={"img1": _FACE, "img2": _FACE}, time=0.046,
        faces_used={"img1": 1, "img2": 1}, faces_found={"img1": 2, "img2": 1}, face_taken="largest",
        notes=["img1: 2 faces found, the largest taken"],
    )  # fmt: skip

    verified: bool = Field(description="Whether the distance is at most the threshold.")
    distance: float
    threshold: float = Field(description="The largest distance that counts as the same person.")
    similarity: float
    probability: float | None = Field(description="That it is the same person; with a calibration, for single images.")
    prior: float | None = Field(description="The share of genuine pairs that the probability assumes.")
    far: float | None = Field(description="The false accept rate that the threshold was measured at.")
    threshold_source: str = Field(description="What the threshold was measured on.")
    model: str
    detector_backend: str
    similarity_metric: str
    facial_areas: Areas = Field(description="Of several images, the best face.")
    faces_found: FacesFound
    face_taken: str = Field(description="Which of several: largest, center, only or whole.")
    notes: list[str] = Field(description="What to know before trusting the answer, a sentence each.")
    time: float | None = Field(description="Seconds of work.")
    faces_used: FacesUsed
    crops: Crops | None = None


class _Timed(BaseModel):
    detector_backend: str
    time: float = Field(description="Seconds of work.")


class DetectAnswer(_Timed):
    """The faces of an image; there may be none."""

    model_config = _with_example(faces=[_FACE], width=640, height=480, detector_backend="mtcnn", time=0.018)

    faces: list[FaceAnswer]
    width: int
    height: int


class EmbedAnswer(_Timed):
    """Embeddings. They can be compared with those of the same `model_key` only."""

    model_config = _with_example(faces=[{**_FACE, "embedding": [0.031, -0.112, 0.054]}], **_ORIGIN, time=0.024)

    faces: list[EmbeddedAnswer]
    model: str
    model_key: str


class CandidateAnswer(BaseModel):
    """A person whose face this may be."""

    model_config = _with_example(**_CANDIDATE)

    identity: str | None
    distance: float
    similarity: float
    image: str | None
    box: list[float] | None
    metadata: dict[str, Any]


class MatchAnswer(BaseModel):
    """Who a face is of."""

    identity: str | None = Field(description="The nearest person if near enough; null for nobody of the gallery.")
    distance: float | None
    similarity: float | None
    threshold: float
    similarity_metric: str
    far: float | None = Field(description="Of one comparison: a stranger has a chance for every person enrolled.")
    threshold_source: str
    probability: float | None
    people: int | None = Field(description="How many people the face was compared with.")
    fpir: float | None = Field(description="How often a stranger is given some name: 1 - (1 - far)^people.")
    faces_found: int | None = Field(description="How many faces the image shows.")
    face: FaceAnswer | None
    candidates: list[CandidateAnswer]


class IdentifyAnswer(_Timed):
    """The people on an image, one match for each face."""

    model_config = _with_example(
        matches=[
            {"identity": "Ann", "distance": 0.31, "similarity": 0.69, **_DECIDED, "probability": None, "people": 40,
             "fpir": 0.0392, "faces_found": 1, "face": _FACE,
             "candidates": [_CANDIDATE]}
        ],
        **_ORIGIN, time=0.025,
    )  # fmt: skip

    matches: list[MatchAnswer]
    model: str
    model_key: str


class FailureAnswer(BaseModel):
    """An image that could not be used."""

    image: str
    error: str


class EnrolAnswer(BaseModel):
    """What was taken in; it is on the disk when this is answered."""

    model_config = _with_example(
        identity="Ann", faces=1, images=1, replaced=0, unchanged=0, removed=0, failures=[],
        several_faces=["sha256:2c26b46b68ffc68f"], doubts=[],
    )  # fmt: skip

    identity: str
    faces: int
    images: int
    replaced: int
    unchanged: int
    removed: int
    failures: list[FailureAnswer]
    several_faces: list[str] = Field(description="Images that show several faces, of which one was taken.")
    doubts: list[str] = Field(description="Whether faces of the person are unlike the others, a sentence each.")


class PersonLine(BaseModel):
    """Somebody of the gallery."""

    identity: str
    images: int
    faces: int
    metadata: dict[str, Any]


class PeopleAnswer(BaseModel):
    """A page of the gallery, by name."""

    model_config = _with_example(
        people=[{"identity": "Ann", "images": 2, "faces": 2, "metadata": {"team": "blue"}}],
        next=None, identities=1, images=2, faces=2,
    )  # fmt: skip

    people: list[PersonLine]
    next: str | None = Field(description="What to ask for with `after` for the next page; null on the last.")
    identities: int
    images: int
    faces: int


class ImageLine(BaseModel):
    """An image that was enrolled."""

    id: int
    name: str | None
    faces: int
    problem: str


class PersonAnswer(BaseModel):
    """What is kept of a person: embeddings, which are not sent, and this."""

    model_config = _with_example(
        identity="Ann",
        images=[{"id": 1, "name": "sha256:2c26b46b68ffc68f", "faces": 1, "problem": ""}],
        metadata={"team": "blue"},
    )

    identity: str
    images: list[ImageLine]
    metadata: dict[str, Any]


class RenameAnswer(BaseModel):
    """The person's name from now on."""

    model_config = _with_example(identity="Ann Lee")

    identity: str


class RemoveAnswer(BaseModel):
    """What was forgotten."""

    model_config = _with_example(faces=2, images=2, erased=True)

    faces: int
    images: int
    erased: bool = Field(
        description="Whether the bytes are gone from the files too; false while another process reads them."
    )


class ProblemAnswer(BaseModel):
    """A request that could not be answered (RFC 9457)."""

    model_config = _with_example(
        type="urn:spherecv:problem:no-face", title="No face", status=422,
        detail="no face found in img1 (640x480) by mtcnn",
    )  # fmt: skip

    type: str
    title: str
    status: int
    detail: str = Field(description="One sentence: what was wrong, and what to do.")
