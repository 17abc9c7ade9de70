"""Films: which tracker, what templates are worth, how fast `watch` is, and whether its memory stays flat.

    python benchmarks/video.py trackers|templates|watch|memory IMAGES --prototxt P --caffemodel C --recipe NAME

IMAGES is a folder PERSON/IMAGE, such as LFW's. Films are made of its photographs by `tests/video/scenes.py`: two people
who cross, a camera that pans, zooms, loses focus, is held by hand.

trackers   how to follow faces between detections, and how to tell them apart: switches of identity, overlap with the
           truth, and milliseconds a frame, rendering left out. ByteTrack and OC-SORT of the package `trackers` run too
           where it is installed.
templates  single frames against set templates, two films of each person, from different photographs.
watch      frames a second of `FaceWatcher` with 1 to 3 faces on 640x480, video read from a file.
memory     resident memory while `FaceWatcher` goes through N frames in which people come and go.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
from measure import machine_line

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "video"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("trackers", "templates", "watch", "memory"))
    parser.add_argument("images", type=Path)
    parser.add_argument("--prototxt", help="a Caffe model; the default model without")
    parser.add_argument("--caffemodel")
    parser.add_argument("--recipe")
    parser.add_argument("--people", type=int, default=96)
    parser.add_argument("--frames", type=int, default=20_000, help="of memory")
    parser.add_argument("--every", type=int, default=3, help="of memory")
    parser.add_argument("--threshold", type=float, help="of watch and memory, for a model without measured ones")
    parser.add_argument("--only", nargs="*", help="of trackers: these rows only")
    arguments = parser.parse_args()

    from spherecv.embed import FaceEmbedder
    from spherecv.pipeline import FacePipeline
    from spherecv.zoo import DEFAULT_MODEL, ModelSource

    model: object = DEFAULT_MODEL
    if arguments.prototxt:
        model = ModelSource.from_caffe(arguments.prototxt, arguments.caffemodel, recipe=arguments.recipe)
    pipeline = FacePipeline(FaceEmbedder(model))
    print(machine_line(), flush=True)
    {"trackers": trackers, "templates": templates, "watch": watch, "memory": memory}[arguments.what](
        pipeline, arguments
    )


def cast(arguments: argparse.Namespace, number: int, least: int = 2) -> dict[str, list[Path]]:
    import scenes

    return dict(islice(scenes.people_of(arguments.images, least).items(), number))


# ----------------------------------------------------------------------------------------------------------- trackers


class Hold:
    """Faces stay where they were found."""

    def start(self, image):
        pass

    def follow(self, image, faces):  # noqa: ARG002
        return list(faces)


class Velocity(Hold):
    """Faces go on as they went between the last two detections."""

    def __init__(self, every):
        self.every, self.known = every, []

    def follow(self, image, faces):  # noqa: ARG002
        moved, known = [], []
        for face in faces:
            before = next((row for row in self.known if row[0] is face), None)
            if before is None:  # found anew: its speed is what it has moved since it was found last
                near = [row for row in self.known if np.hypot(*(row[1] - face.center)) < face.width]
                speed = (np.array(face.center) - near[0][1]) / self.every if near else np.zeros(2)
                before = (face, np.array(face.center), speed)
            shifted = type(face)(face.box + np.tile(before[2], 2).astype(np.float32), face.score, face.landmarks)
            moved.append(shifted)
            known.append((shifted, before[1], before[2]))
        self.known = known
        return moved


class Correlation(Hold):
    """OpenCV's KCF, one for each face, started anew at each detection."""

    def __init__(self):
        self.last, self.known = None, []

    def follow(self, image, faces):
        import cv2

        moved, known = [], []
        for face in faces:
            tracker = next((row[1] for row in self.known if row[0] is face), None)
            x, y, right, below = np.clip(face.box, 0, (image.shape[1], image.shape[0]) * 2).astype(int)
            if tracker is None and self.last is not None and right - x > 8 and below - y > 8:
                tracker = cv2.TrackerKCF_create()
                tracker.init(self.last, (int(x), int(y), int(right - x), int(below - y)))
            good, box = (False, None) if tracker is None else tracker.update(image)
            shifted = type(face)((box[0], box[1], box[0] + box[2], box[1] + box[3]), face.score) if good else None
            moved.append(shifted)
            known.append((shifted, tracker))
        self.last, self.known = image, known
        return moved


def trackers(pipeline, arguments):
    from spherecv.video import FaceTracker
    from spherecv.video.association import Rules

    blind = Rules(same=-1.0, clear=2.0, doubts=10**9)  # boxes alone
    contenders = {
        "every frame, no following": lambda: FaceTracker(pipeline, every=1, follower=Hold()),
        "every 3rd, held": lambda: FaceTracker(pipeline, every=3, follower=Hold()),
        "every 3rd, constant velocity": lambda: FaceTracker(pipeline, every=3, follower=Velocity(3)),
        "every 3rd, KCF": lambda: FaceTracker(pipeline, every=3, follower=Correlation()),
        "every 3rd, optical flow": lambda: FaceTracker(pipeline, every=3),
        "every 3rd, optical flow, boxes alone": lambda: FaceTracker(pipeline, every=3, rules=blind),
        "every 6th, optical flow": lambda: FaceTracker(pipeline, every=6),
    }
    contenders |= peers(pipeline)
    print("\n| faces found in | people | tracks | switches | overlap | faces covered | ms/frame |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for name, make in contenders.items():
        if not arguments.only or any(part in name for part in arguments.only):
            print(f"| {name} | {judge(make, arguments)} |", flush=True)


def peers(pipeline):
    try:
        import supervision
        from trackers import ByteTrackTracker, OCSORTTracker
    except ImportError:
        return {}

    class Peer:
        """A tracker of boxes, which is given the same detections, and nothing between them."""

        def __init__(self, tracker):
            self.tracker, self.count, self.shown = tracker, 0, ()

        def update(self, frame):
            if self.count % 3 == 0:
                (faces,) = pipeline.detector.detect_batch([frame.image])
                found = supervision.Detections(
                    xyxy=np.array([face.box for face in faces], np.float32).reshape(-1, 4),
                    confidence=np.array([face.score for face in faces], np.float32),
                    class_id=np.zeros(len(faces), int),
                )
                answer = self.tracker.update(found)
                rows = zip(answer.xyxy, answer.tracker_id, strict=True) if len(answer) else ()
                self.shown = tuple(Box(box, int(number)) for box, number in rows if number >= 0)
            self.count += 1
            return argparse.Namespace(tracks=self.shown)

    settings = {"frame_rate": 25 / 3, "lost_track_buffer": 50, "minimum_consecutive_frames": 1}
    return {
        "every 3rd, ByteTrack of `trackers`, held": lambda: Peer(ByteTrackTracker(**settings)),
        "every 3rd, OC-SORT of `trackers`, held": lambda: Peer(OCSORTTracker(**settings)),
    }


class Box:
    def __init__(self, box, number):
        self.id, self.face = number, argparse.Namespace(box=box)


def judge(make, arguments):
    import scenes
    from scipy.optimize import linear_sum_assignment

    from spherecv.video import Frame
    from spherecv.video.association import box_overlaps

    actors = [(name, [scenes.read(files[0])]) for name, files in cast(arguments, arguments.people).items()]
    switches = frames = covered = shown = people = 0
    overlaps, seconds, tracks = [], [], set()
    for scene in scenes.scenes(actors):
        tracker, whose = make(), {}
        for number, image in enumerate(scene):
            frame = Frame(number, number / 25, image)
            start = time.perf_counter()
            found = tracker.update(frame).tracks
            seconds.append(time.perf_counter() - start)
            frames += 1
            truth = scene.truth(number)
            shown += len(truth)
            tracks |= {(scene.seed, track.id) for track in found}
            if not found or not truth:
                continue
            table = box_overlaps(np.stack([track.face.box for track in found]), np.stack(list(truth.values())))
            for row, column in zip(*linear_sum_assignment(-table), strict=True):
                if table[row, column] >= 0.3:
                    name, owner = list(truth)[column], found[row].id
                    switches += whose.get(name, owner) != owner
                    whose[name] = owner
                    overlaps.append(table[row, column])
                    covered += 1
        people += len(whose)
    cells = (people, len(tracks), switches, f"{np.mean(overlaps):.3f}", f"{covered / shown:.1%}")
    return " | ".join([*map(str, cells), f"{1e3 * np.mean(seconds):.1f}"])


# ---------------------------------------------------------------------------------------------------------- templates


def templates(pipeline, arguments):
    import scenes

    from spherecv.metrics import pairwise_distance
    from spherecv.templates import pooled

    films: list[dict[str, tuple[np.ndarray, np.ndarray]]] = [{}, {}]
    for place, (name, files) in enumerate(cast(arguments, arguments.people).items()):
        for side in (0, 1):
            found = poor_film(pipeline, scenes, name, files[side], 2 * place + side)
            if found is not None:
                films[side][name] = found
    names = sorted(films[0].keys() & films[1].keys())
    generator = np.random.default_rng(0)

    def single(film):
        return film[0][generator.integers(len(film[0]))]

    def best(count):
        def pool(film):
            order = np.argsort(-film[1])[:count]
            return pooled(film[0][order], film[1][order].tolist())

        return pool

    def distances(pool, rounds=1):
        genuine, impostor = [], []
        for _ in range(rounds):
            rows = [np.stack([pool(films[side][name]) for name in names]) for side in (0, 1)]
            away = pairwise_distance(*rows)
            genuine.append(np.diag(away))
            impostor.append(away[~np.eye(len(names), dtype=bool)])
        return np.concatenate(genuine), np.sort(np.concatenate(impostor))

    ways = {"a single frame": (single, 20), "the best frame": (best(1), 1)}
    ways |= {f"the best {count}, by quality": (best(count), 1) for count in (2, 4, 8, 16)}
    ways["all, by quality"] = best(10**6), 1
    ways["all, alike"] = (lambda film: pooled(film[0], [1.0] * len(film[0]))), 1
    rates = (1e-1, 1e-2, 1e-3)
    print(f"\n{len(names)} people, {len(names) * (len(names) - 1):,} impostor pairs of films, 24 frames each\n")
    head = [f"TAR at FAR {rate:g}" for rate in rates] + [f"FAR at a single frame's {rate:g}" for rate in rates[1:]]
    print("| embedding | " + " | ".join(head) + " | EER |\n| --- |" + " ---: |" * (len(head) + 1), flush=True)
    cuts: list[float] = []
    for way, (pool, rounds) in ways.items():
        genuine, impostor = distances(pool, rounds)
        own = [float(impostor[int(rate * len(impostor)) - 1]) for rate in rates]
        cuts = cuts or own
        cells = [f"{np.mean(genuine <= cut):.1%}" for cut in own]
        cells += [f"{np.mean(impostor <= cut):.1e}" for cut in cuts[1:]]
        steps = np.quantile(impostor, np.linspace(0, 1, 2001))
        equal = min(max(np.mean(genuine > cut), np.mean(impostor <= cut)) for cut in steps)
        print(f"| {way} | " + " | ".join(cells) + f" | {equal:.2%} |", flush=True)


def poor_film(pipeline, scenes, name, file, seed):
    """Embeddings and qualities of somebody far from a camera of poor light, who sways while the focus is looked for."""
    generator = np.random.default_rng(seed)
    size, start = generator.uniform(0.5, 0.7), generator.uniform()
    actor = scenes.Actor(name, [scenes.read(file)], scenes.sway((110, 110), 18, size=size, turn=12))
    film = scenes.Scene(
        (actor,), 24, size=(220, 220), noise=12.0, seed=seed,
        blur=lambda t: 2.6 * abs(float(np.sin(2 * np.pi * (2 * t + start)))),
    )  # fmt: skip
    images = list(film)
    crops, qualities = [], []
    for image, faces in zip(images, pipeline.detector.detect_batch(images), strict=True):
        if faces:
            face = max(faces, key=lambda one: one.width)
            crops.append(pipeline.aligner.align(image, [face])[0])
            qualities.append(face.quality)
    return (pipeline.embedder.embed(np.stack(crops)), np.array(qualities)) if len(crops) > 4 else None


# ------------------------------------------------------------------------------------------------------ watch, memory


def watch(pipeline, arguments):
    import scenes

    from spherecv.verify import FaceVerifier
    from spherecv.video import open_frames
    from spherecv.watch import FaceWatcher, VideoFile
    from spherecv.watch.picture import draw_seen

    verifier = FaceVerifier(pipeline.embedder, detector=pipeline.detector, threshold=arguments.threshold)
    people = list(cast(arguments, 3).items())
    print("\n| faces | detection every | frames/s | with the video written | slowest frame in 100 |")
    print("| ---: | ---: | ---: | ---: | ---: |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for count in (1, 2, 3):
            places = [(320, 240)] if count == 1 else [(130 + 190 * place, 230) for place in range(count)]
            actors = [
                scenes.Actor(name, [scenes.read(files[0])], scenes.sway(middle, 35, size=0.8))
                for (name, files), middle in zip(people, places, strict=False)
            ]
            path = Path(folder, f"{count}.mp4")
            with VideoFile(path) as video:
                for image in scenes.Scene(actors, 150):
                    video.write(image)
            for every in (3, 1):
                cells = []
                for out in (None, Path(folder, "out.mp4")):
                    watcher = FaceWatcher(verifier, references={"somebody": people[0][1][1]}, every=every)
                    video = None if out is None else VideoFile(out)
                    times = [time.perf_counter()]
                    for seen in watcher.watch(open_frames(path)):
                        if video is not None and seen.tracked is not None:
                            video.write(draw_seen(seen))
                        times.append(time.perf_counter())
                    if video is not None:
                        video.close()
                    took = np.diff(times)[5:]
                    cells.append(f"{len(took) / took.sum():.1f}")
                cells.append(f"{1e3 * np.quantile(took, 0.99):.0f} ms")
                print(f"| {count} | {every} | {' | '.join(cells)} |", flush=True)


def memory(pipeline, arguments):
    import scenes

    from spherecv.verify import FaceVerifier
    from spherecv.watch import FaceWatcher

    people = cast(arguments, 12)
    actors = [(name, [scenes.read(files[0])]) for name, files in people.items()]
    films = [list(islice(scene, 0, None, 4)) for scene in scenes.scenes(actors, 60)]
    verifier = FaceVerifier(pipeline.embedder, detector=pipeline.detector, threshold=arguments.threshold)
    watcher = FaceWatcher(verifier, references={"somebody": next(iter(people.values()))[1]}, every=arguments.every)

    def frames():
        for number in range(arguments.frames):
            yield films[number // 15 % len(films)][number % 15]

    print("\n| frames | tracks ended | resident MB | peak MB |\n| ---: | ---: | ---: | ---: |", flush=True)
    ended = 0
    for number, seen in enumerate(watcher.watch(frames()), start=1):
        ended += sum(event.kind == "ended" for event in seen.events)
        if number % max(1, arguments.frames // 10) == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"| {number:,} | {ended:,} | {pages * resource.getpagesize() / 2**20:.0f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
