"""What callers send is checked to the letter, as JSON and as a form alike."""

from __future__ import annotations

import base64
import json

import pytest

from spherecv.serve import forms
from spherecv.serve.problems import Problem

PIXELS = base64.b64encode(b"pixels").decode()


def of_json(model, **values):
    return forms.form_of_json(model, json.dumps(values).encode())


def of_parts(model, **values):
    return forms.form_of_parts(model, list(values.items()))


def test_both_kinds_of_body_mean_the_same() -> None:
    a = of_json(forms.VerifyForm, img1=PIXELS, img2=PIXELS, far=0.001, crops=True, face="center")
    b = of_parts(forms.VerifyForm, img1=b"pixels", img2=PIXELS, far="0.001", crops="true", face="center")
    assert a == b
    assert (a.img1, a.crops, a.far) == ([b"pixels"], True, 0.001)
    a = of_json(forms.EnrolForm, identity="Ann", img=PIXELS, metadata={"n": [1]}, if_exists="add")
    b = forms.form_of_parts(
        forms.EnrolForm,
        [("identity", "Ann"), ("img", b"pixels"), ("metadata", '{"n": [1]}'), ("if_exists", "add")],
    )
    assert a == b
    assert a.img == [b"pixels"]


@pytest.mark.parametrize("word", ["True", "False", "yes", "no", "on", "off", "t", "", '"true"', "1", "0", "1.0"])
def test_booleans_of_a_form_are_true_and_false_alone(word) -> None:
    assert of_parts(forms.VerifyForm, img1=b"a", img2=b"b", crops="false").crops is False
    with pytest.raises(Problem, match="crops"):
        of_parts(forms.VerifyForm, img1=b"a", img2=b"b", crops=word)


@pytest.mark.parametrize("value", ["true", "false", 1, 0, None, [], 0.0])
def test_booleans_of_json_are_booleans(value) -> None:
    with pytest.raises(Problem, match="crops"):
        of_json(forms.VerifyForm, img1=PIXELS, img2=PIXELS, crops=value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "img is missing"),
        ({"img": 7}, "img must be an image"),
        ({"img": "/tmp/x.jpg"}, "img must be an image in base64"),
        ({"img": PIXELS, "path": "/etc/passwd"}, "path is not a field"),
        ({"img": PIXELS, "face": "every"}, "face should be 'largest'"),
        ({"img": PIXELS, "k": 0}, "k should be greater"),
        ({"img": PIXELS, "k": 3.5}, "k should be a valid integer"),
        ({"img": PIXELS, "k": "3"}, "k should be a valid integer"),
        ({"img": PIXELS, "k": 10**30}, "k should be less"),
        ({"img": PIXELS, "far": 0}, "far should be greater"),
        ({"img": PIXELS, "far": 1}, "far should be less"),
        ({"img": PIXELS, "far": "0.1"}, "far should be a valid number"),
    ],
)
def test_one_sentence_says_what_is_wrong(values, words) -> None:
    with pytest.raises(Problem, match=words) as refusal:
        of_json(forms.IdentifyForm, **values)
    assert refusal.value.status == 422
    assert "\n" not in refusal.value.detail


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"img": NaN}', b'{"img": "\\ud800"}', b"[" * 100_000, b'{"k":' * 5000],
)
def test_a_body_that_is_no_object_is_a_problem(body) -> None:
    with pytest.raises(Problem) as refusal:
        forms.form_of_json(forms.IdentifyForm, body)
    assert refusal.value.status in (400, 422)


@pytest.mark.parametrize("far", ["NaN", "Infinity", "-Infinity", "1e-400", "0x1", "1_0"])
def test_numbers_of_a_form_are_numbers(far) -> None:
    with pytest.raises(Problem, match="far"):
        of_parts(forms.IdentifyForm, img=b"a", far=far)


def test_a_field_given_twice_is_refused_but_for_pictures_of_a_person() -> None:
    with pytest.raises(Problem, match="face is given more than once"):
        forms.form_of_parts(forms.IdentifyForm, [("img", b"a"), ("face", "all"), ("face", "all")])
    with pytest.raises(Problem, match="img is given more than once"):
        forms.form_of_parts(forms.IdentifyForm, [("img", b"a"), ("img", b"b")])
    several = forms.form_of_parts(forms.EnrolForm, [("identity", "Ann"), ("img", b"a"), ("img", b"b")])
    assert several.img == [b"a", b"b"]


@pytest.mark.parametrize("name", ["Ann", "Zoë/Ünal", "李 小龍", "a" * 200, "می\u200cخواهم", "..."])
def test_names_of_people(name) -> None:
    assert of_parts(forms.RenameForm, identity=name).identity == name


@pytest.mark.parametrize(
    "name", ["", " ", "a" * 201, "a\nb", "a\x00", "\x1b[31m", "\u2028", "\u202egnp.exe", ".", "..", "\ud800"]
)
def test_what_is_no_name(name) -> None:
    with pytest.raises(Problem) as refusal:
        of_parts(forms.RenameForm, identity=name)
    assert refusal.value.status == 422


def test_metadata_is_small_json() -> None:
    for metadata in ({"a": "x" * 5000}, [1], "text", {"a": float("nan")}):
        with pytest.raises(Problem):
            of_json(forms.EnrolForm, identity="Ann", img=PIXELS, metadata=metadata)
    deep = '{"a":' * 3000 + "1" + "}" * 3000
    with pytest.raises(Problem):
        of_parts(forms.EnrolForm, identity="Ann", img=b"a", metadata=deep)
