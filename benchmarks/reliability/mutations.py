"""Damage of every kind of file that the package writes: nothing damaged is served without a word.

Makes one file of each kind and asks it, damages copies of it (flipped bits, changed bytes, blocks of zeros, exchanged
blocks, cut ends), asks each copy the same, and counts what comes of it. Usage:

    python benchmarks/reliability/mutations.py [--count 2000] [--seed 1] [--kind gallery ...]

An answer counts as changed in silence where it differs and neither an error nor a warning was given. From every gallery
that can still be opened, a person is removed, too. Not counted: settings and recipes in TOML, which people write and
change themselves, and pictures, pages and tables of reports, which nothing reads again.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import random
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spherecv.caffe.cache import cached_file, cached_onnx
from spherecv.errors import IdentityError, SphereCVError
from spherecv.evaluate.collection import ImageEmbeddings
from spherecv.evaluate.rowstore import RowStore
from spherecv.facetable import read_embeddings, write_embeddings
from spherecv.gallery import FaceGallery, Origin
from spherecv.gallery.bulk.parts import Item, Part
from spherecv.gallery.bulk.shards import Shard, begin, finish, read_manifest, read_shards, write_shard
from spherecv.records import Fingerprint
from spherecv.thresholds import CalibratedThreshold, Calibration
from spherecv.zoo import get_recipe

ORIGIN = Origin("numbers", "k0-r0")
PEOPLE, EACH, SIZE = 300, 4, 64
LONGEST = 30
"""Seconds from which on an answer counts as a hang."""


class Kind(NamedTuple):
    """One kind of file: how it is made in a folder, which of its files are damaged, and how it is asked."""

    make: Callable[[Path], None]
    harmed: str
    ask: Callable[[Path], Any]
    removes: str | None = None


def crowd() -> tuple[list[str], np.ndarray, list[str]]:
    generator = np.random.default_rng(0)
    centres = np.repeat(generator.standard_normal((PEOPLE, SIZE)), EACH, axis=0)
    rows = (centres + 0.4 * generator.standard_normal(centres.shape)).astype(np.float32)
    names = [f"person {number // EACH:04d}" for number in range(len(rows))]
    return names, rows, [f"photos/{name}/{number:05d}.jpg" for number, name in enumerate(names)]


def opened(folder: Path, key: str | None, index: str = "auto") -> FaceGallery:
    return FaceGallery.open(folder / "g.db", model=ORIGIN, create=False, key=key, index=index)


def make_gallery(key: str | None = None, index: str | None = None, live: bool = False) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        names, rows, images = crowd()
        place = folder / "made"
        gallery = FaceGallery.open(place / "g.db", model=ORIGIN, key=key)
        notes = {names[0]: {"team": "red"}, names[-1]: {"text": "x" * 3000}}
        gallery.enrol_embeddings(names, rows, images=images, qualities=np.linspace(0.1, 0.9, len(rows)), metadata=notes)
        gallery.enrol_embeddings([None] * 40, rows[:40] + 0.1, images=[f"unknown/{n}.jpg" for n in range(40)])
        if index is not None:
            gallery.build_index(index)
        if live:  # as a killed process leaves it
            gallery.close()
            gallery = FaceGallery.open(place / "g.db", model=ORIGIN, key=key)
            for number in range(12):
                gallery.enrol_embeddings([f"late {number}"], rows[number : number + 1] * -1, images=[f"l{number}.jpg"])
        else:
            gallery.close()
        for file in place.iterdir():
            if not file.name.endswith("-shm"):
                shutil.copy(file, folder / file.name)
        gallery.close()
        shutil.rmtree(place)

    return make


def ask_gallery(key: str | None = None, index: str = "auto") -> Callable[[Path], Any]:
    _, rows, _ = crowd()

    def ask(folder: Path) -> Any:
        with opened(folder, key, index) as gallery:
            found = gallery.identify_embeddings(np.concatenate([rows[::37], rows[:12] * -1]), 3, threshold=0.3)
            mean = gallery.identify_embeddings(rows[::101], 2, threshold=0.3, template="mean")
            people = [(one.name, one.images, one.faces, dict(one.metadata)) for one in gallery.identities()]
            table = gallery.store.table("unknown")
            images = sorted((image.identity or "", image.key.path, image.faces) for image in gallery.images())
        answers = [(match.identity, [(c.identity, round(c.distance, 6), c.image) for c in match.candidates])
                   for match in found + mean]  # fmt: skip
        return answers, people, images, table.vectors.tobytes(), table.qualities.tobytes()

    return ask


def forget(folder: Path, key: str | None, chance: random.Random) -> str:
    """Remove somebody; what is left is searched for their embeddings."""
    names, rows, _ = crowd()
    number = chance.choice((0, len(names) - 1, chance.randrange(len(names))))
    with warnings.catch_warnings(), opened(folder, key) as gallery:
        warnings.simplefilter("ignore")
        before: set[str] = set()
        with contextlib.suppress(SphereCVError):
            before = {person.name for person in gallery.identities()}
        gallery.remove(names[number])
        after = {person.name for person in gallery.identities()}
        if names[number] in after:
            return "removal: still there"
        if lost := before - after - {names[number]}:
            return f"removal: {len(lost)} others are gone, too"
    first = number // EACH * EACH
    left = b"".join(file.read_bytes() for file in folder.iterdir())
    if key is None and any(row.tobytes()[8:-8] in left for row in rows[first : first + EACH]):
        return "removal: bytes are left"
    return "removed"


def make_shards(form: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        _, rows, images = crowd()
        begin(folder, {"model": "numbers", "key": "k0-r0", "detector": "mtcnn"})
        notes = []
        for number in range(3):
            part = slice(number * 40, number * 40 + 40)
            shard = Shard(
                paths=tuple(images[part]), embeddings=rows[part], boxes=rows[part, :4], scores=abs(rows[part, 0]),
                qualities=abs(rows[part, 1]), failures=(("broken.jpg", "is broken"),),
            )  # fmt: skip
            held = Part(number, tuple(Item(path, path) for path in images[part]))
            notes.append(write_shard(folder, held, shard, form))
        finish(folder, notes)

    return make


def ask_shards(folder: Path) -> Any:
    manifest = read_manifest(folder)
    shards = [
        (shard.paths, shard.failures, shard.embeddings.tobytes(), shard.boxes.tobytes(), shard.qualities.tobytes())
        for shard in read_shards(folder)
    ]
    return {name: manifest[name] for name in ("model", "key", "detector")}, shards


def make_npz(folder: Path) -> None:
    from spherecv.records import Face

    _, rows, images = crowd()
    with write_embeddings(folder / "e.npz", Fingerprint("numbers", "k0-r0", "mtcnn")) as writer:
        for row, image in zip(rows[:200], images, strict=False):
            writer.add(image, row, Face(box=(1.0, 2.0, 3.0, 4.0), score=0.5, quality=0.25))


def ask_npz(folder: Path) -> Any:
    table, made_by = read_embeddings(folder / "e.npz")
    columns = [getattr(table, name).tobytes() for name in ("embeddings", "boxes", "scores", "qualities", "landmarks")]
    return table.paths, columns, made_by


def make_export(folder: Path) -> None:
    make_gallery()(folder)
    with opened(folder, None) as gallery:
        gallery.export(folder / "e.npz")
    for file in folder.glob("g.db*"):
        file.unlink()


def ask_export(folder: Path) -> Any:
    for file in folder.glob("g.db*"):
        file.unlink()
    with FaceGallery.open(folder / "g.db", model=ORIGIN) as gallery:
        gallery.import_file(folder / "e.npz")
    return ask_gallery()(folder)


def make_calibration(folder: Path) -> None:
    recipe = get_recipe("sphereface")
    row = CalibratedThreshold(
        chosen_for="FAR 0.01", threshold=0.3, far=0.01, measured_far=0.0099, far_interval=(0.008, 0.012),
        measured_tar=0.97, tar_interval=(0.95, 0.98), false_accepts=99,
    )  # fmt: skip
    Calibration(
        model="net", model_key=f"abc-{recipe.fingerprint}", recipe=recipe, metric="cosine", detector="mtcnn",
        face="largest", no_face="skip", dataset="entrance", impostor_pairs_from="listed pairs", genuine=500,
        impostors=10_000, identities=70, images=900, failed=3, thresholds=(row,),
    ).save(folder / "c.toml")  # fmt: skip


def make_collection(folder: Path) -> None:
    _, rows, images = crowd()
    count = 60
    ImageEmbeddings(
        paths=tuple(images[:count]), embeddings=rows[:count], boxes=rows[:count, :4], centred=np.zeros(count, bool),
        failures={"x.jpg": "broken"}, stamps=dict.fromkeys(images[:count], (1, 2)), mirrored=True,
    ).save(folder / "c.npz", {"model": "numbers"})  # fmt: skip


def ask_collection(folder: Path) -> Any:
    loaded, meta = ImageEmbeddings.load(folder / "c.npz")
    columns = [getattr(loaded, name).tobytes() for name in ("embeddings", "boxes", "centred")]
    return loaded.paths, columns, loaded.failures, loaded.stamps, loaded.mirrored, meta


def make_rows(folder: Path) -> None:
    _, rows, _ = crowd()
    store = RowStore(folder / "rows.f32", {"model": "numbers"}, len(rows))
    for start in range(0, 600, 200):
        store.append(rows[start : start + 200], {start + 3: "broken"})
        store.flush()


def ask_rows(folder: Path) -> Any:
    store = RowStore(folder / "rows.f32", {"model": "numbers"}, PEOPLE * EACH)
    return store.done, store.failures, store.rows().tobytes()


MODEL = np.random.default_rng(0).bytes(20_000)


def make_onnx(folder: Path) -> None:
    cached_onnx("k", lambda: MODEL, cache_dir=folder)


def make_onnx_file(folder: Path) -> None:
    cached_file("k", lambda: MODEL, cache_dir=folder)


def ask_onnx_file(folder: Path) -> Any:
    held = cached_file("k", lambda: MODEL, cache_dir=folder)
    return held if isinstance(held, bytes) else held.read_bytes()


def make_snapshot(folder: Path) -> None:
    from spherecv.caffe.spherecv_caffe_pb2 import NetParameter
    from spherecv.train.snapshot import write_snapshot
    from spherecv.train.state import Rest, TrainingState

    _, rows, _ = crowd()
    model = NetParameter(name="net")
    layer = model.layer.add(name="fc", type="InnerProduct")
    blob = layer.blobs.add()
    blob.shape.dim.extend(rows.shape)
    blob.data.extend(rows.ravel().tolist())
    rest = Rest(next_batch=3, lanes=1, ranks=1, layers={}, loss={}, rng={}, recent=(), exact={"fc": rows})
    write_snapshot(TrainingState(model, [rows], 10, 1, rest, "made"), folder / "s")


def ask_snapshot(folder: Path) -> Any:
    from spherecv.train.snapshot import read_snapshot

    state = read_snapshot(folder / "s_iter_10.solverstate")
    exact = {} if state.rest is None else {name: array.tobytes() for name, array in state.rest.exact.items()}
    history = [np.asarray(values).tobytes() for values in state.history]
    return state.model.SerializeToString(), history, state.iteration, exact


KINDS = {
    "gallery": Kind(make_gallery(), "g.db", ask_gallery(), ""),
    "gallery, sealed": Kind(make_gallery("secret"), "g.db", ask_gallery("secret"), "secret"),
    "gallery with a log": Kind(make_gallery(live=True), "g.db", ask_gallery(), ""),
    "log of a gallery": Kind(make_gallery(live=True), "g.db-wal", ask_gallery(), ""),
    "index, HNSW": Kind(make_gallery(index="hnsw"), "g.db.index", ask_gallery(), ""),
    "index, IVF": Kind(make_gallery(index="ivf"), "g.db.index", ask_gallery(), ""),
    "index, sealed": Kind(make_gallery("secret", "hnsw"), "g.db.index", ask_gallery("secret"), "secret"),
    "shards": Kind(make_shards("npy"), "part-*.npy", ask_shards),
    "notes of shards": Kind(make_shards("npy"), "part-*.json", ask_shards),
    "shards, Parquet": Kind(make_shards("parquet"), "part-*.parquet", ask_shards),
    "manifest": Kind(make_shards("npy"), "manifest.json", ask_shards),
    "embeddings": Kind(make_npz, "e.npz", ask_npz),
    "export": Kind(make_export, "e.npz", ask_export),
    "calibration": Kind(make_calibration, "c.toml", lambda folder: Calibration.load(folder / "c.toml")),
    "saved evaluation": Kind(make_collection, "c.npz", ask_collection),
    "journal of an evaluation": Kind(make_rows, "rows.f32*", ask_rows),
    "converted model": Kind(
        make_onnx, "*.onnx*", lambda folder: cached_onnx("k", lambda: MODEL, cache_dir=folder)
    ),
    "converted model, a file": Kind(make_onnx_file, "*.onnx*", ask_onnx_file),
    "snapshot of a training": Kind(make_snapshot, "s_iter_10.*", ask_snapshot),
}


def mutate(data: bytes, chance: random.Random, *, cut: bool) -> bytes:
    """One to three places damaged; headers and the ends of files as often as their middle."""
    held = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        end = len(held)
        near = chance.randrange(min(end, 200))
        place = chance.choice((chance.randrange(end), near, end - 1 - near))
        how = chance.choice(("bit", "bit", "bit", "byte", "zeros", "swap", *(("cut",) if cut else ())))
        if how == "bit":
            held[place] ^= 1 << chance.randrange(8)
        elif how == "byte":
            held[place] = chance.randrange(256)
        elif how == "zeros":
            size = min(chance.choice((4, 64, 512)), end - place)
            held[place : place + size] = bytes(size)
        elif how == "swap":
            size = min(chance.choice((1, 4, 256)), end // 2)
            other, place = chance.randrange(end - size + 1), min(place, end - size)
            one, two = held[place : place + size], held[other : other + size]
            held[place : place + size], held[other : other + size] = two, one
        else:
            del held[chance.randrange(end) :]
            if not held:
                break
    return bytes(held)


class Hang(BaseException):
    """An answer took too long."""


def outcome(kind: Kind, folder: Path, truth: str) -> str:
    """Ask a damaged copy, and say what came of it."""
    signal.alarm(LONGEST)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            answer = repr(kind.ask(folder))
    except SphereCVError:
        return "refused"
    except Hang:
        return "HANG"
    except BaseException as error:
        return f"RAW {type(error).__name__}: {error} at {traceback.format_exc().splitlines()[-3].strip()}"
    finally:
        signal.alarm(0)
    if answer == truth:
        return "same answer, said" if said else "same answer"
    return "changed, and said" if said else "CHANGED IN SILENCE"


def removal(kind: Kind, folder: Path, chance: random.Random) -> str:
    """Forget somebody of a damaged gallery, if it can be opened."""
    key = kind.removes or None
    signal.alarm(LONGEST)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened(folder, key).close()
    except SphereCVError:
        signal.alarm(0)
        return "cannot be opened"
    except BaseException as error:
        signal.alarm(0)
        return f"RAW in opening {type(error).__name__}: {error}"
    try:
        return forget(folder, key, chance)
    except IdentityError as error:
        return f"REMOVAL REFUSED: {error}"
    except SphereCVError as error:
        return f"REMOVAL FAILED: {error}"
    except Hang:
        return "HANG in removal"
    except BaseException as error:
        return f"RAW in removal {type(error).__name__}: {error} at {traceback.format_exc().splitlines()[-3].strip()}"
    finally:
        signal.alarm(0)


def ring(*_: object) -> None:
    raise Hang


Counts = dict[str, collections.Counter[str]]


def run(names: list[str], count: int, seed: int, scratch: Path) -> tuple[Counts, list[str]]:
    """Damage so many copies, spread over the kinds; returns what came of them, and each failure with its number."""
    signal.signal(signal.SIGALRM, ring)
    table: Counts = {}
    failures = []
    for position, name in enumerate(names):
        kind = KINDS[name]
        whole = scratch / f"{position}"
        whole.mkdir()
        kind.make(whole)
        trial = scratch / "trial"
        shutil.copytree(whole, trial)
        truth = repr(kind.ask(trial))
        shutil.rmtree(trial)
        files = sorted(path.name for path in whole.glob(kind.harmed))
        counter = table[name] = collections.Counter()
        for number in range(count // len(names) + (position < count % len(names))):
            chance = random.Random(f"{seed} {name} {number}")
            shutil.copytree(whole, trial)
            file = trial / chance.choice(files)
            # A log that ends early is an earlier state of the gallery, which nothing in it tells from a true one.
            data = mutate(file.read_bytes(), chance, cut=name != "log of a gallery")
            file.write_bytes(data)
            results = []
            if kind.removes is not None:
                twin = scratch / "twin"
                shutil.copytree(trial, twin)
                results.append(removal(kind, twin, chance))
                shutil.rmtree(twin)
            results.append(outcome(kind, trial, truth))
            shutil.rmtree(trial)
            for result in results:
                counter[result.split(":")[0].split(" at ")[0] if result[:3].isupper() else result] += 1
                if result[:3].isupper() or result.startswith("removal"):
                    failures.append(f"{name}, seed {seed}, number {number}, {file.name}: {result}")
        print(f"{name}: {dict(counter)}", flush=True)
    return table, failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", action="append", choices=sorted(KINDS))
    given = parser.parse_args()
    print(f"seed {given.seed}, {given.count} mutations")
    scratch = Path(tempfile.mkdtemp())
    try:
        table, failures = run(given.kind or list(KINDS), given.count, given.seed, scratch)
    finally:
        shutil.rmtree(scratch)
    print(json.dumps({name: dict(counter) for name, counter in table.items()}, indent=1))
    print("\n".join(failures) or "0 answers changed in silence, 0 raw exceptions, 0 hangs, every removal succeeded")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
