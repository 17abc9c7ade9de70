"""Routes of the service and their documentation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel

from spherecv.serve import answers, forms
from spherecv.serve.desk import Desk
from spherecv.serve.problems import MEDIA_TYPE, Problem, as_json, kinds_of
from spherecv.serve.receive import Body, read_body
from spherecv.serve.service import FaceService

# An image of one pixel: in base64 that can be decoded, and without a face.
_PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mP8z8AARQAFAAH/AGbmVWoAAAAASUVORK5CYII="
)
_BINARY = {"type": "string", "format": "binary", "description": "A JPEG, PNG or WebP."}
_OF_BODIES = ("bad-request", "invalid", "too-large", "wrong-type", "too-slow")
_F = TypeVar("_F", bound=forms.Form)

Limit = Annotated[int, Query(ge=1, le=1000, description="People on a page.")]
After = Annotated[str | None, Query(max_length=forms.LONGEST_NAME, description="The `next` of the page before.")]
Identity = Annotated[str, Path(max_length=forms.LONGEST_NAME, description="A name in the gallery.")]
ImageId = Annotated[int | None, Query(ge=0, le=2**62, description="Only this image, by its id.")]


def face_routes(service: FaceService, desk: Desk) -> APIRouter:
    """Questions about images."""
    router = APIRouter(prefix="/v1", tags=["faces"])

    @router.post("/verify", **_documented(answers.VerifyAnswer, forms.VerifyForm, {"img1": _PIXEL, "img2": _PIXEL},
                                          "no-face", "bad-image", "no-threshold"))  # fmt: skip
    async def verify(request: Request) -> Response:
        """Tell whether two images, or two sets of images of one person each, show the same person."""
        return await _answer(request, desk, forms.VerifyForm, service.verify, files=2 * service.settings.max_images)

    @router.post("/detect", **_documented(answers.DetectAnswer, forms.DetectForm, {"img": _PIXEL}, "bad-image"))
    async def detect(request: Request) -> Response:
        """Find the faces of an image."""
        return await _answer(request, desk, forms.DetectForm, service.detect)

    @router.post("/embed", **_documented(answers.EmbedAnswer, forms.EmbedForm, {"img": _PIXEL}, "no-face", "bad-image"))
    async def embed(request: Request) -> Response:
        """Give the embeddings of the faces of an image."""
        return await _answer(request, desk, forms.EmbedForm, service.embed)

    @router.post("/identify", **_documented(answers.IdentifyAnswer, forms.IdentifyForm, {"img": _PIXEL, "k": 3},
                                            "no-face", "bad-image", "no-threshold", "no-gallery"))  # fmt: skip
    async def identify(request: Request) -> Response:
        """Tell who of the gallery is on an image, face by face; the answer may be nobody."""
        return await _answer(request, desk, forms.IdentifyForm, service.identify)

    @router.get("/models", responses=_responses(dict[str, Any], None))
    async def models() -> Response:
        """What serves: model, detector, thresholds and what they were measured on, and the limits of the service."""
        return Response(as_json(service.describe()), media_type="application/json")

    return router


def gallery_routes(service: FaceService, desk: Desk) -> APIRouter:
    """People: enrolling, listing, renaming, forgetting."""
    router = APIRouter(prefix="/v1/gallery", tags=["gallery"])
    files = service.settings.max_images

    @router.post("", status_code=201, **_documented(answers.EnrolAnswer, forms.EnrolForm,
                                                    {"identity": "Ann", "img": [_PIXEL]}, "no-face", "bad-image",
                                                    "exists", "no-gallery", status=201))  # fmt: skip
    async def enrol(request: Request) -> Response:
        """Enrol a person by one or several images, all or none. What is answered 201 is on the disk."""
        return await _answer(request, desk, forms.EnrolForm, service.enrol, status=201, files=files)

    @router.get("", responses=_responses(answers.PeopleAnswer, None, "no-gallery", "invalid"))
    async def people(limit: Limit = 100, after: After = None) -> Response:
        """List people by name, a page at a time."""
        return await _work(desk, lambda: service.people(limit, after))

    @router.get("/{identity:path}", responses=_responses(answers.PersonAnswer, None, "unknown-identity", "invalid"))
    async def person(identity: Identity) -> Response:
        """Tell what is kept of a person."""
        return await _work(desk, lambda: service.person(_known(identity)))

    @router.patch("/{identity:path}", **_documented(answers.RenameAnswer, forms.RenameForm, {"identity": "Ann Lee"},
                                                    "unknown-identity", "exists"))  # fmt: skip
    async def rename(identity: Identity, request: Request) -> Response:
        """Give a person another name, or merge two people."""
        return await _answer(
            request, desk, forms.RenameForm, lambda form: service.rename(_known(identity), form)
        )

    @router.delete("/{identity:path}", responses=_responses(answers.RemoveAnswer, None, "unknown-identity", "invalid"))
    async def remove(identity: Identity, image: ImageId = None) -> Response:
        """Forget a person, or one image of theirs, with every byte that was kept."""
        return await _work(desk, lambda: service.remove(_known(identity), image))

    return router


async def _answer(
    request: Request,
    desk: Desk,
    model: type[_F],
    work: Callable[[_F], dict[str, Any]],
    *,
    status: int = 200,
    files: int = 2,
) -> Response:
    body: Body = await read_body(request, files)
    return await _work(desk, lambda: work(body.form(model)), status=status)


async def _work(desk: Desk, work: Callable[[], dict[str, Any]], *, status: int = 200) -> Response:
    content = await desk.run(lambda: as_json(work()))
    return Response(content, status, media_type="application/json")


def _known(identity: str) -> str:
    """Check a name in an address by the rules for names."""
    try:
        return forms.check_name(identity)
    except ValueError as error:
        raise Problem("invalid", f"identity: {error}") from None


def _documented(
    answer: type[BaseModel], form: type[forms.Form], example: dict[str, Any], *kinds: str, status: int = 200
) -> dict[str, Any]:
    """Describe an address that takes a body, in both forms of it."""
    schema = form.model_json_schema()
    as_form = {**schema, "properties": {name: _in_a_form(value) for name, value in schema["properties"].items()}}
    content = {
        "application/json": {"schema": schema, "examples": {"image in base64": {"value": example}}},
        "multipart/form-data": {"schema": as_form},
    }
    return {
        "responses": _responses(answer, status, *_OF_BODIES, *kinds),
        "openapi_extra": {"requestBody": {"required": True, "content": content}},
    }


def _in_a_form(field: dict[str, Any]) -> dict[str, Any]:
    if field.get("contentEncoding") == "base64":
        return _BINARY
    if any(option.get("contentEncoding") == "base64" for option in field.get("anyOf", ())):
        return {"type": "array", "items": _BINARY, "minItems": 1}
    return field


def _responses(answer: Any, status: int | None, *kinds: str) -> dict[int | str, dict[str, Any]]:
    """Describe the answer, and the problems that there may be in its place."""
    documents: dict[int | str, dict[str, Any]] = {status or 200: {"model": answer, "description": "The answer."}}
    for code, names in sorted(kinds_of("missing-key", "forbidden", "busy", "overdue", *kinds).items()):
        documents[code] = {
            "description": " or ".join(sorted(set(names))),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemAnswer"}}},
        }
    return documents
