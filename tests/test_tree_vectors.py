# SPDX-License-Identifier: Apache-2.0
"""vectors/tree.json: ours agree, and the file is what its generator makes."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

import atlas12288 as atlas
from vectors import make_tree_vectors, make_vectors

FILE = Path(__file__).parent / "vectors" / "tree.json"
VECTORS: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))


def test_the_file_is_what_its_generator_makes() -> None:
    assert FILE.read_text(encoding="utf-8") == make_tree_vectors.text()


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: str(case["length"]))
def test_ours_agree_with_the_vector(case: dict[str, Any]) -> None:
    data = make_vectors.input_bytes(case["length"])
    tree = atlas.TreeWitness.generate(data)
    assert tree.hexdigest() == case["root"]
    assert hashlib.sha256(tree.leaves or b"").hexdigest() == case["leaves"]
    read = atlas.TreeWitness.from_json(case["json"])
    assert read.to_json() == case["json"]
    assert read.differences(tree) == ()
