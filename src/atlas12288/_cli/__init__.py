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
    if arguments is not None:
        from .program import run

        return run(arguments)
    # The process ends with this call. To look for garbage among what is imported, then and again at
    # the end, takes a tenth of a short run.
    import gc

    gc.disable()
    from .program import run

    gc.freeze()
    gc.enable()
    try:
        return run(None)
    finally:
        gc.freeze()
