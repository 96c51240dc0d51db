# SPDX-License-Identifier: Apache-2.0
"""The columns of a table, each read by one thread at a time, and the errors found in them."""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import closing
from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple

from .._native import MODULUS
from .._parallel import parallel_map
from .._witness import Witness
from ._array_hasher import ArrayHasher, Expansion
from ._types import name_of

if TYPE_CHECKING:
    import pyarrow

# Rows of a column handed to a thread together: handing over one row costs more than reading it.
_GROUP_ROWS: Final = 1024


class Regions(NamedTuple):
    """The regions of a column taken together; its fields become the fields of the witness."""

    type: str
    nullable: bool
    length: int
    residue: int
    digest: bytes


def read(
    table: object, threads: int, failed: Callable[[str, Exception], None]
) -> tuple[int, list[tuple[str, Regions]], list[str]]:
    """Return the number of rows of a table, the regions of its columns, and their names.

    Args:
        failed: called with the name of each column that cannot be witnessed, and the error.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError(
            "tables need pyarrow: pip install 'atlas12288[arrow]'", name="pyarrow"
        ) from error
    if not isinstance(table, pyarrow.Table | pyarrow.RecordBatch | pyarrow.RecordBatchReader):
        raise TypeError(
            f"table is of type {type(table).__name__}, must be a pyarrow Table, RecordBatch or "
            "RecordBatchReader"
        )
    if sys.byteorder != "little":
        raise NotImplementedError("tables have witnesses on little-endian machines only")
    try:
        names = list(table.schema.names)
    except UnicodeDecodeError as error:
        raise ValueError(f"the name of a column must be UTF-8: {error}") from error
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"column {name!r} is there {count} times, must be there once")
    columns = [_Column(field) for field in table.schema]
    rows = 0

    def arrays() -> Iterator[_Column]:
        nonlocal rows
        for batch in table if isinstance(table, pyarrow.RecordBatchReader) else [table]:
            rows += batch.num_rows
            for index, column in enumerate(columns):
                if column.add(batch.column(index), batch.num_rows):
                    yield column
        yield from columns

    # One set of threads for all batches: starting threads costs more than a small batch.
    with closing(parallel_map(_Column.update, arrays(), threads)) as results:
        for _ in results:
            pass
    found = []
    for column in columns:
        if column.error is None:
            found.append((column.name, column.regions()))
        else:
            failed(column.name, column.error)
    return rows, found, names


class _Column:
    """Hash the arrays of a column.

    Attributes:
        error: the reason why the column has no witness; None if it has one.
    """

    def __init__(self, field: pyarrow.Field) -> None:
        self.name: str = field.name
        self.error: Exception | None = None
        self._nullable: bool = field.nullable
        self._waiting: deque[tuple[pyarrow.Array | pyarrow.ChunkedArray, int]] = deque()
        self._rows_waiting = 0
        self._lock = Lock()
        self._expansion = Expansion()
        try:
            self._type = name_of(field.type)
            self._hasher = ArrayHasher(field.type, self._expansion)
        except TypeError as error:
            self.error = TypeError(f"column {self.name!r} has the type {_shown(field)}: {error}")
        except UnicodeDecodeError as error:
            self.error = ValueError(
                f"column {self.name!r} has a name inside, must be UTF-8: {error}"
            )
        except RecursionError:
            self.error = TypeError(f"column {self.name!r} has a type that is nested too deeply")

    def add(self, column: pyarrow.Array | pyarrow.ChunkedArray, rows: int) -> bool:
        """Queue an array for the next `update`.

        Args:
            rows: the number of rows that the array must have.

        Returns:
            Whether enough is queued for an `update`.
        """
        self._waiting.append((column, rows))
        self._rows_waiting += rows
        if self._rows_waiting < _GROUP_ROWS and len(self._waiting) < _GROUP_ROWS:
            return False
        self._rows_waiting = 0
        return True

    def update(self) -> None:
        """Hash everything that was queued, in order; any thread may call this."""
        with self._lock:
            while self._waiting:
                column, rows = self._waiting.popleft()
                if self.error is None:
                    self._take(column, rows)

    def _take(self, column: pyarrow.Array | pyarrow.ChunkedArray, rows: int) -> None:
        import pyarrow

        try:
            if len(column) != rows:
                raise ValueError(f"it has {len(column)} rows, must have {rows} as its table has")
            for array in column.chunks if isinstance(column, pyarrow.ChunkedArray) else [column]:
                array.validate()  # so that its child arrays can be accessed safely
                self._hasher.require_valid(array)
                self._expansion.restart()
                self._hasher.update(array)
        except MemoryError:
            raise
        except pyarrow.ArrowNotImplementedError as error:
            self.error = TypeError(f"column {self.name!r} has the type {_shown(column)}: {error}")
        except (pyarrow.ArrowException, ValueError, OverflowError) as error:
            self.error = ValueError(f"column {self.name!r} is malformed: {error}")

    def regions(self) -> Regions:
        """Return the regions hashed so far."""
        regions = [stream.witness() for stream in self._hasher.streams()]
        forms = (region.length.to_bytes(8, "little") + region.digest for region in regions)
        return Regions(
            type=self._type,
            nullable=self._nullable,
            length=sum(region.length for region in regions),
            residue=sum(region.residue for region in regions) % MODULUS,
            digest=Witness.generate(b"".join(forms)).digest,
        )


def _shown(typed: pyarrow.Field | pyarrow.Array | pyarrow.ChunkedArray) -> str:
    """Return the type for a message; field names in it may be arbitrary bytes."""
    try:
        return str(typed.type)
    except UnicodeDecodeError:
        return "one with names that are not UTF-8"
