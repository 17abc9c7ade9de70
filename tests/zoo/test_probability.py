from __future__ import annotations

import math

import numpy as np
import pytest

from spherecv.errors import InvalidArgumentError
from spherecv.records import probability_text
from spherecv.zoo.probability import ProbabilityCurve


def curve(method: str = "isotonic", distances=(0.2, 0.4, 0.8), ratios=(3.0, 1.0, -4.0)) -> ProbabilityCurve:
    return ProbabilityCurve(method=method, distances=distances, log_ratios=ratios, ece={})


def test_ratios_are_joined_by_straight_lines() -> None:
    for distance in np.linspace(0.2, 0.8, 31):
        assert curve().log_ratio(distance) == pytest.approx(np.interp(distance, (0.2, 0.4, 0.8), (3.0, 1.0, -4.0)))


def test_beyond_its_knots_a_line_goes_on_and_steps_stay() -> None:
    line = curve("logistic", (0.2, 0.4), (3.0, 1.0))
    assert line.log_ratio(0.0) == pytest.approx(5.0)
    assert line.log_ratio(1.0) == pytest.approx(-5.0)
    assert curve().log_ratio(0.0) == 3.0
    assert curve().log_ratio(1.0) == -4.0


@pytest.mark.parametrize("prior", [0.5, 0.01, 0.9])
def test_a_probability_is_bayes_rule(prior: float) -> None:
    ratio = math.exp(curve().log_ratio(0.3))
    assert curve().probability(0.3, prior) == pytest.approx(prior * ratio / (prior * ratio + 1 - prior))


def test_extremes_do_not_overflow() -> None:
    steep = curve("logistic", (0.0, 1e-6), (1e6, -1e6))
    assert steep.probability(5.0) == pytest.approx(0.0)
    assert steep.probability(0.0) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("distances", "ratios"),
    [((0.2,), (1.0,)), ((0.2, 0.2), (1.0, 0.0)), ((0.2, 0.4), (0.0, 1.0)), ((0.2, 0.4), (1.0, 0.5, 0.0))],
)
def test_what_is_no_falling_curve_is_refused(distances, ratios) -> None:
    with pytest.raises(InvalidArgumentError, match="two or more knots"):
        curve("isotonic", distances, ratios)
    with pytest.raises(InvalidArgumentError, match="method"):
        curve("magic")


def test_no_probability_is_written_as_certain() -> None:
    shown = {0.0: "below 0.001", 4e-4: "below 0.001", 6e-4: "0.001", 0.5: "0.500", 0.9994: "0.999", 1.0: "above 0.999"}
    assert {value: probability_text(value) for value in shown} == shown
