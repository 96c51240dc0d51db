# SPDX-License-Identifier: Apache-2.0
"""The paths that a statement leaves out, as rules that a listing follows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ._files_statement import GIT_PATHS, Serialization

# Characters of a path that mean something in the syntax of gitignore.
_SPECIAL: Final = frozenset("\\*?[ ")


def rules_of(
    serialization: Serialization, paths: Iterable[bytes] = (), more: Iterable[str] = ()
) -> tuple[str, ...]:
    """Return the rules for the paths that a statement leaves out.

    Args:
        serialization: what the statement says about them.
        more: other paths to leave out.
        paths: the paths of its files. Where some are of git, as model_signing signs them on
            request, those of git are not left out.
    """
    tops = {path.partition(b"/")[0] for path in paths}
    git = [path for path in GIT_PATHS if path.encode() not in tops]
    return tuple(map(_rule, dict.fromkeys((*git, *serialization.ignore_paths, *more))))


def _rule(path: str) -> str:
    """Return the rule in the syntax of gitignore for one path."""
    return "/" + "".join(f"\\{each}" if each in _SPECIAL else each for each in path)
