"""Request schemas: JSON, or forms with files, checked by the same rules."""

from __future__ import annotations

import json
import unicodedata
from typing import Annotated, Any, Literal, TypeVar, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainValidator,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import from_json

from spherecv.serve.problems import Problem
from spherecv.serve.uploads import from_base64

LONGEST_NAME = 200
LARGEST_METADATA = 4096
# Control characters, lone surrogates, line and paragraph separators: no name needs them, logs and pages trip over them.
_BAD_CATEGORIES = frozenset(("Cc", "Cs", "Zl", "Zp"))
_SPOOFS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""What turns the direction of all text that follows: a name must not rewrite the line it stands in."""


def check_name(name: str) -> str:
    """Return the name of a person, or raise ValueError."""
    if not name.strip():
        raise ValueError("must not be empty")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"must have at most {LONGEST_NAME} characters")
    if any(unicodedata.category(letter) in _BAD_CATEGORIES or letter in _SPOOFS for letter in name):
        raise ValueError("must not hold control characters")
    if name in (".", ".."):
        raise ValueError("must be more than dots")
    return name


def _image(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return from_base64(value)
    raise ValueError("must be an image: a file in a form, or base64 in JSON")


def _several(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _small(value: Any) -> Any:
    if len(json.dumps(value, allow_nan=False)) > LARGEST_METADATA:
        raise ValueError(f"must take at most {LARGEST_METADATA:,} bytes")
    return value


_BASE64 = {"type": "string", "contentEncoding": "base64", "description": "A JPEG, PNG or WebP in base64."}
Image = Annotated[bytes, PlainValidator(_image), WithJsonSchema(_BASE64)]
Images = Annotated[
    list[Image],
    BeforeValidator(_several),
    WithJsonSchema({"anyOf": [_BASE64, {"type": "array", "items": _BASE64, "minItems": 1}]}),
]
Name = Annotated[
    str, StringConstraints(min_length=1, max_length=LONGEST_NAME, strict=True), BeforeValidator(
        lambda value: check_name(value) if isinstance(value, str) else value
    )
]  # fmt: skip
Rate = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Metadata = Annotated[dict[str, JsonValue], BeforeValidator(_small)]
Far = Annotated[
    Rate | None, Field(description="Decide at the threshold that was measured at this false accept rate.")
]
OneFace = Literal["largest", "center", "only", "whole"]
AnyFace = Literal["largest", "center", "only", "all", "whole"]
_WHICH = "Which of several faces; only refuses several, whole takes the image as a ready-made crop."


class Form(BaseModel):
    """A request's body."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class VerifyForm(Form):
    """Two images to compare, or two sets of images of one person each."""

    img1: Images
    img2: Images
    face: OneFace = Field("largest", description=_WHICH)
    far: Far = None
    crops: bool = Field(default=False, description="Send both aligned crops along, as PNG in base64.")


class DetectForm(Form):
    """An image to look for faces in."""

    img: Image


class EmbedForm(Form):
    """An image whose faces are to be embedded."""

    img: Image
    face: AnyFace = Field("largest", description=_WHICH)


class IdentifyForm(Form):
    """An image of somebody to be named."""

    img: Image
    face: AnyFace = Field("all", description=_WHICH)
    k: int = Field(5, ge=1, le=100, description="Candidates to name for each face.")
    far: Far = None
    template: Literal["best", "mean"] = Field(
        "best", description="A person is as near as the nearest of their images, or as the mean of them."
    )


class EnrolForm(Form):
    """Images of a person, all of which are taken in, or none."""

    identity: Name = Field(description="Who it is.")
    img: Images
    face: OneFace = Field("largest", description=_WHICH)
    metadata: Metadata | None = Field(None, description=f"Anything in JSON, up to {LARGEST_METADATA} bytes.")
    min_quality: float | None = Field(None, ge=0, le=1, description="Faces of a lower quality are refused.")
    if_exists: Literal["add", "raise", "replace"] = Field(
        "add", description="What to do where there is somebody of that name: add images, refuse, or replace them."
    )


class RenameForm(Form):
    """A person's new name."""

    identity: Name = Field(description="The new name.")
    merge: bool = Field(default=False, description="Whether somebody may bear it already: then the two become one.")


_F = TypeVar("_F", bound=Form)
Part = tuple[str, str | bytes]
"""A field of a form: its name, and text or a file."""


def form_of_json(model: type[_F], body: bytes) -> _F:
    """Check a body of JSON; raises `Problem`."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _problem(error) from None


def form_of_parts(model: type[_F], parts: list[Part]) -> _F:
    """Check the fields of a form: files are images, text is JSON, but for words, which stand as they are.

    Raises
    ------
    Problem
    """
    values: dict[str, Any] = {}
    for name, content in parts:
        field = model.model_fields.get(name)
        value = content
        if isinstance(content, str) and field is not None and not _is_word(field.annotation):
            value = _json_value(name, content)
        if field is not None and get_origin(field.annotation) is list:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise Problem("invalid", f"{name[:80]} is given more than once")
        else:
            values[name] = value
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _problem(error) from None


def _is_word(annotation: Any) -> bool:
    """Whether a field holds text: a string, an image (in base64), or one of several words."""
    return annotation in (str, bytes) or get_origin(annotation) in (Literal, list)


def _json_value(name: str, text: str) -> Any:
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError:
        raise Problem("invalid", f"{name}: {text[:40]!r} is not a value in JSON, such as true, 0.001 or {{}}") from None


def _problem(error: ValidationError) -> Problem:
    """The first thing that is wrong, in a sentence."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return Problem("bad-request", f"the body is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}")
    where = ".".join(str(part)[:80] for part in first["loc"]) or "the body"
    words = {"missing": "is missing", "extra_forbidden": "is not a field of this request"}
    said = first["msg"].removeprefix("Value error, ").replace("Input should", "should", 1)
    return Problem("invalid", f"{where} {words.get(first['type'], said)}")
