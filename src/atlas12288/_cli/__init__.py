# SPDX-License-Identifier: Apache-2.0
"""The command line `atlas12288`."""

import sys

from .version import is_wanted, print_version


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the command-line arguments; None for `sys.argv[1:]`.

    Returns:
        The exit code.
    """
    if is_wanted(sys.argv[1:] if arguments is None else arguments) and print_version():
        return 0
    from .program import run

    return run(arguments)
