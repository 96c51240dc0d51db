# SPDX-License-Identifier: Apache-2.0
"""Datasets that are large in one way: a million tensors, columns that stand for gigabytes, ten
thousand damaged files."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

TENSORS = 1_000_000
ABOVE_HEADER_MIB = 512

READ = """
import resource, sys
from atlas12288.tensors import TensorsWitness
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
witness = TensorsWitness.from_file(sys.argv[1])
after = resource.getrusage(resource.RUSAGE_SELF)
print(len(witness.arrays), (after.ru_maxrss - before) // 1024)
print(f"{after.ru_utime + after.ru_stime:.1f} s", file=sys.stderr)
"""


def test_a_million_tensors_of_a_file_take_little_memory(tmp_path: Path) -> None:
    entries = (
        f'"layers.{i}.weight":{{"dtype":"F32","shape":[2],"data_offsets":[{8 * i},{8 * i + 8}]}}'
        for i in range(TENSORS)
    )
    header = f"{{{','.join(entries)}}}".encode()
    path = tmp_path / "many.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + os.urandom(8 * TENSORS))
    done = subprocess.run(
        (sys.executable, "-c", READ, path), stdout=subprocess.PIPE, check=True, timeout=600
    )
    count, mib = map(int, done.stdout.split())
    assert count == TENSORS
    assert mib - len(header) // 2**20 <= ABOVE_HEADER_MIB


@pytest.mark.parametrize("coded", ["dictionary", "runs"])
def test_columns_that_stand_for_more_than_32_bits_can_count(coded: str) -> None:
    pa = pytest.importorskip("pyarrow")
    from atlas12288.tables import TableWitness

    rows, width = 65536, 33_000

    def table(last: str) -> object:
        values = pa.array(["x" * width, last * width])
        if coded == "runs":
            ends = pa.array([rows - 1, rows], pa.int32())
            return pa.table({"c": pa.RunEndEncodedArray.from_arrays(ends, values)})
        indices = pa.array([0] * (rows - 1) + [1], pa.int32())
        return pa.table({"c": pa.DictionaryArray.from_arrays(indices, values)})

    witness = TableWitness.generate(table("y"))
    assert witness.columns["c"].length == rows * (8 + width)
    assert witness.verify(table("y")).holds
    (change,) = witness.verify(table("z")).changed
    assert change.what == ("residue", "digest")


def test_ten_thousand_flipped_bits_end_nothing() -> None:
    program = Path(__file__).parents[1] / "support" / "arrow_flips.py"
    for first in range(0, 10_000, 1000):
        done = subprocess.run(
            (sys.executable, program, str(first), "1000"),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"flip {done.stderr[-300:]}"
        ends = json.loads(done.stdout)
        known = {"not loaded", "refused: ValueError", "unreadable", "differs", "holds"}
        assert ends.keys() <= known
