from __future__ import annotations

from itertools import pairwise

import pytest

from spherecv import FacePipeline
from spherecv.errors import MissingThresholdError
from spherecv.rates import measured_rates, threshold_at
from spherecv.zoo import DEFAULT_MODEL


@pytest.fixture(scope="module")
def pipeline() -> FacePipeline:
    return FacePipeline(DEFAULT_MODEL)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_every_rate_that_is_named_has_a_threshold(pipeline: FacePipeline, metric: str) -> None:
    rates = measured_rates(pipeline, metric)
    assert rates == sorted(rates, reverse=True)
    assert rates[:2] == [1e-2, 1e-3]
    cuts = [threshold_at(pipeline, metric, far) for far in rates]
    assert [cut.far for cut in cuts] == rates
    assert all(one.value > next_one.value for one, next_one in pairwise(cuts))
    assert threshold_at(pipeline, metric, None).far is None
    with pytest.raises(MissingThresholdError, match=r"known rates: 0\.01, 0\.001"):
        threshold_at(pipeline, metric, 0.5)
