# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 --version`, without click and typing: their import takes longer than all the rest."""

import sys

from .. import __version__

PROGRAM = "atlas12288"
VERSION_LINE = f"{PROGRAM}, version {__version__}"


def is_wanted(arguments: list[str]) -> bool:
    """Return whether the arguments of the command line ask for the version, and nothing else."""
    return arguments in (["-V"], ["--version"])


def print_version() -> bool:
    """Print the version.

    Returns:
        Whether it was printed. If not, the whole command line tries again, and says why.
    """
    try:
        print(VERSION_LINE, flush=True)
    except (OSError, ValueError):
        return False
    return sys.stdout is not None
