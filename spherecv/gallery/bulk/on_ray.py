"""Bulk embedding on Ray Data: one model for each actor, on this machine or a cluster."""

from __future__ import annotations

import json
import logging
from collections.abc import Generator, Sequence
from dataclasses import astuple
from typing import Any

from spherecv.errors import BackendError, MissingDependencyError
from spherecv.gallery.bulk.parts import Item, Part
from spherecv.gallery.bulk.work import Work, Worker
from spherecv.runtime.opencv_settings import keep_opencv_threads


class Actor:
    """A worker as Ray Data wants it: rows in, rows out."""

    def __init__(self, job: Work) -> None:
        keep_opencv_threads(job.config.threads or 1)
        self._worker = Worker(job)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Embed the part of a row."""
        part = Part(int(row["number"]), tuple(Item(*item) for item in json.loads(row["items"])))
        return {"number": part.number, "note": json.dumps(self._worker(part))}


def embed_parts(
    job: Work, parts: Sequence[Part], processes: int | None, address: str | None
) -> Generator[tuple[int, dict[str, Any]], None, None]:
    """Embed parts on Ray; one shard is written where it is made, and only its note travels back.

    Parameters
    ----------
    job : Work
    parts : sequence of Part
    processes : int or None
        Actors; None takes as many as the cluster has cores, or GPUs for a job on one.
    address : str or None
        Of a cluster; None starts Ray on this machine, and stops it at the end.

    Yields
    ------
    int, dict
        Number and note of each part, as they are finished.

    Raises
    ------
    MissingDependencyError
    BackendError
        Ray cannot be reached or started, or an actor failed.
    """
    try:
        import ray
    except ImportError:
        raise MissingDependencyError("ray", "ray", "--engine ray") from None
    if not parts:
        return
    started = not ray.is_initialized()
    gpus = 1 if job.config.device != "cpu" else 0
    try:
        if started:
            settings = {"num_cpus": processes} if address is None and processes else {}
            quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}
            _start(ray, address=address, **quiet, **settings)
        have = ray.cluster_resources().get("GPU" if gpus else "CPU", 1)
        actors = max(1, min(processes or int(have), int(have), len(parts)))
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        todo = [{"number": part.number, "items": json.dumps([astuple(item) for item in part.items])} for part in parts]
        rows = ray.data.from_items(todo, override_num_blocks=len(parts)).map(
            Actor,
            fn_constructor_args=(job,),
            compute=ray.data.ActorPoolStrategy(size=actors),
            num_cpus=0 if gpus else 1,
            num_gpus=gpus or None,
        )
        for row in rows.iter_rows():
            yield int(row["number"]), json.loads(row["note"])
    except Exception as error:  # Ray raises plain Exception too, as when it did not start in time
        reason = getattr(error, "cause", None) or error
        text = " ".join(str(reason).split())
        raise BackendError(f"Ray: {text[-300:]}") from None
    finally:
        if started:
            ray.shutdown()


def _start(ray: Any, **settings: Any) -> None:
    """Start Ray, or reach the cluster; a second time where a busy machine took longer than Ray waits."""
    try:
        ray.init(**settings)
    except Exception as error:
        if "timed out during startup" not in str(error):
            raise
        ray.shutdown()
        ray.init(**settings)
