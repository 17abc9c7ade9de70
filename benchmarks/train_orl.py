"""That the trainer learns, as a curve: SphereFace-4 from nothing on 30 people of ORL, looked at on the 10 others.

For plain softmax and for A-Softmax (m = 4) with equal iterations: the accuracy on pairs of unknown people (at the best
threshold, genuine and impostor pairs weighing the same) and the mean angles between and within the known identities.
Beside them the untrained net and cosine on the pixels themselves.

    python benchmarks/train_orl.py orl/ --iterations 300 --every 60

`orl/` holds a folder per person. A quarter of the full size, so that it takes a minute or two on two cores.
"""

from __future__ import annotations

import argparse
import csv
import sys

import numpy as np

from spherecv.caffe.architectures import sphereface
from spherecv.train.angles import measure_angles, pair_accuracy
from spherecv.train.backend import open_backend
from spherecv.train.data import Augmentation, Dataset, Loader, ShuffledOrder, View, from_folder
from spherecv.train.losses import ASoftmax, LambdaSchedule, Loss, SoftmaxLoss
from spherecv.train.net import Net
from spherecv.train.policies import Policy
from spherecv.train.solver import SolverSettings
from spherecv.train.trainer import Pixels, Trainer

SIZE = (28, 24)


def read(people: Dataset) -> np.ndarray:
    view = View(*SIZE, resize=SIZE)
    return Pixels()(np.stack([view.read(item, np.random.default_rng(0)) for item in people.items]))


def embed(net: Net, images: np.ndarray) -> np.ndarray:
    net.train(False)
    embeddings = net.forward({"data": images}, learn=False).blobs["fc5"].copy()
    net.train()
    return embeddings


def curve(loss: Loss, known: Dataset, unknown: Dataset, iterations: int, every: int, seed: int):
    """Yield the iteration, the loss, the accuracy on the unknown, and the angles of the known."""
    net = Net(sphereface(4), {"data": (32, 3, *SIZE)}, open_backend("cpu", threads=2), seed=seed)
    policy = Policy("multistep", 0.03, stepvalue=(iterations * 2 // 3, iterations * 8 // 9))
    settings = SolverSettings(policy=policy, momentum=0.9, weight_decay=5e-4, max_iter=iterations, average_loss=20)
    view = View(*SIZE, resize=SIZE, augmentation=Augmentation(mirror=True))
    seen, strangers = read(known), read(unknown)
    with Loader(known, ShuffledOrder(len(known.items), 32, seed=seed), view, workers=1, seed=seed) as loader:
        trainer = Trainer(net, settings, loader, loss=loss, embedding="fc5")
        while True:
            accuracy = pair_accuracy(embed(net, strangers), unknown.labels())
            yield trainer.iteration, trainer.smoothed, accuracy, measure_angles(embed(net, seen), known.labels())
            if trainer.iteration >= iterations:
                return
            trainer.run(min(every, iterations - trainer.iteration))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--every", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    people = from_folder(arguments.folder)
    known, unknown = people.of_classes(range(30)), people.of_classes(range(30, 40))
    pixels = pair_accuracy(read(unknown).reshape(len(unknown.items), -1), unknown.labels())
    print(f"cosine on pixels: {pixels:.4f} of the pairs of unknown people")
    rows = csv.writer(sys.stdout)
    rows.writerow(["loss", "seed", "iteration", "training loss", "accuracy", "within", "between", "ratio"])
    for seed in range(arguments.seeds):
        losses = {"softmax": SoftmaxLoss(30, bias=False), "a-softmax": ASoftmax(30, schedule=LambdaSchedule(gamma=2.0))}
        for name, loss in losses.items():
            for iteration, value, accuracy, angles in curve(
                loss, known, unknown, arguments.iterations, arguments.every, seed
            ):
                numbers = (f"{angles.within:.1f}", f"{angles.between:.1f}", f"{angles.ratio:.2f}")
                rows.writerow([name, seed, iteration, f"{value:.4f}", f"{accuracy:.4f}", *numbers])
                sys.stdout.flush()


if __name__ == "__main__":
    main()
