# SPDX-License-Identifier: Apache-2.0
"""The model's numbers, read from the C header, which is their only source."""

import re
from pathlib import Path

HEADER = Path(__file__).resolve().parent.parent / "include" / "atlas" / "conservation.h"


def _define(name: str) -> int:
    found = re.search(rf"^#define {name} (\d+)\b", HEADER.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise LookupError(f"{HEADER.name}: no line '#define {name} NUMBER'")
    return int(found.group(1))


MODULUS = _define("ATLAS_MODULUS")
WINDOW_BYTES = _define("ATLAS_WINDOW_BYTES")
