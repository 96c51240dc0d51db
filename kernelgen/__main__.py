# SPDX-License-Identifier: Apache-2.0
"""The generator's command line, which the build calls: ``python -m kernelgen``."""

import argparse
from pathlib import Path

from . import emit, grid, targets


def main() -> None:
    parser = argparse.ArgumentParser(prog="kernelgen", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str, *, target: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        if target:
            sub.add_argument("--family", required=True, help="CPU family, as meson names it")
            sub.add_argument(
                "--system", default="linux", help="operating system, as meson names it"
            )
        sub.add_argument("--output", type=Path, help="file to write (default: standard output)")
        return sub

    command("sets", "names of the kernel sets for a CPU family, a line each, best first")
    command("header", "the C header atlas_kernels.h")
    command("object", "the object file of a kernel set").add_argument("--set", required=True)
    command("assembly", "the object file of a kernel set as assembly").add_argument(
        "--set", required=True
    )
    command("entry", "the object file of the contract's three kernels")
    command("module", "the standalone IR of the contract's kernels", target=False).add_argument(
        "--format", choices=("ll", "bc"), default="ll"
    )

    command("ptx", "a kernel for NVIDIA GPUs, as PTX", target=False).add_argument(
        "--kernel", required=True
    )
    command(
        "ptx-kernels",
        "names of the kernels for NVIDIA GPUs, a line each; none if this LLVM writes no PTX",
        target=False,
    )

    other = command("gpu", "a kernel for other GPUs, which no release has", target=False)
    other.add_argument("--kernel", required=True)
    other.add_argument("--make", choices=sorted(emit.OTHER_GPUS), required=True)
    other.add_argument("--format", choices=("assembly", "object"), default="assembly")

    arguments = parser.parse_args()
    result: str | bytes
    match arguments.command:
        case "sets":
            result = "".join(f"{s.name}\n" for s in targets.for_family(arguments.family))
        case "header":
            result = emit.header(arguments.family)
        case "object":
            kernel_set = targets.find(arguments.set)
            result = emit.kernel_set_object(kernel_set, arguments.family, arguments.system)
        case "assembly":
            kernel_set = targets.find(arguments.set)
            result = emit.kernel_set_assembly(kernel_set, arguments.family, arguments.system)
        case "entry":
            result = emit.entry_object(arguments.family, arguments.system)
        case "ptx":
            result = emit.ptx(grid.find(arguments.kernel))
        case "gpu":
            write = (
                emit.other_gpu_object if arguments.format == "object" else emit.other_gpu_assembly
            )
            result = write(grid.find(arguments.kernel), arguments.make)
        case "ptx-kernels":
            result = "".join(f"{k.name}\n" for k in grid.KERNELS) if emit.has_ptx() else ""
        case _:
            result = emit.standalone(arguments.format == "bc")

    data = result.encode() if isinstance(result, str) else result
    if arguments.output is None:
        # A plain byte stream: objects and bitcode are not text.
        with open(1, "wb", closefd=False) as stdout:
            stdout.write(data)
    else:
        arguments.output.write_bytes(data)


if __name__ == "__main__":
    main()
