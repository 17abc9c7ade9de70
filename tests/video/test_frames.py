from __future__ import annotations

import re
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from spherecv.addresses import without_password
from spherecv.errors import ImageError, InvalidArgumentError, VideoError
from spherecv.video import Frame, VideoWarning, open_frames
from spherecv.video.capture import OpenedCapture
from spherecv.video.frames import _read_on
from spherecv.video.kinds import is_video
from spherecv.watch import VideoFile


def shade(value: int, size=(48, 64)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    with VideoFile(tmp_path / "clip.avi", rate=10) as video:
        for value in range(0, 240, 10):
            video.write(shade(value))
    return tmp_path / "clip.avi"


@pytest.mark.runtime
def test_a_file_gives_every_frame_at_its_time(clip: Path) -> None:
    frames = open_frames(clip)
    assert (frames.rate, frames.live, frames.length, frames.label) == (10, False, 24, str(clip))
    found = list(frames)
    assert [frame.index for frame in found] == list(range(24))
    assert [frame.time for frame in found] == pytest.approx([number / 10 for number in range(24)])
    assert [float(frame.image.mean()) for frame in found] == pytest.approx(range(0, 240, 10), abs=3)
    assert (found[0].at, frames.dropped, frames.notices()) == (None, 0, [])
    assert frames.wait(0.1) is None


@pytest.mark.runtime
def test_frames_of_a_varying_rate_stand_where_their_stamps_say(tmp_path: Path) -> None:
    with VideoFile(tmp_path / "even.mkv", rate=25) as video:
        for value in range(0, 200, 10):
            video.write(shade(value))
    data = bytearray((tmp_path / "even.mkv").read_bytes())
    blocks = [found.end() for found in re.finditer(rb"\xa3.{1,2}?\x81(?=..[\x00\x80])", bytes(data), re.DOTALL)]
    assert len(blocks) == 20
    stamps = [40 * number + (1500 if number >= 10 else 0) for number in range(20)]
    stamps[15] = 0  # one that goes back
    for place, stamp in zip(blocks, stamps, strict=True):
        data[place : place + 2] = stamp.to_bytes(2, "big")
    (tmp_path / "uneven.mkv").write_bytes(data)
    times = [frame.time for frame in open_frames(tmp_path / "uneven.mkv")]
    stamps[15] = stamps[14] + 40
    assert times == pytest.approx([stamp / 1000 for stamp in stamps], abs=0.002)


@pytest.mark.parametrize(("last", "whole"), [(6.0, True), (3.0, False)])
def test_fewer_frames_than_an_even_rate_makes_are_no_damage(last: float, whole: bool) -> None:
    class Told:
        rate, length, moment = 25.0, 151, None

        def read(self) -> np.ndarray | None:
            self.moment = next(moments, None)
            return None if self.moment is None else np.zeros((4, 4, 3), np.uint8)

    moments = iter([0.0, 0.04, 1.0, last])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert [frame.time for frame in _read_on(Told(), "a video")] == [0.0, 0.04, 1.0, last]
    assert bool(said) is not whole


def planes(path: Path, head: str, frames: list[bytes]) -> Path:
    """A video of 64 x 48 pixels in the plain format that says in words how its pixels are meant."""
    parts = [f"YUV4MPEG2 W64 H48 F25:1 {head}\n".encode()]
    path.write_bytes(b"".join(parts + [b"FRAME\n" + frame for frame in frames]))
    return path


def grey(value: int) -> bytes:
    """A frame of that format in one grey."""
    return bytes([value]) * 3072 + b"\x80" * 1536


@pytest.mark.runtime
@pytest.mark.parametrize(
    ("ratio", "size"), [("4:3", (48, 85)), ("8:9", (54, 64)), ("1:1", (48, 64)), ("0:0", (48, 64))]
)
def test_pixels_of_a_video_are_made_square(tmp_path: Path, ratio: str, size: tuple[int, int]) -> None:
    video = planes(tmp_path / "wide.y4m", f"Ip A{ratio} C420jpeg", [grey(60), grey(200)])
    found = list(open_frames(video))
    assert [frame.image.shape for frame in found] == [(*size, 3)] * 2
    assert [frame.image.mean() for frame in found] == pytest.approx([51, 214], abs=2)


@pytest.mark.runtime
@pytest.mark.parametrize(("turn", "size"), [(0, (48, 96)), (90, (96, 48)), (180, (48, 96)), (270, (96, 48))])
def test_the_ratio_is_of_frames_as_stored(monkeypatch: pytest.MonkeyPatch, turn: int, size) -> None:
    stated = {cv2.CAP_PROP_SAR_NUM: 3, cv2.CAP_PROP_SAR_DEN: 2, cv2.CAP_PROP_FRAME_WIDTH: 64}
    stated |= {cv2.CAP_PROP_FRAME_HEIGHT: 48, cv2.CAP_PROP_ORIENTATION_META: turn, cv2.CAP_PROP_ORIENTATION_AUTO: 1}
    stand_in(monkeypatch, [np.zeros((48, 64, 3) if turn % 180 == 0 else (64, 48, 3), np.uint8)], stated)
    assert OpenedCapture(0, "camera 0").read().shape == (*size, 3)


@pytest.mark.runtime
@pytest.mark.parametrize("form", ["C420mpeg2", "C422"])
def test_an_interlaced_video_is_read_or_refused(tmp_path: Path, form: str) -> None:
    halves = 1536 if form == "C420mpeg2" else 3072
    frames = [bytes([value]) * 3072 + b"\x80" * halves for value in range(40, 220, 20)]
    video = planes(tmp_path / "halves.y4m", f"It A1:1 {form}", frames)
    try:
        found = [frame.image.mean() for frame in open_frames(video)]
    except VideoError as error:
        assert "halves.y4m cannot be decoded" in str(error)  # noqa: PT017 - builds of OpenCV differ
    else:
        assert found == pytest.approx([(value - 16) * 255 / 219 for value in range(40, 220, 20)], abs=3)


@pytest.mark.runtime
@pytest.mark.parametrize("value", [16, 60, 200, 235])
def test_a_video_that_stands_still_is_one(tmp_path: Path, value: int) -> None:
    still = planes(tmp_path / "still.y4m", "Ip A1:1 C420jpeg", [grey(value)] * 5)
    assert len(list(open_frames(still))) == 5
    rng = np.random.default_rng(1)
    picture = rng.integers(16, 235, 3072, np.uint8).tobytes() + rng.integers(90, 160, 1536, np.uint8).tobytes()
    assert len(list(open_frames(planes(tmp_path / "noise.y4m", "Ip A1:1 C420jpeg", [picture] * 5)))) == 5


SHADES = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)
BGR = np.repeat(SHADES[:, :, None], 3, axis=2)


@pytest.mark.runtime
@pytest.mark.parametrize(
    "handed",
    [SHADES, SHADES[:, :, None], SHADES * np.uint16(257), BGR, np.dstack([BGR, SHADES]), SHADES / np.float32(255)],
    ids=["grey", "grey with an axis", "16 bits", "BGR", "alpha", "float"],
)
def test_what_has_a_known_meaning_is_converted(monkeypatch: pytest.MonkeyPatch, handed: np.ndarray) -> None:
    stand_in(monkeypatch, [handed], {cv2.CAP_PROP_FRAME_HEIGHT: 48, cv2.CAP_PROP_FRAME_WIDTH: 64})
    np.testing.assert_array_equal(OpenedCapture(0, "camera 0").read(), BGR)


@pytest.mark.runtime
def test_a_frame_still_packed_as_jpeg_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = cv2.imencode(".jpg", shade(90))[1].reshape(1, -1)
    stand_in(monkeypatch, [packed], {cv2.CAP_PROP_FRAME_HEIGHT: 48, cv2.CAP_PROP_FRAME_WIDTH: 64})
    assert OpenedCapture(0, "camera 0").read() == pytest.approx(shade(90), abs=2)


@pytest.mark.runtime
@pytest.mark.parametrize(
    "handed",
    [np.full((1, 4608), 7, np.uint8), np.full((4608, 1), 7, np.uint8), np.zeros((48, 64, 2), np.uint8)]
    + [np.zeros((48, 64, 3), np.int32), np.full((48, 64), 7.5, np.float32), np.zeros((2, 48, 64, 3), np.uint8)],
)
@pytest.mark.parametrize("live", [False, True])
def test_what_has_none_is_refused(monkeypatch: pytest.MonkeyPatch, handed: np.ndarray, live: bool) -> None:
    stand_in(monkeypatch, [handed], {cv2.CAP_PROP_FRAME_HEIGHT: 48, cv2.CAP_PROP_FRAME_WIDTH: 64})
    with pytest.raises(VideoError, match="camera 0 delivers"):
        list(open_frames(0, drop=live))


@pytest.mark.runtime
@pytest.mark.parametrize("count", [0, -1, -9.2e18, float("nan")])
def test_empty_frames_are_none_and_odd_counts_unknown(monkeypatch: pytest.MonkeyPatch, count: float) -> None:
    stand_in(monkeypatch, [np.zeros((0, 0, 3), np.uint8)], {cv2.CAP_PROP_FRAME_COUNT: count})
    frames = open_frames(0, drop=False)
    assert frames.length is None
    with pytest.raises(VideoError, match="camera 0 holds no frames"):
        list(frames)


def stand_in(monkeypatch: pytest.MonkeyPatch, frames: list, stated: dict[int, float]) -> None:
    """OpenCV's reader, with these frames and properties."""

    class Reader:
        def __init__(self, *arguments) -> None:
            self._left = list(frames)

        def isOpened(self) -> bool:
            return True

        def get(self, number: int) -> float:
            return stated.get(number, 0.0)

        def read(self):
            return (True, self._left.pop(0)) if self._left else (False, None)

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Reader)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://ann:secret@cam/door", "rtsp://***@cam/door"),
        ("rtsp://ann:sec@ret@cam:554/door", "rtsp://***@cam:554/door"),
        ("rtsp://ann:sec/ret@cam/door", "rtsp://***@cam/door"),
        ("rtsp://ann:sec?ret@cam/door", "rtsp://***@cam/door"),
        ("http://cam/x.mjpg?user=ann&pwd=secret&size=2", "http://cam/x.mjpg?user=***&pwd=***&size=2"),
        ("http://cam/x?AccessToken=secret", "http://cam/x?AccessToken=***"),
        ("http://cam:80/@home/x.mp4?channel=1", "http://cam:80/@home/x.mp4?channel=1"),
        ("rtsp://cam/door", "rtsp://cam/door"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
    ],
)
def test_addresses_are_shown_without_what_opens_them(address, shown) -> None:
    assert without_password(address) == shown
    assert "secret" not in without_password(address)


@pytest.mark.runtime
def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    for number in (2, 10, 1):
        Image.fromarray(shade(number)).save(tmp_path / f"frame{number}.png")
    (tmp_path / "frame3.png").write_bytes(b"no picture")
    with pytest.warns(VideoWarning, match="frame3.png"):
        found = list(open_frames(tmp_path, rate=5))
    assert [(frame.index, frame.time, frame.image[0, 0, 0]) for frame in found] == [
        (0, 0.0, 1),
        (1, 0.2, 2),
        (3, 0.6, 10),
    ]
    (tmp_path / "list.txt").write_text("frame10.png\nframe1.png\n")
    assert [frame.image[0, 0, 0] for frame in open_frames(tmp_path / "list.txt")] == [10, 1]
    assert len(list(open_frames(tmp_path / "frame1.png"))) == 1
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "1.png").write_bytes(b"no picture")
    with pytest.warns(VideoWarning), pytest.raises(ImageError, match="not an image"):
        list(open_frames(tmp_path / "bad"))


def test_images_come_from_anywhere_and_are_not_hoarded() -> None:
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield shade(len(taken))

    frames = open_frames(endless())
    assert [next(frames).image[0, 0, 0] for _ in range(3)] == [1, 2, 3]
    assert len(taken) == 3
    assert open_frames(frames) is frames
    given = Frame(7, 3.5, shade(1))
    assert next(open_frames([given, shade(2)])) is given
    frames.close()
    assert list(frames) == []


@pytest.mark.runtime
def test_what_is_no_film_is_one_error(tmp_path: Path, clip: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.mp4").write_bytes(b"no film" * 99)
    (tmp_path / "empty.mkv").touch()
    (tmp_path / "nothing").mkdir()
    for source, words in (
        (tmp_path / "missing.mp4", "no such file"),
        (tmp_path / "text.mp4", "not a video that this OpenCV can read"),
        (tmp_path / "empty.mkv", "not a video that this OpenCV can read"),
        (tmp_path / "nothing", "holds no images"),
        (987, "no such camera"),
        (10**15, "no such camera"),
        (-1, "no such camera"),
        ("²", "no such file"),
        ("x" * 5000, "cannot be opened"),
        ("a\0b.mp4", "no such file|cannot be opened"),
        ("rtsp://ann:secret@127.0.0.1:9/door", "cannot be reached"),
    ):
        with pytest.raises((VideoError, ImageError), match=words) as caught:
            open_frames(source)
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""  # FFmpeg and OpenCV keep quiet


@pytest.mark.runtime
def test_a_film_that_is_cut_off_says_so(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "cut.avi").write_bytes(clip.read_bytes()[:9000])
    with pytest.warns(VideoWarning, match="cut off or damaged"):
        found = list(open_frames(tmp_path / "cut.avi"))
    assert 0 < len(found) < 22
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(open_frames(clip))


def test_wrong_arguments_are_refused() -> None:
    for source in (True, b"bytes", 3.5, None):
        with pytest.raises(InvalidArgumentError, match="a video must be"):
            open_frames(source)
    for setting in ({"rate": 0}, {"give_up": -1.0}, {"rate": float("nan")}):
        with pytest.raises(InvalidArgumentError, match=next(iter(setting))):
            open_frames([], **setting)


def test_films_are_told_from_pictures_by_their_looks() -> None:
    assert [is_video(source) for source in ("a.MP4", Path("b.mkv"), "rtsp://c/d", "a.jpg", "folder", 0, b"x.mp4")] == [
        *[True] * 3,
        *[False] * 4,
    ]
