from __future__ import annotations

import json

import numpy as np
import pytest

from spherecv.errors import DatasetError, InvalidArgumentError, NotEnoughDataError
from spherecv.evaluate.groups import false_match_rates, read_groups


def test_rates_are_those_of_counting_every_pair() -> None:
    generator = np.random.default_rng(0)
    embeddings = generator.normal(size=(60, 4))
    groups = generator.choice(["a", "b", "c"], size=60)
    people = generator.integers(25, size=60)
    found = false_match_rates(embeddings, groups.tolist(), 0.3, identities=people, replicates=40)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    distances = 1 - unit @ unit.T
    for i, one in enumerate(found.names):
        for j, two in enumerate(found.names):
            pairs = [
                distances[a, b]
                for a in range(60)
                for b in range(a + 1, 60)
                if people[a] != people[b] and sorted((groups[a], groups[b])) == sorted((one, two))
            ]
            assert found.pairs[i, j] == len(pairs)
            assert found.false_matches[i, j] == sum(d <= 0.3 for d in pairs)
            assert found.low[i, j] <= found.rates[i, j] <= found.high[i, j]
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_group_of_one_has_no_rate_of_its_own() -> None:
    found = false_match_rates(np.eye(3), ["a", "b", "b"], 0.5)
    assert np.isnan(found.rates[0, 0])
    assert found.to_dict()["rates"][0][0] is None
    assert found.rates[1, 1] == 0.0
    assert found.high[1, 1] == 1.0
    assert "another person" in found.notes[0]
    with pytest.raises(InvalidArgumentError):
        false_match_rates(np.eye(3), ["a"], 0.5)
    with pytest.raises(NotEnoughDataError):
        false_match_rates(np.eye(3), ["a"] * 3, 0.5, identities=[1, 1, 1])


def test_the_held_out_faces_are_grouped_by_age_sex_and_origin(data_dir) -> None:
    files, groups = read_groups(data_dir / "faces-112.csv", ("age", "sex", "origin"))
    assert len(files) == 23_508
    assert set(groups["sex"]) - {""} == {"0", "1"}
    assert set(groups["origin"]) >= {"0", "1", "2", "3", "4"}
    assert len(set(groups["age"]) - {""}) == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "no rows"), ("file,name\na,b\nc,d\n", None), ("file,id\n1,a\n2,a\n", "no column to group")],
)
def test_tables_without_groups_are_refused(tmp_path, text, message) -> None:
    (tmp_path / "t.csv").write_text(text)
    if message is None:
        assert read_groups(tmp_path / "t.csv")[1] == {"name": ["b", "d"]}
        return
    with pytest.raises(DatasetError, match=message):
        read_groups(tmp_path / "t.csv")
    with pytest.raises(DatasetError, match="cannot be read"):
        read_groups(tmp_path / "none.csv")
