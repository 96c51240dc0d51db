# SPDX-License-Identifier: Apache-2.0
"""All hypothesis strategies of the tests, and the data that they and the other tests share."""

import random
from functools import lru_cache
from typing import Any

from hypothesis import strategies as st

from support import gnu, model
from support.guarded import ALIGNMENTS, region_at


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


# --- lists of SHA-256 sums ---


def _without_nul(most: int) -> st.SearchStrategy[bytes]:
    return st.binary(max_size=most).map(lambda data: data.translate(None, b"\0"))


def _sum_names() -> st.SearchStrategy[bytes]:
    """Mostly names of files that `gnu.make_files` makes."""
    return st.sampled_from(gnu.NAMES) | _without_nul(8)


@st.composite
def _sum_lines(draw: st.DrawFn) -> bytes:
    """A line of a list, of any form that exists and some that do not."""
    name = draw(_sum_names())
    digest = gnu.digest_of(name if draw(st.integers(0, 4)) else b"other").encode()
    digest = draw(st.sampled_from((digest, digest, digest.upper(), digest[:-1], digest + b"0")))
    escaped = name.replace(b"\\", rb"\\").replace(b"\n", rb"\n").replace(b"\r", rb"\r")
    mark, name = draw(
        st.sampled_from(((b"\\", escaped), (b"\\" * (name != escaped), escaped), (b"", name)))
    )
    start = draw(st.sampled_from((b"", b"", b"", b" ", b"\t "))) + mark
    if draw(st.booleans()):
        return start + digest + draw(st.sampled_from((b"  ", b" *", b" ", b"\t", b"\t*"))) + name
    tag = draw(st.sampled_from((b"SHA256 (", b"SHA256(", b"SHA256  (", b"sha256 (", b"MD5 (")))
    equals = draw(st.sampled_from((b") = ", b")=", b")\t =  ", b") ", b"=")))
    return start + tag + name + equals + digest


@st.composite
def _damaged_sum_lines(draw: st.DrawFn) -> bytes:
    line = draw(_sum_lines())
    at = draw(st.integers(0, len(line)))
    return line[:at] + draw(_without_nul(2)) + line[at + draw(st.integers(0, 2)) :]


@st.composite
def sum_lists(draw: st.DrawFn) -> bytes:
    """A list of SHA-256 sums with good, damaged and other lines. None holds a NUL."""
    noise = st.sampled_from((b"", b" ", b"# comment", b" # no comment", b"\r", b"text"))
    ends = st.sampled_from((b"\n", b"\n", b"\n", b"\r\n", b"\r\r\n", b"\n\n"))
    lines = st.one_of(_sum_lines(), _sum_lines(), _damaged_sum_lines(), noise)
    listed = draw(st.lists(st.tuples(lines, ends).map(b"".join), max_size=12))
    return b"".join(listed) + draw(st.sampled_from((b"", b"\n", b"# the end")))


def numpy_arrays() -> st.SearchStrategy[Any]:
    """Arrays of every kind of type that has a witness, in any byte order, with any strides."""
    from hypothesis.extra import numpy as npst

    numbers = st.one_of(
        npst.boolean_dtypes(),
        npst.integer_dtypes(endianness="?"),
        npst.unsigned_integer_dtypes(endianness="?"),
        npst.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
        npst.complex_number_dtypes(endianness="?", sizes=(64, 128)),
        npst.datetime64_dtypes(endianness="?"),
        npst.byte_string_dtypes(min_len=1),
        npst.unicode_string_dtypes(endianness="?", min_len=1),
    )
    dtypes = st.one_of(numbers, npst.array_dtypes(numbers, min_size=1, max_size=3))
    shapes = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
    arrays = npst.arrays(dtypes, shapes)
    return arrays.flatmap(_views)


def _views(array: Any) -> st.SearchStrategy[Any]:
    import numpy
    from hypothesis.extra import numpy as npst

    sliced = npst.basic_indices(array.shape, allow_ellipsis=True).map(lambda index: array[index])
    views = st.one_of(st.just(array), st.just(array.T), sliced)
    return views.filter(lambda view: isinstance(view, numpy.ndarray))  # not an element alone


def arrow_types() -> st.SearchStrategy[Any]:
    """Types of Arrow columns, nested ones included."""
    import pyarrow as pa

    leaves = st.sampled_from(
        (
            *(pa.bool_(), pa.int8(), pa.uint64(), pa.float64(), pa.string(), pa.large_string()),
            *(pa.binary(), pa.binary(3), pa.string_view(), pa.binary_view(), pa.null()),
            *(pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int32(), pa.int64())),
        )
    )

    def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        fields = st.builds(pa.field, st.sampled_from(("a", "b")), inner, st.just(True))
        structs = st.lists(fields, max_size=2, unique_by=lambda field: field.name).map(pa.struct)
        return st.one_of(
            inner.map(pa.list_),
            inner.map(pa.large_list),
            inner.map(pa.list_view),
            inner.map(lambda kind: pa.list_(kind, 2)),
            inner.map(lambda kind: pa.map_(pa.string(), kind)),
            structs,
        )

    return st.recursive(leaves, nested, max_leaves=3)


def arrow_values(kind: Any) -> st.SearchStrategy[Any]:
    """A value of a type, or None."""
    from pyarrow import types

    if types.is_null(kind):
        return st.none()
    if types.is_dictionary(kind):
        return arrow_values(kind.value_type)
    if types.is_boolean(kind):
        some: st.SearchStrategy[Any] = st.booleans()
    elif types.is_integer(kind):
        some = st.integers(0, 127)
    elif types.is_floating(kind):
        some = st.floats(allow_nan=False)
    elif types.is_fixed_size_binary(kind):
        some = st.binary(min_size=3, max_size=3)
    elif types.is_struct(kind):
        some = st.fixed_dictionaries({field.name: arrow_values(field.type) for field in kind})
    elif types.is_map(kind):
        pairs = st.tuples(st.text(max_size=2), arrow_values(kind.item_type))
        some = st.lists(pairs, max_size=2)
    elif types.is_fixed_size_list(kind):
        some = st.lists(arrow_values(kind.value_type), min_size=2, max_size=2)
    elif hasattr(kind, "value_type"):
        some = st.lists(arrow_values(kind.value_type), max_size=3)
    else:
        texts = "string" in str(kind)
        some = st.text(max_size=3) if texts else st.binary(max_size=3)
    return st.none() | some


def arrow_columns() -> st.SearchStrategy[tuple[Any, list[Any]]]:
    """A type, and values of it."""
    return arrow_types().flatmap(
        lambda kind: st.tuples(st.just(kind), st.lists(arrow_values(kind), max_size=12))
    )
