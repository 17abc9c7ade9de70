from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spherecv.errors import DatasetError
from spherecv.toml import read_toml, toml_table

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
floats = st.floats(allow_nan=False)
values = st.one_of(texts, floats, st.integers(-(2**62), 2**62), st.booleans(), st.lists(floats), st.lists(texts))


@given(st.dictionaries(st.sampled_from("abcdefg"), st.one_of(values, st.dictionaries(st.sampled_from("xyz"), floats))))
@settings(max_examples=200, deadline=None)
def test_what_is_written_is_read_back(table) -> None:
    text = "\n".join(toml_table("[t]", table))
    assert tomllib.loads(text)["t"] == table


def test_none_is_left_out() -> None:
    assert tomllib.loads("\n".join(toml_table("[[t]]", {"a": None, "b": 1}))) == {"t": [{"b": 1}]}


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot be read: No such file"), (b"a =", "is not TOML: "), (b"\xff", "is not TOML: ")],
)
def test_what_cannot_be_read_is_one_line_that_names_the_file(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "settings.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        read_toml(path, DatasetError, "recipe")
    assert str(caught.value).startswith(f"recipe {path} {words}")
    assert "\n" not in str(caught.value)
