# SPDX-License-Identifier: Apache-2.0
"""Measures, and writes the tables and the picture of docs/performance.md.

A table stands between `<!-- NAME -->` and `<!-- end of NAME -->`, NAME as in `TABLES`; the rest of
the document is left as it is. Arguments are the names of the tables to make; without any, all are
made, and the picture. That takes about twelve minutes; leave the machine alone meanwhile.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
DOCUMENT: Final = ROOT / "docs" / "performance.md"
_BENCH: Final = ("-m", "atlas12288", "bench")
_JS: Final = ("--js", "js")  # with the rows of the WebAssembly module
# Arguments of this Python, started in the project's root.
TABLES: Final = {
    "this machine": (*_BENCH, *_JS, "--markdown"),
    "avx2": (*_BENCH, *_JS, "--kernels", "avx2", "--markdown"),
    "avx2 without sha": (*_BENCH, *_JS, "--kernels", "avx2", "--no-sha-ni", "--markdown"),
    "growth": ("benchmarks/growth.py",),
    "folders": ("benchmarks/folders.py",),
}
PICTURE: Final = (*_BENCH, "--plot", "docs/throughput.png")
_TARGET_MISSED: Final = 1  # the exit code of a benchmark that was made and shows a miss


def run(arguments: tuple[str, ...]) -> str:
    """What a command printed; ends the program where it could not measure."""
    print("python", *arguments, file=sys.stderr, flush=True)
    done = subprocess.run(
        (sys.executable, *arguments), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode not in (0, _TARGET_MISSED):
        sys.exit(done.returncode)
    return done.stdout


def replace_table(document: str, name: str, table: str) -> str:
    """The document with another table of that name."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    changed, count = pattern.subn(lambda _: f"{begin}\n{table.strip()}\n\n{end}", document)
    if count != 1:
        raise ValueError(f"{DOCUMENT.name} has {count} tables named {name!r}, must have 1")
    return changed


def main() -> None:
    document = DOCUMENT.read_text()
    for name in TABLES:  # before minutes of measuring
        replace_table(document, name, "")
    chosen = sys.argv[1:] or list(TABLES)
    for name in chosen:
        document = replace_table(document, name, run(TABLES[name]))
    if chosen == list(TABLES):
        run(PICTURE)
    DOCUMENT.write_text(document)


if __name__ == "__main__":
    main()
