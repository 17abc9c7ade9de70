from __future__ import annotations

import math

import pytest

from spherecv.errors import InvalidArgumentError
from spherecv.train.policies import Policy


@pytest.mark.parametrize(
    ("policy", "iteration", "rate"),
    [
        (Policy("fixed", 0.1), 99, 0.1),
        (Policy("step", 0.1, gamma=0.5, stepsize=10), 9, 0.1),
        (Policy("step", 0.1, gamma=0.5, stepsize=10), 20, 0.025),
        (Policy("exp", 0.1, gamma=0.9), 3, 0.1 * 0.9**3),
        (Policy("inv", 0.1, gamma=0.01, power=0.75), 50, 0.1 * 1.5**-0.75),
        (Policy("multistep", 0.1, gamma=0.1, stepvalue=(16000, 24000, 28000)), 15999, 0.1),
        (Policy("multistep", 0.1, gamma=0.1, stepvalue=(16000, 24000, 28000)), 24000, 0.001),
        (Policy("poly", 0.1, power=2, max_iter=100), 50, 0.025),
        (Policy("sigmoid", 0.1, gamma=-0.1, stepsize=50), 60, 0.1 / (1 + math.e)),
        (Policy("sigmoid", 0.1, gamma=1.0, stepsize=5000), 0, 0.0),
        (Policy("cosine", 0.1, max_iter=100), 50, 0.05),
        (Policy("cosine", 0.1, max_iter=100), 100, 0.0),
        (Policy("cosine", 0.1, max_iter=300, restarts=(100,)), 50, 0.05),
        (Policy("cosine", 0.1, max_iter=300, restarts=(100,)), 100, 0.1),
        (Policy("cosine", 0.1, max_iter=300, restarts=(100,)), 200, 0.05),
        (Policy("cosine", 0.1, max_iter=300, restarts=(100,)), 300, 0.0),
        (Policy("cosine", 0.1, max_iter=300, restarts=(100,), warmup=4), 100, 0.025),
        (Policy("cosine", 0.1, max_iter=300, restarts=(100,), warmup=4), 200, 0.05),
        (Policy("exp", 0.1, gamma=10), 400, math.inf),
        (Policy("poly", 0.1, power=-1, max_iter=10), 10, math.inf),
        (Policy("fixed", 0.1, warmup=4), 0, 0.025),
        (Policy("fixed", 0.1, warmup=4), 10, 0.1),
    ],
)
def test_rates(policy: Policy, iteration: int, rate: float) -> None:
    assert policy(iteration) == pytest.approx(rate, abs=1e-12)


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "plateau"},
        {"kind": "step"},
        {"kind": "poly"},
        {"kind": "inv", "gamma": -0.1},
        {"kind": "exp", "gamma": float("nan")},
        {"kind": "cosine", "max_iter": 9, "restarts": (5, 5)},
        {"kind": "cosine", "max_iter": 9, "restarts": (9,)},
        {"kind": "poly", "max_iter": 9, "restarts": (5,)},
        {"base_lr": -1},
        {"base_lr": float("nan")},
    ],
)
def test_senseless(settings: dict) -> None:
    with pytest.raises(InvalidArgumentError):
        Policy(**settings)


@pytest.mark.parametrize(
    ("stepvalue", "rates"),
    [((2, 2), [1, 1, 0.1, 0.01, 0.01]), ((5, 2), [1, 1, 1, 1, 1, 0.1, 0.01]), ((0, 1), [0.1, 0.01])],
)
def test_multistep_takes_one_step_per_iteration(stepvalue: tuple[int, ...], rates: list[float]) -> None:
    """As real Caffe (BVLC 9b891540) does; the counter and the closed form say the same."""
    policy, step = Policy("multistep", 1.0, gamma=0.1, stepvalue=stepvalue), 0
    for iteration, rate in enumerate(rates):
        step = policy.advance(step, iteration)
        assert policy(iteration) == policy(iteration, step) == pytest.approx(rate)


def test_a_counter_catches_up_and_never_goes_back() -> None:
    policy, step, rates = Policy("multistep", 1.0, gamma=0.1, stepvalue=(1, 2)), 0, []
    for iteration in (3, 4, 5):
        step = policy.advance(step, iteration)
        rates.append(policy(iteration, step))
    assert rates == pytest.approx([0.1, 0.01, 0.01])
    assert Policy("multistep", 1.0, gamma=0.1, stepvalue=(50,)).advance(1, 3) == 1


def test_restarts_agree_with_pytorch() -> None:
    torch = pytest.importorskip("torch")
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimiser, T_0=10, T_mult=2)
    ours = Policy("cosine", 0.1, max_iter=70, restarts=(10, 30))
    for iteration in range(70):
        assert ours(iteration) == pytest.approx(optimiser.param_groups[0]["lr"], abs=1e-12)
        optimiser.step()
        theirs.step()
