# SPDX-License-Identifier: Apache-2.0
"""Witnesses of Arrow tables, column by column, whatever their chunks, slices and buffers.

    {"type": "atlas12288/table/v1", "algorithm": "sha256", "rows": 2, "columns": [{"name": "id",
     "type": "int64", "nullable": true, "length": 16, "residue": 3, "digest": "<64 hex>"}],
     "timestamp": "2025-01-31T12:00:00.000000000Z"}

on one line, columns in the order of the table; as strict as the JSON of a witness. It needs
pyarrow, `pip install "atlas12288[arrow]"`.

>>> import pyarrow
>>> from atlas12288.tables import TableWitness
>>> table = pyarrow.table({"id": [1, 2, 3], "name": ["a", None, "c"]})
>>> witness = TableWitness.generate(table)
>>> witness.verify(pyarrow.concat_tables([table[:1], table[1:]])).holds
True
>>> print(witness.verify(table.set_column(1, "name", [["a", "b", "c"]])))
column 'name': length, residue, digest differ
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Final, Self

from . import _json
from ._native import MODULUS
from ._parallel import in_order, thread_count
from ._types import Lazy
from ._value import Value
from .errors import WitnessError
from .tensors._report import Change, Report
from .witness import ALGORITHM, UINT64_MAX, Witness, WitnessStream, format_timestamp, read_timestamp

if TYPE_CHECKING:
    import pyarrow
else:
    pyarrow = Lazy("pyarrow")

JSON_TYPE = "atlas12288/table/v1"
_KEYS = ("type", "algorithm", "rows", "columns", "timestamp")
_COLUMN_KEYS = ("name", "type", "nullable", "length", "residue", "digest")
# Rows that are looked at together. The witness does not depend on it.
_ROWS: Final = 65536


class ColumnWitness(Value):
    """Immutable record of a column, made by `TableWitness`.

    Attributes:
        type: name of its type, such as "int64" and 'list<string>'.
        nullable: does its field allow nulls?
        length: of all its regions in bytes.
        residue: of all its regions, in 0..95.
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
        """Which of "type", "nullable", "length", "residue" and "digest" differ, in this order."""
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

    Made by `generate(table)` and `from_json`. It depends on names, types, nullability, order,
    values and nulls alone: not on chunks, slices, what lies under a null, or how a dictionary is
    ordered. Metadata of the schema is not a part of it. Floats are compared by their bits: -0.0 is
    not 0.0, and a NaN is another NaN only where its bits are others. Two are equal when all fields
    are, the time included.

    Attributes:
        rows: how many.
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
        """The witness of a table, with the present time.

        Without a copy of columns of a fixed width without nulls; else with copies of 65,536 rows
        at a time.

        Args:
            table: a reader is read to its end, batch by batch.
            threads: how many hash, each a column at a time; None for one for each core that this
                process may use.

        Raises:
            TypeError: not a table; a column of a type that cannot be witnessed (unions,
                extensions), the message names column and type; or `threads` is not an int.
            ValueError: two columns have one name, an array is malformed, or `threads` is less
                than 1.
            ImportError: pyarrow is not installed.
        """
        rows, columns, _ = _read(table, thread_count(threads), lambda _, error: _raise(error))
        return cls._of_parts(rows, columns, time.time_ns())

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
        """The witness of each column, in the order of the table."""
        return dict(self._columns)

    @property
    def timestamp(self) -> str:
        """When the witness was made: RFC 3339, UTC, nanoseconds."""
        return format_timestamp(self.timestamp_ns)

    def verify(
        self,
        table: pyarrow.Table | pyarrow.RecordBatch | pyarrow.RecordBatchReader,
        /,
        *,
        threads: int | None = None,
    ) -> Report:
        """What differs in a table. A column that cannot be witnessed is unreadable.

        Args, Raises: as `generate`, but for what is said of columns of other types and malformed
            arrays.
        """
        unreadable: list[tuple[str, str]] = []
        rows, columns, names = _read(
            table,
            thread_count(threads),
            lambda name, error: unreadable.append((name, str(error))),
        )
        witnessed, found = self.columns, dict(columns)
        changed = []
        for name in witnessed:
            differences = witnessed[name].differences(found[name]) if name in found else ()
            if differences:
                changed.append(Change(name, differences))
        other = []
        if rows != self.rows:
            other.append(f"rows is {rows}, must be {self.rows}")
        if [name for name in names if name in witnessed] != [n for n in witnessed if n in names]:
            other.append("the columns are in another order")
        return Report(
            kind="column",
            changed=tuple(changed),
            missing=tuple(name for name in witnessed if name not in names),
            added=tuple(name for name in names if name not in witnessed),
            unreadable=tuple(item for item in unreadable if item[0] in witnessed),
            other=tuple(other),
        )

    def to_json(self) -> str:
        """The witness as JSON, on one line without its end; equal witnesses give equal text."""
        columns = [{"name": name} | column._facts() for name, column in self._columns]
        values = (JSON_TYPE, self.algorithm, self.rows, columns, self.timestamp)
        return _json.write(dict(zip(_KEYS, values, strict=True)))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The witness of a JSON text, as `to_json` gives it; bytes are UTF-8.

        Raises:
            WitnessError: not such a text; the message names the column, the key, its value and the
                rule.
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


def _raise(error: Exception) -> None:
    raise error


def _read(
    table: object, threads: int, failed: Callable[[str, Exception], None]
) -> tuple[int, list[tuple[str, ColumnWitness]], list[str]]:
    """Rows, witnesses and names of the columns.

    Args:
        failed: takes the name of each column of which there is no witness, and why.
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
    names = list(table.schema.names)
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"column {name!r} is there {count} times, must be there once")
    columns = [_Column(field) for field in table.schema]
    batches = table if isinstance(table, pyarrow.RecordBatchReader) else [table]
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        work = [(column, batch.column(index)) for index, column in enumerate(columns)]
        with closing(in_order(lambda item: item[0].update(item[1]), work, threads)) as results:
            for _ in results:
                pass
    found = []
    for column in columns:
        if column.error is None:
            found.append((column.name, column.witness()))
        else:
            failed(column.name, column.error)
    return rows, found, names


class _Column:
    """Takes the arrays of a column.

    Attributes:
        error: why there will be no witness; None where there will be one.
    """

    def __init__(self, field: pyarrow.Field) -> None:
        self.name: str = field.name
        self.error: Exception | None = None
        self._nullable: bool = field.nullable
        try:
            self._type = _name_of(field.type)
            self._node = _Node(field.type)
        except TypeError as error:
            self.error = TypeError(f"column {self.name!r} has the type {field.type}: {error}")

    def update(self, column: pyarrow.Array | pyarrow.ChunkedArray) -> None:
        import pyarrow

        chunked = isinstance(column, pyarrow.ChunkedArray)
        try:
            for array in column.chunks if chunked else [column]:
                if self.error is None:
                    array.validate()
                    for start in range(0, len(array), _ROWS):
                        self._node.update(array.slice(start, _ROWS))
        except pyarrow.ArrowInvalid as error:
            self.error = ValueError(f"column {self.name!r} is malformed: {error}")
        except pyarrow.ArrowNotImplementedError as error:
            self.error = TypeError(f"column {self.name!r} has the type {column.type}: {error}")

    def witness(self) -> ColumnWitness:
        regions = [stream.witness() for stream in self._node.streams()]
        forms = (region.length.to_bytes(8, "little") + region.digest for region in regions)
        return ColumnWitness._of(
            type=self._type,
            nullable=self._nullable,
            length=sum(region.length for region in regions),
            residue=sum(region.residue for region in regions) % MODULUS,
            digest=Witness.generate(b"".join(forms)).digest,
        )


class _Node:
    """Takes arrays of one type, as they come, into streams that do not tell where one ended.

    The streams are: the indices of the nulls; of texts and lists the lengths, 8 bytes each; the
    values, without those under a null; then those of the types inside, which get only the rows that
    are not under a null.
    """

    def __init__(self, kind: pyarrow.DataType) -> None:
        kind = _plain_type(kind)
        self._rows = 0
        self._kind = kind
        self._nulls = WitnessStream()
        self._lengths = WitnessStream() if _has_lengths(kind) else None
        self._values = WitnessStream() if _has_values(kind) else None
        self._children = [_Node(field.type) for field in _fields_of(kind)]

    def streams(self) -> Iterator[WitnessStream]:
        yield from filter(None, (self._nulls, self._lengths, self._values))
        for child in self._children:
            yield from child.streams()

    def update(self, array: pyarrow.Array) -> None:
        import pyarrow
        from pyarrow import compute, types

        array = _plain(array)
        kind = array.type
        if types.is_null(kind):  # the type says it
            return
        if array.null_count > 0:
            places = compute.indices_nonzero(array.is_null())
            before = pyarrow.scalar(self._rows, pyarrow.uint64())
            self._nulls.update(_fixed(compute.add(places, before)))
        self._rows += len(array)
        if types.is_struct(kind):
            for part in _without_nulls(array):
                for index, child in enumerate(self._children):
                    child.update(part.field(index))
            return
        if self._lengths is not None and self._children:
            lengths = compute.list_value_length(array).drop_null()
            self._lengths.update(_fixed(lengths.cast(pyarrow.int64())))
        if self._children:
            self._children[0].update(array.flatten())  # it leaves out what is under a null
            return
        if array.null_count > 0:
            array = array.drop_null()
        if self._values is None:
            raise AssertionError(f"{kind} has no values")
        if self._lengths is not None:
            self._lengths.update(_fixed(compute.binary_length(array).cast(pyarrow.int64())))
            self._values.update(_text(array))
        else:
            array = array.cast(pyarrow.uint8()) if types.is_boolean(kind) else array
            self._values.update(_fixed(array))


def _fixed(array: pyarrow.Array) -> memoryview:
    """The values of an array of a fixed width, without nulls."""
    width = array.type.byte_width
    values = memoryview(array.buffers()[1] or b"").cast("B")
    return values[array.offset * width : (array.offset + len(array)) * width]


def _text(array: pyarrow.Array) -> memoryview:
    """The joined values of an array of texts or bytes, without nulls."""
    from pyarrow import types

    if len(array) == 0:
        return memoryview(b"")
    _, offsets, values = array.buffers()
    large = types.is_large_string(array.type) or types.is_large_binary(array.type)
    bytes_of = memoryview(offsets).cast("B")
    places = bytes_of.cast("q") if large else bytes_of.cast("i")
    start, end = places[array.offset], places[array.offset + len(array)]
    return memoryview(values or b"").cast("B")[start:end]


def _without_nulls(array: pyarrow.StructArray) -> Iterator[pyarrow.Array]:
    """The rows that are not null, in order, in one array or several."""
    from pyarrow import compute

    if array.null_count == 0:
        yield array
    elif not _has_views(array.type):
        yield array.drop_null()
    else:  # what pyarrow cannot filter
        runs = compute.run_end_encode(array.is_valid())
        start = 0
        for end, valid in zip(runs.run_ends.to_pylist(), runs.values.to_pylist(), strict=True):
            if valid:
                yield array.slice(start, end - start)
            start = end


def _has_views(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    views = (types.is_string_view, types.is_binary_view, types.is_run_end_encoded)
    return any(is_view(kind) for is_view in views) or any(
        _has_views(field.type) for field in _fields_of(kind)
    )


def _plain_type(kind: pyarrow.DataType) -> pyarrow.DataType:
    """The type whose arrays `_plain` gives."""
    import pyarrow
    from pyarrow import types

    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return _plain_type(kind.value_type)
    if types.is_string_view(kind):
        return pyarrow.large_string()
    if types.is_binary_view(kind):
        return pyarrow.large_binary()
    if types.is_map(kind):
        return pyarrow.list_(pyarrow.struct([kind.key_field, kind.item_field]))
    return kind


def _plain(array: pyarrow.Array) -> pyarrow.Array:
    """The same values without dictionary, runs, views and maps."""
    from pyarrow import compute, types

    if types.is_dictionary(array.type):
        return _plain(_plain(array.dictionary).take(array.indices))
    if types.is_run_end_encoded(array.type):
        return _plain(compute.run_end_decode(array))
    plain = _plain_type(array.type)
    return array if plain is array.type else array.cast(plain)


def _fields_of(kind: pyarrow.DataType) -> list[pyarrow.Field]:
    """The fields inside a type."""
    from pyarrow import types

    if types.is_struct(kind):
        return [kind.field(index) for index in range(kind.num_fields)]
    if types.is_map(kind):
        return [kind.key_field, kind.item_field]
    return [kind.value_field] if _is_list(kind) or types.is_fixed_size_list(kind) else []


def _is_list(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    lists = (types.is_list, types.is_large_list, types.is_list_view, types.is_large_list_view)
    return any(is_one(kind) for is_one in lists)


def _is_text(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    texts = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return any(is_one(kind) for is_one in texts)


def _has_lengths(kind: pyarrow.DataType) -> bool:
    return _is_text(kind) or _is_list(kind)


def _has_values(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    nested = types.is_struct(kind) or _is_list(kind) or types.is_fixed_size_list(kind)
    return not nested and not types.is_null(kind)


def _name_of(kind: pyarrow.DataType) -> str:
    """The name of a type: another one for each type, with names and nullability of fields.

    Names of the fields inside lists and maps are left out, as they are when types are compared.

    Raises:
        TypeError: unions and extensions, which cannot be witnessed; also inside of others.
    """
    import pyarrow
    from pyarrow import types

    if types.is_struct(kind):
        fields = (f"{json.dumps(f.name)}: {_field_name(f)}" for f in _fields_of(kind))
        return f"struct<{', '.join(fields)}>"
    if types.is_map(kind):
        order = ", sorted" if kind.keys_sorted else ""
        return f"map<{_name_of(kind.key_type)}, {_field_name(kind.item_field)}{order}>"
    if types.is_fixed_size_list(kind):
        return f"fixed_size_list<{_field_name(kind.value_field)}>[{kind.list_size}]"
    if _is_list(kind):
        return f"{str(kind).partition('<')[0]}<{_field_name(kind.value_field)}>"
    if types.is_dictionary(kind):
        order = ", ordered" if kind.ordered else ""
        return f"dictionary<{_name_of(kind.index_type)}, {_name_of(kind.value_type)}{order}>"
    if types.is_run_end_encoded(kind):
        return f"run_end_encoded<{_name_of(kind.run_end_type)}, {_name_of(kind.value_type)}>"
    if types.is_timestamp(kind):
        return f"timestamp[{kind.unit}{'' if kind.tz is None else f', {json.dumps(kind.tz)}'}]"
    if types.is_floating(kind):
        return f"float{kind.bit_width}"
    if types.is_fixed_size_binary(kind):
        return f"fixed_size_binary[{kind.byte_width}]"
    if types.is_union(kind) or isinstance(kind, pyarrow.BaseExtensionType):
        raise TypeError(f"{kind} must be neither a union nor an extension; cast it to its storage")
    return str(kind)


def _field_name(field: pyarrow.Field) -> str:
    return _name_of(field.type) + ("" if field.nullable else " not null")
