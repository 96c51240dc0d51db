# SPDX-License-Identifier: Apache-2.0
"""Arrow IPC files with one flipped bit each, as a program of its own, which a crash may end.

    python tests/support/arrow_flips.py FIRST COUNT

verifies the tables of the flips FIRST to FIRST + COUNT - 1, and prints a JSON object of how many
ended how. The number of a flip stands on standard error before it is tried.
"""

import json
import random
import sys
from collections import Counter
from typing import Any

import pyarrow as pa
from pyarrow import ipc

from atlas12288.tables import TableWitness

ROWS = 200


def good_table() -> Any:
    """A column of each layout, most with nulls, some inside of others."""
    every = range(ROWS)
    texts = [None if i % 7 == 0 else f"text {i}" * (i % 3) for i in every]
    lists = [None if i % 5 == 0 else texts[i : i + i % 4] for i in every]
    coded = pa.array([f"c{i % 11}" if i % 9 else None for i in every]).dictionary_encode()
    runs = pa.RunEndEncodedArray.from_arrays(
        pa.array([3, 90, 91, ROWS], pa.int32()), pa.array(["a", None, "b", "c"])
    )
    items = pa.map_(pa.string(), pa.struct([("note", pa.null()), ("v", pa.int32())]))
    offsets = pa.array(range(0, ROWS + 1), pa.int32())
    return pa.table(
        {
            "int": pa.array([i if i % 3 else None for i in every]),
            "bool": pa.array([i % 2 == 0 if i % 13 else None for i in every]),
            "decimal": pa.array(list(every), pa.decimal128(20, 2)),
            "fixed": pa.array([bytes((i % 256,)) * 5 for i in every], pa.binary(5)),
            "text": texts,
            "large": pa.array(texts, pa.large_string()),
            "view": pa.array([t and t * 3 for t in texts], pa.string_view()),
            "list": lists,
            "list view": pa.array(lists, pa.list_view(pa.string())),
            "fixed list": pa.array(
                [[i, None] if i % 4 else None for i in every], pa.list_(pa.int16(), 2)
            ),
            "struct": pa.array([{"a": t, "b": i} if i % 6 else None for i, t in enumerate(texts)]),
            "map": pa.array([[(str(i), {"v": i})] * (i % 3) for i in every], items),
            "dictionary": coded,
            "dictionaries": pa.ListArray.from_arrays(offsets, coded),
            "runs": runs,
            "uuid": pa.ExtensionArray.from_storage(
                pa.uuid(), pa.array([bytes((i % 256,)) * 16 for i in every], pa.binary(16))
            ),
        }
    )


def written(table: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with ipc.new_file(sink, table.schema) as file:
        file.write_table(table, max_chunksize=ROWS // 2)
    return bytes(sink.getvalue())


def stored(column: Any) -> Any:
    """The column without its extension, which the witness is not about."""
    extended = isinstance(column.type, pa.BaseExtensionType)
    chunks = [chunk.storage if extended else chunk for chunk in column.chunks]
    return pa.chunked_array(chunks, chunks[0].type)


def outcome(witness: TableWitness, good: Any, data: bytes) -> str:
    """How verifying the table of a file ended."""
    try:
        table = ipc.open_file(pa.py_buffer(data)).read_all()
    except Exception:  # whatever pyarrow says, it says it of its own file
        return "not loaded"
    try:
        report = witness.verify(table, threads=1)
    except (TypeError, ValueError) as error:
        return f"refused: {type(error).__name__}"
    if report.unreadable:
        return "unreadable"
    if not report.holds:
        return "differs"
    same = all(stored(table[name]).equals(stored(good[name])) for name in good.column_names)
    return "holds" if same else "holds, and is another"


def main() -> None:
    first, count = map(int, sys.argv[1:])
    good = good_table()
    witness, data = TableWitness.generate(good), written(good)
    ends: Counter[str] = Counter()
    for number in range(first, first + count):
        print(number, file=sys.stderr, flush=True)
        flipped = bytearray(data)
        bit = random.Random(number).randrange(8 * len(data))
        flipped[bit // 8] ^= 1 << bit % 8
        ends[outcome(witness, good, bytes(flipped))] += 1
    print(json.dumps(ends))


if __name__ == "__main__":
    main()
