# SPDX-License-Identifier: Apache-2.0
"""Assembles PTX modules with NVIDIA's ptxas for each generation of GPUs: python ptxas.py FOLDER..

Prints the registers and bytes of shared memory of each kernel. Ends with 1 where a module is
refused, where registers are spilled or a stack is used, and where there is nothing to assemble.
"""

import argparse
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHIPS = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")

_KERNEL = re.compile(r"Compiling entry function '([^']+)' for '([^']+)'")
_SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")


@dataclass(frozen=True)
class Usage:
    """What a kernel takes on a chip, in registers of a thread and bytes."""

    kernel: str
    chip: str
    registers: int
    shared: int
    stack: int
    spilled: int


def find_ptxas() -> Path:
    """Return the ptxas of this environment's nvidia-cuda-nvcc, or of PATH; raise FileNotFoundError
    without one."""
    packages = Path(sysconfig.get_path("purelib"))
    for found in sorted(packages.glob("nvidia/**/bin/ptxas")):
        return found
    if program := shutil.which("ptxas"):
        return Path(program)
    raise FileNotFoundError("no ptxas: pip install nvidia-cuda-nvcc")


def usage_of(report: str, chip: str) -> Iterator[Usage]:
    """Yield what `ptxas -v` says of each kernel."""
    kernel, stack, spilled = "", 0, 0
    for line in report.splitlines():
        if match := _KERNEL.search(line):
            kernel, stack, spilled = match[1], 0, 0
        elif match := _SPILLS.search(line):
            stack, spilled = int(match[1]), int(match[2]) + int(match[3])
        elif kernel and (match := _USED.search(line)):
            yield Usage(kernel, chip, int(match[1]), int(match[2] or 0), stack, spilled)


def assemble(ptxas: Path, module: Path, chip: str) -> list[Usage]:
    """Assemble a module for a chip; raise RuntimeError with ptxas's words where it refuses."""
    with tempfile.TemporaryDirectory() as folder:
        command = [ptxas, "-v", f"-arch={chip}", module, "-o", Path(folder) / "out.cubin"]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    report = run.stdout + run.stderr
    if run.returncode:
        raise RuntimeError(f"{module.name} for {chip}: {report.strip()}")
    found = list(usage_of(report, chip))
    kernels = len(re.findall(r"^\s*(?:\.visible\s+)?\.entry\s", module.read_text(), re.M))
    if len(found) != kernels:
        raise RuntimeError(
            f"{module.name} for {chip}: ptxas reported {len(found)} of {kernels} kernels"
        )
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    folders: list[Path] = parser.parse_args(arguments).folders
    modules = sorted(path for folder in folders for path in folder.glob("**/*.ptx"))
    if not modules:
        print("no .ptx files", file=sys.stderr)
        return 1
    ptxas, wrong = find_ptxas(), 0
    for module in modules:
        for chip in CHIPS:
            try:
                kernels = assemble(ptxas, module, chip)
            except RuntimeError as error:
                print(error, file=sys.stderr)
                wrong += 1
                continue
            for usage in kernels:
                bad = bool(usage.stack or usage.spilled)
                wrong += bad
                print(
                    f"{module.name} {usage.kernel} {chip}: {usage.registers} registers,"
                    f" {usage.shared} bytes of shared memory"
                    + (f", {usage.stack} of stack, {usage.spilled} SPILLED" if bad else "")
                )
    if wrong:
        print(f"{wrong} kernels or modules are wrong", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
