# SPDX-License-Identifier: Apache-2.0
"""Parts of Arrow arrays: their memory, indices of their rows, and what pyarrow says of them.

What is made here is of at most 65,536 rows or 768 KiB, whatever an array stands for, so that
neither memory nor the 32-bit offsets of pyarrow's own decoding count.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ..files import CHUNK_BYTES
from ._types import Layout, has_large_offsets, layout_of, storage_of

if TYPE_CHECKING:
    import pyarrow

# Rows that are looked at together. The witness does not depend on it.
ROWS: Final = 65536
_VIEW_BYTES: Final = 16
_VIEW_INLINE: Final = 12  # bytes of a value that lie in the view itself


# --- Rows ---


def ranges(count: int) -> Iterator[tuple[int, int]]:
    """Yield start and length of the pieces of so many rows."""
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
    """Return the indices at which a mask without nulls is false, of which the first is `first`."""
    import pyarrow
    from pyarrow import compute

    return compute.add(places(compute.invert(mask)), pyarrow.scalar(first, pyarrow.int64()))


def present(array: pyarrow.Array, rows: pyarrow.Array | None) -> pyarrow.BooleanArray | None:
    """Return which rows are not null; None where all of them are there.

    Args:
        rows: indices of rows, nulls among them; None for all.
    """
    import pyarrow
    from pyarrow import compute

    if array.null_count == 0:
        return rows.is_valid() if rows is not None and rows.null_count > 0 else None
    # Not is_valid() of all rows: there may be a million of them, of which few are wanted.
    bits = [None, array.buffers()[0]]
    valid = pyarrow.Array.from_buffers(pyarrow.bool_(), len(array), bits, 0, array.offset)
    if rows is not None:
        valid = valid.take(rows).fill_null(False)
    return None if compute.all(valid).as_py() in (True, None) else valid


def encoded_values(array: pyarrow.Array) -> pyarrow.Array:
    """Return the values that a dictionary or runs have, each once."""
    from pyarrow import types

    return array.dictionary if types.is_dictionary(array.type) else array.values


def encoded_rows(
    array: pyarrow.Array, rows: pyarrow.Array | None
) -> Iterator[pyarrow.Array]:
    """Yield the indices of rows in `encoded_values`, piece by piece; a null is one.

    Raises:
        ValueError: an index of a dictionary leads nowhere.
    """
    import pyarrow
    from pyarrow import types

    if types.is_dictionary(array.type):
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

    # Not safe: anything lies under a null. What is more than 2^63 - 1 becomes negative.
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
    """Return each value until its end."""
    import pyarrow
    from pyarrow import compute

    return compute.run_end_decode(pyarrow.RunEndEncodedArray.from_arrays(ends, values))


def items_of(
    starts: pyarrow.Array, lengths: pyarrow.Array
) -> Iterator[tuple[int, int] | pyarrow.Array]:
    """Yield the items of lists in order: start and length where they lie one after another, else
    their indices, piece by piece.

    Args:
        starts: of at most `ROWS` lists the index of the first item.
        lengths: how many items each has.
    """
    import pyarrow
    from pyarrow import compute

    some = compute.greater(lengths, 0)
    starts, lengths = starts.filter(some), lengths.filter(some)
    if len(starts) == 0:
        return
    ends = compute.cumulative_sum_checked(lengths)
    total = ends[-1].as_py()
    follows = compute.equal(compute.add(starts, lengths).slice(0, len(starts) - 1), starts.slice(1))
    if compute.all(follows).as_py() in (True, None):
        yield starts[0].as_py(), total
        return
    # What is to be added to the place of an item among all of them, for its index.
    shifts = compute.subtract(starts, compute.subtract(ends, lengths))
    runs = pyarrow.RunEndEncodedArray.from_arrays(ends, shifts)
    for start, count in ranges(total):
        piece = compute.run_end_decode(runs.slice(start, count))
        yield compute.add(piece, counted(start, count))


def cuts(lengths: pyarrow.Array) -> Iterator[tuple[int, int]]:
    """Yield start and length of pieces of rows that have less than 768 KiB together, or are one.

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
    """Return the values of an array of a fixed width, without nulls."""
    width = array.type.byte_width
    values = memoryview(array.buffers()[1] or b"").cast("B")
    return values[array.offset * width : (array.offset + len(array)) * width]


def width_of(kind: pyarrow.DataType) -> int:
    """Return the bytes of a value of a fixed width in a witness: of a bool one."""
    from pyarrow import types

    return 1 if types.is_boolean(kind) else int(kind.byte_width)


def fixed_parts(array: pyarrow.Array, rows: pyarrow.Array | None) -> Iterator[memoryview]:
    """Yield the values of rows that are not null, of a fixed width, in pieces."""
    import pyarrow
    from pyarrow import types

    width = width_of(array.type)
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
    """Return integers without nulls, to be indexed."""
    return fixed(array).cast({2: "h", 4: "i", 8: "q"}[array.type.byte_width])


def bounds(array: pyarrow.Array) -> pyarrow.Array:
    """Return the offsets of an array that has some: one more than rows."""
    import pyarrow

    kind = pyarrow.int64() if has_large_offsets(array.type) else pyarrow.int32()
    offsets = array.buffers()[1]
    if len(array) == 0 or offsets is None:  # the format lets them be left out then
        return pyarrow.array([0] * (len(array) + 1), kind)
    return pyarrow.Array.from_buffers(kind, len(array) + 1, [None, offsets], 0, array.offset)


def extents(
    array: pyarrow.Array, rows: pyarrow.Array | None
) -> tuple[pyarrow.Array, pyarrow.Array]:
    """Return start and length of rows that are not null, of texts in bytes, of lists in items."""
    import pyarrow
    from pyarrow import compute

    layout, wide = layout_of(array.type), pyarrow.int64()
    if layout is Layout.LIST_VIEW:
        parts = (array.offsets, array.sizes)
        starts, lengths = (part if rows is None else part.take(rows) for part in parts)
        return starts.cast(wide), lengths.cast(wide)
    if layout is Layout.FIXED_LIST:
        size = array.type.list_size
        rows = counted(0, len(array)) if rows is None else rows
        starts = compute.multiply(compute.add(rows, array.offset), size)
        return starts, pyarrow.repeat(pyarrow.scalar(size, wide), len(rows))
    edges = bounds(array)
    if rows is None:
        starts, ends = edges.slice(0, len(array)), edges.slice(1)
    else:
        starts, ends = edges.take(rows), edges.take(compute.add(rows, 1))
    starts = starts.cast(wide)
    return starts, compute.subtract(ends.cast(wide), starts)


def texts(
    array: pyarrow.Array, rows: pyarrow.Array | None, starts: pyarrow.Array, lengths: pyarrow.Array
) -> Iterator[memoryview]:
    """Yield the bytes of texts that are not null, joined, in pieces.

    Args:
        starts, lengths: their `extents`.
    """
    values = memoryview(array.buffers()[2] or b"").cast("B")
    if len(starts) == 0:
        return
    if rows is None:
        yield values[starts[0].as_py() : starts[-1].as_py() + lengths[-1].as_py()]
        return
    for start, count in cuts(lengths):
        if count == 1:
            begin = starts[start].as_py()
            yield values[begin : begin + lengths[start].as_py()]
            continue
        part = array.take(rows.slice(start, count))
        edges = bounds(part)
        yield memoryview(part.buffers()[2] or b"").cast("B")[edges[0].as_py() : edges[-1].as_py()]


def view_lengths(array: pyarrow.Array, rows: pyarrow.Array | None) -> pyarrow.Array:
    """Return the bytes of each view that is not null."""
    import pyarrow
    from pyarrow import compute

    quarters = [None, array.buffers()[1]]  # the first of a view is its length
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
        joined = part.cast(pyarrow.large_binary())
        yield from texts(joined, None, *extents(joined, None))


def _integers_of_view(array: pyarrow.Array) -> memoryview:
    """Return length, first bytes, buffer and place of a view."""
    return fixed(array).cast("i")


# --- What pyarrow says ---


def parts_of(array: pyarrow.Array) -> list[pyarrow.Array]:
    """Return the arrays inside of one that is neither an extension nor encoded: of a structure
    those of its rows, else all that there is."""
    if layout_of(array.type) is Layout.STRUCT:
        return [array.field(index) for index in range(array.type.num_fields)]
    nested = (Layout.LIST, Layout.LIST_VIEW, Layout.FIXED_LIST)
    return [array.values] if layout_of(array.type) in nested else []


def storage(array: pyarrow.Array) -> pyarrow.Array:
    """Return the array by which an extension is stored, else the array."""
    while storage_of(array.type) is not array.type:
        array = array.storage
    return array


def require_valid(array: pyarrow.Array) -> None:
    """Have pyarrow validate in full what an array has itself: not the arrays inside of it, of which
    only the lengths count.

    Raises:
        pyarrow.ArrowException: it is not valid.
    """
    import pyarrow
    from pyarrow import types

    kind = array.type
    if types.is_dictionary(kind):
        # Not where they lead: pyarrow itself makes some that lead nowhere, in the rows of a
        # structure that is null. `encoded_rows` looks at those that count.
        array.indices.validate(full=True)
        return
    if types.is_run_end_encoded(kind):
        values = pyarrow.nulls(len(array.run_ends))
        pyarrow.RunEndEncodedArray.from_arrays(array.run_ends, values).validate(full=True)
        array.run_ends.validate(full=True)
        return
    layout = layout_of(kind)
    if layout in (Layout.NULL, Layout.FIXED, Layout.TEXT, Layout.VIEW):
        array.validate(full=True)
        return
    inside: list[pyarrow.Array] = []
    if layout is Layout.STRUCT:
        hollow = pyarrow.struct([])
    else:
        inside = [pyarrow.nulls(len(array.values))]
        if layout is Layout.FIXED_LIST:
            hollow = pyarrow.list_(pyarrow.null(), kind.list_size)
        elif layout is Layout.LIST_VIEW:
            large = types.is_large_list_view(kind)
            hollow = (pyarrow.large_list_view if large else pyarrow.list_view)(pyarrow.null())
        else:
            large = types.is_large_list(kind)
            hollow = (pyarrow.large_list if large else pyarrow.list_)(pyarrow.null())
    own = array.buffers()[: hollow.num_buffers]
    count = array.null_count
    pyarrow.Array.from_buffers(hollow, len(array), own, count, array.offset, inside).validate(
        full=True
    )


def memory_of(array: pyarrow.Array) -> tuple[object, ...]:
    """Return what tells whether what `require_valid` looks at is the same again."""
    from pyarrow import types

    kind = array.type
    if types.is_run_end_encoded(kind):
        return memory_of(array.run_ends)
    inner = [array.dictionary] if types.is_dictionary(kind) else []
    if not inner and layout_of(kind) is not Layout.STRUCT:
        inner = parts_of(array)
    buffers = ((b.address, b.size) if b is not None else None for b in array.buffers())
    lengths = (len(part) for part in inner)
    return (kind, array.offset, len(array), array.null_count, *lengths, *buffers)
