# SPDX-License-Identifier: Apache-2.0
"""What Python does for each small file of a folder, beside the native code.

    python benchmarks/python_part.py [FILES]

Makes 50,000 files of 300 B to 40 kB and witnesses them with one thread, again and again in one
process, with a clock around each native function that reads, hashes or writes lines. Prints the
seconds of a processor that they take, and the rest: Python, its calls of the system, the digest of
the manifest and its writing. The difference to a folder with a fifth of the files leaves out what a
run costs however few there are.
"""

import io
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, redirect_stdout
from functools import wraps
from pathlib import Path
from time import process_time
from typing import Final, NamedTuple
from unittest.mock import patch

from folders import make_small

from atlas12288._cli import main as command
from atlas12288.manifest._hashing import siblings
from atlas12288.manifest._sources import folder

_FILES: Final = 50_000
_RUNS: Final = 7
_NATIVE: Final = (
    (folder, "list_folder"),
    (folder, "witness_files"),
    (siblings, "entry_lines"),
)


class Part(NamedTuple):
    """Seconds of a processor, of a run: in native functions, and besides."""

    native: float
    rest: float


def run(root: Path, manifest: Path) -> Part:
    """Witness a folder, whose manifest is not there yet."""
    native = 0.0

    def timed(function: Callable[..., object]) -> Callable[..., object]:
        @wraps(function)
        def call(*arguments: object, **named: object) -> object:
            nonlocal native
            begin = process_time()
            try:
                return function(*arguments, **named)
            finally:
                native += process_time() - begin

        return call

    manifest.unlink(missing_ok=True)
    with ExitStack() as stack, redirect_stdout(io.StringIO()):
        for module, name in _NATIVE:
            stack.enter_context(patch.object(module, name, timed(getattr(module, name))))
        begin = process_time()
        code = command(["witness", str(root), "-o", str(manifest), "--threads", "1"])
        total = process_time() - begin
    if code != 0:
        sys.exit(f"witness {root}: {code}")
    return Part(native, total - native)


def main() -> None:
    most = int(sys.argv[1]) if len(sys.argv) > 1 else _FILES
    counts = (most // 5, most)
    print("| files | native s | rest s | rest, us a file |")
    print("| ---: | ---: | ---: | ---: |")
    best = []
    with tempfile.TemporaryDirectory() as place:
        for count in counts:
            root = Path(place) / f"{count}"
            root.mkdir()
            make_small(root, count)
            manifest = Path(place) / "out.atlas.json"
            runs = [run(root, manifest) for _ in range(_RUNS)]
            part = Part(min(each.native for each in runs), min(each.rest for each in runs))
            best.append(part)
            per_file = part.rest / count * 1e6
            print(f"| {count:,} | {part.native:.3f} | {part.rest:.3f} | {per_file:.2f} |")
    few, many = best
    per_file = (many.rest - few.rest) / (counts[1] - counts[0]) * 1e6
    print(
        f"| the difference | {many.native - few.native:.3f} | {many.rest - few.rest:.3f} "
        f"| {per_file:.2f} |\n\nThe least of {_RUNS} runs."
    )


if __name__ == "__main__":
    main()
