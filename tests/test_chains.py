# SPDX-License-Identifier: Apache-2.0
"""Several large files hashed beside one another, beside each alone."""

import hashlib
import os
from collections.abc import Callable
from itertools import count, pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from atlas12288 import StateError, WitnessStream, _native
from atlas12288._chains import CHAINS_MOST, PIECE_BYTES, Chain, hash_in_turns
from atlas12288._files import FileError
from atlas12288._subtree import BLOCK_BYTES
from atlas12288.manifest._entries import DIGESTS
from atlas12288.manifest._hashing.engine import hash_files
from atlas12288.manifest._hashing.file_hash import Checkpoint, Digests
from atlas12288.manifest._sources.folder import Folder, FolderReader
from atlas12288.manifest._sources.source import Found
from support.files import grow
from support.leftovers import nothing_left, open_files
from support.manifests import OneByOne, founds_in, results
from support.slow import slow_but
from support.strategies import noise

Results = dict[bytes, Digests | str]
DATA = noise(2 * PIECE_BYTES + 200)
LENGTHS = st.one_of(
    st.integers(0, 200),
    st.integers(-70, 70).map(lambda near: PIECE_BYTES + near),
    st.integers(-70, 70).map(lambda near: 2 * PIECE_BYTES + near),
)


# --- update_streams ---


@given(st.lists(st.lists(st.integers(0, 300), min_size=1, max_size=4), max_size=40))
def test_streams_updated_at_once_are_those_updated_alone(chunks: list[list[int]]) -> None:
    rounds = max(map(len, chunks), default=0)
    streams = [WitnessStream() for _ in chunks]
    for number in range(rounds):
        some = [i for i, lengths in enumerate(chunks) if number < len(lengths)]
        _native.update_streams(
            [streams[i] for i in some], [DATA[i : i + chunks[i][number]] for i in some]
        )
    for i, (stream, lengths) in enumerate(zip(streams, chunks, strict=True)):
        alone = WitnessStream()
        for length in lengths:
            alone.update(DATA[i : i + length])
        assert bytes(stream) == bytes(alone)


def test_wrong_streams_are_refused_and_none_is_updated() -> None:
    one, other = WitnessStream(), WitnessStream()
    for streams, chunks, error in (
        ([one, other], [b"a"], ValueError),
        ([one, other], [b"a", None], TypeError),
        ([one, other], [b"a", memoryview(b"abcd")[::2]], BufferError),
        ([one, None], [b"a", b"b"], TypeError),
        ([one, one], [b"a", b"b"], StateError),
        (None, [], TypeError),
    ):
        with pytest.raises(error):
            _native.update_streams(streams, chunks)  # type: ignore[arg-type]
        assert bytes(one) == bytes(other) == bytes(WitnessStream())
    _native.update_streams([one, other], [b"a", b"b"])  # nothing is in use any more
    _native.update_streams([], [])
    assert (one.digest(), other.digest()) == (
        hashlib.sha256(b"a").digest(),
        hashlib.sha256(b"b").digest(),
    )


# --- hash_in_turns ---


@given(
    lengths=st.lists(LENGTHS, max_size=CHAINS_MOST + 4),
    bad=st.dictionaries(st.integers(0, CHAINS_MOST + 3), st.integers(0, 2)),
    most=st.sampled_from([1, 2, CHAINS_MOST - 1, CHAINS_MOST]),
)
@example(lengths=[PIECE_BYTES] * CHAINS_MOST, bad={}, most=CHAINS_MOST)
def test_every_part_is_hashed_and_an_error_ends_one_alone(
    lengths: list[int], bad: dict[int, int], most: int
) -> None:
    def reader(number: int) -> Callable[[int, memoryview], None]:
        reads = 0

        def read(offset: int, buffer: memoryview) -> None:
            nonlocal reads
            if reads == bad.get(number):
                raise FileError("is bad")
            reads += 1
            buffer[:] = DATA[number + offset : number + offset + len(buffer)]

        return read

    chains = [
        Chain(WitnessStream(), reader(number), 0, length) for number, length in enumerate(lengths)
    ]
    seen = dict.fromkeys(chains, b"")
    for pieces in hash_in_turns(chains, memoryview(bytearray(BLOCK_BYTES)), most):
        assert len(pieces) <= most
        for chain, piece in pieces:
            seen[chain] += piece
    for number, (chain, length) in enumerate(zip(chains, lengths, strict=True)):
        whole = DATA[number : number + length]
        pieces_of = -(-length // PIECE_BYTES)
        failed = bad.get(number, pieces_of) < pieces_of
        expected = whole[: bad[number] * PIECE_BYTES] if failed else whole
        assert (chain.error is not None) == failed
        assert seen[chain] == expected
        assert chain.offset == len(expected)
        assert chain.stream.digest() == hashlib.sha256(expected).digest()
        assert chain.stream.residue == sum(expected) % 96


# --- folders of large files ---


def make(root: Path, sizes: list[int]) -> dict[bytes, bytes]:
    """Fill a folder; return the digests of its files."""
    found = {}
    block = noise(BLOCK_BYTES)
    for number, size in enumerate(sizes):
        data = (block * (size // BLOCK_BYTES + 1))[number : number + size]
        data += bytes(size - len(data))
        (root / f"{number:03}").write_bytes(data)
        found[b"%03d" % number] = hashlib.sha256(data).digest()
    return found


NEAR = [BLOCK_BYTES + near for near in (1, 63, 64, 65, PIECE_BYTES, PIECE_BYTES + 1)]


@pytest.mark.parametrize("digests", [DIGESTS, ("sha256",)], ids=["both", "flat"])
@pytest.mark.parametrize(
    "count", slow_but([2, CHAINS_MOST + 2], [1, 2, CHAINS_MOST - 1, CHAINS_MOST + 2])
)
def test_large_files_in_turns_have_the_digests_of_each_alone(
    tmp_path: Path, digests: tuple[str, ...], count: int
) -> None:
    sizes = [NEAR[number % len(NEAR)] for number in range(count)]
    sizes[count // 2] = 2 * BLOCK_BYTES
    sizes[count // 3] = 3 * BLOCK_BYTES + 5
    expected = make(tmp_path, sizes + [0, 1, 1000] * 5)
    founds = founds_in(tmp_path)
    alone = results(OneByOne(tmp_path), founds, digests)
    assert {path: each.sha256 for path, each in alone.items() if isinstance(each, Digests)} == (
        expected
    )
    for threads in (1, 2, 5):
        assert results(Folder(tmp_path), founds, digests, threads) == alone


@pytest.mark.parametrize("threads", [1, 2])
def test_checkpoints_and_leaves_of_files_in_turns_are_those_of_each_alone(
    tmp_path: Path, threads: int
) -> None:
    make(tmp_path, [3 * BLOCK_BYTES + 7] * 5)
    founds = founds_in(tmp_path)

    def told(
        source: Folder, count: int
    ) -> tuple[dict[bytes, list[Checkpoint]], dict[bytes, bytes]]:
        checkpoints: dict[bytes, list[Checkpoint]] = {found.path: [] for found in founds}
        leaves = {found.path: bytearray() for found in founds}

        def progress(found: Found, checkpoint: Checkpoint, root: bytes) -> None:
            assert len(root) == 32
            checkpoints[found.path].append(checkpoint)

        done = hash_files(
            source,
            founds,
            DIGESTS,
            threads=count,
            leaves=lambda found: leaves[found.path].extend,
            progress=progress,
        )
        assert len(list(done)) == len(founds)
        return checkpoints, {path: bytes(each) for path, each in leaves.items()}

    found = told(Folder(tmp_path), threads)
    assert found == told(OneByOne(tmp_path), 1)
    for checkpoints in found[0].values():
        assert [each.blocks for each in checkpoints] == [1, 2, 3, 4]


def test_a_file_goes_on_in_the_middle_beside_others(tmp_path: Path) -> None:
    expected = make(tmp_path, [2 * BLOCK_BYTES + 7] * 3)
    founds = founds_in(tmp_path)
    states: dict[bytes, list[tuple[Checkpoint, bytes]]] = {found.path: [] for found in founds}
    for _ in hash_files(
        Folder(tmp_path),
        founds,
        DIGESTS,
        threads=1,
        progress=lambda found, *state: states[found.path].append(state),
    ):
        pass
    resumed = hash_files(
        Folder(tmp_path),
        founds,
        DIGESTS,
        threads=1,
        resume=lambda found: (states[found.path][0][0], [states[found.path][0][1]]),
    )
    found = dict(resumed)
    assert {each.path: d.sha256 for each, d in found.items() if isinstance(d, Digests)} == expected


class Disturbed(Folder):
    """Does something to a file when so many parts of it were read."""

    def disturb(self, path: bytes, at: int, action: Callable[[], object]) -> None:
        self.path, self.at, self.action = path, at, action
        self.reads = count(1)  # one step, also where threads read at once

    def open(self, found: Found) -> FolderReader:
        reader, source = super().open(found), self

        class Reader(FolderReader):
            def read_into(self, offset: int, buffer: memoryview) -> int:
                if found.path == source.path and next(source.reads) == source.at:
                    source.action()
                return super().read_into(offset, buffer)

        return Reader(reader._descriptor, found)


def shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def write(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other")


def replace(path: Path) -> None:
    other = path.with_suffix(".other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("action", [grow, shrink, write, replace, Path.unlink])
def test_a_file_that_changes_while_others_are_read_is_an_error_for_it_alone(
    tmp_path: Path, action: Callable[[Path], object], threads: int
) -> None:
    expected = make(tmp_path, [BLOCK_BYTES + PIECE_BYTES + 5] * 4)
    founds = founds_in(tmp_path)
    for found in founds:
        os.utime(tmp_path / os.fsdecode(found.path), ns=(10**18, 10**18))
    founds = founds_in(tmp_path)
    source = Disturbed(tmp_path)
    source.disturb(b"002", 7, lambda: action(tmp_path / "002"))
    found = results(source, founds, threads=threads)
    assert "changed while it was read" in str(found.pop(b"002"))
    del expected[b"002"]
    assert {path: each.sha256 for path, each in found.items() if isinstance(each, Digests)} == (
        expected
    )


@pytest.mark.parametrize("threads", [1, 2])
def test_an_end_in_the_middle_leaves_no_thread_and_no_file(tmp_path: Path, threads: int) -> None:
    make(tmp_path, [2 * BLOCK_BYTES] * 6)
    source, founds = Folder(tmp_path), founds_in(tmp_path)

    def stop(found: Found, checkpoint: Checkpoint, root: bytes) -> None:
        assert len(open_files(tmp_path)) > 1
        raise KeyboardInterrupt

    with nothing_left(), pytest.raises(KeyboardInterrupt):
        list(hash_files(source, founds, ("sha256",), threads=threads, progress=stop))
    assert list(open_files(tmp_path).values()) == [str(tmp_path)]  # which the source has


def test_files_are_read_in_turns_and_so_share_the_lanes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large ones behind small ones too, once there were two."""
    from atlas12288 import _chains

    counts: list[int] = []
    update = _native.update_streams

    def counted(streams: list[WitnessStream], chunks: list[memoryview]) -> None:
        counts.append(len(streams))
        update(streams, chunks)  # type: ignore[arg-type]

    monkeypatch.setattr(_chains, "update_streams", counted)
    large = 2 * BLOCK_BYTES
    make(tmp_path, [large, large] + [100] * 20 + [large] * 3)
    list(hash_files(Folder(tmp_path), founds_in(tmp_path), ("sha256",), threads=1))
    assert max(counts) == 5
    assert all(one >= other for one, other in pairwise(counts))
