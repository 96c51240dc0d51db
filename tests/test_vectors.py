# SPDX-License-Identifier: Apache-2.0
"""vectors/witness.json, the language-neutral vectors: ours agree, and the file is what its
generator makes."""

import json
from pathlib import Path
from typing import Any

import pytest

import atlas12288 as atlas
from vectors import make_vectors

FILE = Path(__file__).parent / "vectors" / "witness.json"
VECTORS: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))


def test_the_file_is_what_its_generator_makes() -> None:
    assert FILE.read_text(encoding="utf-8") == make_vectors.text()


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: str(case["length"]))
def test_ours_agree_with_the_vector(kernel_set: str, case: dict[str, Any]) -> None:
    data = bytes(i % 251 for i in range(case["length"]))
    assert atlas.residue(data) == case["residue"]
    assert bytes(atlas.window_residues(data)).hex() == case["window_residues"]

    region = bytearray(data)
    atlas.fixup(region)
    assert region[:-1] == data[:-1]
    assert (region[-1] if region else None) == case["fixup_byte"]

    assert atlas.Witness.generate(data).hexdigest() == case["sha256"]
    witness = atlas.Witness.from_bytes(bytes.fromhex(case["witness"]))
    assert witness.verify(data)
    assert (witness.length, witness.residue) == (case["length"], case["residue"])
    assert witness.timestamp_ns == VECTORS["timestamp_ns"]
    assert bytes(witness).hex() == case["witness"]


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: str(case["length"]))
def test_our_json_is_the_vector_s(case: dict[str, Any]) -> None:
    witness = atlas.Witness.from_bytes(bytes.fromhex(case["witness"]))
    assert witness.to_json() == case["json"]
    assert atlas.Witness.from_json(case["json"]) == witness
