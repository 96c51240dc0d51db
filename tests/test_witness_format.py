# SPDX-License-Identifier: Apache-2.0
"""docs/witness-format.md: its tables are what the code does."""

import json
import re
from pathlib import Path

import atlas12288 as atlas

TEXT = (Path(__file__).parent.parent / "docs" / "witness-format.md").read_text(encoding="utf-8")


def keys_of_table(type_name: str) -> list[str]:
    """The keys of the table that has this type, in its order."""
    table = next(part for part in TEXT.split("\n\n") if f'`"{type_name}"`' in part)
    first_cells = re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
    return re.findall(r"`(\w+)`", " ".join(first_cells))


def test_the_tables_have_the_keys_in_their_order() -> None:
    witness = atlas.TreeWitness.generate(bytes(5 * atlas.WINDOW_BYTES))
    for value in (
        atlas.Witness.generate(b""),
        witness,
        witness.prove(3),
        witness.prove_consistency(3),
    ):
        text = value.to_json()
        type_name = re.findall(r'"type": "(.*?)"', text)[0]
        assert keys_of_table(type_name) == re.findall(r'"(\w+)": ', text)


def fields_of_table(heading: str) -> list[tuple[int, int]]:
    """Offset and size of each row of the table below this heading."""
    section = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| (\d+) \| .*? \|$", section, re.MULTILINE)
    return [(int(offset), int(size)) for offset, size in rows]


def test_the_byte_form_has_the_fields_of_the_table() -> None:
    form = bytes(atlas.Witness.generate(b"\x05"))
    fields = fields_of_table("A witness as bytes")
    ends = [offset + size for offset, size in fields]
    assert [offset for offset, _ in fields] == [0, *ends[:-1]]
    assert ends[-1] == len(form) == atlas._native.WITNESS_BYTES
    assert form[:16] == b"ATLW\x01\x01\x05\x00" + (1).to_bytes(8, "little")


def test_the_state_of_a_stream_has_the_fields_of_the_table() -> None:
    stream = atlas.WitnessStream()
    stream.update(b"\x05" * 65)
    form = bytes(stream)
    fields = fields_of_table("A stream as bytes")
    ends = [offset + size for offset, size in fields]
    assert [offset for offset, _ in fields] == [0, *ends[:-1]]
    assert ends[-1] == len(form) == atlas._native.WITNESS_STREAM_BYTES
    assert form[:16] == b"ATLS\x01\x01\x25\x00" + (65).to_bytes(8, "little")
    offset, size = fields[-1]
    assert form[offset:] == b"\x05" + bytes(size - 1)


def test_the_fields_are_those_of_the_json_text_in_its_order() -> None:
    tree = atlas.TreeWitness.generate(bytes(30_000))
    made = (atlas.Witness.generate(b"x"), tree, tree.prove(1), tree.prove_consistency(2))
    for each in made:
        read = json.loads(each.to_json())
        assert list(each.to_fields().items()) == list(read.items())
        assert type(each).from_json(json.dumps(each.to_fields())) == each
