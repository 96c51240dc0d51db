# SPDX-License-Identifier: Apache-2.0
"""Reading in chunks."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from atlas12288 import WINDOW_BYTES
from atlas12288._cli.witness_files import read_tree_witness
from atlas12288._files import CHUNK_BYTES, FileError, expected_bytes, read_chunks
from support.files import REFUSED, grow, overwrite
from support.leftovers import nothing_left

DATA = bytes(i % 251 for i in range(2 * CHUNK_BYTES + 12345))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    return path


def shorten(path: Path) -> None:
    os.truncate(path, CHUNK_BYTES + 1)


def grow_and_hide(path: Path) -> None:
    with path.open("ab") as file:
        file.write(DATA)


# --- read_chunks ---


def test_chunks_are_whole_windows_and_make_up_the_file(path: Path) -> None:
    counts: list[int] = []
    chunks = [bytes(chunk) for chunk in read_chunks(str(path), counts.append)]
    assert b"".join(chunks) == DATA
    assert counts == [len(chunk) for chunk in chunks] == [CHUNK_BYTES, CHUNK_BYTES, 12345]
    assert CHUNK_BYTES % WINDOW_BYTES == 0


@pytest.mark.parametrize("length", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_lengths_around_a_chunk(path: Path, length: int) -> None:
    path.write_bytes(DATA[:length])
    assert b"".join(map(bytes, read_chunks(str(path)))) == DATA[:length]


def test_the_descriptor_is_closed(path: Path) -> None:
    with nothing_left():
        list(read_chunks(str(path)))
        stopped = read_chunks(str(path))
        next(stopped)
        del stopped  # a reader that does not go on to the end


@pytest.mark.parametrize("change", [grow, shorten, overwrite, grow_and_hide])
def test_a_file_that_changes_while_it_is_read(path: Path, change: Callable[[Path], None]) -> None:
    chunks = read_chunks(str(path))
    next(chunks)
    change(path)
    with pytest.raises(FileError, match="changed while it was read"):
        list(chunks)


def test_a_file_that_is_replaced_while_it_is_read_is_read_as_it_was(path: Path) -> None:
    chunks = read_chunks(str(path))
    start = bytes(next(chunks))
    path.unlink()
    path.write_bytes(b"new")
    assert start + b"".join(map(bytes, chunks)) == DATA


def test_a_file_without_a_size_is_not_taken_for_empty() -> None:
    with pytest.raises(FileError, match="it had 0 bytes, and there are more"):
        list(read_chunks("/proc/self/status"))


@pytest.mark.parametrize(("make", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_a_file_is_refused(
    tmp_path: Path, make: Callable[[Path], None], reason: str
) -> None:
    make(tmp_path / "it")
    with pytest.raises(FileError, match=reason):
        list(read_chunks(str(tmp_path / "it")))


def test_a_name_that_holds_a_nul_is_refused() -> None:
    with pytest.raises(FileError, match="null"):
        list(read_chunks("a\0b"))


def test_expected_bytes(path: Path, tmp_path: Path) -> None:
    names = [str(path), str(tmp_path), str(tmp_path / "missing"), str(path), "a\0b"]
    assert expected_bytes(names) == 2 * len(DATA)
    assert expected_bytes([*names, "-"]) is None


# --- An error knows its file ---


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        ("null\n", "has no witness: it could not be read when the witnesses were made"),
        ("{}\n", "key 'type' is missing, must be there"),
        ("", "has 0 witnesses for 1 files, must have one for each"),
    ],
)
def test_an_error_of_a_witness_file_knows_the_file(
    tmp_path: Path, content: str | None, reason: str
) -> None:
    name = str(tmp_path / "w.json")
    if content is not None:
        Path(name).write_text(content)
    with pytest.raises(FileError) as caught:
        read_tree_witness(name)
    assert (caught.value.name, caught.value.reason) == (name, reason)
    assert str(caught.value) == f"{name}: {reason}"


def test_an_error_without_a_name_is_its_reason(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught:
        list(read_chunks(str(tmp_path)))
    assert caught.value.name is None
    assert str(caught.value) == caught.value.reason
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.name, copy.reason) == (None, caught.value.reason)
