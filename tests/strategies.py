# SPDX-License-Identifier: Apache-2.0
"""All hypothesis strategies of the tests, and the data that they and the other tests share."""

import random
from functools import lru_cache

from hypothesis import strategies as st

import model
from guarded import ALIGNMENTS, region_at


@lru_cache(maxsize=64)
def noise(length: int, seed: int = 0) -> bytes:
    """Random bytes, the same in every run."""
    return random.Random(seed).randbytes(length)


def conserved_everywhere(length: int) -> bytes:
    """Bytes of which every slice is conserved: each is 0, 96 or 192, without a period."""
    return bytes(96 * (byte % 3) for byte in noise(length))


def lengths(most: int = 2 * 12288 + 64) -> st.SearchStrategy[int]:
    """Short ones, ones that bite, and any up to `most`."""
    return st.one_of(
        st.integers(0, min(most, 300)),
        st.sampled_from([n for n in model.BITING_LENGTHS if n <= most]),
        st.integers(0, most),
    )


def contents(length: int) -> st.SearchStrategy[bytes]:
    """`length` bytes: all equal (0xFF, where sums wrap first), the counter mod 251, or noise.
    Noise comes from a seed: hypothesis itself draws too slowly for a window."""
    return st.one_of(
        st.sampled_from((0xFF, 0x00, 0x80, 0x60, 0x01)).map(lambda byte: bytes([byte]) * length),
        st.just(bytes(i % 251 for i in range(length))),
        st.integers(0, 15).map(lambda seed: noise(length, seed)),
    )


def buffers(most: int = 2 * 12288 + 64) -> st.SearchStrategy[bytes]:
    return st.one_of(st.binary(max_size=min(most, 200)), lengths(most).flatmap(contents))


def conserved_buffers(most: int = 2 * 12288 + 64) -> st.SearchStrategy[bytes]:
    return buffers(most).map(model.fixup)


def pairs_of_equal_length(most: int = 2 * 12288 + 64) -> st.SearchStrategy[tuple[bytes, bytes]]:
    return lengths(most).flatmap(lambda n: st.tuples(contents(n), contents(n)))


def alignments() -> st.SearchStrategy[int]:
    return st.sampled_from(ALIGNMENTS)


@st.composite
def aligned_buffers(draw: st.DrawFn, most: int = 2 * 12288 + 64) -> memoryview:
    """A writable buffer at any alignment 0..63."""
    data = draw(buffers(most))
    region = region_at(draw(alignments()), len(data))
    region[:] = data
    return region


@st.composite
def splits(draw: st.DrawFn, most: int = 2 * 12288 + 64) -> list[bytes]:
    """A buffer cut into chunks at any places, empty chunks included."""
    data = draw(buffers(most))
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[i:j] for i, j in zip([0, *cuts], [*cuts, len(data)], strict=True)]
