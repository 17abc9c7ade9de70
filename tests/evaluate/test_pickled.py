"""Pickles of lists of bytes and booleans, read without running them: against pickle itself, for every protocol."""

from __future__ import annotations

import pickle
import pickletools
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spherecv.errors import DatasetError
from spherecv.evaluate.pickled import Piece, read_plain_pickle

plain = st.recursive(
    st.binary(max_size=300) | st.booleans() | st.integers(-(2**62), 2**62),
    lambda inner: st.lists(inner, max_size=5) | st.lists(inner, max_size=4).map(tuple),
    max_leaves=30,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("pickles") / "data.bin"


def filled(loaded, path: Path):
    """The object with its bytes, which the reader only gives the places of."""
    if isinstance(loaded, Piece):
        with path.open("rb") as stream:
            return loaded.read(stream)
    if isinstance(loaded, list | tuple):
        return type(loaded)(filled(item, path) for item in loaded)
    return loaded


@settings(deadline=None)
@given(value=plain, protocol=st.integers(0, 5))
def test_reads_what_pickle_writes(file: Path, value, protocol: int) -> None:
    file.write_bytes(pickle.dumps(value, protocol=protocol))
    found = filled(read_plain_pickle(file), file)
    assert found == value
    assert repr(found) == repr(value)  # True is not 1, and a tuple not a list


@pytest.mark.parametrize(
    ("data", "value"),
    [
        # What Python 2.7 writes for ["\xff\n'", ""] and [True, False], protocols 0 to 2.
        (b"(lp0\nS'\\xff\\n\\''\np1\naS''\np2\na.", [b"\xff\n'", b""]),
        (b"]q\x00(U\x03\xff\n'q\x01U\x00q\x02e.", [b"\xff\n'", b""]),
        (b"\x80\x02]q\x00(U\x03\xff\n'q\x01T\x02\x00\x00\x00abq\x02e.", [b"\xff\n'", b"ab"]),
        (b"(lp0\nI01\naI00\na.", [True, False]),
        (b"(lp0\nI01\r\naI00\r\na.", [True, False]),
        (b"\x80\x02](\x88\x89K\x05M\x01\x01J\xff\xff\xff\xffe.", [True, False, 5, 257, -1]),
    ],
)
def test_reads_what_python_2_wrote(file: Path, data: bytes, value) -> None:
    file.write_bytes(data)
    assert filled(read_plain_pickle(file), file) == value


class Harmful:
    """What a trap in a file looks like: reading it by pickle would call `print`."""

    def __reduce__(self):
        return print, ("this must never be printed",)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "value",
    [
        Harmful(), [b"", Harmful()], {"a": b""}, None, [None], 1.5, "text", ["text"], ("a", b""), {b"a"}, np.uint8(3),
        np.zeros(2, np.uint8), [np.bool_(True)], 2**80, range(3), print,
    ],
)  # fmt: skip
def test_refuses_everything_else(file: Path, capsys, value, protocol: int) -> None:
    file.write_bytes(pickle.dumps(value, protocol=protocol))
    with pytest.raises(DatasetError, match=re.escape(str(file))):
        read_plain_pickle(file)
    assert not capsys.readouterr().out


@pytest.mark.parametrize("protocol", range(6))
def test_a_truncated_file_is_refused_at_every_byte(file: Path, protocol: int) -> None:
    data = pickle.dumps(([b"a\n'" * 9, b"", bytes(range(256))], [True, False]), protocol=protocol)
    for end in range(len(data)):
        file.write_bytes(data[:end])
        with pytest.raises(DatasetError):
            read_plain_pickle(file)
    file.write_bytes(data + b"more")
    with pytest.raises(DatasetError, match="4 bytes behind its end"):
        read_plain_pickle(file)


@settings(deadline=None)
@given(data=st.binary(max_size=60))
def test_any_bytes_give_an_object_or_the_error(file: Path, data: bytes) -> None:
    file.write_bytes(b"\x80\x04" + data + b".")
    try:
        loaded = read_plain_pickle(file)
    except DatasetError:
        return
    assert isinstance(loaded, list | tuple | Piece | int)


codes = [code.code.encode("latin-1") for code in pickletools.opcodes]


arguments = [b"\x01", b"\x00\x00\x00\x00", b"0\n", b"_codecs\nencode\n"]


@settings(deadline=None)
@given(parts=st.lists(st.sampled_from([*codes, *arguments]), max_size=25))
def test_any_instructions_give_an_object_or_the_error(file: Path, parts) -> None:
    file.write_bytes(b"".join(parts) + b".")
    try:
        read_plain_pickle(file)
    except DatasetError:
        return


@pytest.mark.parametrize(
    "data",
    [
        b"\x8e" + b"\xff" * 7 + b"\x7f.", b"T\xff\xff\xff\xff.", b"\x95" + b"\xff" * 8 + b"].", b"B\xff\xff\xff\xffa.",
        b"\x80\x06].", b"\x80\xff].", b"h\x05.", b"a.", b"(.", b"]q\x00(h\x00e.a", b"", b".",
        b"I" + b"9" * 100 + b"\n.",
        b"cos\nsystem\n(S'ls'\ntR.", b"c_codecs\nencode\n.", b"c_codecs\nencode\n)R.",
        b"c__builtin__\nbytes\n(X\x01\x00\x00\x00atR.",
        b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00utf-8\x86R.", b"S'open\n.", b"]S'x'\nb.",
    ],
)  # fmt: skip
def test_broken_and_hostile_files(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    with pytest.raises(DatasetError):
        filled(read_plain_pickle(file), file)


def test_no_such_file_and_escapes_that_are_none(tmp_path: Path, file: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        read_plain_pickle(tmp_path / "no.bin")
    file.write_bytes(b"S'\\xzz'\n.")
    with pytest.raises(DatasetError, match="not escaped"):
        filled(read_plain_pickle(file), file)
    file.write_bytes(b"c_codecs\nencode\nX\x03\x00\x00\x00\xe2\x82\xacX\x06\x00\x00\x00latin1\x86R.")
    with pytest.raises(DatasetError, match="not escaped"):
        filled(read_plain_pickle(file), file)
