# SPDX-License-Identifier: Apache-2.0
"""The regions of a column: the bytes that are hashed for each type of array."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from .._files import CHUNK_BYTES
from .._witness import WitnessStream
from . import _arrow
from ._types import ENCODED, Layout, is_large, levels_of, types_inside, width_of

if TYPE_CHECKING:
    import pyarrow

STANDS_FOR_MOST: Final = 2**40  # bytes
_ROW_BYTES: Final = 16  # counted for each row, in addition to its values
_WITH_LENGTHS: Final = (Layout.TEXT, Layout.VIEW, Layout.LIST, Layout.LIST_VIEW)
_WITH_VALUES: Final = (Layout.FIXED, Layout.TEXT, Layout.VIEW)


class Expansion:
    """Bound the bytes that the dictionaries, runs and views of one array expand to: a few bytes of
    them can cause a year of hashing."""

    def __init__(self) -> None:
        self._total = 0

    def restart(self) -> None:
        self._total = 0

    def add(self, rows: int, values: int) -> None:
        """Count rows and the bytes of their values.

        Raises:
            ValueError: the bound is exceeded.
        """
        self._total += rows * _ROW_BYTES + values
        if self._total > STANDS_FOR_MOST:
            raise ValueError(
                f"its dictionaries, runs and views stand for more than {STANDS_FOR_MOST} bytes "
                f"({_ROW_BYTES} a row counted), must be cut into several arrays"
            )


class ArrayHasher:
    """Hash arrays of one type into streams, which do not depend on where one array ends.

    The streams are: the indices of the nulls; for texts and lists the lengths, 8 bytes each; the
    values, except values under a null; then the streams of the child types, which get only the rows
    that are not under a null.

    Nothing is decoded as a whole: row indices are passed down through dictionaries, runs, views and
    nulls to the values, which are read there in pieces.
    """

    def __init__(self, kind: pyarrow.DataType, expansion: Expansion) -> None:
        levels = levels_of(kind)
        self._levels = [layout for layout, _ in levels]
        self._layout, kind = levels[-1]
        self._is_large = is_large(kind)
        self._width = width_of(kind) if self._layout is Layout.FIXED else 0
        self._expansion = expansion
        self._rows = 0
        self._nulls, self._lengths, self._values = (WitnessStream() for _ in range(3))
        self._inside = [ArrayHasher(inner, expansion) for inner in types_inside(kind)]
        self._known: dict[int, tuple[object, pyarrow.Array]] = {}

    def streams(self) -> Iterator[WitnessStream]:
        """Yield the streams of the type, in their order."""
        yield self._nulls
        if self._layout in _WITH_LENGTHS:
            yield self._lengths
        if self._layout in _WITH_VALUES:
            yield self._values
        for node in self._inside:
            yield from node.streams()

    def require_valid(
        self, array: pyarrow.Array, level: int = 0, *, is_shared: bool = False
    ) -> None:
        """Have pyarrow validate an array and its child arrays in full.

        Memory that consecutive slices share (the items of lists, the values of dictionaries) is
        validated only once: otherwise a table of many slices would take quadratic time.

        Args:
            array: an array that has passed `validate()`.
            level: the index of its type in `levels_of`.
            is_shared: whether other arrays may share its memory.

        Raises:
            pyarrow.ArrowException: it is not valid.
        """
        layout = self._levels[level]
        if layout is Layout.EXTENSION:
            self.require_valid(array.storage, level + 1, is_shared=is_shared)
            return
        if is_shared or layout is Layout.RUNS:
            memory = _arrow.memory_of(array, layout)
            if self._known.get(level, (None,))[0] != memory:
                _arrow.require_valid(array, layout, self._is_large)
                self._known[level] = memory, array  # the array keeps its address
        else:
            _arrow.require_valid(array, layout, self._is_large)
        if layout in ENCODED:
            self.require_valid(_arrow.values_of(array, layout), level + 1, is_shared=True)
            return
        for node, part in zip(self._inside, _arrow.parts_of(array, layout), strict=True):
            node.require_valid(part, is_shared=True)

    def update(
        self, array: pyarrow.Array, rows: pyarrow.Array | None = None, level: int = 0
    ) -> None:
        """Hash rows of a valid array.

        Args:
            rows: their indices, at most `ROWS`; a null index is a null row. None for all rows.
            level: as for `require_valid`.

        Raises:
            ValueError: an index is out of range, or the array expands to too many bytes.
        """
        if self._layout is Layout.NULL:  # the type implies the nulls
            return
        layout = self._levels[level]
        if layout is Layout.EXTENSION:
            self.update(array.storage, rows, level + 1)
        elif layout in ENCODED:
            if rows is None:
                self._expansion.add(len(array), 0)
            values = _arrow.values_of(array, layout)
            for indices in _arrow.encoded_rows(array, layout, rows):
                self.update(values, indices, level + 1)
        elif rows is not None:
            self._update_piece(array, rows)
        elif self._is_whole(array):
            self._update_whole(array)
        else:
            for start, count in _arrow.ranges(len(array)):
                self._update_piece(array.slice(start, count), None)

    def _is_whole(self, array: pyarrow.Array) -> bool:
        """Return whether all rows are hashed at once; rows without width can number 2^62."""
        no_width = self._layout is Layout.FIXED and self._width == 0
        alike = self._layout in (Layout.STRUCT, Layout.FIXED_LIST) or no_width
        return alike and array.null_count == 0

    def _update_whole(self, array: pyarrow.Array) -> None:
        self._rows += len(array)
        if self._layout is Layout.FIXED_LIST:
            size = array.type.list_size
            self._inside[0].update(array.values.slice(array.offset * size, len(array) * size))
        elif self._layout is Layout.STRUCT:
            self._update_fields(array, None)

    def _update_piece(self, array: pyarrow.Array, rows: pyarrow.Array | None) -> None:
        """Hash at most `ROWS` rows."""
        count = len(array) if rows is None else len(rows)
        there = _arrow.present(array, rows)
        if there is not None:
            self._nulls.update(_arrow.fixed(_arrow.nulls_of(there, self._rows)))
            if rows is None and self._update_beside_nulls(array, there):
                self._rows += count
                return
            rows = _arrow.places(there) if rows is None else rows.filter(there)
        self._rows += count
        if self._layout is Layout.STRUCT:
            self._update_fields(array, rows)
        elif self._layout is Layout.FIXED:
            for part in _arrow.fixed_parts(array, rows, self._width):
                self._values.update(part)
        elif self._layout is Layout.VIEW:
            lengths = _arrow.view_lengths(array, rows)
            self._update_texts(lengths, _arrow.views(array, rows, lengths))
        else:
            large = self._is_large
            starts, lengths = _arrow.extents(array, self._layout, large, rows)
            if self._layout is Layout.TEXT:
                self._update_texts(lengths, _arrow.texts(array, large, rows, starts, lengths))
            else:
                self._update_items(array.values, starts, lengths)

    def _update_beside_nulls(self, array: pyarrow.Array, there: pyarrow.BooleanArray) -> bool:
        """Hash the values between the nulls of a piece in one go, if that takes little memory, and
        return whether this was done. It only serves speed."""
        if self._layout is Layout.FIXED and self._width * len(array) <= CHUNK_BYTES:
            for part in _arrow.fixed_parts(array.filter(there), None, self._width):
                self._values.update(part)
            return True
        if self._layout not in (Layout.TEXT, Layout.LIST):
            return False
        found = _arrow.extent_beside_nulls(array, self._is_large, there)
        if found is None:
            return False
        lengths, start, length = found
        self._lengths.update(_arrow.fixed(lengths))
        if self._layout is Layout.TEXT:
            self._values.update(_arrow.text_at(array, start, length))
        else:
            self._inside[0].update(array.values.slice(start, length))
        return True

    def _update_fields(self, array: pyarrow.StructArray, rows: pyarrow.Array | None) -> None:
        for node, part in zip(self._inside, _arrow.parts_of(array, self._layout), strict=True):
            node.update(part, rows)

    def _update_texts(self, lengths: pyarrow.Array, parts: Iterator[memoryview]) -> None:
        self._expansion.add(0, _arrow.total(lengths))
        self._lengths.update(_arrow.fixed(lengths))
        for part in parts:
            self._values.update(part)

    def _update_items(
        self, values: pyarrow.Array, starts: pyarrow.Array, lengths: pyarrow.Array
    ) -> None:
        if self._layout is not Layout.FIXED_LIST:
            self._lengths.update(_arrow.fixed(lengths))
        (items,) = self._inside
        if items._layout is Layout.NULL:  # there can be 2^62 of them
            return
        starts, lengths = _arrow.without_empty(starts, lengths)
        if together := _arrow.joined(starts, lengths):
            items.update(values.slice(*together))
            return
        self._expansion.add(_arrow.total(lengths), 0)
        for rows in _arrow.scattered(starts, lengths):
            items.update(values, rows)
