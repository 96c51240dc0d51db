# SPDX-License-Identifier: Apache-2.0
"""Which files of a folder are part of its manifest."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Final

from ..files import FileError
from .paths import is_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pathspec import GitIgnoreSpec

IGNORE_FILE: Final = ".atlasignore"


class Rules:
    """Rules in the syntax of gitignore, from the root of the folder, and the one on symbolic links.

    Needs pathspec where there is a rule.

    Args:
        exclude: the rules; the last one that matches decides.
        symlinks: "record", "error" or "follow".
        outputs: paths that are no part of the folder's content: what is written into it meanwhile.

    Raises:
        ValueError: not a rule.
        ImportError: pathspec is not installed.
    """

    def __init__(
        self,
        exclude: Sequence[str] = (),
        symlinks: str = "record",
        outputs: frozenset[bytes] = frozenset(),
    ) -> None:
        self.exclude = tuple(exclude)
        self.symlinks = symlinks
        self.outputs = outputs
        self._spec = _spec(self.exclude)

    def excludes(self, path: bytes, folder: bool) -> bool:
        """Is it no part of the manifest? What is below an excluded folder is not listed either."""
        if path in self.outputs:
            return True
        if self._spec is None:
            return False
        # Names that are not UTF-8 are matched byte by byte where they have no text.
        name = path.decode("utf-8", "surrogateescape")
        return self._spec.match_file(f"{name}/" if folder else name)

    def __reduce__(self) -> tuple[type[Rules], tuple[object, ...]]:
        return Rules, (self.exclude, self.symlinks, self.outputs)


def _spec(exclude: tuple[str, ...]) -> GitIgnoreSpec | None:
    if not exclude:
        return None
    for rule in exclude:
        if not is_text(rule) or "\n" in rule:
            raise ValueError(f"exclude has {rule!r}, must be texts of one line")
    if importlib.util.find_spec("pathspec") is None:
        raise ImportError("rules on files need pathspec: pip install 'atlas12288[manifest]'")
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(exclude)
    except ValueError as error:
        raise ValueError(f"exclude has a rule that gitignore does not know: {error}") from error


def ignore_file_rules(text: bytes) -> tuple[str, ...]:
    """The rules of an ignore file: its lines but blank ones and comments.

    Raises:
        FileError: it is not UTF-8.
    """
    try:
        lines = text.decode().splitlines()
    except UnicodeDecodeError as error:
        raise FileError(f"is not a list of rules in UTF-8: {error}") from error
    return tuple(line for line in lines if line.strip() and not line.startswith("#"))
