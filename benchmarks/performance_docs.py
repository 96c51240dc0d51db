# SPDX-License-Identifier: Apache-2.0
"""Measures, and writes the tables and the picture of docs/performance.md.

A table stands between `<!-- NAME -->` and `<!-- end of NAME -->`, NAME as in `TABLES`; the rest of
the document is left as it is. Arguments are the names of the tables to make; without any, all are
made, and the picture. That takes 45 minutes; leave the machine alone meanwhile. The table of
kernels that this CPU lacks stays as it is: each names the CPU that it was measured on.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import atlas12288
from atlas12288._bench import FAMILIES
from atlas12288._bench.report import COLUMNS, LEGEND, heads, sections, summary

ROOT: Final = Path(__file__).parent.parent
DOCUMENT: Final = ROOT / "docs" / "performance.md"
_BENCH: Final = ("-m", "atlas12288", "bench")
_JS: Final = ("--js", "js")  # with the rows of the WebAssembly module
_FOLDERS: Final = ("benchmarks/folders.py",)
_TOOLS: Final = ("--peers", "sha256sum", "openssl", "b3sum")
_AVX512: Final = "avx512"
# Arguments of this Python, started in the project's root.
TABLES: Final = {
    "avx2": (*_BENCH, *_JS, "--kernels", "avx2", "--json"),
    _AVX512: (*_BENCH, *_JS, "--json"),
    "avx2 without sha": (*_BENCH, *_JS, "--kernels", "avx2", "--no-sha-ni", "--json"),
    "start": ("benchmarks/start.py",),
    "growth": ("benchmarks/growth.py",),
    "folders": (*_FOLDERS, "--repeat", "3"),
    "small files": (*_FOLDERS, "--small", "50000", *_TOOLS),
    "large files": (*_FOLDERS, "--large", "8", "--repeat", "3", *_TOOLS),
    "one file": (*_FOLDERS, "--one", "8", "--repeat", "3", "--peers", "openssl", "b3sum"),
}
PICTURE: Final = (*_BENCH, "--plot", "docs/throughput.png")
_TARGET_MISSED: Final = 1  # the exit code of a benchmark that was made and shows a miss
_RULES: Final = {"left": "---", "right": "---:"}


# --- The report of `bench --json` as Markdown ---


def markdown(report: dict[str, Any]) -> str:
    """Return the report of `atlas12288 bench --json` as Markdown."""
    lines = [line for section in sections(report, FAMILIES) for line in section]
    bold = [[re.sub(r"\bmiss\b", "**miss**", cell) for cell in line] for line in lines]
    table = (list(COLUMNS), [_RULES[side] for side in COLUMNS.values()], *bold)
    return "\n".join(
        (
            *(f"- {head}" for head in heads(report)),
            "",
            *(f"| {' | '.join(cells)} |" for cells in table),
            "",
            f"{' '.join(LEGEND)} {summary(report)}.",
        )
    )


# --- The document ---


def run(arguments: tuple[str, ...]) -> str:
    """Return what a command printed; end the program where it could not measure."""
    print("python", *arguments, file=sys.stderr, flush=True)
    done = subprocess.run(
        (sys.executable, *arguments), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode not in (0, _TARGET_MISSED):
        sys.exit(done.returncode)
    return done.stdout


def replace_table(document: str, name: str, table: str) -> str:
    """Return the document with another table of that name."""
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
        if name == _AVX512 and not atlas12288.kernel_set().startswith("x86-64-v4"):
            print(f"left as it is, this CPU has no AVX-512: {name}", file=sys.stderr)
            continue
        printed = run(TABLES[name])
        table = markdown(json.loads(printed)) if "--json" in TABLES[name] else printed
        document = replace_table(document, name, table)
        DOCUMENT.write_text(document)  # what was measured stays if the next one fails
    if chosen == list(TABLES):
        run(PICTURE)


if __name__ == "__main__":
    main()
