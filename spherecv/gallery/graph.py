"""Removal of nodes from a FAISS HNSW graph, which FAISS itself cannot do."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.intp]


def unlink(faiss: Any, hnsw: Any, codes: NDArray[np.uint8], gone: Places, *, inner: bool) -> None:
    """Take nodes out of every other node's links, so that no search walks through them.

    Each link to a removed node becomes one to the nearest of that node's own remaining neighbours, or of theirs where
    all of them went too: what was reached through it still is. The nodes themselves stay, without links.

    Parameters
    ----------
    faiss : module
    hnsw : faiss.HNSW
        Changed in place.
    codes : ndarray of uint8, shape (N, D)
        What the nodes hold; the removed ones' are not read.
    gone : ndarray of int, shape (G,)
        Places of the removed nodes.
    inner : bool
        Whether near means a large inner product, and not a small Euclidean distance.
    """
    links = faiss.rev_swig_ptr(hnsw.neighbors.data(), hnsw.neighbors.size())
    offsets = faiss.vector_to_array(hnsw.offsets).astype(np.int64)
    ends = faiss.vector_to_array(hnsw.cum_nneighbor_per_level).astype(np.int64)
    dead = np.zeros(len(codes) + 1, bool)  # one more for -1, an empty link
    dead[gone] = True
    hit = np.flatnonzero(dead[links])
    nodes = np.searchsorted(offsets, hit, side="right") - 1
    levels = np.searchsorted(ends, hit - offsets[nodes], side="right") - 1
    alive = ~dead[nodes]
    for node, level in {(int(n), int(lv)) for n, lv in zip(nodes[alive], levels[alive], strict=True)}:
        block = links[offsets[node] + ends[level] : offsets[node] + ends[level + 1]]
        block[:] = _mended(block, node, level, links, offsets, ends, dead, codes, inner)
    for node in gone:
        links[offsets[node] : offsets[node + 1]] = -1
    _choose_entry(faiss, hnsw, dead)


def _mended(
    block: NDArray[np.int32],
    node: int,
    level: int,
    links: NDArray[np.int32],
    offsets: NDArray[np.int64],
    ends: NDArray[np.int64],
    dead: NDArray[np.bool_],
    codes: NDArray[np.uint8],
    inner: bool,
) -> NDArray[np.int32]:
    """Links of a node on one level with those to removed nodes replaced; empty ones come last, as FAISS wants them."""
    held = block[block >= 0]
    kept, lost = held[~dead[held]], held[dead[held]]
    reached, fresh = {*lost.tolist()}, lost
    found: set[int] = set()
    while len(fresh) and not found:
        parts = [links[offsets[n] + ends[level] : offsets[n] + ends[level + 1]] for n in fresh.tolist()]
        around = np.unique(np.concatenate(parts))
        around = around[around >= 0]
        found = {*around[~dead[around]].tolist()} - {node, *kept.tolist()}
        fresh = np.array([n for n in around[dead[around]].tolist() if n not in reached], np.int32)
        reached |= {*fresh.tolist()}
    others = np.array(sorted(found), np.int32)
    order = np.argsort(_away(codes, node, others, inner), kind="stable")[: len(lost)]
    mended = np.full(len(block), -1, np.int32)
    mended[: len(kept) + len(order)] = np.concatenate([kept, others[order]])
    return mended


def _away(codes: NDArray[np.uint8], node: int, others: NDArray[np.int32], inner: bool) -> NDArray[np.float32]:
    own, rest = codes[node].astype(np.float32) - 128.0, codes[others].astype(np.float32) - 128.0
    return np.asarray(-(rest @ own) if inner else np.square(rest - own).sum(axis=1))


def _choose_entry(faiss: Any, hnsw: Any, dead: NDArray[np.bool_]) -> None:
    """Begin searches at a node that is still there, on the highest level that has one."""
    if hnsw.entry_point < 0 or not dead[hnsw.entry_point]:
        return
    levels = np.where(dead[:-1], 0, faiss.vector_to_array(hnsw.levels))
    top = int(levels.argmax())
    if levels[top]:
        hnsw.entry_point, hnsw.max_level = top, int(levels[top]) - 1
