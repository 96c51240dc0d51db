# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 info`."""

import platform

import click

from ... import __version__
from ..._files import FileError
from ..._gpu.kernels import gpu_kernels
from ..._native import API_VERSION, kernel_set, kernel_set_supported, kernel_sets
from ..console import Printer, json_option, shown


def _cpu_features(supported: list[str]) -> list[str]:
    """Return the CPU features found, as the kernel sets' names show: "x86-64-v3+sha" needs both.

    The last set needs nothing.
    """
    return sorted({feature for name in supported[:-1] for feature in name.split("+")})


@click.command(
    "info",
    short_help="Print versions, kernel sets and CPU features, or saved states.",
    epilog="""\b
Examples:
  atlas12288 info --json
  atlas12288 info --states

Exit codes: 0 printed; 2 the state folder cannot be used.""",
)
@click.option(
    "--states",
    is_flag=True,
    help="List the states in your state folder: manifest, kind, time, size and file.",
)
@json_option
def command(states: bool, as_json: bool) -> int:
    """Print the version, the kernel sets, the CPU features that were found, the kernels for GPUs.

    With --states, list the states that the command witness keeps for its manifests. It needs them
    for --update and to resume a killed run. You may delete any of them; the next run then reads all
    files.
    """
    if states:
        return _list_states(as_json)
    compiled = list(kernel_sets())
    supported = [name for name in compiled if kernel_set_supported(name)]
    fields = {
        "version": __version__,
        "api_version": API_VERSION,
        "kernel_set": kernel_set(),
        "kernel_sets_supported": supported,
        "kernel_sets_compiled": compiled,
        "cpu_features": _cpu_features(supported),
        "gpu_kernels": list(gpu_kernels()),
        "machine": platform.machine(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    with Printer("info", as_json, None) as printer:
        printer.document(fields)
        for key, value in fields.items():
            label = key.replace("_", " ")
            text = ", ".join(value) or "none" if isinstance(value, list) else value
            printer.line(f"{label:22} {text}")
    return printer.code


def _list_states(as_json: bool) -> int:
    from ...manifest._kept_states import kept_states, moment
    from ..manifests import amount

    with Printer("info", as_json, None) as printer:
        try:
            folder, found = kept_states()
        except FileError as error:
            printer.error("states", str(error))
            printer.document({"folder": None, "states": None, "error": str(error)})
            return printer.code
        rows = [kept._asdict() for kept in found]
        printer.document({"folder": str(folder), "states": rows, "error": None})
        for kept in found:
            output = "of an unknown manifest" if kept.output is None else shown(kept.output)
            printer.line(f"{output}: {kept.kind}, {moment(kept.time)}, {amount(kept.bytes)}")
            printer.line(f"  {shown(kept.file)}")
        if not found:
            printer.line(f"no states in {shown(str(folder))}")
    return printer.code
