"""YTF's protocol on films of photographs, and what a template is worth over a single frame."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from spherecv.cli.app import app
from spherecv.metrics import pairwise_distance
from spherecv.templates import pooled

FRAMES = 6


@pytest.fixture(scope="module")
def videos(scenes, people, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`PERSON/NUMBER/FRAME.png`: two poor films each of twelve people, from a photograph of its own, and the splits."""
    folder = tmp_path_factory.mktemp("ytf")
    names = list(people)[:12]
    for place, name in enumerate(names):
        for number in (0, 1):
            actor = scenes.Actor(name, [scenes.read(people[name][number])], scenes.sway((80, 80), 8, size=0.5))
            seed = 2 * place + number
            film = scenes.Scene((actor,), FRAMES, size=(160, 160), noise=14.0, blur=lambda t: 2.0 * t, seed=seed)
            (folder / name / str(number)).mkdir(parents=True)
            for index, frame in enumerate(film):
                cv2.imwrite(str(folder / name / str(number) / f"{index}.png"), frame)
    rows = ["split, first, second, is same"]
    for place, name in enumerate(names):
        other = names[(place + 2) % len(names)]
        rows += [f"{place % 2 + 1}, {name}/0, {name}/1, 1", f"{place % 2 + 1}, {name}/0, {other}/1, 0"]
    (folder / "splits.txt").write_text("\n".join(rows))
    return folder


@pytest.mark.runtime
def test_the_protocol_runs_on_films(videos: Path, mobilefacenet: tuple[Path, Path]) -> None:
    model = ("-m", ",".join(map(str, mobilefacenet)), "--recipe", "mobilefacenet", "--preset", "fast")
    asked = ("--splits", videos / "splits.txt", "--frames", FRAMES, "--pooling", "quality", "--bootstrap", 0)
    result = CliRunner().invoke(app, [str(part) for part in ("evaluate", "ytf", videos, *asked, *model, "--json")])
    assert result.exit_code == 0, result.output
    (experiment,) = json.loads(result.stdout)
    assert experiment["compared"] + experiment["left_out"] == 24
    assert experiment["variants"][0]["auc"]["value"] > 0.8


@pytest.mark.runtime
def test_templates_tell_people_apart_better_than_single_frames(videos: Path, pipeline) -> None:
    rows, owners, qualities = [], [], []
    for folder in sorted(path for path in videos.glob("*/*") if path.is_dir()):
        for found in pipeline.run(sorted(folder.iterdir()), errors="return", face="largest"):
            if isinstance(found, list):
                rows.append(found[0].embedding)
                owners.append((folder.parent.name, folder.name))
                qualities.append(found[0].face.quality)
    films = sorted(set(owners))
    members = [[place for place, owner in enumerate(owners) if owner == film] for film in films]
    templates = np.stack(
        [pooled([rows[i] for i in group], [qualities[i] for i in group]) for group in members]
    )
    single = shares(np.stack(rows), owners)
    pooled_share = shares(templates, films)
    assert pooled_share > single + 0.05, (pooled_share, single)


def shares(rows: np.ndarray, owners: list[tuple[str, str]]) -> float:
    """Area under the ROC: how often a genuine pair of two films is nearer than an impostor pair."""
    away = pairwise_distance(rows, rows)
    person = np.array([name for name, _ in owners])
    film = np.array([f"{name}/{number}" for name, number in owners])
    same, other = person[:, None] == person[None], film[:, None] != film[None]
    genuine, impostor = away[same & other], away[~same]
    return float(np.mean(genuine[:, None] < np.random.default_rng(0).choice(impostor, 500)[None]))
