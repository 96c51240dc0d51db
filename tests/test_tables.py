# SPDX-License-Identifier: Apache-2.0
"""Witnesses of Arrow tables: chunks, slices and buffers do not count, all else does."""

import hashlib
import json
import pickle
import re
import struct
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import atlas12288 as atlas
from support import strategies
from support.slow import slow_but

pa = pytest.importorskip("pyarrow")
pc = pytest.importorskip("pyarrow.compute")
types = pytest.importorskip("pyarrow.types")

from atlas12288.tables import ColumnWitness, TableWitness, _arrow  # noqa: E402
from atlas12288.tensors import PartDifference, Report  # noqa: E402

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
        assert witness.verify(pa.table({"c": other})) == Report()
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
        assert report.changed[0].what[0] == "type"


def changed(name: str, *what: str) -> PartDifference:
    return PartDifference("column", name, "changed", what, f"differs in {', '.join(what)}")


def unreadable(report: Report[PartDifference]) -> list[tuple[str | None, str]]:
    return [(each.name, each.reason) for each in report.unreadable]


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


# --- What stands for more than it is ---


def is_valid(array: Any) -> bool:
    """Whether an array is what Arrow allows: of nothing but None in a list of fixed size, pyarrow
    makes a dictionary without values whose indices are 0."""
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


@given(strategies.arrow_columns(), st.data())
def test_dictionaries_and_runs_of_any_type_count_by_their_values(
    column: tuple[Any, list[Any]], data: st.DataObject
) -> None:
    kind, values = column
    some = pa.array([*values, None], kind)
    places = st.lists(st.none() | st.integers(0, len(values)), min_size=1, max_size=12)
    indices = data.draw(places)
    plain = pa.array([None if i is None else [*values, None][i] for i in indices], kind)
    assume(is_valid(some) and is_valid(plain))
    coded = [pa.RunEndEncodedArray.from_arrays(range(1, len(indices) + 1), plain)]
    if not types.is_dictionary(kind):
        coded.append(pa.DictionaryArray.from_arrays(pa.array(indices, pa.int16()), some))
    start = data.draw(st.integers(0, len(indices) - 1))
    mask = pa.array([index == start + 1 for index in range(len(indices))])
    offsets = pa.array([0, 1, len(indices)], pa.int32())
    for array in coded:
        assert column_witness(array.slice(start)).digest == column_witness(plain[start:]).digest
        for around in (
            lambda inner: pa.StructArray.from_arrays([inner], ["x"], mask=mask),
            lambda inner: pa.ListArray.from_arrays(offsets, inner)[1:],
            lambda inner: pa.ListViewArray.from_arrays([1, 0], [len(indices) - 1, 1], inner),
            lambda inner: pa.FixedSizeListArray.from_arrays(inner, 1, mask=mask),
        ):
            assert column_witness(around(array)).digest == column_witness(around(plain)).digest


@pytest.mark.parametrize("kind", [pa.string_view(), pa.binary_view(), pa.large_string()])
def test_texts_longer_than_a_piece(kind: Any) -> None:
    texts = ["a", "b" * 800_000, None, "", "c" * 500_000, "d" * 500_000, "twelve bytes"]
    texts = [text and (text if "string" in str(kind) else text.encode()) for text in texts]
    plain = [text.encode() if isinstance(text, str) else text for text in texts]
    expected = column_witness(pa.array(plain, pa.large_binary())).digest
    assert column_witness(pa.array(texts, kind)).digest == expected
    coded = pa.DictionaryArray.from_arrays(range(len(texts)), pa.array(texts, kind))
    assert column_witness(coded).digest == expected
    whole = column_witness(pa.array([text or plain[0][:0] for text in plain], pa.binary())).digest
    without = pa.array([text or texts[3] for text in texts], kind)
    assert column_witness(without).digest == whole


def test_values_wider_than_a_piece() -> None:
    values = [bytes((i,)) * 800_000 for i in range(3)]
    wide = pa.array([values[0], None, values[2]], pa.binary(800_000))
    streams = (struct.pack("<Q", 1), values[0] + values[2])
    assert column_witness(wide).digest.hex() == listed(*streams)


BOUNDED = """
import resource, sys, pyarrow as pa
from atlas12288.tables import TableWitness
n, text = 65536, "x" * 4096
def column(last):
    values = pa.array([text, last])
    indices = pa.array([0] * (n - 5) + [1] * 5, pa.int32())
    if sys.argv[1] == "dictionary":
        return pa.DictionaryArray.from_arrays(indices, values)
    if sys.argv[1] == "runs":
        return pa.RunEndEncodedArray.from_arrays(pa.array([n - 5, n], pa.int32()), values)
    if sys.argv[1] == "list of a dictionary":
        coded = pa.DictionaryArray.from_arrays(indices, values)
        return pa.ListArray.from_arrays(pa.array([0, n], pa.int32()), coded)
    if sys.argv[1] == "list views":
        return pa.ListViewArray.from_arrays([0] * (n - 5) + [1] * 5, [1] * n, values)
    if sys.argv[1] == "dictionary of lists":
        values = pa.array([[text[-100:]] * 41, [last[-100:]] * 41])
        return pa.DictionaryArray.from_arrays(indices, values)
    views = values.cast(pa.string_view())
    own = pa.array([views.buffers()[1].to_pybytes()[:16]] * n, pa.binary(16)).buffers()[1]
    return pa.Array.from_buffers(pa.string_view(), n, [None, own, *views.buffers()[2:]])
good, other = (pa.table({"c": column(last)}) for last in (text, text[1:] + "y"))
TableWitness.generate(pa.table({"c": ["so that all is loaded"]}))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (48 << 20),) * 2)
witness = TableWitness.generate(good, threads=1)
print(witness.columns["c"].length, witness.verify(good, threads=1).holds)
print(witness.verify(other, threads=1).holds)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "length"),
    [
        ("dictionary", 65536 * (8 + 4096)),
        ("runs", 65536 * (8 + 4096)),
        ("list of a dictionary", 8 + 65536 * (8 + 4096)),
        ("list views", 65536 * (8 + 8 + 4096)),
        ("dictionary of lists", 65536 * (8 + 41 * (8 + 100))),
        ("views", 65536 * (8 + 4096)),
    ],
)
def test_memory_does_not_grow_with_what_a_column_stands_for(kind: str, length: int) -> None:
    done = subprocess.run(
        (sys.executable, "-c", BOUNDED, kind), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    whole, other = done.stdout.splitlines()
    assert whole == f"{length} True"
    assert other == ("True" if kind == "views" else "False")  # both views are of the first text


ENDLESS = """
import resource, pyarrow as pa
resource.setrlimit(resource.RLIMIT_AS, (2 << 30,) * 2)
from atlas12288.tables import TableWitness
n = 2**40
nothing = pa.Array.from_buffers(pa.null(), n, [None])
lists = pa.large_list(pa.null())
for array in (
    nothing,
    pa.Array.from_buffers(pa.struct([]), n, [None], 0, 0, []),
    pa.Array.from_buffers(pa.struct([("a", pa.null())]), n, [None], 0, 0, [nothing]),
    pa.Array.from_buffers(pa.list_(pa.int8(), 0), n, [None], 0, 0, [pa.array([], pa.int8())]),
    pa.Array.from_buffers(pa.binary(0), n, [None, pa.py_buffer(b"")], 0),
    pa.Array.from_buffers(lists, 1, [None, pa.array([0, n]).buffers()[1]], 0, 0, [nothing]),
):
    table = pa.table({"c": array})
    print(TableWitness.generate(table).verify(table))
one = pa.array([1])
for array in (
    pa.RunEndEncodedArray.from_arrays(pa.array([n]), one),
    pa.ListViewArray.from_arrays([0] * 65536, [2**21] * 65536, pa.array(bytes(2**21), pa.uint8())),
    pa.DictionaryArray.from_arrays(pa.array([0] * 65536), pa.array(["x" * (17 << 20)])),
):
    try: TableWitness.generate(pa.table({"c": array}))
    except ValueError as error: print(error)
"""


def test_rows_without_an_end_are_taken_at_once_or_refused() -> None:
    done = subprocess.run(
        (sys.executable, "-c", ENDLESS), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:6] == [""] * 6
    for line in lines[6:]:
        assert line.startswith(
            "column 'c' is malformed: its dictionaries, runs and views stand for"
        )
    assert len(lines) == 9


@pytest.mark.parametrize(
    "inner", [pa.null(), pa.list_(pa.null()), pa.struct([("n", pa.null()), ("v", pa.int32())])]
)
def test_nulls_inside_of_maps_and_lists_have_any_length(inner: Any) -> None:
    value = {"v": 1} if types.is_struct(inner) else [None] if types.is_list(inner) else None
    for kind, values in (
        (pa.map_(pa.string(), inner), [[("k", value)] * (3 if i == 0 else 1) for i in range(70)]),
        (pa.list_view(inner), [[value] * (i % 3) for i in range(70)]),
        (pa.list_(inner, 2), [[value, value] for _ in range(70)]),
    ):
        array = pa.array(values, kind)
        whole = column_witness(array.slice(1))
        chunks = [array.slice(start, 7) for start in range(1, 70, 7)]
        assert column_witness(pa.chunked_array(chunks)) == whole
        assert whole == column_witness(pa.array(values[1:], kind))
        if kind != pa.list_(pa.null(), 2):  # of which nothing but the number of rows is there
            assert whole != column_witness(pa.array(values[2:], kind))


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


def test_unions_are_refused() -> None:
    column = pa.UnionArray.from_dense(
        pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])]
    )
    inside = pa.StructArray.from_arrays([column], ["x"])
    for some, kind in ((column, "dense_union<0: int64=0>"), (inside, "struct<x: dense_union")):
        table = pa.table({"c": some, "d": [1]})
        message = f"column 'c' has the type {kind}.* must not be a union"
        with pytest.raises(TypeError, match=message):
            TableWitness.generate(table)
        report = TableWitness.generate(pa.table({"c": [1], "d": [1]})).verify(table)
        ((name, why),) = unreadable(report)
        assert name == "c"
        assert re.match(message, why)
        assert report == Report(report.unreadable)


def test_extensions_count_by_their_storage() -> None:
    storages = {
        "uuid": pa.array([b"a" * 16, None, b"b" * 16], pa.binary(16)),
        "bool8": pa.array([1, None, 0], pa.int8()),
        "json": pa.array(["{}", None, "[1]"]),
    }
    kinds = {"uuid": pa.uuid(), "bool8": pa.bool8(), "json": pa.json_()}
    for name, storage in storages.items():
        column = pa.ExtensionArray.from_storage(kinds[name], storage)
        assert column_witness(column) == column_witness(storage)
        assert column_witness(column.slice(1)) == column_witness(storage.slice(1))
        inside = pa.StructArray.from_arrays([column], ["x"], mask=pa.array([True, False, False]))
        stored = pa.StructArray.from_arrays([storage], ["x"], mask=pa.array([True, False, False]))
        assert column_witness(inside) == column_witness(stored)
        assert column_witness(column) != column_witness(storage.take(pa.array([2, 1, 0])))


def test_a_malformed_array_is_refused() -> None:
    offsets = bytearray(struct.pack("<3i", 0, 1, 3))
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"abc")]
    table = pa.table({"c": pa.Array.from_buffers(pa.string(), 2, buffers), "d": [1, 2]})
    witness = TableWitness.generate(table)
    offsets[8:] = struct.pack("<i", 1 << 30)
    with pytest.raises(ValueError, match="column 'c' is malformed: "):
        TableWitness.generate(table)
    report = witness.verify(table)
    assert [name for name, _ in unreadable(report)] == ["c"]
    assert report.changed == ()


def test_what_is_not_valid_is_refused_with_its_column_and_the_others_compared() -> None:
    def over(kind: Any, *buffers: Any) -> Any:
        return pa.Array.from_buffers(kind, 2, [None, *map(pa.py_buffer, buffers)])

    def listed_view(starts: list[int], sizes: list[int]) -> Any:
        return pa.ListViewArray.from_arrays(starts, sizes, pa.array([1, 2, 3]))

    ends = bytearray(struct.pack("<2i", 1, 2))
    of_runs = pa.Array.from_buffers(pa.int32(), 2, [None, pa.py_buffer(ends)])
    runs = pa.RunEndEncodedArray.from_arrays(of_runs, pa.array(["a", "b"]))
    ends[:4] = struct.pack("<i", 5)
    index = pa.DictionaryArray.from_arrays(pa.array([0, 7]), pa.array(["a"]), safe=False)
    huge = pa.DictionaryArray.from_arrays(
        pa.array([0, 2**64 - 1], pa.uint64()), pa.array(["a"]), safe=False
    )
    turned = over(pa.binary(), struct.pack("<3i", 0, -1, 3), b"abc")
    cases = {
        "offsets that turn back": turned,
        "no UTF-8": over(pa.string(), struct.pack("<3i", 0, 1, 2), b"\xff\xfe"),
        "a view of no buffer": over(pa.string_view(), struct.pack("<i4s2i", 20, b"", 3, 0) * 2),
        "items before the first": listed_view([0, -1], [1, 1]),
        "runs that turn back": runs,
        "an index behind the last": index,
        "an index of 64 bits": huge,
    }
    good = pa.table({"c": ["a", "b"], "d": [1, 2]})
    witness = TableWitness.generate(good)
    for case, array in cases.items():
        inside = pa.StructArray.from_arrays([array], ["x"])
        lists = pa.ListArray.from_arrays([0, 1, len(array)], array)
        for column in (array, inside, lists):
            table = pa.table({"c": column, "d": [3, 4]})
            with pytest.raises(ValueError, match="column 'c' is malformed: "):
                TableWitness.generate(table)
            report = witness.verify(table)
            assert [name for name, _ in unreadable(report)] == ["c"], case
            assert report.changed == (changed("d", "residue", "digest"),)


def test_what_lies_under_a_null_or_is_not_used_may_lead_nowhere() -> None:
    # pyarrow makes an index of an empty dictionary of a null structure.
    kind = pa.struct([("a", pa.dictionary(pa.int8(), pa.string()))])
    rows = [None, {"a": "x"}, {"a": None}]
    assert column_witness(pa.array(rows[:1], kind)).length == 8
    plain = pa.array(rows, pa.struct([("a", pa.string())]))
    assert column_witness(pa.array(rows, kind)).digest == column_witness(plain).digest


def test_names_that_are_not_utf8_are_refused() -> None:
    for schema, message in (
        (pa.schema([("name", pa.int8())]), "the name of a column must be UTF-8"),
        (
            pa.schema([("c", pa.struct([("name", pa.int8())]))]),
            "column 'c' has a name inside, must",
        ),
    ):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as stream:
            stream.write_table(schema.empty_table())
        data = sink.getvalue().to_pybytes().replace(b"name", b"nam\xff")
        with pytest.raises(ValueError, match=message):
            TableWitness.generate(pa.ipc.open_stream(data).read_all())


@pytest.mark.parametrize("flips", slow_but([60], [60, 400]))
def test_one_flipped_bit_in_a_file_is_found_and_ends_nothing(flips: int) -> None:
    program = Path(__file__).parent / "support" / "arrow_flips.py"
    done = subprocess.run(
        (sys.executable, program, "0", str(flips)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"flip {done.stderr[-300:]}"
    ends = json.loads(done.stdout)
    assert sum(ends.values()) == flips
    assert ends.keys() <= {"not loaded", "refused: ValueError", "unreadable", "differs", "holds"}
    assert ends["unreadable"] > flips // 10


def test_what_slices_share_is_validated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []
    require_valid = _arrow.require_valid

    def counted(array: Any, *arguments: Any) -> None:
        looked_at.append(len(array))
        require_valid(array, *arguments)

    monkeypatch.setattr(_arrow, "require_valid", counted)
    lists = pa.array([[str(i)] * 10 for i in range(100)])
    table = pa.table({"l": lists, "d": pa.array([str(i) for i in range(100)]).dictionary_encode()})
    batches = table.to_batches(max_chunksize=1)
    reader = pa.RecordBatchReader.from_batches(table.schema, batches)
    assert TableWitness.generate(reader).verify(table).holds
    assert looked_at.count(1000) == 2  # once by each: the items of all lists
    assert sum(looked_at) <= 4 * 100 + 2 * (1000 + 100)


def test_many_small_batches_start_no_more_threads_than_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = []
    start = threading.Thread.start
    monkeypatch.setattr(
        threading.Thread, "start", lambda thread: (started.append(thread), start(thread))
    )
    table = pa.table({"a": range(3000), "b": [str(i) for i in range(3000)], "c": [None] * 3000})
    reader = pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=1))
    witness = TableWitness.generate(reader, threads=3)
    assert len(started) <= 2
    assert witness.verify(table).holds


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
        changed("a", "digest"),
        changed("c", "type", "length", "residue", "digest"),
    )
    names = [[each.name for each in kind] for kind in (report.missing, report.added)]
    assert (names, report.unreadable) == ([["d"], ["e"]], ())
    assert list(map(str, report.other)) == ["the columns are in another order"]
    assert str(report) == (
        "column 'a': digest differs\n"
        "column 'c': type, length, residue, digest differ\n"
        "column 'd' is missing\n"
        "column 'e' was added\n"
        "the columns are in another order"
    )
    assert not report
    with pytest.raises(
        atlas.MismatchError, match=r"^column 'a': digest differs; and 4 more"
    ) as error:
        report.raise_unless_holds()
    assert "column 'd' is missing" in error.value.report.lines()


def test_rows_and_nullability_are_named() -> None:
    nulls = pa.table({"n": pa.nulls(3)})
    assert TableWitness.generate(nulls).verify(nulls[:2]).lines() == ["rows is 2, must be 3"]
    required = pa.schema([pa.field("n", pa.int8(), False)])
    table = pa.table({"n": pa.array([1], pa.int8())})
    report = TableWitness.generate(table).verify(table.cast(required))
    assert report.changed == (changed("n", "nullable"),)


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
