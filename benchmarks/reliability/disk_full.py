"""A disk that fills up under all that writes: what was there stays, the file asked for is named, nothing is left.

Writes a version of each kind of file, fills a file system of its own until some room is left, from none to enough, and
writes the next version. Either it is there, or there is one `StorageError` that names the file asked for, and the
version before it is whole; with room again the next one is written. Usage:

    python benchmarks/reliability/disk_full.py [--kind gallery ...] [--short] [--seed 0]

The file system is a tmpfs of some megabytes, mounted by root, or by anybody in a user namespace (`unshare`). Where
neither may be, no file may grow beyond a limit instead (RLIMIT_FSIZE). `--short` tries three fillings of each.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from files_written import WRITERS
from kills import in_child, vector

_MEGABYTES = 12
_PAGE = 4096
_INSIDE = "SPHERECV_DISK_FULL_INSIDE"
ROWS = np.random.default_rng(0).standard_normal((600, 64)).astype(np.float32)


class Kind(NamedTuple):
    """How a version (1, then 2) is written into a folder, which one is there, and which file the error must name.

    `opens` is another that must be opened first, and whose name will do where that fails already. `modules` are those
    of the package that write by themselves here; `kept` says that a failure is no error, since what is kept is only a
    shorter way to the same.
    """

    write: Callable[[Path, int], None]
    version: Callable[[Path], int]
    names: str
    modules: tuple[str, ...] = ()
    kept: bool = False
    opens: str = ""
    prepare: Callable[[Path], None] = lambda _folder: None


def _file(name: str, *modules: str) -> Kind:
    file, write, read = WRITERS[name]

    def version(folder: Path) -> int:
        return int(read(folder / file)) if (folder / file).exists() else 0

    return Kind(lambda folder, number: write(folder / file, number), version, file, modules)


def _there(file: str) -> Callable[[Path], int]:
    """Of what is written once, as version 2: whether it is there."""
    return lambda folder: 2 if (folder / file).exists() else 0


def _second(write: Callable[[Path], object]) -> Callable[[Path, int], None]:
    def only_second(folder: Path, number: int) -> None:
        if number == 2:
            write(folder)

    return only_second


def _gallery(folder: Path, key: str | None = None, **more: Any) -> Any:
    from spherecv.gallery import FaceGallery, Origin

    return FaceGallery.open(folder / "g.db", model=Origin("numbers", "k0-r0"), key=key, damaged="raise", **more)


def _enrol(key: str | None) -> Callable[[Path, int], None]:
    def write(folder: Path, number: int) -> None:
        images = [f"{number}-{each}.jpg" for each in range(300)]
        with _gallery(folder, key) as gallery:
            gallery.enrol_embeddings([f"person {number}"] * 300, [vector(image) for image in images], images=images)

    return write


def _people(key: str | None = None, found: Callable[[list[str]], int] = len) -> Callable[[Path], int]:
    """The version that the people of a gallery are of, all of it checked."""

    def version(folder: Path) -> int:
        if not (folder / "g.db").exists():
            return 0
        with _gallery(folder, key) as gallery:
            damaged = gallery.check().damaged
            assert not damaged, damaged
            people = gallery.identities()
            assert {person.faces for person in people} <= {300}, "half a person"
            return found([person.name for person in people])

    return version


def _change(work: Callable[[Any, Path], object]) -> Callable[[Path, int], None]:
    """A gallery of two people, then a change of it."""

    def write(folder: Path, number: int) -> None:
        if number == 1:
            for each in (1, 2):
                _enrol(None)(folder, each)
        else:
            with _gallery(folder) as gallery:
                work(gallery, folder)

    return write


def _crowd(folder: Path) -> None:
    with _gallery(folder) as gallery:
        names = [f"person {number // 3}" for number in range(1200)]
        images = [f"{number}.jpg" for number in range(1200)]
        gallery.enrol_embeddings(names, np.concatenate([ROWS, ROWS + 1]), images=images)


def _index(folder: Path, number: int) -> None:
    with _gallery(folder) as gallery:
        gallery.build_index("ivf" if number == 1 else "hnsw")


def _index_kind(folder: Path) -> int:
    from spherecv.gallery.approximate import is_whole

    assert is_whole(folder / "g.db.index"), "the index is damaged"
    with _gallery(folder) as gallery:
        (match,) = gallery.identify_embeddings(ROWS[:1], threshold=0.3)
        assert match.identity == "person 0", "the index misses people"
    if not (folder / "g.db.index").exists():
        return 0
    return 1 if b'"ivf"' in (folder / "g.db.index").read_bytes()[:400] else 2


def _made_earlier(folder: Path, number: int) -> None:
    """A file as earlier versions wrote it, whose first change gives every row its checksum."""
    import sqlite3

    _change(lambda gallery, _: gallery.rename("person 1", "person 3"))(folder, number)
    if number == 1:
        with sqlite3.connect(folder / "g.db") as connection:
            for table in ("properties", "identities", "images", "attachments", "faces"):
                connection.execute(f"ALTER TABLE {table} DROP COLUMN checksum")
            connection.execute("ALTER TABLE faces DROP COLUMN vector_checksum")
            connection.execute("DELETE FROM properties WHERE name = 'counts'")
            connection.execute("PRAGMA user_version = 1")
        connection.close()


def _shard(form: Any) -> Callable[[Path], None]:
    from spherecv.gallery.bulk.parts import Item, Part
    from spherecv.gallery.bulk.shards import Shard, begin, finish, write_shard

    def write(folder: Path) -> None:
        paths = tuple(f"{number}.jpg" for number in range(len(ROWS)))
        shard = Shard(
            paths=paths, embeddings=ROWS, boxes=ROWS[:, :4], scores=abs(ROWS[:, 0]), qualities=abs(ROWS[:, 1]),
            failures=(),
        )  # fmt: skip
        begin(folder, {"model": "numbers", "key": "k0-r0", "detector": "mtcnn"})
        finish(folder, [write_shard(folder, Part(0, tuple(Item(path, path) for path in paths)), shard, form)])

    return write


def _shards(folder: Path) -> int:
    from spherecv.gallery.bulk.shards import MANIFEST, read_shards

    if not (folder / MANIFEST).exists():
        return 0
    (shard,) = read_shards(folder)
    assert np.array_equal(shard.embeddings, ROWS)
    return 2


def _source(name: str) -> Path:
    """A file that a writer is given, elsewhere."""
    return Path(tempfile.gettempdir(), name)


def _crops(_folder: Path) -> None:
    import cv2

    for number in range(4):
        cv2.imwrite(str(_source(f"{number}.png")), np.full((112, 96, 3), 60 * number, np.uint8))
    _source("list.txt").write_text("".join(f"{number}.png {number}\n" for number in range(4)))


def _dataset() -> Any:
    from spherecv.train.data import from_list

    return from_list(_source("list.txt"), root=f"{_source('')}/")


def _mixtures(folder: Path) -> None:
    from spherecv.train.data.mixtures import open_mixtures

    open_mixtures(_dataset(), 12, folder, height=112, width=96)


def _targets(folder: Path) -> None:
    from spherecv.train.data import View
    from spherecv.train.teacher import TeacherRecipe, targets

    teacher: Any = SimpleNamespace(
        digest="0", recipe=TeacherRecipe(), embed_both=lambda images: np.ones((len(images), 5000), np.float32)
    )
    targets(teacher, _dataset(), View(112, 96), cache=folder / "targets.npz")


def _losses(_folder: Path) -> None:
    for number in (1, 2):
        lines = [f"{each},{1 / (each + number)},0.1,9,1" for each in range(200)]
        head = "iteration,loss,lr,images_per_second,seconds"
        _source(f"{number}.csv").write_text("\n".join([head, *lines]) + "\n")


def _loss_plot(folder: Path, number: int) -> None:
    from spherecv.train.log import plot_loss

    plot_loss(_source(f"{number}.csv"), folder / "loss.png")


def _drawn(folder: Path) -> int:
    from PIL import Image

    place = folder / "loss.png"
    if not place.exists():
        return 0
    with Image.open(place) as image:
        image.load()
    _loss_plot(_source("again"), 1)
    same = place.read_bytes() == _source("again/loss.png").read_bytes()
    return 1 if same else 2


def _events(folder: Path, number: int) -> None:
    from spherecv.watch.events import Event, EventLog

    with EventLog(folder / "events.jsonl") as log:
        log.write(Event("entered", number, details={"version": number, "text": "x" * 30_000}))


def _lines(file: str, read: Callable[[str], int]) -> Callable[[Path], int]:
    """The version of the last whole line."""

    def version(folder: Path) -> int:
        if not (folder / file).exists():
            return 0
        found = 0
        for line in (folder / file).read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                with suppress(ValueError, KeyError):
                    found = read(line)
        return found

    return version


def _training_log(folder: Path, number: int) -> None:
    from spherecv.train.log import Log

    log = Log(folder / "train.log")
    with log.running(3):
        log.say(f"{'x' * 30_000} {number}")


def _journal(folder: Path, number: int) -> None:
    from spherecv.dataset.table import Journal, TableRow

    journal = Journal(folder / "journal.jsonl", {"size": 96})
    try:
        journal.add(TableRow(f"{number}.jpg", None, "x" * 30_000))
    finally:
        journal.close()


def _journal_version(folder: Path) -> int:
    from spherecv.dataset.table import Journal

    if not (folder / "journal.jsonl").exists():
        return 0
    copy = _source("journal.jsonl")
    shutil.copy(folder / "journal.jsonl", copy)
    if not copy.stat().st_size:
        return 0
    journal = Journal(copy, {"size": 96})
    journal.close()
    return len(journal.states)


def _rows(folder: Path, number: int) -> None:
    from spherecv.evaluate.rowstore import RowStore

    store = RowStore(folder / "rows.f32", {"model": "numbers"}, 600)
    store.append(ROWS[:300] + number)
    store.flush()


def _rows_version(folder: Path) -> int:
    from spherecv.evaluate.rowstore import RowStore

    if not (folder / "rows.f32").exists():
        return 0
    return RowStore(folder / "rows.f32", {"model": "numbers"}, 600).done // 300


def _collection(folder: Path, number: int) -> None:
    from spherecv.evaluate.collection import ImageEmbeddings

    paths = tuple(f"{each}.jpg" for each in range(len(ROWS)))
    ImageEmbeddings(
        paths=paths, embeddings=ROWS + number, boxes=ROWS[:, :4], centred=np.zeros(len(ROWS), bool), failures={},
        stamps=dict.fromkeys(paths, (1, 2)), mirrored=False,
    ).save(folder / "c.npz", {"model": "numbers"})  # fmt: skip


def _collection_version(folder: Path) -> int:
    from spherecv.evaluate.collection import ImageEmbeddings

    if not (folder / "c.npz").exists():
        return 0
    return round(float(ImageEmbeddings.load(folder / "c.npz")[0].embeddings[0, 0] - ROWS[0, 0]))


def _single_features(_folder: Path) -> None:
    from spherecv.evaluate.featurefiles import write_features

    for number in (1, 2):
        for each in range(3):
            write_features(_source(f"features-{number}/{each}.bin"), np.full((1, 20_000), number, np.float32))


def _gathered(folder: Path, number: int) -> None:
    from spherecv.evaluate.featurefiles import gather_features

    gather_features(_source(f"features-{number}"), ["0", "1", "2"], folder / "all.npy")


def _gathered_version(folder: Path) -> int:
    return int(np.unique(np.load(folder / "all.npy"))[0]) if (folder / "all.npy").exists() else 0


def _held_keys(folder: Path) -> None:
    from spherecv.serve.keys import new_key

    (folder / "keys.txt").write_text("".join(new_key(f"n{number}")[1] + "\n" for number in range(200)))


def _keys(folder: Path, number: int) -> None:
    from spherecv.serve.keys import add_key

    add_key(folder / "keys.txt", f"k{number}")


def _keys_version(folder: Path) -> int:
    from spherecv.serve.keys import ApiKeys

    return len(ApiKeys.load(folder / "keys.txt")) - 200


def _nets(_folder: Path) -> None:
    for number in (1, 2):
        _source(f"{number}.onnx").write_bytes(bytes([number]) * 200_000)


def _own_model(folder: Path, number: int) -> None:
    from spherecv.zoo.own import add_model

    os.environ["SPHERECV_MODELS"] = str(folder)
    add_model("mine", {"onnx": _source(f"{number}.onnx")}, recipe="sphereface", replace=True)


def _own_version(folder: Path) -> int:
    (found,) = [*folder.rglob("mine.onnx")] or [None]
    return 0 if found is None else set(found.read_bytes()).pop()


def _converted(folder: Path, number: int) -> None:
    from spherecv.caffe.cache import cached_file, cached_onnx

    model = bytes([number]) * 100_000
    assert cached_onnx(f"k{number}", lambda: model, cache_dir=folder) == model
    again = cached_file(f"f{number}", lambda: model, cache_dir=folder)
    assert (again if isinstance(again, bytes) else again.read_bytes()) == model


def _caffe(folder: Path, number: int) -> None:
    from spherecv.caffe.spherecv_caffe_pb2 import NetParameter
    from spherecv.caffe.writer import write_caffemodel

    net = NetParameter(name=f"{number}")
    net.layer.add(name="fc", type="InnerProduct").blobs.add(data=[1.0] * 50_000)
    write_caffemodel(net, folder / "net.caffemodel")


def _caffe_version(folder: Path) -> int:
    from spherecv.caffe.spherecv_caffe_pb2 import NetParameter

    place = folder / "net.caffemodel"
    return int(NetParameter.FromString(place.read_bytes()).name) if place.exists() else 0


def _videos(_folder: Path) -> None:
    for number in (1, 2):
        WRITERS["video"][1](_source(f"{number}.avi"), 60 + number)


def _watch(folder: Path, number: int) -> None:
    """The command, which must end with code 2."""
    from spherecv.errors import StorageError

    command = [sys.executable, "-m", "spherecv", "watch", _source(f"{number}.avi"), "--out", folder / "seen.mp4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 2 and done.stderr.count("\n") <= 3:
        raise StorageError(done.stderr)
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr[-300:]}"


def _watch_version(folder: Path) -> int:
    from spherecv.video import open_frames

    place = folder / "seen.mp4"
    return 0 if not place.exists() else {12: 1, 13: 2}[len(list(open_frames(place)))]


KINDS = {
    "report": _file("report"),
    "calibration": _file("calibration"),
    "picture": _file("picture"),
    "embeddings": _file("embeddings", "facetable.py"),
    "table of faces": _file("table", "dataset/table.py"),
    "features": _file("features", "evaluate/featurefiles.py"),
    "video": _file("video", "watch/recording.py"),
    "snapshot": _file("snapshot", "train/snapshot.py")._replace(names="net_iter_1."),
    "features gathered": Kind(
        _gathered, _gathered_version, "all.npy", ("evaluate/featurefiles.py",), prepare=_single_features
    ),
    "saved evaluation": Kind(_collection, _collection_version, "c.npz", ("evaluate/collection.py",)),
    "journal of an evaluation": Kind(_rows, _rows_version, "rows.f32", ("evaluate/rowstore.py",)),
    "journal of crops": Kind(_journal, _journal_version, "journal.jsonl", ("dataset/table.py",)),
    "events": Kind(
        _events, _lines("events.jsonl", lambda line: json.loads(line)["version"]), "events.jsonl", ("watch/events.py",)
    ),
    "log of a training": Kind(
        _training_log, _lines("train.log", lambda line: int(line.split()[-1])), "train.log", ("train/log.py",)
    ),
    "plot of a loss": Kind(_loss_plot, _drawn, "loss.png", ("train/log.py",), prepare=_losses),
    "mixtures": Kind(
        _second(_mixtures), lambda folder: 2 if [*folder.glob("mixtures-*.tar")] else 0, "mixtures-",
        ("train/data/mixtures.py",), prepare=_crops,
    ),
    "targets of a teacher": Kind(
        _second(_targets), _there("targets.npz"), "targets.npz", ("train/teacher.py",), prepare=_crops
    ),
    "caffemodel": Kind(_caffe, _caffe_version, "net.caffemodel"),
    "model of one's own": Kind(_own_model, _own_version, "mine", ("zoo/own.py",), prepare=_nets),
    "converted model": Kind(_converted, lambda _folder: 0, "", kept=True),
    "keys": Kind(_keys, _keys_version, "keys.txt", ("serve/keys.py",), prepare=_held_keys),
    "shard": Kind(_second(_shard("npy")), _shards, "", ("gallery/bulk/shards.py",)),
    "shard, Parquet": Kind(_second(_shard("parquet")), _shards, "", ("gallery/bulk/shards.py",)),
    "gallery": Kind(_enrol(None), _people(), "g.db"),
    "gallery, sealed": Kind(_enrol("secret"), _people("secret"), "g.db"),
    "removal": Kind(
        _change(lambda gallery, _: gallery.remove("person 1")), _people(found=lambda names: 3 - len(names)), "g.db"
    ),
    "rename": Kind(
        _change(lambda gallery, _: gallery.rename("person 1", "person 3")),
        _people(found=lambda names: 1 + ("person 3" in names)), "g.db",
    ),
    "upgrade": Kind(_made_earlier, _people(found=lambda names: 1 + ("person 3" in names)), "g.db"),
    "export": Kind(
        _change(lambda gallery, folder: gallery.export(folder / "e.npz")), _there("e.npz"), "e.npz",
        ("gallery/transfer.py",), opens="g.db",
    ),
    "index": Kind(_index, _index_kind, "g.db.index", ("gallery/approximate.py",), opens="g.db", prepare=_crowd),
    "watch": Kind(_watch, _watch_version, "seen.mp4", prepare=_videos),
}  # fmt: skip


def fill(disk: Path, left: int = 0) -> None:
    """Fill a file system until so many bytes are left."""
    with (disk / "ballast").open("wb", buffering=0) as ballast:
        with suppress(OSError):
            while True:
                ballast.write(bytes(1 << 20))
        with suppress(OSError):
            while True:
                ballast.write(bytes(_PAGE))
        ballast.truncate(max(ballast.tell() - left, 0))


def _attempt(kind: Kind, folder: Path, limit: int | None) -> str:
    """Write the second version; returns what the error says, if there is one."""
    from spherecv.errors import StorageError

    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        kind.write(folder, 2)
    except StorageError as error:
        return str(error)
    return ""


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def try_kind(name: str, disk: Path, limited: bool, short: bool, chance: random.Random) -> Iterator[tuple[str, str]]:
    """Yield what came of each filling: "refused", "written", or a fault."""
    kind = KINDS[name]
    room = 0
    while True:
        folder = disk / "place"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        left = room if room in (0, _PAGE) else room + chance.randrange(max(room // 8, 1))

        def begin(folder: Path = folder) -> list[Any]:
            kind.prepare(folder)
            kind.write(folder, 1)
            return [kind.version(folder), _files(folder)]

        def again(folder: Path = folder) -> list[Any]:
            found = kind.version(folder)
            kind.write(folder, 2)
            return [found, kind.version(folder), _files(folder)]

        said = ""
        try:
            before, _ = in_child(begin)
            if not limited:
                fill(disk, left)
            said = in_child(lambda folder=folder, left=left: _attempt(kind, folder, left if limited else None))
            hidden = [file for file in _files(folder) if ".part" in file]
            (disk / "ballast").unlink(missing_ok=True)
            found = in_child(lambda folder=folder: kind.version(folder))
            wanted = before if said or kind.kept else 2
            if found != wanted:
                yield "lost", f"{name}, {left:,} left: version {found}, not {wanted} ({said or 'no error'})"
            named = any(f"{folder / name}" in said for name in (kind.names, kind.opens) if name or not kind.names)
            if said and (not named or ".part" in said):
                yield "unnamed", f"{name}, {left:,} left: {said}"
            if hidden:
                yield "leftover", f"{name}, {left:,} left: {hidden}"
            if said:
                _, last, files = in_child(again)
                if last not in (2, 0 if kind.kept else 2):
                    yield "lost", f"{name}, {left:,} left: with room again it is of version {last}"
                if any(".part" in file or file.endswith(("-wal", "-shm")) for file in files):
                    yield "leftover", f"{name}, {left:,} left, and then room: {files}"
        except AssertionError as fault:
            (disk / "ballast").unlink(missing_ok=True)
            yield "raw", f"{name}, {left:,} left: {fault}"
        yield "refused" if said else "written", name
        if not said and (room or kind.kept):
            return
        if room > _MEGABYTES << 20:
            yield "raw", f"{name} is refused on an empty disk, too: {said}"
            return
        room = max(2 * room, _PAGE) if not short else max(16 * room, _PAGE)


def run(names: list[str], disk: Path, *, limited: bool, short: bool, seed: int) -> Counter[str]:
    """Try every kind, and count."""
    warnings.simplefilter("ignore")
    chance, counts = random.Random(seed), Counter[str]()
    for name in names:
        mine = Counter[str]()
        for result, what in try_kind(name, disk, limited, short, chance):
            mine[result] += 1
            if result not in ("refused", "written"):
                print(f"{result}: {what}", flush=True)
        print(f"{name}: {mine['refused']} refused, {mine['written']} written", flush=True)
        if not mine["refused"] and not KINDS[name].kept:
            mine["untried"] += 1
        counts += mine
    return counts


@contextmanager
def small_disk(megabytes: int = _MEGABYTES) -> Iterator[Path | None]:
    """A file system of some megabytes; None where this process may not mount one."""
    folder = Path(tempfile.mkdtemp(prefix="spherecv-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False)
        with suppress(OSError):
            folder.rmdir()


def _again_in_a_namespace() -> None:
    """Begin again where this user may mount, if there is such a place."""
    if shutil.which("unshare") is None or _INSIDE in os.environ or os.geteuid() == 0:
        return
    own = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*own, "true"], capture_output=True, check=False).returncode == 0:
        os.environ[_INSIDE] = "1"
        os.execvp(own[0], [*own, sys.executable, *sys.argv])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", action="append", choices=sorted(KINDS))
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--limited", action="store_true", help="limit the size of files instead of mounting")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if not asked.limited:
        _again_in_a_namespace()
    with small_disk() as disk, tempfile.TemporaryDirectory() as other:
        limited = asked.limited or disk is None
        print(f"seed {asked.seed}; " + ("sizes of files are limited" if limited else f"{_MEGABYTES} MB of tmpfs"))
        place = Path(other, "disk") if limited or disk is None else disk
        place.mkdir(exist_ok=True)
        tempfile.tempdir = other  # what the writers are made of is not on the small disk
        counts = run(asked.kind or list(KINDS), place, limited=limited, short=asked.short, seed=asked.seed)
    bad = ("lost", "unnamed", "leftover", "raw", "untried")
    print(f"{counts['refused']} refused, {counts['written']} written; " + ", ".join(f"{counts[k]} {k}" for k in bad))
    sys.exit(any(counts[kind] for kind in bad))


if __name__ == "__main__":
    main()
