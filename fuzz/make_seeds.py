# SPDX-License-Identifier: Apache-2.0
"""Writes fuzz/seeds: one or more good inputs for each target. Run it when a form changes.

Every run writes the same bytes. `make_seeds.py FOLDER` writes to another folder.
"""

import io
import json
import struct
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy
import targets

from atlas12288 import Manifest, TreeWitness, Witness, WitnessStream
from atlas12288._sums import sums_line
from atlas12288._witness_lists import line_of
from atlas12288.manifest import _state_frames as frames
from atlas12288.manifest._statement import Options
from atlas12288.signing import Bundle
from atlas12288.signing._files_statement import FilesStatement, Serialization, SignedFile
from atlas12288.tensors import TensorsWitness

TIME = b"\x00" * 8
FLAT = Witness.from_bytes(
    bytes(Witness.generate(targets.DATA))[:16] + TIME + bytes(Witness.generate(targets.DATA))[24:]
)
EMPTY = Witness.from_bytes(
    bytes(Witness.generate(b""))[:16] + TIME + bytes(Witness.generate(b""))[24:]
)
TREE = TreeWitness.from_json(
    FLAT.to_json()
    .replace('"sha256"', '"sha256-merkle-12288"')
    .replace(FLAT.hexdigest(), targets.TREE.hexdigest())
)
STREAM = WitnessStream()
STREAM.update(targets.DATA)
PROOF = targets.TREE.prove(2).to_json()
LEAVES = targets.TREE.leaves or b""

ARRAYS = {"a": numpy.arange(6, dtype="<f4").reshape(2, 3), "b": numpy.zeros(0, dtype="u1")}
SUMS = b"".join(sums_line(bytes(32), path) + b"\n" for path in (b"a", b"\\\n", b"*c"))
LIST = "".join(
    line_of(*each) + "\n" for each in ((b"a b", FLAT), (b"\xff", TREE), (b"unread", None))
)
TAGGED = f"SHA256 (a b) = {FLAT.hexdigest()}\r\n# no sum\n"


def manifests() -> list[str]:
    with TemporaryDirectory() as folder:
        Path(folder, "a").write_bytes(b"a")
        Path(folder, "sub").mkdir()
        Path(folder, "sub", "b").write_bytes(targets.DATA)
        Path(folder, "link").symlink_to("a")
        made = Manifest.generate(folder)
        others = Manifest.generate(folder, tree=True, flat=False)
    chosen = Options(("sha256",), "follow", ("*.tmp", "!/a"), ("a", "sub"), ("..", "../b"))
    return [
        made.to_json(),
        others.to_json(),
        Manifest.from_entries(chosen, made.entries).to_json(),
    ]


def statements() -> list[str]:
    """Statements of OpenSSF Model Signing, of whole files and of shards."""
    chosen = Serialization("files", "sha256", None, False, ("data.sig",))
    files = (SignedFile(b"a", None, (bytes(32),)), SignedFile(b"b/c", None, (bytes(32),)))
    whole = FilesStatement("data", chosen, files)
    shards = FilesStatement(
        "data",
        chosen._replace(method="shards", shard_size=10),
        (SignedFile(b"a:1:2", 15, (bytes(32), bytes(32))),),
    )
    return [whole.to_json().decode(), shards.to_json(mangled=True).decode()]


def bundles() -> list[str]:
    """Bundles over these, with a key and with a certificate; no signature holds."""
    first, second = (text.encode() for text in statements())
    common = {"signature": b"signature", "sigstore": None}
    keyed = Bundle._of(payload=first, hint="0" * 64, certificates=(), **common)
    return [
        keyed.to_json(),
        Bundle._of(payload=second, hint=None, certificates=(b"DER",), **common).to_json(),
    ]


def npz() -> bytes:
    file = io.BytesIO()
    numpy.savez_compressed(file, **ARRAYS)
    return file.getvalue()


def npy(dtype: str) -> bytes:
    file = io.BytesIO()
    numpy.save(file, numpy.zeros((2, 1), [("a", dtype), ("b", "S0")]))
    return file.getvalue()


def safetensors() -> bytes:
    header = (
        '{"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},'
        '"b":{"dtype":"U8","shape":[0],"data_offsets":[24,24]}}'
    )
    return struct.pack("<Q", len(header)) + header.encode() + ARRAYS["a"].tobytes()


TENSORS = json.dumps(
    json.loads(TensorsWitness.generate(ARRAYS, metadata={"k": "v"}).to_json())
    | {"timestamp": FLAT.to_fields()["timestamp"]}
)

FILE = frames._FILE.pack(1, 3, 2 * targets.BLOCK_BYTES + 1) + b"2" + b"1 2"
KNOWN = FILE + frames._DIGESTS.pack(5, 1, frames._NO_LEAF) + bytes(32)
PART = FILE + frames._CHECKPOINT.pack(1, 5, len(bytes(STREAM)), frames._NO_LEAF) + bytes(STREAM)

SEEDS = {
    "witness_json": [FLAT.to_json(), EMPTY.to_json(), TREE.to_json()],
    "witness_bytes": [bytes(FLAT), bytes(EMPTY)],
    "stream_bytes": [bytes(STREAM), bytes(WitnessStream())],
    "inclusion_json": [targets.TREE.prove(window).to_json() for window in (0, 2)],
    "consistency_json": [targets.TREE.prove_consistency(old).to_json() for old in (1, 2, 3)],
    "leaves": [LEAVES, LEAVES[:32]],
    "manifest_json": manifests(),
    "signature_json": bundles(),
    "signed_statement": [*statements(), manifests()[0]],
    "tensors_json": [TENSORS],
    "witness_list": [LIST, f"null\n{FLAT.to_json()}\n"],
    "sums": [SUMS, TAGGED],
    "safetensors_file": [safetensors()],
    "npz_file": [npz()],
    "npz_container": [
        b"\0" + targets._NPY,
        b"\1" + struct.pack("<BBi", 1, 1, 12) + targets._NPY,
        b"\2" + struct.pack("<BBiBBi", 2, 4, 1 << 30, 129, 3, 5) + npy(">U9"),
    ],
    "arrow_ipc": [b"", struct.pack("<HB", 100, 1), struct.pack("<HBHB", 300, 64, 900, 128)],
    "rules": [
        b"*.log\n!keep.log\n/cache/\0cache/keep.log",
        b"a/**/b*c?\\ \0a/x/y/bbcd ",
        b"[[:alpha:]-\\]a]**\n**/[!a-c]*/\0sub/xa]",
        b"*\\a*\\a*\\a*b\0aaaaaaaaaaaaaaaaaaaa",
    ],
    "state": [
        *(targets._PLACE.pack(choice, 0, 0) for choice in (0, 1, 0x81, 0x82)),
        targets._PLACE.pack(0, 400, 0) + b"\xff" * 9,
        targets._PLACE.pack(0x40, len(frames.MAGIC) * 7 + 3, 0) + KNOWN,
        targets._PLACE.pack(0x40, 7 * 60 + 5, 0) + PART,
    ],
    "named_files": [
        b"".join(targets._NAMED.pack(kind, 7 * kind, 0) for kind in range(3, 256, 11)),
        b"".join(targets._NAMED.pack(kind, 90 + kind, kind % 3 - 1) for kind in range(0, 255, 17)),
    ],
    "command_line": [f"w{TREE.to_json()}\n", f"w{FLAT.to_json()}\n", f"p{PROOF}\n", b"l" + LEAVES],
}

SEEDS_FOLDER = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "seeds"

for name, seeds in SEEDS.items():
    folder = SEEDS_FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (folder / f"{number}").write_bytes(seed if isinstance(seed, bytes) else seed.encode())
