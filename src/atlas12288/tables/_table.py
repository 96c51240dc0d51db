# SPDX-License-Identifier: Apache-2.0
"""The witness of a table, and its JSON form.

    {"type": "atlas12288/table/v1", "algorithm": "sha256", "rows": 2, "columns": [{"name": "id",
     "type": "int64", "nullable": true, "length": 16, "residue": 3, "digest": "<64 hex>"}],
     "timestamp": "2025-01-31T12:00:00.000000000Z"}

on one line, columns in the order of the table; as strict as the JSON of a witness.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Self

from .. import _json
from .._errors import WitnessError
from .._native import MODULUS
from .._parallel import thread_count
from .._reports import DifferenceKind, PartDifference, Report
from .._types import Lazy
from .._value import Value
from .._witness import ALGORITHM, UINT64_MAX, format_timestamp, read_timestamp
from ._column import read

if TYPE_CHECKING:
    import pyarrow
else:
    pyarrow = Lazy("pyarrow")

JSON_TYPE = "atlas12288/table/v1"
_KEYS = ("type", "algorithm", "rows", "columns", "timestamp")
_COLUMN_KEYS = ("name", "type", "nullable", "length", "residue", "digest")


class ColumnWitness(Value):
    """Immutable record of a column; `TableWitness` makes it.

    Attributes:
        type: name of its type, such as "int64" and 'list<string>'.
        nullable: whether its field allows nulls.
        length: length of all its regions together, in bytes.
        residue: residue of all its regions together, in 0..95.
        digest: SHA-256 of the lengths and digests of its regions, 32 bytes.
    """

    __slots__ = _FIELDS = ("type", "nullable", "length", "residue", "digest")
    _MADE_BY = "TableWitness"

    type: str
    nullable: bool
    length: int
    residue: int
    digest: bytes

    def differences(self, other: ColumnWitness) -> tuple[str, ...]:
        """Return which of "type", "nullable", "length", "residue" and "digest" differ, in order."""
        return tuple(name for name in self._FIELDS if getattr(self, name) != getattr(other, name))

    def _facts(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self._FIELDS} | {"digest": self.digest.hex()}

    @classmethod
    def _of_facts(cls, fields: _json.Fields) -> Self:
        fields.check("type", fields.text("type") != "", "the name of a type")
        nullable = fields.value("nullable")
        fields.check("nullable", isinstance(nullable, bool), "true or false")
        length = fields.integer("length", UINT64_MAX)
        residue = fields.integer("residue", MODULUS - 1)
        fields.check("residue", residue == 0 or length > 0, "0 where length is 0")
        return cls._of(
            type=fields.text("type"),
            nullable=nullable,
            length=length,
            residue=residue,
            digest=fields.digest("digest"),
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.type} {self.digest.hex()} residue {self.residue}>"


class TableWitness(Value):
    """Immutable record of a table: its rows, and a `ColumnWitness` for each column, in order.

    Made by `generate(table)` and `from_json`. It depends only on names, types, nullability, order,
    values and nulls: not on chunks, slices, the bytes under a null, or the order of a dictionary.
    Schema metadata is not part of it. Floats are compared by their bits: -0.0 differs from 0.0, and
    two NaNs differ only if their bits differ. Two table witnesses are equal if all their fields are
    equal, the time included.

    Attributes:
        rows: number of rows.
        timestamp_ns: when it was made, in nanoseconds since 1970-01-01T00:00:00Z.
    """

    __slots__ = _FIELDS = ("rows", "_columns", "timestamp_ns")
    _MADE_BY = "TableWitness.generate() or from_json()"

    rows: int
    _columns: tuple[tuple[str, ColumnWitness], ...]
    timestamp_ns: int

    @classmethod
    def generate(
        cls,
        table: pyarrow.Table | pyarrow.RecordBatch | pyarrow.RecordBatchReader,
        /,
        *,
        threads: int | None = None,
    ) -> Self:
        """Return the witness of a table, with the present time.

        Each array is validated in full first. Columns of fixed width and of texts are hashed in
        place if they have no nulls; otherwise copies of less than 1 MiB are made at a time,
        however far a dictionary, runs or views expand.

        Args:
            table: a reader is read to its end, batch by batch.
            threads: number of threads; each hashes one column at a time. None for one per core that
                this process may use.

        Raises:
            TypeError: not a table; a column has a type that cannot be witnessed (unions), and the
                message names column and type; or `threads` is not an int.
            ValueError: two columns have the same name, or an array is not valid or expands to more
                than 2^40 bytes (the message names the column); or `threads` is less than 1.
            ImportError: pyarrow is not installed.
            Exception: any exception that a reader raises when its next batch is read.
        """
        rows, columns, _ = read(table, thread_count(threads), _raise)
        made = [(name, ColumnWitness._of(**regions._asdict())) for name, regions in columns]
        return cls._of_parts(rows, made, time.time_ns())

    @classmethod
    def _of_parts(
        cls, rows: int, columns: Iterable[tuple[str, ColumnWitness]], timestamp_ns: int
    ) -> Self:
        return cls._of(rows=rows, _columns=tuple(columns), timestamp_ns=timestamp_ns)

    @property
    def algorithm(self) -> str:
        """Name of the algorithm of the digests, "sha256"."""
        return ALGORITHM

    @property
    def columns(self) -> dict[str, ColumnWitness]:
        """Witnesses of the columns by name, in the order of the table."""
        return dict(self._columns)

    @property
    def timestamp(self) -> str:
        """Time at which the witness was made: RFC 3339, UTC, nanoseconds."""
        return format_timestamp(self.timestamp_ns)

    def verify(
        self,
        table: pyarrow.Table | pyarrow.RecordBatch | pyarrow.RecordBatchReader,
        /,
        *,
        threads: int | None = None,
    ) -> Report[PartDifference]:
        """Report what differs in a table. A column that cannot be witnessed is unreadable.

        Args, Raises: as `generate`, but no column of another type and no malformed array raises.
        """
        unreadable: list[tuple[str, str]] = []
        rows, columns, names = read(
            table,
            thread_count(threads),
            lambda name, error: unreadable.append((name, str(error))),
        )
        witnessed, there = self.columns, set(names)
        found = {name: ColumnWitness._of(**regions._asdict()) for name, regions in columns}
        changed = []
        for name in witnessed:
            what = witnessed[name].differences(found[name]) if name in found else ()
            if what:
                reason = f"differs in {', '.join(what)}"
                changed.append(PartDifference("column", name, "changed", what, reason))
        other = []
        if rows != self.rows:
            other.append(f"rows is {rows}, must be {self.rows}")
        if [name for name in names if name in witnessed] != [n for n in witnessed if n in there]:
            other.append("the columns are in another order")
        return Report(
            (
                *changed,
                *(_difference(name, "missing") for name in witnessed if name not in there),
                *(_difference(name, "added") for name in names if name not in witnessed),
                *(
                    _difference(name, "unreadable", reason)
                    for name, reason in unreadable
                    if name in witnessed
                ),
                *(_difference(None, "other", line) for line in other),
            )
        )

    def to_json(self) -> str:
        """Return the witness as one line of JSON; equal witnesses give equal text."""
        columns = [{"name": name} | column._facts() for name, column in self._columns]
        values = (JSON_TYPE, self.algorithm, self.rows, columns, self.timestamp)
        return _json.write(dict(zip(_KEYS, values, strict=True)))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the witness from JSON text that `to_json` returned; bytes are UTF-8.

        Raises:
            WitnessError: the text is not such JSON; the message names the column, the key,
                its value and the rule.
            TypeError: neither str nor bytes.
        """
        fields = _json.Fields(text, _KEYS)
        fields.choice("type", JSON_TYPE)
        fields.choice("algorithm", ALGORITHM)
        rows = fields.integer("rows", UINT64_MAX)
        values = fields.value("columns")
        fields.check("columns", isinstance(values, list), "a list")
        columns: dict[str, ColumnWitness] = {}
        for index, value in enumerate(values):
            try:
                facts = _json.Fields.of(value, "it", _COLUMN_KEYS)
                name = facts.value("name")
                facts.check("name", isinstance(name, str), "a text")
                facts.check("name", name not in columns, "another one than those before")
                columns[name] = ColumnWitness._of_facts(facts)
            except WitnessError as error:
                raise WitnessError(f"column {index}: {error}") from None
        return cls._of_parts(rows, columns.items(), read_timestamp(fields))

    def __repr__(self) -> str:
        count = len(self._columns)
        return f"<{type(self).__name__} of {self.rows} rows, {count} columns at {self.timestamp}>"


def _difference(name: str | None, kind: DifferenceKind, reason: str = "") -> PartDifference:
    return PartDifference("column", name, kind, reason=reason)


def _raise(_: str, error: Exception) -> None:
    raise error
