"""`spherecv watch`: who is in a video, a camera or a stream."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spherecv.cli import galleries, options
from spherecv.cli.counting import counted
from spherecv.errors import InvalidArgumentError
from spherecv.runtime.ending import INTERRUPTED

if TYPE_CHECKING:
    from spherecv.gallery import FaceGallery
    from spherecv.verify import FaceVerifier
    from spherecv.watch import Event, FaceWatcher
    from spherecv.watch.session import Session


@dataclass
class WatchDecision(options.DecisionOptions):
    """What counts as the same person over a track."""

    far: Annotated[
        float | None,
        typer.Option("--far", help="False accept rate of a track's decision; 0.001 where it was measured."),
    ] = None


@options.grouped
def watch(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="A camera's number, a video file, an address, a folder of frames."),
    ],
    *,
    pipeline: options.PipelineOptions,
    decision: WatchDecision,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            "--reference",
            "-r",
            help="Whom to look for: [NAME=]SRC, an image, a folder of them, or a clip. Several times for more.",
            show_default=False,
        ),
    ] = None,
    gallery: Annotated[
        str | None, typer.Option("--gallery", "-g", help="Whom to look for: a gallery.", show_default=False)
    ] = None,
    face: options.FaceOptions,
    template: galleries.Template = "best",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write the video with names: .mp4, .mkv, .avi, .webm", show_default=False),
    ] = None,
    log: Annotated[
        Path | None, typer.Option("--log", help="Append events to this file, a line of JSON each.", show_default=False)
    ] = None,
    window: Annotated[bool, typer.Option("--window", help="Show the video; q closes it.")] = False,
    every: Annotated[
        int, typer.Option("--every", help="Look for faces in every so many frames, follow them between.")
    ] = 3,
    pace: Annotated[int, typer.Option("--pace", help="Faces after which half of the false accept rate is spent.")] = 8,
    patience: Annotated[float, typer.Option("--patience", help="Seconds without their face that end a track.")] = 2.0,
    frames: Annotated[
        int | None, typer.Option("--frames", help="Stop after so many frames.", min=1, show_default=False)
    ] = None,
    drop: Annotated[
        bool | None,
        typer.Option("--drop/--no-drop", help="Drop frames rather than fall behind: cameras and streams do."),
    ] = None,
    give_up: Annotated[
        float | None,
        typer.Option("--give-up", help="Seconds to look for a lost source; no limit by default.", show_default=False),
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", help="Frames a second of a folder; 25 by default.", show_default=False)
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Track the people in a video and say who they are.

    A line for each event: a track is decided when the evidence over its frames is enough. It is "same", "different" or
    still undecided, at the false accept rate asked for. Ctrl-C finishes the video and the log properly.

    Examples:

      spherecv watch door.mp4 --gallery people.db --far 0.001 --log events.jsonl --out named.mp4

      spherecv watch 0 --reference Ann=ann.jpg --reference Ben=images/ben/ --window

      spherecv watch rtsp://camera.local/stream --gallery people.db --log events.jsonl
    """
    if reference and gallery is not None:
        raise InvalidArgumentError("give --reference or --gallery, not both")
    with ExitStack() as stack:
        from spherecv.addresses import without_password
        from spherecv.video.frames import open_frames
        from spherecv.watch.events import EventLog
        from spherecv.watch.recording import VideoFile
        from spherecv.watch.session import Session
        from spherecv.watch.watcher import FaceWatcher
        from spherecv.watch.window import Window

        screen = Window(f"spherecv watch {without_password(source)}") if window else None
        if screen is not None:
            stack.callback(screen.close)
        people = None if gallery is None else stack.enter_context(_opened(gallery, pipeline, decision))
        verifier = _verifier(pipeline.pipeline_config() if people is None else people.pipeline, decision)
        watcher = FaceWatcher(
            verifier, references=_references(reference or []) or None, gallery=people, far=decision.far, pace=pace,
            template=template, face=face.which(), every=every, patience=patience,
        )  # fmt: skip
        opened = open_frames(source, drop=drop, give_up=give_up, rate=rate)
        stack.callback(opened.close)
        session = Session(watcher, opened, window=screen, listener=_printed(as_json))
        session.log = None if log is None else stack.enter_context(EventLog(log))
        session.video = None if out is None else stack.enter_context(VideoFile(out, rate=opened.rate or rate))
        if not as_json and opened.length:
            session.progress = stack.enter_context(counted("watching"))
        with _stopped_by_signals(session):
            whole = session.run(limit=frames, about=_about(verifier, watcher, gallery))
    if not as_json:
        speed = session.watched / session.seconds if session.seconds else 0.0
        dropped = f", {opened.dropped:,} dropped" if opened.dropped else ""
        typer.echo(f"{session.watched:,} frames in {session.seconds:.1f} s ({speed:.1f} frames/s){dropped}", err=True)
    if not whole and not opened.live:
        raise typer.Exit(INTERRUPTED)


def _opened(location: str, pipeline: options.PipelineOptions, decision: WatchDecision) -> FaceGallery:
    return galleries.open_gallery(location, pipeline, **decision.of_gallery(), create=False)


def _verifier(stages: Any, decision: WatchDecision) -> FaceVerifier:
    """Make what compares: `--far` is the rate of a track's decision, which the watcher settles."""
    from spherecv.verify import FaceVerifier

    settings = decision.settings()
    far = settings.pop("far")
    if far is not None and decision.threshold is not None:
        raise InvalidArgumentError("give --threshold or --far, not both")
    return FaceVerifier(stages, **settings)


def _references(texts: list[str]) -> dict[str, Any]:
    """`[NAME=]SRC` each; several of one name are one person."""
    from spherecv.addresses import without_password
    from spherecv.video.kinds import is_set

    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, source = text.partition("=")
        if not equals or "://" in name or Path(text).exists():
            name, source = Path(without_password(text)).stem, text
        if not name or not source:
            raise InvalidArgumentError(f"--reference must be SRC or NAME=SRC, but got {text!r}")
        found.setdefault(name, []).append(source)
    for name, sources in found.items():
        if len(sources) > 1 and any(is_set(source) for source in sources):
            raise InvalidArgumentError(f"--reference {name}=... several times must be images: or give one folder")
    return {name: sources[0] if len(sources) == 1 else sources for name, sources in found.items()}


def _about(verifier: FaceVerifier, watcher: FaceWatcher, gallery: str | None) -> dict[str, Any]:
    names = watcher.names
    return {
        "model": verifier.pipeline.embedder.name,
        "detector": verifier.pipeline.detector.name,
        "metric": verifier.metric,
        "gallery": gallery,
        "references": list(names) if names else None,
        "far": None if watcher.rates is None else watcher.rates.far,
    }


def _printed(as_json: bool) -> Any:
    def show(event: Event) -> None:
        if as_json:
            typer.echo(json.dumps(event.to_dict()))
        elif text := _text(event):  # names may hold what a terminal takes for a command
            typer.echo("".join(letter if letter.isprintable() else "\ufffd" for letter in text))

    return show


def _text(event: Event) -> str:
    details = event.details
    if event.kind in ("lost", "back"):
        return f"{event.at}  {details['text']}"
    if "track" not in details:
        return ""
    when = "" if event.time is None else f"{event.time:8.2f} s  frame {event.frame}  "
    head = f"{when}track {details['track']}: "
    if event.kind == "appeared":
        return f"{head}somebody appears"
    if event.kind == "ended":
        return f"{head}gone, after {details['last_time'] - details['first_time']:.1f} s" + (
            "" if "state" not in details else f"; {_verdict(details)}"
        )
    return f"{head}{_verdict(details)}"


def _verdict(details: Any) -> str:
    who = {"same": details["identity"], "different": "nobody asked about", "undecided": "undecided"}[details["state"]]
    if details["distance"] is None:
        return str(who)
    nearest = f" to {details['nearest']}" if details["state"] != "same" else ""
    rate = "" if details["far"] is None else f", FAR {details['far']:g}"
    return f"{who} (distance {details['distance']:.4f}{nearest}, threshold {details['threshold']:.4f}{rate})"


@contextmanager
def _stopped_by_signals(session: Session) -> Iterator[None]:
    """Let Ctrl-C, or a service manager, end the video after the frame under way; a second time, at once."""
    before: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(_number: int, _frame: object) -> None:
        restore()
        session.stop()

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, stop)
    except ValueError:  # not in the main thread, where no signal arrives either
        yield
        return
    try:
        yield
    finally:
        restore()
