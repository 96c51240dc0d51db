# SPDX-License-Identifier: Apache-2.0
"""Fuzzes what reads bytes from elsewhere: `make fuzz`, or `python fuzz/run.py TARGET [SECONDS]`.

Each target is a function of `targets` and runs in a process of its own, because libFuzzer ends it.
What it finds new goes to a folder that is thrown away; the seeds stay what they are. A crash file
is named on standard error and stays; run its target with it by `python fuzz/run.py TARGET FILE`.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["atlas12288"]):
    import targets

HERE = Path(__file__).parent
MOST_BYTES = 4096


def fuzz_all(seconds: int) -> None:
    for name in targets.TARGETS:
        print(f"--- {name}", flush=True)
        with tempfile.TemporaryDirectory() as found:
            subprocess.run(
                (
                    *(sys.executable, __file__, name, found, str(HERE / "seeds" / name)),
                    f"-max_total_time={seconds}",
                    f"-max_len={MOST_BYTES}",
                    f"-dict={HERE / 'words.dict'}",
                    "-print_final_stats=1",
                    "-verbosity=0",
                ),
                check=True,
            )


def main() -> None:
    if len(sys.argv) == 2 and sys.argv[1].isdecimal():
        fuzz_all(int(sys.argv[1]))
        return
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, targets.TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
