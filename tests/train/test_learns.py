"""It learns: SphereFace-4 from nothing on 30 people of ORL, looked at on the 10 others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spherecv.caffe.architectures import sphereface
from spherecv.train.angles import Angles, measure_angles, pair_accuracy
from spherecv.train.backend import open_backend
from spherecv.train.data import Augmentation, Dataset, Loader, ShuffledOrder, View, from_folder
from spherecv.train.losses import ASoftmax, LambdaSchedule, Loss, SoftmaxLoss
from spherecv.train.net import Net
from spherecv.train.policies import Policy
from spherecv.train.solver import SolverSettings
from spherecv.train.trainer import Pixels, Trainer

SIZE, STEPS = (28, 24), 300  # a quarter of the full size: a sixteenth of the work


def _pictures(people: Dataset) -> np.ndarray:
    view = View(*SIZE, resize=SIZE)
    return Pixels()(np.stack([view.read(item, np.random.default_rng(0)) for item in people.items]))


def _embed(net: Net, pictures: np.ndarray) -> np.ndarray:
    net.train(False)
    embeddings = net.forward({"data": pictures}, learn=False).blobs["fc5"].copy()
    net.train()
    return embeddings


def _learn(loss: Loss, known: Dataset, unknown: Dataset) -> tuple[float, float, Angles]:
    """Accuracy on unknown people before and after, and the angles of the known."""
    net = Net(sphereface(4), {"data": (32, 3, *SIZE)}, open_backend("cpu", threads=2))
    policy = Policy("multistep", 0.03, stepvalue=(STEPS * 2 // 3, STEPS * 8 // 9))
    settings = SolverSettings(policy=policy, momentum=0.9, weight_decay=5e-4, max_iter=STEPS)
    view = View(*SIZE, resize=SIZE, augmentation=Augmentation(mirror=True))
    strangers = _pictures(unknown)
    before = pair_accuracy(_embed(net, strangers), unknown.labels())
    with Loader(known, ShuffledOrder(len(known.items), 32), view, workers=1) as loader:
        trainer = Trainer(net, settings, loader, loss=loss, embedding="fc5")
        trainer.run(STEPS)
    after = pair_accuracy(_embed(net, strangers), unknown.labels())
    return before, after, measure_angles(_embed(net, _pictures(known)), known.labels())


@pytest.mark.timeout(1200)  # half a minute, but on a machine that others use as well it may be many
def test_open_set_accuracy_and_angles(orl: Path) -> None:
    people = from_folder(orl)
    known, unknown = people.of_classes(range(30)), people.of_classes(range(30, 40))
    pixels = pair_accuracy(_pictures(unknown).reshape(len(unknown.items), -1), unknown.labels())
    schedule = LambdaSchedule(gamma=2.0)
    before, after, angular = _learn(ASoftmax(30, margin=4, schedule=schedule), known, unknown)
    assert after > before + 0.05
    assert after > pixels
    _, _, plain = _learn(SoftmaxLoss(30, bias=False), known, unknown)
    assert angular.ratio > plain.ratio
