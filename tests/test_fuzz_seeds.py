# SPDX-License-Identifier: Apache-2.0
"""The seeds of the fuzzer come out the same whenever they are made."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "fuzz" / "make_seeds.py"


def made(folder: Path) -> dict[str, bytes]:
    subprocess.run([sys.executable, SCRIPT, folder], check=True)
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_every_run_makes_the_same_seeds(tmp_path: Path) -> None:
    first, second = made(tmp_path / "first"), made(tmp_path / "second")
    assert len(first) > 20
    assert first == second
    beside = SCRIPT.parent / "seeds"
    # An archive of NumPy may be packed by another zlib.
    texts = [name for name in first if name.endswith(("_json/0", "_list/0"))]
    assert [(beside / name).read_bytes() for name in texts] == [first[name] for name in texts]
    assert len(texts) > 5
