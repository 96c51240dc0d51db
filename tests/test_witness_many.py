# SPDX-License-Identifier: Apache-2.0
"""Witnesses of many buffers at once are those of each alone: hashlib's digests and plain Python's
residues, with every kernel set, for any number and any lengths."""

import gc
import hashlib
import random
import sys
from array import array
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import atlas12288 as atlas
from atlas12288._subtree import BLOCK_BYTES
from support import model, strategies
from support.guarded import Guarded, region_at, run_in_child


def check(buffers: Sequence[Any], **options: Any) -> None:
    made = atlas.Witness.generate_many(iter(buffers), **options)
    assert len(made) == len(buffers)
    for i, (witness, buffer) in enumerate(zip(made, buffers, strict=True)):
        data = bytes(buffer)
        assert witness.digest == hashlib.sha256(data).digest(), i
        assert (witness.length, witness.residue) == (len(data), model.residue(data)), i
    trees = atlas.TreeWitness.generate_many(iter(buffers), **options)
    assert len(trees) == len(buffers)
    for i, (tree, witness, buffer) in enumerate(zip(trees, made, buffers, strict=True)):
        data = bytes(buffer)
        root, leaves = hashlib.sha256(b"\0" + data).digest(), None
        if not data:
            root, leaves = hashlib.sha256().digest(), b""
        elif len(data) > atlas.WINDOW_BYTES:
            alone = atlas.TreeWitness.generate(data, threads=1)
            root, leaves = alone.root, alone.leaves
        assert (tree.length, tree.residue) == (witness.length, witness.residue), i
        assert (tree.root, tree.leaves) == (root, root if leaves is None else leaves), i


def test_every_length_up_to_1000(kernel_set: str) -> None:
    data = strategies.noise(1064)
    buffers = [memoryview(data)[n % 64 : n % 64 + n] for n in range(1001)]
    check(buffers)
    check(buffers[::-1])


def test_every_number_of_buffers_up_to_40_with_random_lengths(kernel_set: str) -> None:
    chance = random.Random(12288)
    data = memoryview(strategies.noise(1 << 16))
    for count in range(1, 41):
        for most in (100, 1000, 30000):
            places = [chance.randrange(most) for _ in range(2 * count)]
            check([data[a : a + n] for a, n in zip(places[::2], places[1::2], strict=True)])


def test_one_buffer_outlasts_all_others(kernel_set: str) -> None:
    data = memoryview(strategies.noise(1 << 17))
    for place in (0, 3, 19):
        buffers = [data[i : i + 64 * i] for i in range(20)]
        buffers[place] = data
        check(buffers)


@given(buffers=st.lists(st.binary(max_size=400), max_size=50), threads=st.integers(1, 3))
def test_any_buffers_with_any_number_of_threads(buffers: list[bytes], threads: int) -> None:
    check(buffers, threads=threads)


@pytest.mark.parametrize("threads", [1, 2, 3, 40])
def test_threads_share_the_buffers_out(threads: int) -> None:
    data = memoryview(strategies.noise(1 << 20))
    check([data] * 5, threads=threads)
    check([data[i : i + 30000] for i in range(100)], threads=threads)
    check([data[:0]] * 3 + [data] + [data[:1]] * 100, threads=threads)


def test_no_buffers_have_no_witness() -> None:
    for made in (atlas.Witness, atlas.TreeWitness):
        assert made.generate_many([]) == []
        assert made.generate_many(iter(())) == []


def test_buffers_of_all_kinds() -> None:
    check([b"abc", bytearray(b"abcd"), array("I", range(99)), memoryview(b"abcdef"), b""])


def test_a_subclass_makes_witnesses_of_the_subclass() -> None:
    class Signed(atlas.Witness):
        __slots__ = ()

    class SignedTree(atlas.TreeWitness):
        __slots__ = ()

    assert [type(w) for w in Signed.generate_many([b"a", b"b"])] == [Signed, Signed]
    assert [type(w) for w in SignedTree.generate_many([b"a", b"b"])] == [SignedTree, SignedTree]


def test_many_trees_have_the_leaves_of_every_window() -> None:
    data = memoryview(strategies.noise(BLOCK_BYTES + 3 * atlas.WINDOW_BYTES))
    sizes = [n * atlas.WINDOW_BYTES + more for n in (1, 2, 5) for more in (-1, 0, 1)]
    sizes += [0, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, len(data)]
    check([data[:size] for size in sizes])
    kept = atlas.TreeWitness.generate_many([data[:size] for size in sizes])
    changed = bytearray(data)
    changed[BLOCK_BYTES + 1] ^= 1
    assert kept[-1].changed(changed) == [256]
    bare = atlas.TreeWitness.generate_many([data[:size] for size in sizes], leaves=False)
    assert [tree.leaves for tree in bare] == [None] * len(sizes)
    assert [tree.root for tree in bare] == [tree.root for tree in kept]


@pytest.mark.parametrize(
    ("item", "error", "message"),
    [
        (5, TypeError, r"^buffers\[2\] is of type int, must be a buffer"),
        ("text", TypeError, r"^buffers\[2\] is of type str, must be a buffer"),
        (None, TypeError, r"^buffers\[2\] is of type NoneType, must be a buffer"),
        (memoryview(b"abcd")[::2], BufferError, r"^buffers\[2\] is of type memoryview, must be C-"),
    ],
)
@pytest.mark.parametrize("made", [atlas.Witness, atlas.TreeWitness])
def test_a_bad_item_is_refused_with_its_index_and_no_buffer_stays_exported(
    made: type[atlas.Witness | atlas.TreeWitness],
    item: object,
    error: type[Exception],
    message: str,
) -> None:
    first = bytearray(100)
    with pytest.raises(error, match=message):
        made.generate_many([first, b"fine", item, b"fine"])  # type: ignore[list-item]
    gc.collect()
    first.append(1)  # BufferError while it is exported


@pytest.mark.parametrize("made", [atlas.Witness, atlas.TreeWitness])
def test_what_is_no_iterable_of_buffers_is_refused(
    made: type[atlas.Witness | atlas.TreeWitness],
) -> None:
    for wrong in (5, None):
        with pytest.raises(TypeError, match="not iterable"):
            made.generate_many(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^buffers\[0\] is of type int"):
        made.generate_many(b"one buffer")  # type: ignore[arg-type]
    for threads, refused in ((0, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(refused, match=r"^threads is"):
            made.generate_many([b""], threads=threads)  # type: ignore[arg-type]


def test_buffers_are_not_exported_afterwards_and_are_not_kept() -> None:
    data = bytearray(100)
    before = sys.getrefcount(data)
    atlas.Witness.generate_many([data] * 40)
    atlas.TreeWitness.generate_many([data] * 40)
    data.append(1)
    assert sys.getrefcount(data) == before


def test_hashing_many_touches_no_byte_beside_a_buffer(kernel_set: str) -> None:
    lengths = [*range(0, 330, 3), 12288, 5000]
    guarded = [Guarded(max(lengths)) for _ in range(3)]

    def hash_all() -> None:
        for start in range(len(lengths)):
            some = [lengths[(start + 7 * k) % len(lengths)] for k in range(len(guarded))]
            views = [g.ending_at_guard(n) for g, n in zip(guarded, some, strict=True)]
            for k, view in enumerate(views):
                view[:] = strategies.noise(len(view), seed=k)
            check([*views, *views, *views, *views, *views, *views])

    run_in_child(hash_all)


def test_alignments_do_not_matter(kernel_set: str) -> None:
    regions = [region_at(a, 200 + a) for a in range(64)]
    for a, region in enumerate(regions):
        region[:] = strategies.noise(200 + a, seed=a)
    check(regions)
