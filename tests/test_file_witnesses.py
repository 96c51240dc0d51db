# SPDX-License-Identifier: Apache-2.0
"""Tree witnesses of files, against hashlib and the recursive definition of RFC 9162."""

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas12288 import MODULUS, WINDOW_BYTES, TreeWitness, _file_blocks
from atlas12288 import _file_witnesses as file_tree
from atlas12288._file_blocks import PIECE_BYTES
from atlas12288._file_witnesses import (
    compare_file,
    prove_in_file,
    prove_in_leaves,
    tree_witness_file,
)
from atlas12288._files import FileError, RegularFile
from atlas12288._sidecars import Leaves, WindowRange, leaves_of
from atlas12288._subtree import BLOCK_BYTES
from support.files import grow, overwrite
from support.leftovers import nothing_left
from support.rfc9162 import mth
from support.strategies import noise

THREADS = (1, 2, 5)
LENGTHS = (0, 1, 4 * BLOCK_BYTES, 4 * BLOCK_BYTES + 128 * WINDOW_BYTES + 77)
LENGTHS += tuple(
    size + more for size in (WINDOW_BYTES, PIECE_BYTES, BLOCK_BYTES) for more in (-1, 0, 1)
)


def windows_of(data: bytes) -> list[bytes]:
    return [data[start : start + WINDOW_BYTES] for start in range(0, len(data), WINDOW_BYTES)]


def leaves_by_hashlib(data: bytes) -> list[bytes]:
    return [hashlib.sha256(b"\0" + window).digest() for window in windows_of(data)]


def root_by_definition(data: bytes) -> bytes:
    return mth(tuple(windows_of(data)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(noise(max(LENGTHS)))
    return path


# --- tree_witness_file ---


@pytest.mark.parametrize("length", LENGTHS)
def test_it_is_the_tree_of_the_definition_for_every_number_of_threads(
    path: Path, length: int
) -> None:
    data = noise(max(LENGTHS))[:length]
    path.write_bytes(data)
    expected = leaves_by_hashlib(data)
    for threads in (*THREADS, None):
        written = bytearray()
        counts: list[int] = []
        witness = tree_witness_file(
            str(path), threads=threads, leaves=written.extend, advance=counts.append
        )
        assert witness.root == root_by_definition(data)
        assert written == b"".join(expected)
        assert (witness.length, witness.residue) == (length, sum(data) % MODULUS)
        assert witness.leaves is None
        assert sum(counts) == length


@pytest.mark.parametrize("windows", [1, 7, 64, 300])
def test_the_size_of_the_pieces_does_not_count(
    path: Path, monkeypatch: pytest.MonkeyPatch, windows: int
) -> None:
    expected = tree_witness_file(str(path)).root
    monkeypatch.setattr(_file_blocks, "PIECE_BYTES", windows * WINDOW_BYTES)
    assert tree_witness_file(str(path), threads=2).root == expected


def test_leaves_come_a_block_at_a_time(path: Path) -> None:
    sizes: list[int] = []
    tree_witness_file(str(path), leaves=lambda leaves: sizes.append(len(leaves)))
    assert sizes == [256 * 32] * 4 + [129 * 32]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The present time, in seconds, for whoever measures."""
    now = [0.0]
    monkeypatch.setattr(_file_blocks, "perf_counter", lambda: now[0])
    return now


def rounds(
    readers: _file_blocks._Readers, clock: list[float], rate: Callable[[int], float], reads: float
) -> list[int]:
    """How many threads are wanted after each of 40 rounds, in which so many read at a rate."""
    wanted = [readers.wanted()]
    for _ in range(40):
        clock[0] += 1.0
        readers.add(int(rate(wanted[-1])), reads, 1.0)
        wanted.append(readers.wanted())
    return wanted


def test_further_readers_come_while_each_brings_more(clock: list[float]) -> None:
    # A device that gives more to every reader, up to ten of them.
    readers = _file_blocks._Readers(2, 64)
    wanted = rounds(readers, clock, lambda count: 1e6 * min(count, 10), reads=0.9)
    assert wanted[:9] == list(range(2, 11))
    assert wanted[-1] == 11  # the one that brought nothing was the last


def test_no_further_reader_comes_where_hashing_takes_the_time_or_nothing_is_gained(
    clock: list[float],
) -> None:
    assert set(rounds(_file_blocks._Readers(2, 64), clock, lambda count: 1e6 * count, 0.3)) == {2}
    wanted = rounds(_file_blocks._Readers(2, 64), clock, lambda _: 1e6, reads=0.9)
    assert wanted[-1] == 3
    assert set(rounds(_file_blocks._Readers(2, 2), clock, lambda count: 1e6 * count, 0.9)) == {2}


def test_as_many_threads_as_wanted_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = tree_witness_file(str(path), threads=1)
    monkeypatch.setattr(_file_blocks._Readers, "wanted", lambda _: 5)
    names: set[str] = set()
    read = RegularFile.read_into
    together = threading.Barrier(5, timeout=30)

    def noted(file: RegularFile, start: int, buffer: memoryview) -> None:
        if threading.current_thread().name not in names:
            names.add(threading.current_thread().name)
            together.wait()
        read(file, start, buffer)

    monkeypatch.setattr(RegularFile, "read_into", noted)
    assert tree_witness_file(str(path), threads=2).root == expected.root
    assert len(names) == 5


def test_one_thread_and_small_files_start_none(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", None)  # to call it would raise
    assert tree_witness_file(str(path), threads=1).length == path.stat().st_size
    path.write_bytes(bytes(BLOCK_BYTES))
    assert tree_witness_file(str(path), threads=8).length == BLOCK_BYTES


@pytest.mark.parametrize(
    ("threads", "error"), [(0, ValueError), (-1, ValueError), (2.0, TypeError)]
)
def test_threads_must_be_at_least_one(path: Path, threads: int, error: type[Exception]) -> None:
    with pytest.raises(error, match="threads"):
        tree_witness_file(str(path), threads=threads)


def shrink(path: Path) -> None:
    os.truncate(path, 2 * BLOCK_BYTES)


def interrupt(path: Path) -> None:
    raise KeyboardInterrupt


def fail(path: Path) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize(
    ("happen", "error", "reason"),
    [
        (shrink, FileError, "changed while it was read: .* ended after"),
        (grow, FileError, "changed while it was read"),
        (overwrite, FileError, "changed while it was read"),
        (interrupt, KeyboardInterrupt, None),
        (fail, ZeroDivisionError, None),
    ],
)
@pytest.mark.parametrize("where", ["advance", "leaves"])
def test_it_stops_cleanly(
    path: Path,
    threads: int,
    happen: Callable[[Path], None],
    error: type[BaseException],
    reason: str | None,
    where: str,
) -> None:
    calls = 0

    def once(_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            happen(path)

    with nothing_left(), pytest.raises(error, match=reason):
        tree_witness_file(str(path), threads=threads, **{where: once})


@pytest.mark.parametrize("threads", THREADS)
def test_an_error_in_a_worker_is_the_callers(
    path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    calls = iter(range(100))

    def worker(chunk: memoryview) -> tuple[bytes, bytes]:
        if next(calls) == 3:
            raise MemoryError
        windows = len(chunk) // WINDOW_BYTES
        return bytes(32 * windows), bytes(windows)

    monkeypatch.setattr(_file_blocks, "tree_leaves", worker)
    with nothing_left(), pytest.raises(MemoryError):
        tree_witness_file(str(path), threads=threads)


def test_a_file_that_vanishes_is_read_as_it_was(path: Path) -> None:
    expected = tree_witness_file(str(path)).root
    found = tree_witness_file(str(path), advance=lambda _: path.unlink(missing_ok=True))
    assert found.root == expected
    assert not path.exists()


def test_a_read_error_is_a_file_error() -> None:
    with pytest.raises(FileError, match="Input/output error"):
        tree_witness_file("/proc/self/mem")  # nothing is at address 0


# --- Sidecars ---


@pytest.fixture
def sidecar(path: Path) -> tuple[Path, TreeWitness]:
    """The leaves of `path`, in a file, and its witness."""
    target = path.with_name("leaves")
    with target.open("wb") as file:
        return target, tree_witness_file(str(path), leaves=file.write)


def test_leaves_that_are_not_the_witness_s(sidecar: tuple[Path, TreeWitness]) -> None:
    target, witness = sidecar
    good = target.read_bytes()
    with RegularFile(str(target)) as file:
        assert b"".join(Leaves(file, 0, witness).chunks()) == good
    for bad, reason in (
        (good[:-1], f"has {len(good) - 1} bytes, must have {len(good)}"),
        (good + bytes(32), f"has {len(good) + 32} bytes, must have {len(good)}"),
        (b"", "has 0 bytes"),
        (good[:-1] + bytes([good[-1] ^ 1]), "damaged, or belong to another witness"),
        (good[32:64] + good[:32] + good[64:], "damaged, or belong to another witness"),
    ):
        target.write_bytes(bad)
        with RegularFile(str(target)) as file, pytest.raises(FileError, match=reason):
            leaves_of(file, [witness])[0].check()


def test_a_sidecar_that_is_cut_after_it_was_opened(sidecar: tuple[Path, TreeWitness]) -> None:
    target, witness = sidecar
    with RegularFile(str(target)) as file:
        (leaves,) = leaves_of(file, [witness])
        os.truncate(target, 100)
        with pytest.raises(FileError, match="ended"):
            leaves.check()


# --- compare_file ---


def compare(path: Path, sidecar: tuple[Path, TreeWitness], threads: int) -> list[WindowRange]:
    runs: list[WindowRange] = []
    with RegularFile(str(sidecar[0])) as file:
        (leaves,) = leaves_of(file, [sidecar[1]])
        found = compare_file(str(path), leaves, runs.append, threads=threads)
    assert found.root == root_by_definition(path.read_bytes())
    return runs


def runs_by_definition(before: bytes, after: bytes) -> list[WindowRange]:
    old, new = windows_of(before), windows_of(after)
    count = max(len(old), len(new))
    differ = [old[i : i + 1] != new[i : i + 1] for i in range(count)]
    runs = []
    for first in range(count):
        if differ[first] and (first == 0 or not differ[first - 1]):
            stop = first
            while stop < count and differ[stop]:
                stop += 1
            end = min(stop * WINDOW_BYTES, max(len(before), len(after)))
            runs.append(WindowRange(first, stop, first * WINDOW_BYTES, end))
    return runs


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize(
    "damaged",
    [
        (),
        (0,),
        (1152,),
        (127, 128, 129),
        (3, 4, 9, 500, 1000, 1001),
        tuple(range(0, 1153, 2)),
        tuple(range(1153)),
    ],
    ids=lambda damaged: f"{len(damaged)} windows",
)
def test_exactly_the_damaged_windows_are_found(
    path: Path, sidecar: tuple[Path, TreeWitness], damaged: tuple[int, ...], threads: int
) -> None:
    before = path.read_bytes()
    data = bytearray(before)
    for window in damaged:
        data[min(window * WINDOW_BYTES + 17 * window % WINDOW_BYTES, len(data) - 1)] ^= 0x60
    path.write_bytes(data)
    runs = compare(path, sidecar, threads)
    assert runs == runs_by_definition(before, bytes(data))
    assert [window for run in runs for window in range(run.first, run.stop)] == list(damaged)


@pytest.mark.parametrize("old", LENGTHS)
@pytest.mark.parametrize("new", LENGTHS)
def test_files_that_grew_or_shrank(tmp_path: Path, old: int, new: int) -> None:
    before, after = noise(LENGTHS[-1])[:old], noise(LENGTHS[-1])[:new]
    path, target = tmp_path / "data", tmp_path / "leaves"
    path.write_bytes(before)
    with target.open("wb") as file:
        witness = tree_witness_file(str(path), leaves=file.write)
    path.write_bytes(after)
    assert compare(path, (target, witness), threads=2) == runs_by_definition(before, after)


@given(st.integers(0, 40), st.integers(0, 40), st.sets(st.integers(0, 39)), st.integers(0, 12287))
def test_any_damage_of_any_growth(
    tmp_path_factory: pytest.TempPathFactory, old: int, new: int, damaged: set[int], tail: int
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    before = noise(41 * WINDOW_BYTES)[: old * WINDOW_BYTES + tail]
    data = bytearray(noise(41 * WINDOW_BYTES)[: new * WINDOW_BYTES + tail])
    for window in damaged:
        if window * WINDOW_BYTES < len(data):
            data[window * WINDOW_BYTES] ^= 1
    path, target = folder / "data", folder / "leaves"
    path.write_bytes(before)
    with target.open("wb") as file:
        witness = tree_witness_file(str(path), leaves=file.write)
    path.write_bytes(data)
    assert compare(path, (target, witness), threads=1) == runs_by_definition(before, bytes(data))


# --- Proofs ---


@pytest.mark.parametrize("windows", [1, 2, 3, 7, 8, 9, 127, 129, 1153])
def test_proofs_are_those_of_a_tree_in_memory(tmp_path: Path, windows: int) -> None:
    data = noise(1153 * WINDOW_BYTES)[: windows * WINDOW_BYTES - 5]
    path, target = tmp_path / "data", tmp_path / "leaves"
    path.write_bytes(data)
    with target.open("wb") as file:
        witness = tree_witness_file(str(path), leaves=file.write)
    in_memory = TreeWitness.generate(data)
    for window in {0, 1, windows // 2, windows - 2, windows - 1} & set(range(windows)):
        expected = in_memory.prove(window)
        assert prove_in_file(str(path), window, threads=2) == expected
        with RegularFile(str(target)) as file:
            assert prove_in_leaves(leaves_of(file, [witness])[0], window) == expected
        assert expected.verify(windows_of(data)[window], witness.root)


@pytest.mark.parametrize("window", [-1, 1154, 10**12])
def test_there_is_no_proof_for_a_window_that_is_not_there(path: Path, window: int) -> None:
    with pytest.raises(FileError, match=rf"has the windows 0\.\.1152, not {window}"):
        prove_in_file(str(path), window)


def test_there_is_no_proof_in_an_empty_file(path: Path) -> None:
    path.write_bytes(b"")
    with pytest.raises(FileError, match="is empty, has no window, not 0"):
        prove_in_file(str(path), 0)


def test_no_proof_of_a_file_that_is_replaced_by_another_size(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness_file = file_tree.tree_witness_file

    def replaced(name: str, **options: object) -> TreeWitness:
        path.write_bytes(bytes(WINDOW_BYTES))
        return witness_file(name, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(file_tree, "tree_witness_file", replaced)
    with pytest.raises(FileError, match="changed while it was read"):
        prove_in_file(str(path), 5)
