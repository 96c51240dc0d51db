# SPDX-License-Identifier: Apache-2.0
"""What the programs of tests/c include beside headers: the shared vectors, and the contract's
examples. The build of the source archive for C users writes the same files."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VECTORS = ROOT / "tests" / "vectors"
CONTRACT = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")


def vector_rows() -> str:
    """Return vectors.inc, see tests/c/vectors.c."""
    witnesses, trees = (
        json.loads((VECTORS / f"{name}.json").read_text())["cases"] for name in ("witness", "tree")
    )
    rows = []
    for case, tree in zip(witnesses, trees, strict=True):
        assert case["length"] == tree["length"]
        fixup = -1 if case["fixup_byte"] is None else case["fixup_byte"]
        text = [case["window_residues"], fixup, case["sha256"], case["witness"]]
        text += [tree["root"], tree["leaves"]]
        # A JSON string of hex digits is a C string.
        values = ", ".join(map(json.dumps, [case["length"], case["residue"], *text]))
        rows.append(f"VECTOR({values})\n")
    return "".join(rows)


def contract_section(title: str) -> str:
    """Return the text of a section of the contract."""
    return CONTRACT.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def c_blocks(text: str) -> dict[str, str]:
    """Return the C blocks of a text by the titles above them."""
    return dict(re.findall(r"^### ([^\n]+)\n```c\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def contract_examples() -> dict[str, str]:
    """Return the usage examples of the contract by file name, see tests/c/contract_examples.c."""
    examples = c_blocks(contract_section("Usage Examples"))
    return {f"{title.lower().replace(' ', '_')}.inc": code for title, code in examples.items()}
