"""Limits that are none are refused before they let anything through."""

from __future__ import annotations

import pytest

from spherecv.errors import InvalidArgumentError
from spherecv.serve import ServiceSettings


@pytest.mark.parametrize("name", ["max_body", "max_pixels", "queue", "time_limit", "receive_limit"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_every_limit_is_above_zero_and_is_one(name, value) -> None:
    with pytest.raises(InvalidArgumentError, match=f"{name} must be above 0, but got"):
        ServiceSettings(**{name: value})


@pytest.mark.parametrize("name", ["time_limit", "receive_limit"])
def test_nobody_waits_longer_than_a_day(name) -> None:
    assert getattr(ServiceSettings(**{name: 86_400}), name) == 86_400
    with pytest.raises(InvalidArgumentError, match=f"{name} must be at most 86400 seconds"):
        ServiceSettings(**{name: 1e12})  # which no lock of Python's can wait


@pytest.mark.parametrize(
    ("name", "least"), [("max_body", 1024), ("max_pixels", 9216), ("time_limit", 0.1), ("receive_limit", 0.1)]
)
def test_a_limit_that_nothing_passes_is_refused(name, least) -> None:
    assert getattr(ServiceSettings(**{name: least}), name) == least
    with pytest.raises(InvalidArgumentError, match=f"{name} must be at least {least}, or no photo would ever"):
        ServiceSettings(**{name: least * 0.9})


def test_the_largest_body_must_fit_what_is_held() -> None:
    with pytest.raises(InvalidArgumentError, match="max_held must be at least max_body"):
        ServiceSettings(max_body=2000, max_held=1999)
