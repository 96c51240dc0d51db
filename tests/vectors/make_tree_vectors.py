# SPDX-License-Identifier: Apache-2.0
"""Makes tree.json with the recursion of RFC 9162, nothing of this project's code.

cd tests && python -m vectors.make_tree_vectors > vectors/tree.json
"""

import hashlib
import json

from support import model, rfc9162

from .make_vectors import TIMESTAMP, input_bytes

COMMENT = (
    "The inputs of witness.json. root: the Merkle Tree Hash over windows of 12288 bytes. leaves: "
    "SHA-256 of all leaf hashes, joined. json: the JSON form of the witness with the timestamp."
)


def case(length: int) -> dict[str, object]:
    data = input_bytes(length)
    step = model.WINDOW_BYTES
    windows = tuple(data[i : i + step] for i in range(0, length, step))
    leaves = b"".join(hashlib.sha256(b"\0" + window).digest() for window in windows)
    root = rfc9162.mth(windows).hex()
    document = {
        "type": "atlas12288/witness/v1",
        "algorithm": "sha256-merkle-12288",
        "length": length,
        "residue": model.residue(data),
        "digest": root,
        "timestamp": TIMESTAMP,
    }
    return {
        "length": length,
        "root": root,
        "leaves": hashlib.sha256(leaves).hexdigest(),
        "json": json.dumps(document),
    }


def text() -> str:
    """The whole file."""
    vectors = {
        "comment": COMMENT,
        "timestamp": TIMESTAMP,
        "cases": [case(length) for length in model.BITING_LENGTHS],
    }
    return json.dumps(vectors, indent=2) + "\n"


if __name__ == "__main__":
    print(text(), end="")
