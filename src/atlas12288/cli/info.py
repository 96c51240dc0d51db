# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 info`."""

import platform

import click

from .. import __version__
from .._native import API_VERSION, kernel_set, kernel_set_supported, kernel_sets
from .report import Report, json_option


def _cpu_features(supported: list[str]) -> list[str]:
    """What the library found in this CPU, read off the kernel sets: "x86-64-v3+sha" needs both.

    The last set needs nothing.
    """
    return sorted({feature for name in supported[:-1] for feature in name.split("+")})


@click.command(
    "info",
    short_help="Print versions, kernel sets, CPU features.",
    epilog="""\b
Example:
  atlas12288 info --json

\b
Exit codes: 0.""",
)
@json_option
def command(as_json: bool) -> int:
    """Print the version, the kernel set in use and the others, and the CPU features found."""
    compiled = list(kernel_sets())
    supported = [name for name in compiled if kernel_set_supported(name)]
    fields = {
        "version": __version__,
        "api_version": API_VERSION,
        "kernel_set": kernel_set(),
        "kernel_sets_supported": supported,
        "kernel_sets_compiled": compiled,
        "cpu_features": _cpu_features(supported),
        "machine": platform.machine(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    with Report(as_json, None) as report:
        report.document(fields)
        for key, value in fields.items():
            label = key.replace("_", " ")
            text = ", ".join(value) if isinstance(value, list) else value
            report.line(f"{label:22} {text}")
    return report.code
