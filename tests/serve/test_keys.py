"""Keys: only hashes are known, and a wrong key takes the way of a right one."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from spherecv.errors import InvalidArgumentError, StorageError
from spherecv.serve import keys as module
from spherecv.serve.keys import ApiKeys, add_key, new_key


def test_a_file_of_keys_holds_hashes_and_opens_for_its_keys_alone(tmp_path) -> None:
    path = tmp_path / "keys.txt"
    first, second = add_key(path, "laptop"), add_key(path, "phone")
    assert first != second
    assert len(first) > 40
    content = path.read_text()
    assert first not in content
    assert hashlib.sha256(second.encode()).hexdigest() in content
    assert path.stat().st_mode & 0o777 == 0o600
    known = ApiKeys.load(path)
    assert (known.owner(first), known.owner(second)) == ("laptop", "phone")
    for wrong in (None, "", first[:-1], first + "x", "sha256:" + hashlib.sha256(first.encode()).hexdigest(), "\udcff"):
        assert known.owner(wrong) is None


def test_keys_of_the_environment(monkeypatch) -> None:
    key, line = new_key("ci")
    monkeypatch.setenv(module.VARIABLE, f"{line}, {new_key('other')[1]}")
    assert ApiKeys.load().owner(key) == "ci"
    monkeypatch.delenv(module.VARIABLE)
    assert not ApiKeys.load()


def test_what_is_no_key_is_refused_and_not_repeated(tmp_path) -> None:
    path = tmp_path / "keys.txt"
    key, line = new_key("a")
    for text in (f"a {key}", "a sha256:1234", line + "\n" + line):
        path.write_text(text)
        with pytest.raises(InvalidArgumentError) as refusal:
            ApiKeys.load(path)
        assert key not in str(refusal.value)
    path.write_text("# nothing\n")
    with pytest.raises(InvalidArgumentError, match="holds no key"):
        ApiKeys.load(path)
    with pytest.raises(InvalidArgumentError, match="cannot be read"):
        ApiKeys.load(tmp_path / "none")
    with pytest.raises(InvalidArgumentError, match="a key's name"):
        new_key("two words")
    path.write_text(line + "\n")
    with pytest.raises(InvalidArgumentError, match="has a key called a already: choose another name"):
        add_key(path, "a")
    assert path.read_text() == line + "\n"


def test_a_file_of_keys_that_is_no_text_is_refused_and_left_as_it_is(tmp_path) -> None:
    path = tmp_path / "keys.bin"
    path.write_bytes(b"a sha256:\xff\xfe\n")
    with pytest.raises(InvalidArgumentError, match="is not text"):
        ApiKeys.load(path)
    with pytest.raises(StorageError, match=r"keys\.bin cannot be read: .*utf-8"):
        add_key(path, "b")
    assert path.read_bytes() == b"a sha256:\xff\xfe\n"
    with pytest.raises(StorageError, match="cannot be read: Is a directory"):
        add_key(tmp_path, "b")
    with pytest.raises(InvalidArgumentError, match="cannot be read: Is a directory"):
        ApiKeys.load(tmp_path)


def test_a_file_of_keys_too_large_is_refused_not_cut(tmp_path) -> None:
    path = tmp_path / "keys.txt"
    key, line = new_key("last")
    path.write_text("#" * ((1 << 20) - 1 - len(line)) + "\n" + line)
    assert ApiKeys.load(path).owner(key) == "last"
    path.write_text("#" + path.read_text())
    with pytest.raises(InvalidArgumentError, match="larger than 1 MiB"):
        ApiKeys.load(path)


def test_a_file_of_keys_may_hold_remarks_and_lack_its_last_newline(tmp_path) -> None:
    path = tmp_path / "keys.txt"
    (first, line), (second, other) = new_key("first"), new_key("second")
    path.write_text(f"\n# of the door\n{line} # the left one\n\n{other}")
    third = add_key(path, "third")
    known = ApiKeys.load(path)
    assert [known.owner(key) for key in (first, second, third)] == ["first", "second", "third"]
    assert (len(known), bool(known), bool(ApiKeys()), len(ApiKeys())) == (3, True, False, 0)
    for text, refusal in (
        (path.read_text() + line, "entry 7: there are two keys called first"),
        (line + "\nnonsense", "entry 2: a key is written NAME sha256:DIGEST"),
    ):
        path.write_text(text)
        with pytest.raises(InvalidArgumentError, match=rf"keys\.txt, {refusal}"):
            ApiKeys.load(path)


def test_every_key_is_compared_with_every_hash_to_its_end(monkeypatch) -> None:
    made = {f"k{number}": new_key(f"k{number}") for number in range(5)}
    known = ApiKeys({name: line.rpartition(":")[2] for name, (_, line) in made.items()})
    compared = []
    compare = hmac.compare_digest
    monkeypatch.setattr(module.hmac, "compare_digest", lambda a, b: compared.append((len(a), len(b))) or compare(a, b))
    for key in (made["k0"][0], made["k4"][0], "wrong", None):
        compared.clear()
        known.owner(key)
        assert compared == [(32, 32)] * 5
