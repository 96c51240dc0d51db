# SPDX-License-Identifier: Apache-2.0
"""Makes witness.json with plain Python and hashlib, nothing of this project's code.

cd tests && python -m vectors.make_vectors > vectors/witness.json
"""

import hashlib
import json
import struct

from support import model

COMMENT = (
    "Byte i of an input is i mod 251 (a prime, so that swapped blocks show). residue: sum of the "
    "bytes mod 96. window_residues: the residue of each window of 12288 bytes, one byte each, in "
    "hex. fixup_byte: the last byte after the fixup (null for the empty input). sha256: of the "
    "input. witness: the byte form of its witness with the given timestamp, in hex. json: the JSON "
    "form of that witness."
)
TIMESTAMP_NS = 1_767_225_600_123_456_789
TIMESTAMP = "2026-01-01T00:00:00.123456789Z"


def input_bytes(length: int) -> bytes:
    return bytes(i % 251 for i in range(length))


def case(length: int) -> dict[str, object]:
    data = input_bytes(length)
    residue = model.residue(data)
    digest = hashlib.sha256(data)
    # Magic, version, algorithm, residue, reserved, length, timestamp, digest; little-endian.
    head = struct.pack("<4sBBBBQQ", b"ATLW", 1, 1, residue, 0, length, TIMESTAMP_NS)
    document = {
        "type": "atlas12288/witness/v1",
        "algorithm": "sha256",
        "length": length,
        "residue": residue,
        "digest": digest.hexdigest(),
        "timestamp": TIMESTAMP,
    }
    return {
        "length": length,
        "residue": residue,
        "window_residues": bytes(model.window_residues(data)).hex(),
        "fixup_byte": model.fixup(data)[-1] if data else None,
        "sha256": digest.hexdigest(),
        "witness": (head + digest.digest()).hex(),
        "json": json.dumps(document),
    }


def text() -> str:
    """The whole file."""
    vectors = {
        "comment": COMMENT,
        "timestamp_ns": TIMESTAMP_NS,
        "timestamp": TIMESTAMP,
        "cases": [case(length) for length in model.BITING_LENGTHS],
    }
    return json.dumps(vectors, indent=2) + "\n"


if __name__ == "__main__":
    print(text(), end="")
