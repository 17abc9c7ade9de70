from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from spherecv.video import FaceStream


def test_a_stream_gives_every_frame_with_its_tracks(told) -> None:
    pipeline = told.pipeline([[told.face(100, who=1)]])
    images = (frame.image for frame in told.frames(7))
    with FaceStream(pipeline, images, every=2, follower=told.Still(), rate=10) as stream:
        seen = list(stream)
    assert [one.frame.time for one in seen] == pytest.approx([number / 10 for number in range(7)])
    assert all([track.id for track in one.tracks] == [1] for one in seen)
    assert [track.faces for track in stream.ended] == [4]
    assert stream.source.closed


def test_closing_a_stream_ends_it(told) -> None:
    stream = FaceStream(told.pipeline([[]]), (frame.image for frame in told.frames(5)))
    next(stream)
    stream.close()
    assert list(stream) == []


@pytest.mark.runtime
def test_a_film_of_photographs(pipeline, scenes, people) -> None:
    name = next(iter(people))
    actor = scenes.Actor(name, [scenes.read(people[name][0])], scenes.sway((160, 120), 20, size=0.7))
    seen = list(FaceStream(pipeline, scenes.Scene((actor,), 8, size=(240, 320)), every=4))
    assert [[track.id for track in one.tracks] for one in seen] == [[1]] * 8
    assert seen[-1].tracks[0].template.shape == (128,)
    assert np.linalg.norm(seen[-1].tracks[0].template) == pytest.approx(1, abs=1e-5)


@pytest.mark.skipif(sys.platform == "win32", reason="the module resource is not there")
def test_memory_does_not_grow_with_the_number_of_frames() -> None:
    here = str(Path(__file__).resolve().parent)
    peaks = [int(subprocess.check_output([sys.executable, "-c", MANY, here, count])) for count in ("150", "750")]
    # 600 frames more: their pixels alone would be 72 MB, the embeddings of 200 faces 64 MB.
    assert peaks[1] - peaks[0] < 16_000, f"peak resident kB: {peaks}"


MANY = """
import importlib.util, resource, sys
from pathlib import Path
import numpy as np

spec = importlib.util.spec_from_file_location("conftest", Path(sys.argv[1], "conftest.py"))
parts = importlib.util.module_from_spec(spec)
sys.modules["conftest"] = parts
spec.loader.exec_module(parts)


class Wide(parts.Knows):
    def embed(self, crops):
        return np.tile(super().embed(crops), (1, 10_000))


from spherecv.pipeline import FacePipeline
from spherecv.video import FaceStream

# Somebody new every three seconds, who walks through: tracks end as others begin.
told = parts.Told([[parts.face(10 * (place % 25) + 50, who=place // 25)] for place in range(200)])
pipeline = FacePipeline(Wide(), detector=told)
pipeline.aligner = parts.Marks()
grain = np.random.default_rng(0).integers(0, 255, (200, 200, 3)).astype(np.uint8)
frames = (np.roll(grain, number, 0) for number in range(int(sys.argv[2])))
ended = sum(len(seen.ended) for seen in FaceStream(pipeline, frames, patience=0.5))
assert ended >= int(sys.argv[2]) // 100, ended
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
