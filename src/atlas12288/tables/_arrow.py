# SPDX-License-Identifier: Apache-2.0
"""Access to parts of Arrow arrays: their memory, the indices of their rows, their validation.

Each piece made here has at most 65,536 rows or 768 KiB, however many rows an array represents, so
that neither memory nor the 32-bit offsets of pyarrow's own decoding set a limit.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from .._files import CHUNK_BYTES
from ._types import LISTS, Layout

if TYPE_CHECKING:
    import pyarrow

# Rows that are processed together. The witness does not depend on this number.
ROWS: Final = 65536
_VIEW_BYTES: Final = 16
_VIEW_INLINE: Final = 12  # a value of at most this many bytes is stored in the view itself


# --- Rows ---


def ranges(count: int) -> Iterator[tuple[int, int]]:
    """Yield start and length of the pieces that `count` rows are split into."""
    for start in range(0, count, ROWS):
        yield start, min(ROWS, count - start)


def counted(first: int, count: int) -> pyarrow.Array:
    """Return the indices first, first + 1, ..."""
    import pyarrow
    from pyarrow import compute

    ones = pyarrow.repeat(pyarrow.scalar(1, pyarrow.int64()), count)
    return compute.cumulative_sum(ones, start=pyarrow.scalar(first - 1, pyarrow.int64()))


def places(mask: pyarrow.BooleanArray) -> pyarrow.Array:
    """Return the indices at which a mask without nulls is true."""
    import pyarrow
    from pyarrow import compute

    return compute.indices_nonzero(mask).view(pyarrow.int64())


def nulls_of(mask: pyarrow.BooleanArray, first: int) -> pyarrow.Array:
    """Return the indices, counted from `first`, at which a mask without nulls is false."""
    import pyarrow
    from pyarrow import compute

    return compute.add(places(compute.invert(mask)), pyarrow.scalar(first, pyarrow.int64()))


def present(array: pyarrow.Array, rows: pyarrow.Array | None) -> pyarrow.BooleanArray | None:
    """Return a mask of the rows that are not null; None if no row is null.

    Args:
        rows: indices of rows, nulls among them; None for all.
    """
    import pyarrow
    from pyarrow import compute

    if array.null_count == 0:
        return rows.is_valid() if rows is not None and rows.null_count > 0 else None
    # Not is_valid() of all rows: there may be a million of them, and few are wanted.
    bits = [None, array.buffers()[0]]
    valid = pyarrow.Array.from_buffers(pyarrow.bool_(), len(array), bits, 0, array.offset)
    if rows is not None:
        valid = valid.take(rows).fill_null(False)
    return None if compute.all(valid).as_py() in (True, None) else valid


def values_of(array: pyarrow.Array, layout: Layout) -> pyarrow.Array:
    """Return the values of a dictionary or of runs, each once, or the items of lists: all of them,
    even if the array is a slice."""
    return array.dictionary if layout is Layout.DICTIONARY else array.values


def encoded_rows(
    array: pyarrow.Array, layout: Layout, rows: pyarrow.Array | None
) -> Iterator[pyarrow.Array]:
    """Yield, piece by piece, the index of each row's value among the values of a dictionary or of
    runs; the index is null for a null row.

    Raises:
        ValueError: an index of a dictionary is out of range.
    """
    import pyarrow

    if layout is Layout.DICTIONARY:
        indices, most = array.indices, len(array.dictionary) - 1
        if rows is not None:
            yield _checked(indices.take(rows), most)
            return
        for start, count in ranges(len(array)):
            yield _checked(indices.slice(start, count), most)
    elif rows is None:
        for start, count in ranges(len(array)):
            yield _run_of_each(array.slice(start, count))
    else:
        ends, after = _integers(array.run_ends), array.offset
        of_each = (None if row is None else row + after for row in rows.to_pylist())
        found = [None if place is None else bisect_right(ends, place) for place in of_each]
        yield pyarrow.array(found, pyarrow.int64())


def _checked(indices: pyarrow.Array, most: int) -> pyarrow.Array:
    import pyarrow
    from pyarrow import compute

    # Not a safe cast: under a null lies anything. An index above 2^63 - 1 becomes negative.
    indices = indices.cast(pyarrow.int64(), safe=False)
    least, greatest = compute.min_max(indices).as_py().values()
    if least is not None and not 0 <= least <= greatest <= most:
        found = least if least < 0 else greatest
        raise ValueError(f"an index of its dictionary is {found}, must be in 0..{most}")
    return indices


def _run_of_each(array: pyarrow.Array) -> pyarrow.Array:
    """Return the index of the run of each row of an array of at most `ROWS` rows."""
    import pyarrow
    from pyarrow import compute

    first, count = array.find_physical_offset(), array.find_physical_length()
    ends = array.run_ends.slice(first, count).cast(pyarrow.int64())
    ends = compute.min_element_wise(compute.subtract(ends, array.offset), len(array))
    return _repeated(counted(first, count), ends)


def _repeated(values: pyarrow.Array, ends: pyarrow.Array) -> pyarrow.Array:
    """Return each value repeated up to its end."""
    import pyarrow
    from pyarrow import compute

    return compute.run_end_decode(pyarrow.RunEndEncodedArray.from_arrays(ends, values))


def without_empty(
    starts: pyarrow.Array, lengths: pyarrow.Array
) -> tuple[pyarrow.Array, pyarrow.Array]:
    """Return start and length of the lists that have items."""
    from pyarrow import compute

    some = compute.greater(lengths, 0)
    return starts.filter(some), lengths.filter(some)


def joined(starts: pyarrow.Array, lengths: pyarrow.Array) -> tuple[int, int] | None:
    """Return start and length of all rows together; None if the rows are not contiguous.

    Args:
        starts: for each of at most `ROWS` rows, the index of the first item of a list or of the
            first byte of a text.
        lengths: the number of items or bytes of each row.
    """
    from pyarrow import compute

    ends = compute.add(starts, lengths)
    if len(starts) > 1 and ends[0].as_py() != starts[1].as_py():  # a cheap first test
        return None
    follows = compute.equal(ends.slice(0, max(len(ends) - 1, 0)), starts.slice(1))
    if len(starts) == 0:
        return 0, 0
    if compute.all(follows, min_count=0).as_py():
        start = starts[0].as_py()
        return start, ends[-1].as_py() - start
    return None


def scattered(starts: pyarrow.Array, lengths: pyarrow.Array) -> Iterator[pyarrow.Array]:
    """Yield the indices of the items of lists in order, piece by piece.

    Args:
        starts, lengths: as for `joined`.
    """
    import pyarrow
    from pyarrow import compute

    ends = compute.cumulative_sum_checked(lengths)
    # Added to the position of an item among all of them, this gives its index.
    shifts = compute.subtract(starts, compute.subtract(ends, lengths))
    runs = pyarrow.RunEndEncodedArray.from_arrays(ends, shifts)
    for start, count in ranges(ends[-1].as_py()):
        piece = compute.run_end_decode(runs.slice(start, count))
        yield compute.add(piece, counted(start, count))


def total(lengths: pyarrow.Array) -> int:
    """Return the approximate sum of lengths: an exact 64-bit sum could wrap."""
    from pyarrow import compute

    return int(compute.sum(lengths.cast("float64", safe=False), min_count=0).as_py())


def cuts(lengths: pyarrow.Array) -> Iterator[tuple[int, int]]:
    """Yield start and length of pieces of less than 768 KiB; a larger row is a piece by itself.

    Args:
        lengths: the bytes of each row, 64 bits.
    """
    from pyarrow import compute

    ends = _integers(compute.cumulative_sum_checked(lengths))
    start = before = 0
    while start < len(ends):
        stop = max(bisect_right(ends, before + CHUNK_BYTES), start + 1)
        yield start, stop - start
        start, before = stop, ends[stop - 1]


# --- Memory ---


def fixed(array: pyarrow.Array) -> memoryview:
    """Return the memory of the values of a fixed-width array without nulls."""
    width = array.type.byte_width
    values = memoryview(array.buffers()[1] or b"").cast("B")
    return values[array.offset * width : (array.offset + len(array)) * width]


def fixed_parts(
    array: pyarrow.Array, rows: pyarrow.Array | None, width: int
) -> Iterator[memoryview]:
    """Yield, in pieces, the fixed-width values of the rows that are not null."""
    import pyarrow
    from pyarrow import types

    if width == 0:
        return
    if types.is_boolean(array.type):
        yield fixed((array if rows is None else array.take(rows)).cast(pyarrow.uint8()))
    elif rows is None:
        yield fixed(array)
    elif width > CHUNK_BYTES:
        for row in rows.to_pylist():
            yield fixed(array.slice(row, 1))
    else:
        most = CHUNK_BYTES // width
        for start in range(0, len(rows), most):
            yield fixed(array.take(rows.slice(start, most)))


def _integers(array: pyarrow.Array) -> memoryview:
    """Return an array of integers without nulls as an indexable view."""
    values, width = fixed(array), array.type.byte_width
    return values.cast("h") if width == 2 else values.cast("i" if width == 4 else "q")


def _offsets(array: pyarrow.Array, large: bool) -> pyarrow.Array:
    """Return the offsets of texts or lists: one more than there are rows."""
    import pyarrow

    kind = pyarrow.int64() if large else pyarrow.int32()
    offsets = array.buffers()[1]
    if len(array) == 0 or offsets is None:  # the format allows an empty array to omit them
        return pyarrow.array([0] * (len(array) + 1), kind)
    return pyarrow.Array.from_buffers(kind, len(array) + 1, [None, offsets], 0, array.offset)


def extents(
    array: pyarrow.Array, layout: Layout, large: bool, rows: pyarrow.Array | None
) -> tuple[pyarrow.Array, pyarrow.Array]:
    """Return start and length of the rows that are not null: bytes for texts, items for lists."""
    import pyarrow
    from pyarrow import compute

    wide = pyarrow.int64()
    if layout is Layout.LIST_VIEW:
        parts = (array.offsets, array.sizes)
        starts, lengths = (part if rows is None else part.take(rows) for part in parts)
        return starts.cast(wide), lengths.cast(wide)
    if layout is Layout.FIXED_LIST:
        size = array.type.list_size
        rows = counted(0, len(array)) if rows is None else rows
        starts = compute.multiply(compute.add(rows, array.offset), size)
        return starts, pyarrow.repeat(pyarrow.scalar(size, wide), len(rows))
    offsets = _offsets(array, large)
    if rows is None:
        starts, ends = offsets.slice(0, len(array)), offsets.slice(1)
    else:
        starts, ends = offsets.take(rows), offsets.take(compute.add(rows, 1))
    starts = starts.cast(wide)
    return starts, compute.subtract(ends.cast(wide), starts)


def extent_beside_nulls(
    array: pyarrow.Array, large: bool, there: pyarrow.BooleanArray
) -> tuple[pyarrow.Array, int, int] | None:
    """Return the lengths of the texts or lists that are not null, and the start and length of all
    of them together; None if bytes or items lie under a null, which is rare.

    Args:
        there: mask of the rows that are not null.
    """
    import pyarrow
    from pyarrow import compute

    offsets = _offsets(array, large)
    start, end = offsets[0].as_py(), offsets[len(array)].as_py()
    lengths = compute.subtract(offsets.slice(1), offsets.slice(0, len(array)))
    lengths = lengths.filter(there).cast(pyarrow.int64())
    together = compute.sum(lengths, min_count=0).as_py()
    return (lengths, start, end - start) if together == end - start else None


def text_at(array: pyarrow.Array, start: int, length: int) -> memoryview:
    """Return a range of the bytes of an array of texts."""
    return memoryview(array.buffers()[2] or b"").cast("B")[start : start + length]


def _text(array: pyarrow.Array, large: bool) -> memoryview:
    """Return the joined bytes of texts without nulls."""
    _, offsets, values = array.buffers()
    if len(array) == 0 or offsets is None:
        return memoryview(b"")
    places = memoryview(offsets).cast("B").cast("q" if large else "i")
    start, end = places[array.offset], places[array.offset + len(array)]
    return memoryview(values or b"").cast("B")[start:end]


def texts(
    array: pyarrow.Array,
    large: bool,
    rows: pyarrow.Array | None,
    starts: pyarrow.Array,
    lengths: pyarrow.Array,
) -> Iterator[memoryview]:
    """Yield the bytes of texts that are not null, joined, in pieces.

    Args:
        large: whether their offsets have 64 bits.
        starts, lengths: their `extents`.
    """
    if rows is None:
        yield _text(array, large)
        return
    for start, count in cuts(lengths):
        if count == 1:
            yield text_at(array, starts[start].as_py(), lengths[start].as_py())
        else:
            yield _text(array.take(rows.slice(start, count)), large)


def view_lengths(array: pyarrow.Array, rows: pyarrow.Array | None) -> pyarrow.Array:
    """Return the length in bytes of each view that is not null."""
    import pyarrow
    from pyarrow import compute

    quarters = [None, array.buffers()[1]]  # the first quarter of a view is its length
    count = _VIEW_BYTES // 4
    all_of = pyarrow.Array.from_buffers(
        pyarrow.int32(), count * len(array), quarters, 0, count * array.offset
    )
    rows = counted(0, len(array)) if rows is None else rows
    return all_of.take(compute.multiply(rows, count)).cast(pyarrow.int64())


def views(
    array: pyarrow.Array, rows: pyarrow.Array | None, lengths: pyarrow.Array
) -> Iterator[memoryview]:
    """Yield the bytes of views that are not null, joined, in pieces.

    Args:
        lengths: their `view_lengths`.
    """
    import pyarrow

    _, own, *others = array.buffers()
    kind = pyarrow.binary(_VIEW_BYTES)
    all_of = pyarrow.Array.from_buffers(kind, len(array), [None, own], 0, array.offset)
    for start, count in cuts(lengths):
        part = all_of.slice(start, count) if rows is None else all_of.take(rows.slice(start, count))
        if count == 1 and lengths[start].as_py() > _VIEW_INLINE:
            view = _integers_of_view(part)
            yield memoryview(others[view[2]]).cast("B")[view[3] : view[3] + view[0]]
            continue
        buffers = [None, part.buffers()[1], *others]
        kind_of = pyarrow.binary_view()
        part = pyarrow.Array.from_buffers(kind_of, count, buffers, 0, part.offset)
        yield _text(part.cast(pyarrow.large_binary()), True)


def _integers_of_view(array: pyarrow.Array) -> memoryview:
    """Return the integers of a view: length, first bytes, buffer index and offset."""
    return fixed(array).cast("i")


# --- Structure and validation ---


def parts_of(array: pyarrow.Array, layout: Layout) -> list[pyarrow.Array]:
    """Return the child arrays of a structure, sliced to its own rows, or of a list."""
    if layout is Layout.STRUCT:
        return [array.field(index) for index in range(array.type.num_fields)]
    return [array.values] if layout in LISTS else []


def _nothing(count: int) -> pyarrow.NullArray:
    """Return `count` nulls without allocating memory; `pyarrow.nulls` takes a bit for each."""
    import pyarrow

    return pyarrow.Array.from_buffers(pyarrow.null(), count, [None])


def require_valid(array: pyarrow.Array, layout: Layout, large: bool) -> None:
    """Have pyarrow validate an array in full, without its child arrays, where only the lengths
    count.

    Raises:
        pyarrow.ArrowException: it is not valid.
    """
    import pyarrow

    if layout is Layout.DICTIONARY:
        # The range of the indices is not checked: pyarrow itself makes some that are out of range,
        # in null rows of a structure. `encoded_rows` checks the indices that are used.
        array.indices.validate(full=True)
        return
    if layout is Layout.RUNS:
        array.run_ends.validate(full=True)
        values = _nothing(len(array.run_ends))
        pyarrow.RunEndEncodedArray.from_arrays(array.run_ends, values).validate(full=True)
        return
    null, inside = pyarrow.null(), []
    if layout is Layout.STRUCT:
        hollow = pyarrow.struct([])
    elif layout in LISTS:
        inside = [_nothing(len(array.values))]
        if layout is Layout.FIXED_LIST:
            hollow = pyarrow.list_(null, array.type.list_size)
        elif layout is Layout.LIST_VIEW:
            hollow = pyarrow.large_list_view(null) if large else pyarrow.list_view(null)
        else:
            hollow = pyarrow.large_list(null) if large else pyarrow.list_(null)
    else:
        array.validate(full=True)
        return
    own, count = array.buffers()[: hollow.num_buffers], array.null_count
    array = pyarrow.Array.from_buffers(hollow, len(array), own, count, array.offset, inside)
    array.validate(full=True)


def memory_of(array: pyarrow.Array, layout: Layout) -> tuple[object, ...]:
    """Return a key that is equal if `require_valid` would validate the same memory again."""
    if layout is Layout.RUNS:
        array = array.run_ends  # all of them, even if the array is a slice
    lengths = [len(array.values)] if layout in LISTS else []
    buffers = ((b.address, b.size) if b is not None else None for b in array.buffers())
    return (len(array), array.offset, array.null_count, *lengths, *buffers)
