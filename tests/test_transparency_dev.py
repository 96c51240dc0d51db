# SPDX-License-Identifier: Apache-2.0
"""vectors/transparency-dev.json: our trees are those of another RFC 9162 implementation.

Its leaves are a few bytes and ours are windows, so that these tests begin at the leaf hashes.
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

import atlas12288 as atlas
from atlas12288 import _native
from atlas12288._proofs import CONSISTENCY_TYPE
from atlas12288._subtree import Subtree
from atlas12288._witness import TREE_ALGORITHM

FILE = Path(__file__).parent / "vectors" / "transparency-dev.json"
VECTORS: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
ENTRIES = [bytes.fromhex(entry) for entry in VECTORS["leaves"]]
LEAVES = [hashlib.sha256(b"\x00" + entry).digest() for entry in ENTRIES]
HASHES = {
    case[key]: base64.b64decode(case[key])
    for name, keys in (("inclusion", ("root", "leafHash")), ("consistency", ("root1", "root2")))
    for case in VECTORS[name]
    for key in keys
}


def name_of(case: dict[str, Any]) -> str:
    return "-".join(str(value) for value in (*list(case.values())[:2], case["desc"]))


def path_of(case: dict[str, Any]) -> tuple[bytes, ...]:
    return tuple(base64.b64decode(step) for step in case["proof"] or ())


def tree_of(size: int) -> Subtree:
    return Subtree(b"".join(LEAVES[:size]), None)


def consistency_proof(case: dict[str, Any]) -> atlas.ConsistencyProof:
    fields = {
        "type": CONSISTENCY_TYPE,
        "algorithm": TREE_ALGORITHM,
        "old_size": case["size1"],
        "new_size": case["size2"],
        "path": [step.hex() for step in path_of(case)],
        "old_root": HASHES[case["root1"]].hex(),
        "new_root": HASHES[case["root2"]].hex(),
    }
    return atlas.ConsistencyProof.from_json(json.dumps(fields))


@pytest.mark.parametrize("case", VECTORS["inclusion"], ids=name_of)
def test_our_tree_has_its_root_leaf_and_inclusion_path(case: dict[str, Any]) -> None:
    tree = tree_of(case["treeSize"])
    proof = atlas.InclusionProof._in_tree(tree, case["treeSize"], case["leafIdx"])
    assert LEAVES[case["leafIdx"]] == HASHES[case["leafHash"]]
    assert proof.root == HASHES[case["root"]]
    assert proof.path == path_of(case)


GOOD = [case for case in VECTORS["consistency"] if not case["wantErr"]]


@pytest.mark.parametrize("case", GOOD, ids=name_of)
def test_our_proof_of_consistency_is_its_proof(case: dict[str, Any]) -> None:
    size = case["size2"]
    proof = atlas.ConsistencyProof._in_tree(tree_of(size), size, case["size1"])
    assert proof == consistency_proof(case)


@pytest.mark.parametrize("case", VECTORS["consistency"], ids=name_of)
def test_a_proof_of_consistency_holds_where_it_does_there(case: dict[str, Any]) -> None:
    proof = consistency_proof(case)
    roots, sizes = (proof.old_root, proof.new_root), (case["size1"], case["size2"])
    holds = proof.verify(*roots, old_size=sizes[0], new_size=sizes[1])
    assert holds is not case["wantErr"]


def test_a_stream_of_its_leaves_has_its_roots() -> None:
    roots = {case["size2"]: HASHES[case["root2"]] for case in GOOD}
    stream = _native.TreeStream()
    for size, leaf in enumerate(LEAVES, 1):
        stream.append(leaf, 0)
        assert stream.result()[0] == roots.get(size, _native.tree_root(b"".join(LEAVES[:size])))
    assert len(roots) == 4
