"""Search in galleries: exact against FAISS flat, HNSW and IVF against exact, memory, enrolment.

Embeddings are made from real ones: people are directions between real embeddings, their images differ as real images of
one person do. Usage:

    python benchmarks/gallery_search.py EMBEDDINGS.npy GENUINE.npz [--part exact|hnsw|ivf|enrol] [--faces N]

EMBEDDINGS.npy holds real embeddings (N, d) of different people; GENUINE.npz of `spherecv embed` those of labelled
photos (PERSON/IMAGE), from which the differences within a person are taken. Both are turned into 512 numbers by a fixed
rotation, which changes no distance and costs what 512 numbers cost.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import interleave, machine_line

from spherecv.gallery import FaceGallery, Origin, exact
from spherecv.gallery.matrix import Matrix

SIZE, PROBES = 512, 100
CLOCK = time.perf_counter


class Crowd:
    """An endless crowd of people made from real embeddings."""

    def __init__(self, embeddings: Path, genuine: Path, seed: int = 0) -> None:
        real = exact.unit(np.load(embeddings))
        with np.load(genuine) as held:
            rows, people = exact.unit(held["embeddings"]), [Path(path).parent.name for path in held["paths"]]
        width = min(real.shape[1], rows.shape[1])
        real, rows = exact.unit(real[:, :width]), exact.unit(rows[:, :width])
        self.generator = np.random.default_rng(seed)
        _, owner = np.unique(people, return_inverse=True)
        sums = np.zeros((owner.max() + 1, width))
        np.add.at(sums, owner, rows)
        counts = np.bincount(owner)
        several = counts[owner] > 1
        # Differences of an image from its person's mean, made as long as between two images of one person.
        spread = (rows - sums[owner] / counts[owner][:, None]) * np.sqrt(
            counts[owner] / np.maximum(counts[owner] - 1, 1)
        )[:, None]
        self.spread = spread[several].astype(np.float32)
        self.real = real
        turn, _ = np.linalg.qr(self.generator.standard_normal((SIZE, SIZE)))
        self.turn = turn[:width].astype(np.float32)

    def people(self, count: int) -> np.ndarray:
        first, second = self.generator.integers(len(self.real), size=(2, count))
        share = self.generator.uniform(0.0, 0.5, size=(count, 1)).astype(np.float32)
        return exact.unit((1 - share) * self.real[first] + share * self.real[second])

    def images(self, people: np.ndarray) -> np.ndarray:
        picked = self.generator.integers(len(self.spread), size=len(people))
        return exact.unit(exact.unit(people + self.spread[picked]) @ self.turn)

    def gallery(self, faces: int, each: int = 5) -> tuple[np.ndarray, np.ndarray]:
        people = self.people(faces // each)
        rows = np.empty((len(people) * each, SIZE), np.float32)
        for image in range(each):
            for start in range(0, len(people), 50_000):
                part = people[start : start + 50_000]
                rows[image * len(people) + start : image * len(people) + start + len(part)] = self.images(part)
        asked = self.generator.choice(len(people), 1000, replace=False)
        return rows, self.images(people[asked])


def matrix_of(rows: np.ndarray) -> Matrix:
    matrix = Matrix(SIZE, "cosine")
    for start in range(0, len(rows), 16_384):
        matrix.append(rows[start : start + 16_384])
    return matrix


def bench_exact(crowd: Crowd, faces: int) -> None:
    import faiss

    rows, probes = crowd.gallery(faces)
    probes = probes[:PROBES]
    before = resource_mb()
    matrix = matrix_of(rows)
    held, peak = resource_mb(), peak_mb()
    exact.nearest(matrix, probes, 5)
    print(
        f"a matrix of {rows.nbytes / 2**20:.0f} MB took {held - before:.0f} MB, "
        f"and searching it {peak_mb() - peak:.0f} MB more"
    )
    flat = faiss.IndexFlatIP(SIZE)
    flat.add(rows)
    del rows
    threads = int(os.environ.get("OPENBLAS_NUM_THREADS", len(os.sched_getaffinity(0))))
    faiss.omp_set_num_threads(threads)
    print(f"{threads} thread(s) for both")
    ours, theirs = exact.nearest(matrix, probes, 5)[0], flat.search(probes, 5)[1]
    print(f"first neighbours equal: {(ours[:, 0] == theirs[:, 0]).mean():.4f}")
    # FAISS multiplies by kernels of its own, or from a number of probes on by its copy of OpenBLAS. That one does not
    # know every processor: on those OPENBLAS_CORETYPE (as SKYLAKEX) in the environment makes it several times faster.
    usual = faiss.cvar.distance_compute_blas_threshold
    print(f"FAISS takes BLAS from {usual} probes on")

    def by_faiss(threshold: int) -> None:
        faiss.cvar.distance_compute_blas_threshold = threshold
        flat.search(probes, 5)

    contenders = {
        "spherecv exact": lambda: exact.nearest(matrix, probes, 5),
        "faiss IndexFlatIP": lambda: by_faiss(usual),
        "faiss IndexFlatIP, BLAS": lambda: by_faiss(1),
    }
    found = interleave(contenders, repeats=4, pause=0.2, clock=CLOCK)
    print(found.table(items=PROBES, unit="probes"))


def bench_index(crowd: Crowd, faces: int, kind: str, folder: Path) -> None:
    rows, probes = crowd.gallery(faces)
    gallery = FaceGallery.open(folder / "g.db", model=Origin("real", "real"))
    names = [f"p{number % (faces // 5)}" for number in range(len(rows))]
    started = CLOCK()
    for start in range(0, len(rows), 100_000):
        part = slice(start, start + 100_000)
        images = [str(number) for number in range(start, start + len(rows[part]))]  # equal rows are two faces, too
        gallery.enrol_embeddings(names[part], rows[part], images=images)
    print(f"enrolled {faces:,} ready embeddings in {CLOCK() - started:.1f} s")
    matrix = matrix_of(rows)
    del rows
    started = CLOCK()
    gallery.build_index(kind)
    print(
        f"built {kind} of {faces:,} in {CLOCK() - started:.0f} s, "
        f"{(folder / 'g.db.index').stat().st_size / 2**20:.0f} MB"
    )
    store, last = gallery.store, len(probes) - PROBES
    batch = probes[last:]
    truth = np.concatenate(
        [exact.nearest(matrix, probes[start : start + 100], 1)[0][:, 0] for start in range(0, 1000, 100)]
    )
    hits = [store.nearest(probes[start : start + 100], 1, "cosine", "known") for start in range(0, 1000, 100)]
    found = np.array([row[0].face - 1 for part in hits for row in part])
    print(f"recall@1 of {kind}: {(found == truth).mean():.4f} over {len(truth)} probes")
    contenders = {
        "exact": lambda: exact.nearest(matrix, batch, 1),
        kind: lambda: store.nearest(batch, 1, "cosine", "known"),
        f"{kind} alone": lambda: store.index._index.search(batch, 10),
        "exact, one probe": lambda: exact.nearest(matrix, batch[:1], 1),
        f"{kind}, one probe": lambda: store.nearest(batch[:1], 1, "cosine", "known"),
    }
    print(interleave(contenders, repeats=7, pause=0.2, clock=CLOCK).table(base="exact"))
    gallery.close()


def bench_enrol(crowd: Crowd, folder: Path) -> None:
    rows, probes = crowd.gallery(100_000)
    names = [f"p{number % 20_000}" for number in range(len(rows))]
    images = [f"photos/{number}.jpg" for number in range(len(rows))]
    for number in range(3):
        with FaceGallery.open(folder / f"{number}.db", model=Origin("real", "real")) as gallery:
            started = CLOCK()
            gallery.enrol_embeddings(names, rows, images=images)
            enrolled = CLOCK() - started
            started = CLOCK()
            gallery.identify_embeddings(probes[:1], threshold=0.5)
            first = CLOCK() - started
            started = CLOCK()
            for probe in probes[:50]:
                gallery.identify_embeddings(probe, threshold=0.5)
            each = (CLOCK() - started) / 50
            started = CLOCK()
            gallery.remove(names[17])
            removed = CLOCK() - started
        print(
            f"100,000 embeddings: enrolled in {enrolled:.2f} s; first identify {first:.2f} s, "
            f"then {each * 1e3:.2f} ms; "
            f"a person removed and erased in {removed:.2f} s"
        )


def resource_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("genuine", type=Path)
    parser.add_argument("--part", choices=["exact", "hnsw", "ivf", "enrol"], default="exact")
    parser.add_argument("--faces", type=int)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--cpu", action="store_true", help="count CPU seconds: on a machine that others use too")
    given = parser.parse_args()
    global CLOCK
    CLOCK = time.process_time if given.cpu else time.perf_counter
    print(machine_line("faiss-cpu"))
    crowd = Crowd(given.embeddings, given.genuine)
    folder = Path(tempfile.mkdtemp(dir=given.folder))
    try:
        if given.part == "exact":
            bench_exact(crowd, given.faces or 1_000_000)
        elif given.part == "enrol":
            bench_enrol(crowd, folder)
        else:
            bench_index(crowd, given.faces or (200_000 if given.part == "hnsw" else 1_000_000), given.part, folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
