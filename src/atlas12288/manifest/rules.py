# SPDX-License-Identifier: Apache-2.0
"""Which files of a folder are part of its manifest."""

from __future__ import annotations

import codecs
import importlib.util
import re
from typing import TYPE_CHECKING, Final

from ..files import FileError
from .names import Outputs
from .paths import is_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pathspec import GitIgnoreSpec

IGNORE_FILE: Final = ".atlasignore"
# Each `*` tries all lengths for all lengths of those before it, and the rules may come from a
# stranger. At worst three take 13 ms on a name of 255 characters, four 1.7 s, and each more a
# hundred times as long; two `**` take half a second on the longest path, and three would take
# minutes. Rules that people write have three at most, such as `**/*_*.log`.
STARS_MOST: Final = 4
DOUBLE_STARS_MOST: Final = 2
_ESCAPED: Final = re.compile(r"\\.")
_STARS: Final = re.compile(r"\*+")
_SETS: Final = re.compile(r"\\.|(\[[!^]?\]?[^\]]*\])")
# What pathspec hands to `re` as it is, where that has another meaning than for git, or may get one.
_NOT_AS_GIT: Final = re.compile(r"\[\[|.*(?:\[[:.=]|--|&&|~~|\|\|)", re.DOTALL)


class Rules:
    """Rules in the syntax of gitignore, from the root of the folder, and the one on symbolic links.

    Needs pathspec where there is a rule.

    Args:
        exclude: the rules; the last one that matches decides.
        symlinks: "record", "error" or "follow".
        links_below: where links that are followed may lead besides, as in `Options`.
        outputs: files that are written into the folder and are no part of it; none where None. Who
            lists asks `outputs.has_file` of each regular file.

    Attributes:
        left_out: paths that were asked for by name and that a rule excludes; `list` adds them.

    Raises:
        ValueError: not a rule, or one that is not matched as by git.
        ImportError: pathspec is not installed.
    """

    def __init__(
        self,
        exclude: Sequence[str] = (),
        symlinks: str = "record",
        outputs: Outputs | None = None,
        links_below: Sequence[str] = (),
    ) -> None:
        self.exclude = tuple(exclude)
        self.symlinks = symlinks
        self.links_below = tuple(links_below)
        self.outputs = Outputs() if outputs is None else outputs
        self.left_out: list[bytes] = []
        self._spec = _spec(self.exclude)

    def excludes(self, path: bytes, folder: bool) -> bool:
        """Is it no part of the manifest? What is below an excluded folder is not listed either."""
        if self._spec is None:
            return False
        # Names that are not UTF-8 are matched byte by byte where they have no text.
        name = path.decode("utf-8", "surrogateescape")
        return self._spec.match_file(f"{name}/" if folder else name)

    def excludes_named(self, path: bytes, folder: bool) -> bool:
        """The same of a path that was asked for by name, which is noted; as well where a folder
        around it is excluded."""
        at = path.find(b"/")
        while at >= 0:
            if self.excludes(path[:at], folder=True):
                break
            at = path.find(b"/", at + 1)
        else:
            if not self.excludes(path, folder):
                return False
        self.left_out.append(path)
        return True

    def __reduce__(self) -> tuple[type[Rules], tuple[object, ...]]:
        return Rules, (self.exclude, self.symlinks, self.outputs, self.links_below)


def _spec(exclude: tuple[str, ...]) -> GitIgnoreSpec | None:
    if not exclude:
        return None
    rules = [_checked(rule) for rule in exclude]
    if importlib.util.find_spec("pathspec") is None:
        raise ImportError("rules on files need pathspec: pip install 'atlas12288[manifest]'")
    from pathspec import GitIgnoreSpec

    for rule in rules:  # one by one, to name the one that is none
        try:
            GitIgnoreSpec.from_lines((rule,))
        except (ValueError, re.error) as error:
            raise ValueError(
                f"exclude has {rule!r}, must be a rule of gitignore: {error}"
            ) from error
    return GitIgnoreSpec.from_lines(rules)


def _checked(rule: str) -> str:
    """A rule that pathspec matches as git does, and in time."""
    if not is_text(rule) or "\n" in rule:
        raise ValueError(f"exclude has {rule!r}, must be texts of one line")
    plain = _ESCAPED.sub("", rule)
    stars = _STARS.findall(plain)
    if plain.endswith("*"):
        stars.pop()  # it matches whatever is left
    if len(stars) > STARS_MOST or sum(len(each) > 1 for each in stars) > DOUBLE_STARS_MOST:
        raise ValueError(
            f"exclude has {rule!r}, must have at most {STARS_MOST} * before its end, "
            f"{DOUBLE_STARS_MOST} of them **: to match more may never end"
        )

    def without_warning(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0]
        if found[1] == "[[]":
            return r"\["
        if _NOT_AS_GIT.match(found[1]):
            raise ValueError(
                f"exclude has {rule!r}, must have single characters and ranges in {found[1]!r}: "
                "others, such as [:alpha:], are not matched as by git"
            )
        return found[1]

    return _SETS.sub(without_warning, rule)


def ignore_file_rules(text: bytes) -> tuple[str, ...]:
    """The rules of an ignore file: its lines but blank ones and comments, taken apart as by git.

    Raises:
        FileError: it is not UTF-8.
    """
    try:
        lines = text.removeprefix(codecs.BOM_UTF8).decode().split("\n")
    except UnicodeDecodeError as error:
        raise FileError(f"is not a list of rules in UTF-8: {error}") from error
    lines = [line.removesuffix("\r") for line in lines]
    return tuple(line for line in lines if line.strip(" ") and not line.startswith("#"))
