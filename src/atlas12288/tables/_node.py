# SPDX-License-Identifier: Apache-2.0
"""The regions of a column: what is hashed of its arrays, by their type."""

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
_ROW_BYTES: Final = 16  # that a row counts for itself
_WITH_LENGTHS: Final = (Layout.TEXT, Layout.VIEW, Layout.LIST, Layout.LIST_VIEW)
_WITH_VALUES: Final = (Layout.FIXED, Layout.TEXT, Layout.VIEW)


class Expansion:
    """Bounds what the dictionaries, runs and views of one array stand for: a few bytes of them can
    stand for a year of hashing."""

    def __init__(self) -> None:
        self._total = 0

    def restart(self) -> None:
        self._total = 0

    def add(self, rows: int, values: int) -> None:
        """Count rows, and the bytes of their values.

        Raises:
            ValueError: the bound is passed.
        """
        self._total += rows * _ROW_BYTES + values
        if self._total > STANDS_FOR_MOST:
            raise ValueError(
                f"its dictionaries, runs and views stand for more than {STANDS_FOR_MOST} bytes "
                f"({_ROW_BYTES} a row counted), must be cut into several arrays"
            )


class Node:
    """Takes arrays of one type, as they come, into streams that do not tell where one ended.

    The streams are: the indices of the nulls; of texts and lists the lengths, 8 bytes each; the
    values, without those under a null; then those of the types inside, which get only the rows that
    are not under a null.

    Nothing is decoded as a whole: what a dictionary, runs, a view or a row beside nulls stands for
    is looked up by the indices of rows, which go down to the values, and are read there in pieces.
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
        self._inside = [Node(inner, expansion) for inner in types_inside(kind)]
        self._known: dict[int, tuple[object, pyarrow.Array]] = {}

    def streams(self) -> Iterator[WitnessStream]:
        """Yield those that the type has, in their order."""
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
        """Have pyarrow validate an array in full, and those inside of it.

        What slices share, the items of lists and the values of dictionaries, is validated once as
        long as the same comes again: else a table of many slices would take their product.

        Args:
            array: one that `validate()` has passed.
            level: of the type, in its `levels_of`.
            is_shared: other arrays may share it.

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
                self._known[level] = memory, array  # the array, so that no other gets its place
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
        """Take rows of a valid array.

        Args:
            rows: their indices, at most `ROWS`, nulls among them, which are nulls then; None for
                all.
            level: as for `require_valid`.

        Raises:
            ValueError: an index leads nowhere, or the array stands for too much.
        """
        if self._layout is Layout.NULL:  # the type says it
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
        """Are all rows taken at once? There can be 2^62 where they have no width."""
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
        """Take at most `ROWS` rows."""
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
        """Take the values beside the nulls of a piece in one go, where that takes little memory;
        this is for speed alone."""
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
        if items._layout is Layout.NULL:  # of which there can be 2^62
            return
        starts, lengths = _arrow.without_empty(starts, lengths)
        if together := _arrow.joined(starts, lengths):
            items.update(values.slice(*together))
            return
        self._expansion.add(_arrow.total(lengths), 0)
        for rows in _arrow.scattered(starts, lengths):
            items.update(values, rows)
