"""RecordIO files: what MXNet's writer would write, by its format's definition, read back; broken ones refused."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spherecv.dataset.unpack import unpack_records
from spherecv.errors import DatasetError, InvalidArgumentError
from spherecv.recordio import payload, read_record, read_records
from spherecv.train.data.dataset import from_lst, open_dataset
from spherecv.train.data.reading import bytes_of

MAGIC = struct.pack("<I", 0xCED7230A)


def framed(content: bytes) -> bytes:
    """One record as dmlc's `RecordIOWriter::WriteRecord` writes it: cut at every aligned mark, which is left out."""
    cuts = [at for at in range(0, len(content) - 3, 4) if content[at : at + 4] == MAGIC]
    parts, start = [], 0
    for at in cuts:
        parts.append(content[start:at])
        start = at + 4
    parts.append(content[start:])
    kinds = [0] if len(parts) == 1 else [1, *[2] * (len(parts) - 2), 3]
    return b"".join(
        MAGIC + struct.pack("<I", kind << 29 | len(part)) + part + b"\0" * (-len(part) % 4)
        for kind, part in zip(kinds, parts, strict=True)
    )


def packed(label, data: bytes, number: int = 0) -> bytes:
    """`mx.recordio.pack`: a header, more labels than one behind it, then the image."""
    if isinstance(label, list):
        return struct.pack("<IfQQ", len(label), 0.0, number, 0) + struct.pack(f"<{len(label)}f", *label) + data
    return struct.pack("<IfQQ", 0, label, number, 0) + data


def write(folder: Path, images: list[tuple[int, bytes]]) -> Path:
    """A `.rec` and `.idx` as InsightFace writes them: a first record that counts, images, one record for each class."""
    records = [packed([len(images) + 1, len(images) + 3], b"", 0)]
    records += [packed(float(label), data, i) for i, (label, data) in enumerate(images, start=1)]
    records += [packed([1, 2], b"", 9), packed([2, 3], b"", 10)]
    file, at, lines = folder / "train.rec", 0, []
    with file.open("wb") as stream:
        for key, record in enumerate(records):
            data = framed(record)
            lines.append(f"{key}\t{at}\n")
            at += stream.write(data)
    (folder / "train.idx").write_text("".join(lines))
    return file


contents = st.lists(st.binary(min_size=4, max_size=9) | st.just(MAGIC) | st.just(MAGIC * 2), min_size=1, max_size=6)


@settings(deadline=None)
@given(images=st.lists(st.tuples(st.integers(0, 5), contents.map(b"".join)), min_size=1, max_size=6))
def test_images_and_labels_come_back(tmp_path_factory, images) -> None:
    file = write(tmp_path_factory.mktemp("rec"), images)
    found = read_records(file)
    assert [(record.label, read_record(file, record)) for record in found] == images


def test_a_data_set_for_training(tmp_path: Path) -> None:
    pixels = [np.full((8, 8, 3), 40 * i, np.uint8) for i in range(4)]
    images = [(i // 2, cv2.imencode(".png", image)[1].tobytes()) for i, image in enumerate(pixels)]
    found = open_dataset(write(tmp_path, images))
    assert found.labels().tolist() == [0, 0, 1, 1]
    assert found.names == ("0", "1")
    for item, (_, data) in zip(found.items, images, strict=True):
        assert bytes_of(item) == data


def test_broken_files(tmp_path: Path) -> None:
    file = write(tmp_path, [(0, b"an image"), (1, MAGIC + b"another in parts")])
    data = file.read_bytes()
    (tmp_path / "train.idx").rename(tmp_path / "kept.idx")
    ends = [int(line.split()[1]) for line in (tmp_path / "kept.idx").read_text().splitlines()]
    for end in range(len(data)):
        file.write_bytes(data[:end])
        if end in ends[2:]:  # between two records: the images before it are there
            assert len(read_records(file)) == min(ends.index(end) - 1, 2)
        else:
            with pytest.raises(DatasetError, match=r"truncated|claims|no images|is empty"):
                read_records(file)
    file.write_bytes(data[4:])
    with pytest.raises(DatasetError, match="byte 0: no RecordIO record"):
        read_records(file)
    file.write_bytes(framed(packed(1.5, b"image")))
    with pytest.raises(DatasetError, match="whole number"):
        read_records(file)
    file.write_bytes(framed(packed(float("nan"), b"image")))
    with pytest.raises(DatasetError, match="whole number"):
        read_records(file)
    file.write_bytes(framed(struct.pack("<IfQQ", 2**31, 0.0, 0, 0) + b"image"))
    with pytest.raises(DatasetError, match="claims"):
        read_records(file)
    with pytest.raises(DatasetError, match="cannot be read"):
        read_records(tmp_path / "no.rec")
    file.write_bytes(data)
    (tmp_path / "train.idx").write_text("0\t0\n1\t7\n")
    with pytest.raises(DatasetError, match=r"of another file: no record of the \.rec begins at byte 7"):
        read_records(file)
    (tmp_path / "train.idx").write_text("nonsense\n")
    with pytest.raises(DatasetError, match="cannot be read as the index"):
        read_records(file)
    for broken in (b"", MAGIC, MAGIC + struct.pack("<I", 100), framed(b"short")):
        with pytest.raises(DatasetError, match="damaged"):
            payload(broken)


def test_lists_of_mxnet_and_of_insightface(tmp_path: Path) -> None:
    file = tmp_path / "train.lst"
    for text in ("0\t0.000000\ta/1.jpg\n1\t1\tb/1.jpg\n", "1\ta/1.jpg\t0\n1\tb/1.jpg\t1\t5\t6\n"):
        file.write_text(text)
        found = open_dataset(file)
        assert [item.path for item in found.items] == [str(tmp_path / "a/1.jpg"), str(tmp_path / "b/1.jpg")]
        assert found.labels().tolist() == [0, 1]
    for text, message in (("1 a 0\n", "three columns"), ("1\ta\tb\n", "whole number"), ("\n", "no image")):
        file.write_text(text)
        with pytest.raises(InvalidArgumentError, match=message):
            from_lst(file)


def test_unpacked_into_folders(tmp_path: Path) -> None:
    images = [(0, b"\xff\xd8 one"), (11, b"\x89PNG two"), (0, b"\xff\xd8 three" + MAGIC)]
    file = write(tmp_path, images)
    made = unpack_records(file, tmp_path / "out")
    assert (made.images, made.identities, made.written) == (3, 2, 3)
    found = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in (tmp_path / "out").rglob("*.*")
    }
    assert found == {"00/1.jpg": images[0][1], "11/2.png": images[1][1], "00/3.jpg": images[2][1]}
    (tmp_path / "out" / "11" / "2.png").unlink()
    assert unpack_records(file, tmp_path / "out").written == 1
    (tmp_path / "out" / "11" / "2.png").write_bytes(b"another")
    with pytest.raises(DatasetError, match="of another file"):
        unpack_records(file, tmp_path / "out")
