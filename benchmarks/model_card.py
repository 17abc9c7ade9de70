"""The figures of a model's card and the rows of its manifest entry, measured on LFW view 1 and more.

    python benchmarks/model_card.py MODEL --recipe RECIPE --lfw LFW --rows ROWS.toml --cache FOLDER
        [--pairs MASTER.csv] [--faces FACES --table FACES.csv]

MODEL is a name or PROTOTXT,CAFFEMODEL. LFW holds images/ and the two lists of view 1, whose people are disjoint. The
threshold of best accuracy comes from DevTrain's listed pairs, those of a rate and the probabilities from all pairs of
its images; both are checked on DevTest. MASTER.csv is a list of pairs beside its images, FACES a folder of ready-made
crops of different people with a table of their groups. The manifest's rows go to ROWS.toml, the card's tables to
standard output.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from measure import machine_line

FAR = (1e-2, 1e-3, 1e-4, 1e-5)
METRICS = ("cosine", "euclidean")
RULE = "best accuracy"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--lfw", type=Path, required=True)
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--faces", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="folder for embeddings")
    arguments = parser.parse_args()

    from spherecv.evaluate import Subject
    from spherecv.evaluate.calibrating import Choice, calibrate_subject
    from spherecv.zoo import ModelSource

    prototxt, comma, caffemodel = arguments.model.partition(",")
    model = ModelSource.from_caffe(prototxt, caffemodel, recipe=arguments.recipe) if comma else prototxt
    photos = Subject.of(model, recipe=arguments.recipe, preset=None, face="center")
    images, lists = arguments.lfw / "images", [arguments.lfw / f"pairsDev{part}.txt" for part in ("Train", "Test")]

    def saved(folder: Any, mirror: bool) -> Path:
        digest = f"{photos.source.key}-{Path(folder).name}-{mirror}"
        return Path(arguments.cache / f"{digest}.npz")

    calibrations = {}
    for metric in METRICS:
        plain = calibrate_subject(lists[0], photos, Choice(metric=metric), images=images, saved=saved)
        choice = Choice(rule=FAR[0], rates=FAR[1:], impostors="all", metric=metric)
        every = calibrate_subject(lists[0], photos, choice, images=images, saved=saved)
        best = [row for row in plain.thresholds if row.chosen_for == RULE]
        rates = [row for row in every.thresholds if row.far in FAR]
        calibrations[metric] = replace(every, thresholds=(*best, *rates)), plain.genuine + plain.impostors
    rows, people = faces_of(photos, images, lists[0], saved)
    best_rates = {
        metric: false_accept_rate(rows, people, metric, calibration.thresholds[0].threshold)
        for metric, (calibration, _) in calibrations.items()
    }
    text = "\n".join(manifest_rows(photos, calibrations, best_rates, lists[0].name))
    arguments.rows.write_text(text + "\n", encoding="utf-8")

    print(machine_line())
    print("\n".join(accuracy_table(photos, images, lists[1], calibrations, saved)))
    print("\n".join(rates_table(photos, images, lists[1], calibrations, saved)))
    if arguments.pairs:
        print("\n".join(pairs_table(photos, arguments.pairs, calibrations, saved)))
    if arguments.faces:
        crops = Subject.of(model, recipe=arguments.recipe, preset=None, face="whole")
        print("\n".join(groups_tables(crops, arguments, calibrations["cosine"][0], saved)))


def faces_of(subject: Any, images: Path, listed: Path, saved: Any) -> tuple[Any, Any]:
    """Return the embeddings and the people of all images of a list in which a face was found."""
    from spherecv.evaluate.collection import embed_images
    from spherecv.evaluate.pairfiles import read_pairs
    from spherecv.evaluate.pairs import find_pairs

    pairs = find_pairs(read_pairs(listed), images)
    recipe = subject.source.recipe
    found = embed_images(images, pairs.images, subject, saved=saved(images, recipe.mirror))
    kept = [i for i, name in enumerate(pairs.images) if name not in found.failures]
    return found.by(recipe)[found.rows([pairs.images[i] for i in kept])], pairs.identities[kept]


def false_accept_rate(rows: Any, people: Any, metric: str, threshold: float) -> float:
    """Return the share of all pairs of different people that a threshold accepts."""
    from spherecv.metrics import pairwise_distance

    a, b = np.triu_indices(len(rows), 1)
    different = people[a] != people[b]
    return float((pairwise_distance(rows, rows, metric)[a, b][different] <= threshold).mean())


def manifest_rows(
    subject: Any, calibrations: dict[str, Any], best_rates: dict[str, float], source: str
) -> Iterator[str]:
    """Yield the TOML of thresholds and probabilities."""
    name, recipe = subject.source.name, subject.source.recipe
    where = "python benchmarks/model_card.py, SphereCV"
    for metric, (calibration, listed) in calibrations.items():
        for row in calibration.thresholds:
            yield f"\n[[models.{name}.thresholds]]"
            values: dict[str, Any] = {"metric": metric, "threshold": round(row.threshold, 6)}
            values |= {"chosen_for": RULE} if row.far is None else {"far": row.far}
            of = "the pairs" if row.far is None else "all pairs of the images"
            values |= {
                "dataset": f"LFW view 1, {of} of {source}",
                "pairs": listed if row.far is None else calibration.impostors,
                "detector": calibration.detector,
                "recipe": recipe.name,
                "fingerprint": recipe.fingerprint,
            }
            if row.far is not None:
                values |= {"rate": float(f"{row.measured_far:.4g}")}
                values |= {"interval": [float(f"{end:.4g}") for end in row.far_interval]}
            else:
                values |= {"measured_far": float(f"{best_rates[metric]:.3g}")}
            values |= {"reproduced": True, "source": where}
            yield from (f"{key} = {json.dumps(value)}" for key, value in values.items())
    for metric, (calibration, _) in calibrations.items():
        curve = calibration.probability
        yield f"\n[[models.{name}.probabilities]]"
        values = {
            "metric": metric,
            "method": curve.method,
            "distances": list(curve.distances),
            "log_ratios": list(curve.log_ratios),
        }
        yield from (f"{key} = {json.dumps(value)}" for key, value in values.items())
        yield "ece = { " + ", ".join(f"{key} = {value:.5f}" for key, value in curve.ece.items()) + " }"
        values = {
            "dataset": f"LFW view 1, all pairs of the images of {source}",
            "pairs": calibration.genuine + calibration.impostors,
            "detector": calibration.detector,
            "recipe": recipe.name,
            "fingerprint": recipe.fingerprint,
            "source": where,
        }
        yield from (f"{key} = {json.dumps(value)}" for key, value in values.items())


def accuracy_table(subject: Any, images: Path, tested: Path, calibrations: Any, saved: Any) -> Iterator[str]:
    """Yield the accuracy on DevTest at DevTrain's thresholds: of the listed pairs, and of all pairs."""
    from spherecv.evaluate.run import evaluate_lfw, evaluate_pairs

    yield "\n| LFW view 1 DevTest | accuracy, % | 95 % interval | equal error rate, % |"
    yield "| --- | ---: | ---: | ---: |"
    rows = [
        (f"{variant.name}, threshold of DevTrain", variant)
        for variant in evaluate_lfw(
            images, tested, subject, training_pairs=tested.with_name("pairsDevTrain.txt"), saved=saved
        ).variants
    ]
    for metric, (calibration, _) in calibrations.items():
        cut = calibration.thresholds[0].threshold
        experiment = evaluate_pairs(images, tested, subject, metric=metric, threshold=cut, saved=saved)
        rows.append((f"{metric}, the shipped threshold {cut:.4f}", experiment.variants[0]))
    for name, variant in rows:
        accuracy, errors = variant.figures.accuracy, variant.figures.eer
        yield f"| {name} | {share(accuracy.value)} | {interval(accuracy.interval)} | {share(errors.value)} |"


def rates_table(subject: Any, images: Path, tested: Path, calibrations: Any, saved: Any) -> Iterator[str]:
    """Yield how the rates of DevTrain's thresholds hold on all pairs of DevTest's images."""
    from spherecv.evaluate.shares import share_interval
    from spherecv.metrics import pairwise_distance

    rows, people = faces_of(subject, images, tested, saved)
    a, b = np.triu_indices(len(rows), 1)
    different = people[a] != people[b]
    pairs = np.stack([people[a], people[b]], axis=1)[different]
    counts = f"{np.count_nonzero(different):,} impostor and {np.count_nonzero(~different):,} genuine pairs"
    yield f"\nChecked on all {counts} of DevTest's {len(rows):,} images:\n"
    yield "| threshold | chosen on DevTrain for | false accepts there | FAR on DevTest | 95 % interval | TAR |"
    yield "| --- | --- | ---: | ---: | ---: | ---: |"
    for metric, (calibration, _) in calibrations.items():
        distances = pairwise_distance(rows, rows, metric)[a, b]
        for row in calibration.thresholds:
            accepted = distances <= row.threshold
            low, high = share_interval(accepted[different], pairs, replicates=200)
            yield (
                f"| {metric} {row.threshold:.4f} | {row.chosen_for} | {row.false_accepts:,} | "
                f"{accepted[different].mean():.2e} | {low:.1e} to {high:.1e} | {share(accepted[~different].mean())} % |"
            )


def pairs_table(subject: Any, table: Path, calibrations: Any, saved: Any) -> Iterator[str]:
    """Yield what the shipped thresholds make of another list of pairs."""
    from spherecv.evaluate.run import evaluate_pairs

    yield f"\n| {table.parent.name} | accuracy, % | 95 % interval | false accepts, % | false rejects, % |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for metric, (calibration, _) in calibrations.items():
        for row in calibration.thresholds:
            cut = row.threshold
            experiment = evaluate_pairs(table.parent, table, subject, metric=metric, threshold=cut, saved=saved)
            variant = experiment.variants[0]
            wrong = variant.distances <= row.threshold
            same = experiment.pairs.same
            yield (
                f"| {metric} {row.threshold:.4f}, {row.chosen_for} | {share(variant.figures.accuracy.value)} | "
                f"{interval(variant.figures.accuracy.interval)} | {share(wrong[~same].mean())} | "
                f"{share((~wrong[same]).mean())} |"
            )


def groups_tables(subject: Any, arguments: Any, calibration: Any, saved: Any) -> Iterator[str]:
    """Yield false match rates within and between groups."""
    from spherecv.evaluate.run import evaluate_groups

    for far in FAR[:2]:
        cut = next(row.threshold for row in calibration.thresholds if row.far == far)
        for rates in evaluate_groups(
            arguments.faces, arguments.table, subject, cut, columns=("origin", "sex", "age"), saved=saved
        ):
            yield f"\nFalse match rate by {rates.column} at the threshold of FAR {far:g} ({cut:.4f}):\n"
            yield f"| {rates.column} | {' | '.join(rates.names)} |"
            yield f"| --- |{' ---: |' * len(rates.names)}"
            for name, row in zip(rates.names, rates.rates, strict=True):
                yield f"| {name} | {' | '.join(rate_cells(row))} |"


def rate_cells(values: Iterable[float]) -> list[str]:
    return ["-" if np.isnan(value) else f"{value:.1e}" for value in values]


def share(value: float) -> str:
    return f"{100 * value:.2f}"


def interval(ends: tuple[float, float]) -> str:
    return "-" if np.isnan(ends).any() else f"{100 * ends[0]:.2f} to {100 * ends[1]:.2f}"


if __name__ == "__main__":
    main()
