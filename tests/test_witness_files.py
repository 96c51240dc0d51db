# SPDX-License-Identifier: Apache-2.0
"""Many named files witnessed at once, beside each alone."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas12288 import Witness, _many_files, _native
from atlas12288._chains import CHAINS_MOST
from atlas12288._files import CHUNK_BYTES, FileError
from atlas12288._many_files import (
    FILES_AT_ONCE,
    SMALL_MOST,
    shares,
    sizes_of,
    witness_file,
    witness_files,
)
from atlas12288._parallel import new_buffer
from support.leftovers import open_files
from support.strategies import noise

Outcome = tuple[int, int, bytes] | str
PIECE_BYTES = CHUNK_BYTES // CHAINS_MOST
SIZES = st.one_of(
    st.integers(0, 300),
    *(
        st.integers(-2, 2).map(bound.__add__)
        for bound in (PIECE_BYTES, SMALL_MOST, CHUNK_BYTES // 2, CHUNK_BYTES)
    ),
)


def plain(outcome: Witness | FileError) -> Outcome:
    if isinstance(outcome, FileError):
        return str(outcome)
    return outcome.length, outcome.residue, outcome.digest


def alone(path: bytes) -> Outcome:
    try:
        return plain(witness_file(os.fsdecode(path)))
    except FileError as error:
        return str(error)


@pytest.fixture(scope="module")
def data() -> bytes:
    return noise(CHUNK_BYTES + FILES_AT_ONCE + 2)


@given(
    sizes=st.lists(SIZES, max_size=CHAINS_MOST + 3),
    wrong=st.dictionaries(st.integers(0, CHAINS_MOST + 2), st.sampled_from([-1, 1, CHUNK_BYTES])),
    open_most=st.sampled_from([1, 2, CHAINS_MOST]),
)
def test_every_file_has_the_witness_of_it_alone(
    tmp_path_factory: pytest.TempPathFactory,
    data: bytes,
    sizes: list[int],
    wrong: dict[int, int],
    open_most: int,
) -> None:
    root = tmp_path_factory.mktemp("files")
    paths = []
    for number, size in enumerate(sizes):
        path = root / f"{number}"
        path.write_bytes(data[number : number + size])
        paths.append(os.fsencode(path))
    assert sizes_of(paths) == sizes
    # What was not so any more when it was read.
    told = [max(-1, size + wrong.get(number, 0)) for number, size in enumerate(sizes)]
    counted: list[int] = []
    found = witness_files(paths, told, new_buffer(CHUNK_BYTES), counted.append, open_most=open_most)
    assert list(map(plain, found)) == [
        (size, sum(part) % 96, hashlib.sha256(part).digest())
        for number, size in enumerate(sizes)
        for part in [data[number : number + size]]
    ]
    assert sum(counted) >= sum(sizes)


def test_what_is_no_regular_file_has_the_error_of_it_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")
    (tmp_path / "large").write_bytes(bytes(SMALL_MOST + 1))
    (tmp_path / "other").write_bytes(bytes(SMALL_MOST + 2))
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    names = ["file", "none", "large", "link", "loop", "folder", "fifo", "other", "file", "a\0b", ""]
    paths = [os.fsencode(tmp_path / name) if name else b"" for name in names]
    paths.append(b"/dev/null")
    sizes = sizes_of(paths)
    assert [size >= 0 for size in sizes] == [
        name in ("file", "large", "link", "other") for name in [*names, "null"]
    ]
    found = list(map(plain, witness_files(paths, sizes, new_buffer(CHUNK_BYTES))))
    assert found == list(map(alone, paths))
    assert (
        found[0] == found[3] == found[8] == (4, sum(b"data") % 96, hashlib.sha256(b"data").digest())
    )
    # They vanished, or became something else, since their sizes were asked.
    for each in (tmp_path / "large", tmp_path / "file"):
        each.unlink()
    (tmp_path / "file").mkdir()
    found = list(map(plain, witness_files(paths, sizes, new_buffer(CHUNK_BYTES))))
    assert found == list(map(alone, paths))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: os.truncate(path, CHUNK_BYTES), "ended after"),
        (lambda path: os.truncate(path, 4 * CHUNK_BYTES), "there are more"),
        (lambda path: os.utime(path, ns=(1, 1)), "changed while it was read"),
    ],
    ids=["shrinks", "grows", "is written to"],
)
def test_a_file_that_changes_while_others_are_read_is_an_error_for_it_alone(
    tmp_path: Path, change: Callable[[Path], object], reason: str
) -> None:
    paths = []
    for number in range(4):
        (tmp_path / f"{number}").write_bytes(bytes([number]) * (3 * CHUNK_BYTES))
        paths.append(os.fsencode(tmp_path / f"{number}"))
    counts = 0

    def advance(count: int) -> None:
        nonlocal counts
        counts += 1
        if counts == 20:
            change(tmp_path / "2")

    found = witness_files(paths, sizes_of(paths), new_buffer(CHUNK_BYTES), advance)
    assert isinstance(found[2], FileError)
    assert reason in str(found[2])
    for number in (0, 1, 3):
        expected = hashlib.sha256(bytes([number]) * (3 * CHUNK_BYTES)).digest()
        assert plain(found[number])[2] == expected


def test_an_error_of_the_caller_closes_all_files(tmp_path: Path) -> None:
    paths = []
    for number in range(5):
        (tmp_path / f"{number}").write_bytes(bytes(2 * CHUNK_BYTES))
        paths.append(os.fsencode(tmp_path / f"{number}"))

    def stop(count: int) -> None:
        if count:
            assert len(open_files(tmp_path)) == 5
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        witness_files(paths, sizes_of(paths), new_buffer(CHUNK_BYTES), stop)
    assert open_files(tmp_path) == {}


@given(
    sizes=st.lists(
        st.sampled_from([-1, 0, SMALL_MOST, SMALL_MOST + 1, 10 * SMALL_MOST]), max_size=120
    ),
    threads=st.integers(1, 5),
)
def test_shares_hold_each_file_once_run_by_run_and_large_ones_evenly(
    sizes: list[int], threads: int
) -> None:
    start = 0
    for hands in shares(sizes, threads):
        assert all(hands)
        run = sorted(index for hand in hands for index in hand)
        assert run == list(range(start, start + len(run)))
        start += len(run)
        larges = [sum(sizes[index] > SMALL_MOST for index in hand) for hand in hands]
        assert sum(larges) <= CHAINS_MOST * threads
        assert sum(count > 0 for count in larges) == min(threads, sum(larges))
        assert len(hands) <= threads + 1
    assert start == len(sizes)


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"data")
    for arguments, error in (
        (([path], [], bytearray(4), 0), ValueError),
        (([path], [5], bytearray(4), 0), ValueError),
        (([path], [-1], bytearray(4), 0), OverflowError),
        (([path], [4], bytearray(4), -1), OverflowError),
        (([b"a\0b"], [1], bytearray(4), 0), ValueError),
        ((["a"], [1], bytearray(4), 0), ValueError),
        (([path], [4], bytes(4), 0), BufferError),
        ((None, [4], bytearray(4), 0), TypeError),
    ):
        with pytest.raises(error):
            _native.witness_named_files(Witness, *arguments)  # type: ignore[arg-type]
    for sizes, error in (
        (([b"a\0b"], 0), ValueError),
        ((["a"], 0), ValueError),
        ((None, 0), TypeError),
        (([path], -1), OverflowError),
    ):
        with pytest.raises(error):
            _native.file_sizes(*sizes)  # type: ignore[arg-type]
    assert _native.file_sizes([], 0) == []
    assert _native.witness_named_files(Witness, [], [], bytearray(), 0) == []
    (witness,) = _native.witness_named_files(Witness, [path], [4], bytearray(4), 0)
    assert witness is not None
    assert witness.digest == hashlib.sha256(b"data").digest()


def test_native_calls_end_after_their_time_with_some_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [os.fsencode(tmp_path / f"{number}") for number in range(30)]
    for number, path in enumerate(paths):
        Path(os.fsdecode(path)).write_bytes(noise(number, number))
    paths[7:9] = [b"none", os.fsencode(tmp_path)]
    sizes = sizes_of(paths)
    assert sizes == [*range(7), -1, -1, *range(9, 30)]
    buffer = new_buffer(CHUNK_BYTES)
    expected = witness_files(paths, sizes, buffer)
    assert _native.file_sizes(paths, 0) == sizes[:1]
    (first,) = _native.witness_named_files(Witness, paths[:7], sizes[:7], bytearray(30), 0)
    assert isinstance(first, Witness)
    assert first.digest == hashlib.sha256(b"").digest()
    counts: list[int] = []
    monkeypatch.setattr(_many_files, "STOP_NS", 0)
    assert sizes_of(paths) == sizes
    found = witness_files(paths, sizes, buffer, counts.append)
    assert list(map(plain, found)) == list(map(plain, expected))
    assert counts == [*range(7), *range(9, 30)]
