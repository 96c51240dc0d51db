# SPDX-License-Identifier: Apache-2.0
"""Writes fuzz/seeds: one or more good inputs for each target. Run it when a form changes."""

from pathlib import Path

import targets

from atlas12288 import TreeWitness, Witness, WitnessStream

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

SEEDS = {
    "witness_json": [FLAT.to_json(), EMPTY.to_json(), TREE.to_json()],
    "witness_bytes": [bytes(FLAT), bytes(EMPTY)],
    "stream_bytes": [bytes(STREAM), bytes(WitnessStream())],
    "inclusion_json": [targets.TREE.prove(window).to_json() for window in (0, 2)],
    "consistency_json": [targets.TREE.prove_consistency(old).to_json() for old in (1, 2, 3)],
    "leaves": [LEAVES, LEAVES[:32]],
    "command_line": [f"w{TREE.to_json()}\n", f"w{FLAT.to_json()}\n", f"p{PROOF}\n", b"l" + LEAVES],
}

for name, seeds in SEEDS.items():
    folder = Path(__file__).parent / "seeds" / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (folder / f"{number}").write_bytes(seed if isinstance(seed, bytes) else seed.encode())
