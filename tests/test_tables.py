# SPDX-License-Identifier: Apache-2.0
"""Witnesses of Arrow tables: chunks, slices and buffers do not count, all else does."""

import hashlib
import json
import pickle
import re
import struct
import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import atlas12288 as atlas
import strategies

pa = pytest.importorskip("pyarrow")
pc = pytest.importorskip("pyarrow.compute")
types = pytest.importorskip("pyarrow.types")

from atlas12288.tables import ColumnWitness, TableWitness, _arrow  # noqa: E402
from atlas12288.tensors import Change, Report  # noqa: E402

TIME = "2025-01-31T12:00:00.000000000Z"


def column_witness(column: Any, **options: Any) -> ColumnWitness:
    return TableWitness.generate(pa.table({"c": column}), **options).columns["c"]


def regions(kind: Any, values: list[Any]) -> list[bytes]:
    """What is hashed of a column, from Python's values: docs/datasets.md in plain Python."""
    if types.is_dictionary(kind):
        return regions(kind.value_type, values)
    if types.is_null(kind):
        return [b""]
    nulls = b"".join(struct.pack("<Q", i) for i, value in enumerate(values) if value is None)
    values = [value for value in values if value is not None]
    if types.is_struct(kind):
        parts = (regions(f.type, [value[f.name] for value in values]) for f in kind)
        return [nulls, *(part for some in parts for part in some)]
    lengths = b"".join(struct.pack("<q", len(v)) for v in values if hasattr(v, "__len__"))
    if types.is_map(kind):
        pairs = [pair for value in values for pair in value]
        keys, items = [key for key, _ in pairs], [item for _, item in pairs]
        parts = [b"", *regions(kind.key_type, keys), *regions(kind.item_type, items)]
        return [nulls, lengths, *parts]
    if types.is_fixed_size_list(kind):
        return [nulls, *regions(kind.value_type, [item for value in values for item in value])]
    if hasattr(kind, "value_type"):
        items = [item for value in values for item in value]
        return [nulls, lengths, *regions(kind.value_type, items)]
    if types.is_fixed_size_binary(kind):
        return [nulls, b"".join(values)]
    codes = {"bool": "?", "int8": "b", "uint64": "Q", "double": "d", "int64": "q"}
    if str(kind) in codes:
        return [nulls, b"".join(struct.pack(f"<{codes[str(kind)]}", value) for value in values)]
    texts = [value.encode() if isinstance(value, str) else value for value in values]
    lengths = b"".join(struct.pack("<q", len(text)) for text in texts)
    return [nulls, lengths, b"".join(texts)]


# --- The law ---


@given(strategies.arrow_columns())
def test_the_digest_is_that_of_the_regions(column: tuple[Any, list[Any]]) -> None:
    kind, values = column
    witness = column_witness(pa.array(values, kind))
    parts = regions(kind, values)
    forms = (struct.pack("<Q", len(part)) + hashlib.sha256(part).digest() for part in parts)
    assert witness.digest == hashlib.sha256(b"".join(forms)).digest()
    assert witness.length == sum(map(len, parts))
    assert witness.residue == sum(map(sum, parts)) % 96


@given(strategies.arrow_columns(), st.lists(st.integers(0, 12), max_size=4), st.data())
def test_chunks_slices_and_buffers_do_not_count(
    column: tuple[Any, list[Any]], cuts: list[int], data: st.DataObject
) -> None:
    kind, values = column
    count = len(values)
    witness = TableWitness.generate(pa.table({"c": pa.array(values, kind)}))
    around = data.draw(st.lists(strategies.arrow_values(kind), min_size=2, max_size=4))
    longer = pa.array([*around, *values, *around], kind)
    sliced = longer.slice(len(around), count)
    # With a validity buffer, though there may be no null.
    with_validity = pa.array([*values, None], kind).slice(0, count)
    ends = sorted({0, count, *(cut for cut in cuts if cut <= count)})
    chunks = [sliced.slice(start, end - start) for start, end in pairwise(ends)]
    chunked = pa.chunked_array([*chunks, pa.array([], kind)], kind)
    for other in (sliced, with_validity, chunked):
        assert witness.verify(pa.table({"c": other})) == Report("column")
    batches = pa.table({"c": chunked}).to_batches()
    reader = pa.RecordBatchReader.from_batches(pa.schema([("c", kind)]), batches)
    assert witness.verify(reader, threads=2).holds
    assert witness.verify(pa.record_batch({"c": sliced})).holds


@given(strategies.arrow_columns(), st.data())
def test_any_other_values_give_another_witness(
    column: tuple[Any, list[Any]], data: st.DataObject
) -> None:
    kind, values = column
    other = data.draw(st.lists(strategies.arrow_values(kind), max_size=12))
    if values and data.draw(st.booleans()):  # one value alone
        other = list(values)
        other[data.draw(st.integers(0, len(values) - 1))] = data.draw(strategies.arrow_values(kind))
    first, second = pa.array(values, kind), pa.array(other, kind)
    holds = TableWitness.generate(pa.table({"c": first})).verify(pa.table({"c": second})).holds
    # Texts, in which 0.0 is not -0.0.
    assert holds == (repr(first.to_pylist()) == repr(second.to_pylist()))


@given(strategies.arrow_columns(), strategies.arrow_types())
def test_any_other_type_gives_another_witness(column: tuple[Any, list[Any]], kind: Any) -> None:
    first = TableWitness.generate(pa.table({"c": pa.array([], column[0])}))
    report = first.verify(pa.table({"c": pa.array([], kind)}))
    assert report.holds == (column[0] == kind)
    if not report.holds:
        assert report.changed[0].differences[0] == "type"


def test_batches_longer_than_those_that_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table(
        {
            "n": pa.array([None if i % 7 == 3 else i for i in range(1000)]),
            "l": pa.array(
                [None if i % 5 == 2 else [str(j) for j in range(i % 4)] for i in range(1000)]
            ),
            "s": pa.array(
                [
                    None if i % 3 == 1 else {"a": None if i % 2 else "x" * (i % 9)}
                    for i in range(1000)
                ],
                pa.struct([("a", pa.string_view())]),
            ),
        }
    )
    witness = TableWitness.generate(table)
    for rows in (1, 7, 64, 999):
        monkeypatch.setattr(_arrow, "ROWS", rows)
        assert witness.verify(table).holds


# --- What lies under a null ---


def test_values_under_a_null_do_not_count() -> None:
    mask = pa.array([False, True, False])
    validity = pa.array([True, False, True]).buffers()[1]
    strings = pa.array(["a", "bc", "d"])
    pairs = [
        (
            pa.Array.from_buffers(
                pa.int32(), 3, [validity, pa.array([1, 2, 3], pa.int32()).buffers()[1]]
            ),
            pa.array([1, None, 3], pa.int32()),
        ),
        (
            pa.Array.from_buffers(pa.string(), 3, [validity, *strings.buffers()[1:]]),
            pa.array(["a", None, "d"]),
        ),
        (
            pa.ListArray.from_arrays([0, 1, 3, 4], pa.array([1, 2, 3, 4]), mask=mask),
            pa.array([[1], None, [4]]),
        ),
        (
            pa.FixedSizeListArray.from_arrays(pa.array([1, 2, 3, 4, 5, 6]), 2, mask=mask),
            pa.array([[1, 2], None, [5, 6]], pa.list_(pa.int64(), 2)),
        ),
        (
            pa.StructArray.from_arrays([pa.array([1, 2, 3]), strings], ["x", "y"], mask=mask),
            pa.array([{"x": 1, "y": "a"}, None, {"x": 3, "y": "d"}]),
        ),
    ]
    for garbage, clean in pairs:
        assert column_witness(garbage) == column_witness(clean)
        assert column_witness(garbage.slice(1)) == column_witness(clean.slice(1))


def test_views_of_structs_under_a_null_do_not_count() -> None:
    inner = pa.array(["a", "longer than the twelve bytes of a view", "c", None], pa.string_view())
    lists = pa.array([["a"], ["b", "c"], [], None], pa.list_(pa.string_view()))
    mask = pa.array([False, True, False, False])
    garbage = pa.StructArray.from_arrays([inner, lists], ["x", "y"], mask=mask)
    rows = [{"x": "a", "y": ["a"]}, None, {"x": "c", "y": []}, {"x": None, "y": None}]
    assert column_witness(garbage) == column_witness(pa.array(rows, garbage.type))


def test_a_dictionary_counts_by_its_values() -> None:
    kind = pa.dictionary(pa.int8(), pa.string())
    clean = pa.array(["b", None, "a", "b"], kind)
    for indices, values in (
        ([0, None, 1, 0], ["b", "a"]),
        ([1, 2, 0, 1], ["a", "b", None]),
        ([3, None, 1, 0], ["b", "a", "not used", "b"]),
    ):
        other = pa.DictionaryArray.from_arrays(pa.array(indices, pa.int8()), pa.array(values))
        assert column_witness(other) == column_witness(clean)
    views = pa.DictionaryArray.from_arrays(
        pa.array([0, None, 1, 0], pa.int8()), pa.array(["b", "a"], pa.string_view())
    )
    assert column_witness(views).digest == column_witness(clean).digest
    assert column_witness(views).type == "dictionary<int8, string_view>"


def test_run_ends_count_by_their_values() -> None:
    values = ["a", "a", None, None, "b"]
    runs = pc.run_end_encode(pa.array(values))
    split = pa.RunEndEncodedArray.from_arrays(
        pa.array([1, 2, 4, 5], pa.int32()), pa.array(["a", "a", None, "b"])
    )
    assert column_witness(runs) == column_witness(split)
    assert column_witness(runs).digest == column_witness(pa.array(values)).digest
    mask = pa.array([False, True, False, False, True])
    inside = pa.StructArray.from_arrays([runs], ["r"], mask=mask)
    plain = pa.StructArray.from_arrays([pa.array(values)], ["r"], mask=mask)
    assert column_witness(inside).digest == column_witness(plain).digest


def test_floats_count_by_their_bits() -> None:
    bits = (0x7FF8000000000000, 0x7FF8000000000001, 0xFFF8000000000000, 0x7FF0000000000001, 0)
    columns = [pa.array([b], pa.uint64()).view(pa.float64()) for b in (*bits, 1 << 63)]
    assert len({column_witness(column).digest for column in columns}) == len(columns)


# --- Schema ---


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (pa.float16(), "float16"),
        (pa.float32(), "float32"),
        (pa.float64(), "float64"),
        (pa.date32(), "date32[day]"),
        (pa.time64("ns"), "time64[ns]"),
        (pa.timestamp("us"), "timestamp[us]"),
        (pa.timestamp("us", 'a"]'), 'timestamp[us, "a\\"]"]'),
        (pa.duration("s"), "duration[s]"),
        (pa.month_day_nano_interval(), "month_day_nano_interval"),
        (pa.decimal128(10, -2), "decimal128(10, -2)"),
        (pa.binary(4), "fixed_size_binary[4]"),
        (pa.large_binary(), "large_binary"),
        (pa.string_view(), "string_view"),
        (pa.dictionary(pa.uint8(), pa.int64(), True), "dictionary<uint8, int64, ordered>"),
        (pa.run_end_encoded(pa.int16(), pa.int8()), "run_end_encoded<int16, int8>"),
        (pa.list_(pa.field("element", pa.int8(), False)), "list<int8 not null>"),
        (pa.large_list(pa.null()), "large_list<null>"),
        (pa.list_view(pa.int8()), "list_view<int8>"),
        (pa.large_list_view(pa.int8()), "large_list_view<int8>"),
        (pa.list_(pa.int8(), 3), "fixed_size_list<int8>[3]"),
        (pa.map_(pa.string(), pa.int8(), True), "map<string, int8, sorted>"),
        (
            pa.struct([pa.field('a": int8, "b', pa.int8()), pa.field("é", pa.bool_(), False)]),
            'struct<"a\\": int8, \\"b": int8, "\\u00e9": bool not null>',
        ),
    ],
)
def test_names_of_types(kind: Any, name: str) -> None:
    table = pa.schema([("c", kind)]).empty_table()
    assert TableWitness.generate(table).columns["c"].type == name


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"a" * 16], pa.binary(16))),
            r"column 'c' has the type extension<arrow\.uuid>: .* must be neither a union nor",
        ),
        (
            pa.UnionArray.from_dense(
                pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])]
            ),
            "column 'c' has the type dense_union<0: int64=0>: .* must be neither a union",
        ),
    ],
    ids=["extension", "union"],
)
def test_types_that_are_refused(column: Any, message: str) -> None:
    inside = pa.StructArray.from_arrays([column], ["x"])
    for some in (column, inside):
        text = message if some is column else "column 'c' has the type struct<.*must be neither"
        table = pa.table({"c": some, "d": [1]})
        with pytest.raises(TypeError, match=text):
            TableWitness.generate(table)
        report = TableWitness.generate(pa.table({"c": [1], "d": [1]})).verify(table)
        ((name, why),) = report.unreadable
        assert name == "c"
        assert re.match(text, why)
        assert report == Report("column", unreadable=report.unreadable)


def test_a_malformed_array_is_refused() -> None:
    offsets = bytearray(struct.pack("<3i", 0, 1, 3))
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"abc")]
    table = pa.table({"c": pa.Array.from_buffers(pa.string(), 2, buffers), "d": [1, 2]})
    witness = TableWitness.generate(table)
    offsets[8:] = struct.pack("<i", 1 << 30)
    with pytest.raises(ValueError, match="column 'c' is malformed: "):
        TableWitness.generate(table)
    report = witness.verify(table)
    assert [name for name, _ in report.unreadable] == ["c"]
    assert report.changed == ()


def test_metadata_and_names_inside_lists_do_not_count() -> None:
    table = pa.table({"c": pa.array([[1]], pa.list_(pa.field("item", pa.int64())))})
    other = pa.table({"c": pa.array([[1]], pa.list_(pa.field("element", pa.int64())))})
    field = other.schema.field(0).with_metadata({"a": "b"})
    other = other.cast(pa.schema([field], metadata={"pandas": "{}"}))
    assert TableWitness.generate(table).verify(other).holds


# --- The report ---


def test_the_report_names_each_column_and_what_differs() -> None:
    table = pa.table({"a": [1, 2], "b": ["x", None], "c": [1.5, 2.5], "d": [True, None]})
    witness = TableWitness.generate(table, threads=3)
    assert witness.rows == 2
    assert list(witness.columns) == ["a", "b", "c", "d"]
    report = witness.verify(
        pa.table(
            {
                "e": [0, 0],
                "c": pa.array([1.5, 2.5], pa.float32()),
                "a": [2, 1],
                "b": ["x", None],
            }
        )
    )
    assert report.changed == (
        Change("a", ("digest",)),
        Change("c", ("type", "length", "residue", "digest")),
    )
    assert (report.missing, report.added, report.unreadable) == (("d",), ("e",), ())
    assert report.other == ("the columns are in another order",)
    assert str(report) == (
        "column 'a': digest differs\n"
        "column 'c': type, length, residue, digest differ\n"
        "column 'd' is missing\n"
        "column 'e' was added\n"
        "the columns are in another order"
    )
    assert not report
    with pytest.raises(atlas.WitnessError, match="column 'd' is missing"):
        report.raise_unless_holds()


def test_rows_and_nullability_are_named() -> None:
    nulls = pa.table({"n": pa.nulls(3)})
    assert TableWitness.generate(nulls).verify(nulls[:2]).lines() == ["rows is 2, must be 3"]
    required = pa.schema([pa.field("n", pa.int8(), False)])
    table = pa.table({"n": pa.array([1], pa.int8())})
    report = TableWitness.generate(table).verify(table.cast(required))
    assert report.changed == (Change("n", ("nullable",)),)


def test_wrong_arguments_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError, match="table is of type dict, must be a pyarrow Table, Record"):
        TableWitness.generate({"a": [1]})
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([1])], ["a", "a"])
    with pytest.raises(ValueError, match="column 'a' is there 2 times, must be there once"):
        TableWitness.generate(twice)
    with pytest.raises(ValueError, match="threads is 0"):
        TableWitness.generate(pa.table({}), threads=0)
    with pytest.raises(TypeError, match=r"made by TableWitness\.generate"):
        TableWitness()
    monkeypatch.setattr(sys, "byteorder", "big")
    with pytest.raises(NotImplementedError, match="on little-endian machines only"):
        TableWitness.generate(pa.table({}))


def test_without_pyarrow_the_error_says_how_to_install_it() -> None:
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from atlas12288.tables import TableWitness\n"
        "try: TableWitness.generate(None)\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, check=True)
    assert done.stdout == b"tables need pyarrow: pip install 'atlas12288[arrow]'\n"


# --- JSON ---


def test_known_json() -> None:
    table = pa.table({"id": pa.array([1, 2], pa.int16()), "t": pa.array(["é", None])})
    text = re.sub(
        r'"timestamp": ".*?"', f'"timestamp": "{TIME}"', TableWitness.generate(table).to_json()
    )
    of_id = listed(b"", b"\x01\x00\x02\x00")
    of_t = listed(b"\x01" + bytes(7), b"\x02" + bytes(7), "é".encode())
    assert text == (
        '{"type": "atlas12288/table/v1", "algorithm": "sha256", "rows": 2, "columns": ['
        '{"name": "id", "type": "int16", "nullable": true, "length": 4, "residue": 3, '
        f'"digest": "{of_id}"}}, '
        '{"name": "t", "type": "string", "nullable": true, "length": 18, "residue": 79, '
        f'"digest": "{of_t}"}}], "timestamp": "{TIME}"}}'
    )


def listed(*parts: bytes) -> str:
    forms = (struct.pack("<Q", len(part)) + hashlib.sha256(part).digest() for part in parts)
    return hashlib.sha256(b"".join(forms)).hexdigest()


@given(strategies.arrow_columns(), st.text(max_size=4))
def test_json_gives_the_witness_back(column: tuple[Any, list[Any]], name: str) -> None:
    witness = TableWitness.generate(pa.table({name: pa.array(column[1], column[0])}))
    back = TableWitness.from_json(witness.to_json())
    assert back == witness == pickle.loads(pickle.dumps(witness))
    assert back.to_json() == witness.to_json()
    assert hash(back) == hash(witness)


def test_json_in_another_form_is_refused() -> None:
    whole = json.loads(TableWitness.generate(pa.table({"a": [1], "b": ["x"]})).to_json())
    column = whole["columns"][0]
    for change, message in (
        ({"type": "atlas12288/witness/v1"}, "type is 'atlas12288/witness/v1', must be"),
        ({"algorithm": "sha256-merkle-12288"}, "algorithm is 'sha256-merkle-12288', must be"),
        ({"rows": -1}, r"rows is -1, must be an integer in 0\.\."),
        ({"rows": True}, "rows is True, must be an integer"),
        ({"columns": 1}, "columns is 1, must be a list"),
        ({"columns": [1]}, "column 0: it is 1, must be a JSON object"),
        ({"columns": [column, column]}, "column 1: name is 'a', must be another one than those"),
        ({"columns": [column | {"name": 1}]}, "column 0: name is 1, must be a text"),
        ({"columns": [column | {"type": ""}]}, "column 0: type is '', must be the name of a type"),
        ({"columns": [column | {"nullable": 1}]}, "column 0: nullable is 1, must be true or false"),
        ({"columns": [column | {"length": -1}]}, "column 0: length is -1, must be an integer"),
        ({"columns": [column | {"residue": 96}]}, "column 0: residue is 96, must be an integer"),
        ({"columns": [column | {"length": 0, "residue": 5}]}, "residue is 5, must be 0 where"),
        ({"columns": [column | {"digest": ""}]}, "column 0: digest is '', must be 64 lowercase"),
        ({"columns": [column | {"x": 1}]}, "column 0: key 'x' is unknown"),
        ({"timestamp": ""}, "timestamp is '', must be like"),
        ({"x": 1}, "key 'x' is unknown"),
    ):
        with pytest.raises(atlas.WitnessError, match=message):
            TableWitness.from_json(json.dumps(whole | change))
    with pytest.raises(TypeError, match="text is of type int"):
        TableWitness.from_json(1)
