from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherecv.checks import (
    batch_of,
    check_choice,
    check_count,
    check_distance,
    check_path,
    check_rate,
    check_share,
    check_stage,
    shown,
)
from spherecv.errors import InvalidArgumentError


@pytest.mark.parametrize("value", ["0.001", float("nan"), 0, 1, 2, -0.1, True, None, [0.1]])
def test_what_is_no_rate_is_refused_and_shown(value: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^far must be a number within 0\.\.1, both exclusive, but got "):
        check_rate("far", value)


@pytest.mark.parametrize("value", ["0.5", float("nan"), float("inf"), -0.1, True, False, None])
def test_what_is_no_distance_is_refused_and_shown(value: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^threshold must be a distance of 0 or more, but got "):
        check_distance("threshold", value)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.array])
def test_numbers_of_numpy_are_numbers(kind: type) -> None:
    assert check_rate("far", kind(0.001)) == check_distance("threshold", kind(0.001)) == 0.001
    assert check_share("min_quality", kind(1)) == 1.0
    for whole in (np.int64(2), np.uint8(2), np.array(2)):
        assert type(check_count("k", whole)) is int
    for refused in (np.array([0.5]), np.bool_(True), np.float32("nan")):
        with pytest.raises(InvalidArgumentError):
            check_rate("far", refused)


@pytest.mark.parametrize("value", ["1", 0, -1, 1.0, True, None, float("nan"), [1]])
def test_what_is_no_count_is_refused_and_shown(value: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^k must be a whole number from 1, but got "):
        check_count("k", value)


@pytest.mark.parametrize("value", ["c", "", None, 1, True, ["a"], np.array(["a"])])
def test_what_is_no_choice_is_refused_with_the_known_ones(value: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^name must be one of a, b, 2, but got "):
        check_choice("name", value, ("a", "b", 2))


def test_choices_and_counts_come_back() -> None:
    assert [check_choice("name", value, {"a": 0, "b": 1}) for value in ("a", np.str_("b"))] == ["a", "b"]
    assert [check_count("k", value) for value in (1, np.int64(7))] == [1, 7]
    assert type(check_count("k", np.int64(7))) is int


def test_numbers_of_any_kind_are_numbers() -> None:
    assert check_rate("far", np.float32(0.5)) == 0.5
    assert [check_distance("threshold", value) for value in (0, np.float64(0.5), np.int64(2))] == [0, 0.5, 2]


@pytest.mark.parametrize(
    "one",
    [
        None,
        3,
        b"\xff\xd8",
        io.BytesIO(b"\xff\xd8"),
        np.zeros((4, 5, 3), np.uint8),
        np.zeros((4, 5), np.float32),
        Image.new("RGB", (4, 5)),
    ],
)
def test_one_image_is_no_batch(one: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^images must be several"):
        batch_of("images", one)


@pytest.mark.parametrize("path", ["a.jpg", Path("a.jpg")])
def test_a_path_alone_is_answered_with_the_list_that_was_meant(path: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"did you mean \['a\.jpg'\]\?$"):
        batch_of("images", path)


def test_batches_of_every_kind_pass_item_by_item() -> None:
    stack = np.zeros((2, 4, 5, 3), np.uint8)
    assert [image.shape for image in batch_of("images", stack)] == [(4, 5, 3)] * 2
    for batch in (["a", "b"], ("a", "b"), {"a": 1, "b": 2}, np.array(["a", "b"]), (name for name in "ab")):
        assert list(batch_of("images", batch)) == ["a", "b"]


def test_paths_and_stages_are_told_from_what_is_none() -> None:
    check_path("a model must be a path", Path("x"))
    check_stage("a", np.random.default_rng(), "random")
    with pytest.raises(InvalidArgumentError, match=r"^a model must be a path, but got None$"):
        check_path("a model must be a path", None)
    with pytest.raises(InvalidArgumentError, match=r"^a detector, but got a value of type object$"):
        check_stage("a detector", object(), "detect_batch")


def test_a_long_value_is_called_by_its_type() -> None:
    assert shown("x" * 1000) == "a value of type str"
    assert shown([1, 2]) == "a value of type list"
    assert (shown("x"), shown(None), shown(1.5)) == ("'x'", "None", "1.5")
