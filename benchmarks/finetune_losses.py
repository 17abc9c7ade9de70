"""Which loss is worth it for fine-tuning: sphereface-mini's last layer on 30 people of ORL, looked at on the 10 others.

    python benchmarks/finetune_losses.py orl/ [--splits 5] [--iterations 200]

`orl/` holds a folder per person. All layers but the last stay, so their output is computed once for some variations of
every image, and one loss takes seconds. For each loss, over several splits of the people: the equal error rate, the
true accept rate at FAR 1e-2 and the mean angles of the ten people the net has not seen, before and after.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from spherecv.caffe.graph import layers_of
from spherecv.train.backend import open_backend
from spherecv.train.data import BalancedOrder, Dataset, ShuffledOrder, View, from_folder
from spherecv.train.data.loader import Batch
from spherecv.train.finetune import VARIED, annealed, plan
from spherecv.train.net import Net
from spherecv.train.recipes import LOSSES, deployed, make_loss
from spherecv.train.rescale import balance_rates
from spherecv.train.trainer import Feed, Pixels, Trainer
from spherecv.train.validation import Validation, validate
from spherecv.train.weights import load_weights
from spherecv.zoo import models_dir

SIZE, VARIATIONS, BATCH = (112, 96), 6, 32


class Cached:
    """Batches of what the frozen layers give, a variation of each image drawn at random."""

    def __init__(self, maps: np.ndarray, labels: np.ndarray, order, seed: int) -> None:
        self.maps, self.labels, self.order, self.seed, self.next_number = maps, labels, order, seed, 0

    def next(self) -> Batch:
        places = self.order.batch(self.next_number)
        drawn = np.random.default_rng((self.seed, self.next_number)).integers(1, len(self.maps), len(places))
        batch = Batch(self.next_number, self.maps[drawn, places], self.labels[places], places, ())
        self.next_number += 1
        return batch

    def seek(self, number: int) -> None:
        self.next_number = number


def trunk_maps(people: Dataset) -> tuple[np.ndarray, np.ndarray, Net]:
    """Return the last layer's input for every image: as it is, mirrored, and varied; and a net of that layer alone."""
    name = models_dir() / "sphereface-mini"
    definition, _, embedding = deployed(f"{name}.prototxt")
    net = Net(definition, {"data": (BATCH, 3, *SIZE)}, open_backend("cpu", threads=2))
    load_weights(net, f"{name}.caffemodel")
    (last,) = [spec for spec in layers_of(definition) if embedding in spec.tops]
    bottom = last.bottoms[0]
    plain, varied = View(*SIZE, resize=SIZE), View(*SIZE, resize=SIZE, augmentation=VARIED)
    rng = np.random.default_rng(0)
    images = np.stack([plain.read(item, rng) for item in people.items])
    sets = [images, images[:, :, ::-1]]
    sets += [np.stack([varied.read(item, rng) for item in people.items]) for _ in range(VARIATIONS)]
    net.train(False)
    maps = np.stack(
        [np.concatenate([_run(net, part[i : i + BATCH], bottom) for i in range(0, len(part), BATCH)]) for part in sets]
    )
    head = Net.from_prototxt(_head(last, maps.shape[2:], bottom), net.backend)
    load_weights(head, f"{name}.caffemodel")
    return maps, people.labels(), head


def _run(net: Net, images: np.ndarray, bottom: str) -> np.ndarray:
    return np.array(
        net.forward({"data": Pixels()(np.ascontiguousarray(images))}, keep=[bottom], learn=False).blobs[bottom]
    )


def _head(last, shape: tuple[int, ...], bottom: str) -> bytes:
    height, width, channels = shape
    text = f'input: "{bottom}" input_shape {{ dim: {BATCH} dim: {channels} dim: {height} dim: {width} }}\n'
    return f"{text}layer {{ {last.param} }}".encode()


def measure(head: Net, maps: np.ndarray, labels: np.ndarray) -> Validation:
    (data,) = head.inputs
    sides = [np.array(head.forward({data: side}, learn=False).blobs["fc5"]) for side in maps[:2]]
    return validate(np.concatenate(sides, axis=1), labels)


def tune(head: Net, loss_name: str, maps: np.ndarray, labels: np.ndarray, iterations: int, seed: int) -> None:
    (data,) = head.inputs
    settings = plan(len(labels), iterations=iterations, head_only=True, random_seed=seed)
    loss = make_loss(loss_name, int(labels.max()) + 1, schedule=annealed(iterations))
    order = (
        BalancedOrder(labels, identities=8, pictures=4, seed=seed)
        if loss_name == "triplet"
        else ShuffledOrder(len(labels), BATCH, seed=seed)
    )
    batches = Cached(maps, labels, order, seed)
    feed = Feed(Pixels((0.0,), 1.0), data=data)
    trainer = Trainer(head, settings, batches, loss=loss, embedding="fc5", feed=feed)
    loss.imprint(np.array(head.forward({data: maps[0]}, learn=False).blobs["fc5"]), labels)
    trainer.run(iterations)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("orl", type=Path)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=200)
    arguments = parser.parse_args()
    maps, labels, head = trunk_maps(from_folder(arguments.orl))
    start = [np.array(param.data) for param in head.params]
    balance_rates(head)
    found: dict[str, list[Validation]] = {"before": []}
    for split in range(arguments.splits):
        people = np.random.default_rng(split).permutation(labels.max() + 1)
        new = np.isin(labels, people[:10])
        known = np.unique(labels[~new], return_inverse=True)[1]
        for name in ("before", *LOSSES):
            for param, values in zip(head.params, start, strict=True):
                param.data = values.copy()
            if name != "before":
                tune(head, name, maps[:, ~new], known, arguments.iterations, split)
            found.setdefault(name, []).append(measure(head, maps[:, new], labels[new]))
    print("| loss | EER, % (each split) | TAR at FAR 1e-2, % | angle within | between |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, rows in found.items():
        rates = ", ".join(f"{100 * row.eer:.1f}" for row in rows)
        mean = {field: np.mean([getattr(row, field) for row in rows]) for field in ("eer", "tar", "within", "between")}
        print(
            f"| {name} | {100 * mean['eer']:.2f} ({rates}) | {100 * mean['tar']:.1f} | {mean['within']:.1f} | "
            f"{mean['between']:.1f} |"
        )


if __name__ == "__main__":
    main()
