# SPDX-License-Identifier: Apache-2.0
"""The map of a file's windows: nothing is lost, however large the file is."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from atlas12288 import MODULUS
from atlas12288._cli.drawings.residue_map import MAX_COLUMNS, ResidueMap

residues = st.binary(max_size=5000).map(lambda data: bytes(byte % MODULUS for byte in data))


@given(residues, st.lists(st.integers(1, 2000)))
def test_every_window_is_counted_once_in_its_column(data: bytes, lengths: list[int]) -> None:
    residue_map = ResidueMap("")
    start = 0
    for length in [*lengths, len(data)]:  # in parts of any size
        residue_map.update(data[start : start + length])
        start += length
    assert residue_map.windows == len(data)
    assert len(residue_map.columns) <= MAX_COLUMNS
    step = residue_map.windows_per_column
    for index, column in enumerate(residue_map.columns):
        expected = Counter(data[index * step : (index + 1) * step])
        assert {residue: count for residue, count in enumerate(column) if count} == expected


def test_columns_merge_only_when_they_are_full() -> None:
    residue_map = ResidueMap("")
    residue_map.update(bytes(MAX_COLUMNS))
    assert (len(residue_map.columns), residue_map.windows_per_column) == (MAX_COLUMNS, 1)
    residue_map.update(bytes(1))
    assert (len(residue_map.columns), residue_map.windows_per_column) == (MAX_COLUMNS // 2 + 1, 2)


def test_one_window_among_a_million_is_seen_in_the_sketch() -> None:
    residue_map = ResidueMap("")
    residue_map.update(bytes(500_000) + bytes([95]) + bytes(500_000))
    top = next(line for line in residue_map.sketch(colour=False) if "88-95" in line)
    assert top.split("|")[1].strip() == "·"


def test_no_window_no_sketch() -> None:
    assert list(ResidueMap("").sketch(colour=True)) == []
