# SPDX-License-Identifier: Apache-2.0
"""Lists of names that end with NUL: what is read of them, and what of hostile ones."""

import io
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas12288 import _files, _name_lists
from atlas12288._files import FileError
from atlas12288._name_lists import NAME_MOST_BYTES, read_names

NAMES = st.lists(st.binary(max_size=40).filter(lambda name: b"\0" not in name), max_size=30)


def read(path: Path, data: bytes) -> list[str]:
    """The names, and in the place of each error its text, without the list's own name."""
    path.write_bytes(data)
    found = []
    for each in read_names(str(path)):
        if isinstance(each, FileError):
            assert each.name == str(path)
            found.append(f"error: {each.reason}")
        else:
            found.append(each)
    return found


@given(names=NAMES, chunk_bytes=st.integers(1, 64))
def test_names_are_what_stands_between_nuls_however_the_list_is_read(
    tmp_path_factory: pytest.TempPathFactory, names: list[bytes], chunk_bytes: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "names"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_name_lists, "_CHUNK_BYTES", chunk_bytes)
        found = read(path, b"".join(name + b"\0" for name in names))
    expected = [
        os.fsdecode(name) if name else f"error: name {number} is empty"
        for number, name in enumerate(names, 1)
    ]
    rule = "each name must end with NUL, as find -print0 writes it"
    assert found == (expected or [f"error: has no names: {rule}"])


@pytest.mark.parametrize("before", [b"", b"a\0"])
def test_a_name_without_its_nul_is_an_error_and_not_a_name(tmp_path: Path, before: bytes) -> None:
    *names, error = read(tmp_path / "names", before + b"b")
    assert names == ["a"] * len(names) == ["a"] * before.count(b"\0")
    assert error.startswith(f"error: name {len(names) + 1} does not end with NUL")


@pytest.mark.parametrize("end", [b"\0", b"\0b\0", b""])
def test_a_name_that_is_too_long_ends_the_list(tmp_path: Path, end: bytes) -> None:
    longest = b"x" * NAME_MOST_BYTES
    assert read(tmp_path / "names", longest + b"\0") == [longest.decode()]
    first, error = read(tmp_path / "names", b"a\0" + longest + b"x" + end)
    assert first == "a"
    assert error.startswith("error: name 2 has more than 16,384 bytes: ")


class Zeroless(io.FileIO):
    """A file that never ends and has no NUL."""

    def readinto(self, buffer: object) -> int:
        with memoryview(buffer) as view:  # type: ignore[arg-type]
            view[:] = b"x" * len(view)
            return len(view)


def test_a_list_without_a_nul_is_read_no_further_and_takes_no_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_files, "_open_stdin", lambda: Zeroless(os.devnull))
    tracemalloc.start()
    try:
        (error,) = read_names("-")
        assert isinstance(error, FileError)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_names_are_read_as_they_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "names"
    path.write_bytes(b"name\0" * 100_000)
    names: Iterator[str | FileError] = read_names(str(path))
    tracemalloc.start()
    try:
        assert sum(name == "name" for name in names) == 100_000
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


def test_a_list_that_changes_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "names"
    path.write_bytes(b"name\0" * 100_000)
    names = read_names(str(path))
    assert next(names) == "name"
    os.truncate(path, 100)
    *_, last = names
    assert isinstance(last, FileError)
    assert "changed while it was read" in str(last)


@pytest.mark.parametrize("kind", ["folder", "fifo", "missing"])
def test_what_is_no_list_is_one_error_that_names_it(tmp_path: Path, kind: str) -> None:
    if kind == "folder":
        (tmp_path / kind).mkdir()
    elif kind == "fifo":
        os.mkfifo(tmp_path / kind)
    (error,) = read_names(str(tmp_path / kind))
    assert isinstance(error, FileError)
    assert str(tmp_path / kind) in str(error)
