from __future__ import annotations

import json

import numpy as np

from spherecv.evaluate.figures import verification_figures


def pairs(impostors: int = 400):
    generator = np.random.default_rng(0)
    same = np.arange(400 + impostors) < 400
    people = generator.integers(50, size=(len(same), 2))
    people[same, 1] = people[same, 0]
    return generator.normal(size=len(same)) + 2.5 * ~same, same, people


def test_figures_hold_their_values_and_only_supported_rates() -> None:
    distances, same, people = pairs()
    figures = verification_figures(distances, same, people, replicates=50)
    assert list(figures.tar) == [0.1]
    assert figures.unsupported == (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    assert figures.identities == len(np.unique(people))
    for figure in (figures.accuracy, figures.eer, figures.auc, figures.tar[0.1]):
        assert figure.interval[0] <= figure.value <= figure.interval[1]
    assert figures.accuracy_at == "best threshold of these pairs"
    json.dumps(figures.to_dict(), allow_nan=False)


def test_a_threshold_chosen_elsewhere_is_used_for_one_or_for_each_pair() -> None:
    distances, same, people = pairs()
    one = verification_figures(distances, same, people, threshold=0.4, threshold_from="elsewhere", replicates=0)
    each = verification_figures(distances, same, people, threshold=np.full(len(same), 0.4), replicates=20)
    assert one.accuracy.value == each.accuracy.value == np.mean((distances <= 0.4) == same)
    assert one.accuracy.threshold == 0.4
    assert each.accuracy.threshold is None
    assert np.isnan(one.accuracy.interval).all()
    assert one.accuracy_at == "elsewhere"


def test_one_class_alone_has_an_accuracy_and_nothing_else() -> None:
    figures = verification_figures([0.1, 0.2, 0.9], [True, True, True], [[0, 0], [1, 1], [2, 2]], threshold=0.5)
    assert figures.accuracy.value == 2 / 3
    assert np.isnan(figures.eer.value)
    assert figures.tar == {}
    json.dumps(figures.to_dict(), allow_nan=False)
