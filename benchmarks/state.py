# SPDX-License-Identifier: Apache-2.0
"""What a state costs in a run of seconds: `python benchmarks/state.py [FILES]`.

The time in the calls that open, fill and write the state is compared with the time of the same run,
because two runs differ by more.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

import atlas12288 as atlas
from atlas12288.manifest import _generate as generate
from atlas12288.manifest._state_file import StateFile

_RUNS: Final = 5
_spent = 0.0


def _timed(real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        global _spent  # noqa: PLW0603
        begin = time.perf_counter()
        try:
            return real(*arguments)
        finally:
            _spent += time.perf_counter() - begin

    return call


def main() -> None:
    """Print the table."""
    global _spent  # noqa: PLW0603
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    generate.open_state = _timed(generate.open_state)  # type: ignore[assignment]
    StateFile.keep = _timed(StateFile.keep)  # type: ignore[method-assign]
    StateFile.finish = _timed(StateFile.finish)  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as place:
        os.environ["XDG_STATE_HOME"] = f"{place}/state"
        data = Path(place, "data")
        for index in range(count):
            folder = data / f"{index // 500}"
            if index % 500 == 0:
                folder.mkdir(parents=True)
            (folder / f"{index}").write_bytes(b"%d" % index * 100)
        for path in data.rglob("*"):
            if path.is_file():
                os.utime(path, (1e9, 1e9))
        whole, state = [], []
        for _ in range(_RUNS):
            _spent = 0.0
            begin = time.perf_counter()
            atlas.Manifest.generate(data, output=f"{place}/out.atlas.json", state=True)
            whole.append(time.perf_counter() - begin)
            state.append(_spent)
        (file,) = Path(place, "state", "atlas12288").iterdir()
        size = file.stat().st_size
    print("| files | run, s | state, ms | share | state, bytes a file |")
    print("|---:|---:|---:|---:|---:|")
    share = median(part / all_ for part, all_ in zip(state, whole, strict=True))
    print(
        f"| {count:,} | {median(whole):.2f} | {median(state) * 1000:.1f} | {share:.2%} |"
        f" {size / count:.0f} |"
    )


if __name__ == "__main__":
    main()
