from __future__ import annotations

import tomllib

from hypothesis import given, settings
from hypothesis import strategies as st

from spherecv.toml import toml_table

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
