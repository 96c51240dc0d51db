# SPDX-License-Identifier: Apache-2.0
"""Which files of a folder are part of its manifest: paths, rules, symbolic links."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

from ..._files import FileError
from .._beside import Outputs
from .._paths import check_path, is_text
from .gitignore import Matcher, Rule

if TYPE_CHECKING:
    from .siblings import Siblings
    from .source import Found, Problem, Source

IGNORE_FILE: Final = ".atlasignore"
# Rules may come from a stranger. Within these bounds they are understood in seconds.
RULES_BYTES_MOST: Final = 1 << 20
RULE_BYTES_MOST: Final = 4096
WILDCARD_RULES_MOST: Final = 10_000
# At most 0.23 ns each were measured, a minute for all. 100 rules with `**` and two `*` each take as
# many steps on 2,000,000 paths.
STEPS_MOST: Final = 1 << 38
# Names that are matched before the steps are compared with the bound.
_NAMES_AT_ONCE: Final = 256


class OwnRule(str):
    """A rule that came with the files themselves, in their ignore file. It matches like others."""

    __slots__ = ()


class Excluded(NamedTuple):
    """The paths that a rule excluded.

    Attributes:
        rule: the text.
        own: whether it came with the files, in their `.atlasignore`.
        paths: number of paths that it excluded; a folder with its content counts as one.
    """

    rule: str
    own: bool
    paths: int


class _CostError(Exception):
    """Too many rules and paths. A FileError would only end a folder, not the listing."""


class Selection:
    """The choice of the files of a source that are part of a manifest.

    Args:
        exclude: rules in the syntax of gitignore, from the root of the folder; the last one that
            matches decides.
        symlinks: "record", "error" or "follow".
        outputs: files that are written into the folder and are not part of it. A source asks
            `outputs.has_file` for each regular file.
        links_below: other folders that links may lead into, as in `Options`.
        paths: list only these files and folders, relative to the folder; empty for all.

    Attributes:
        left_out: paths of `paths` that a rule excludes; `leave_out_named` adds them.

    Raises:
        ValueError: a rule is not a text of one line, or the rules exceed the bounds.
        WitnessError: one of the paths leads out of the folder.
    """

    def __init__(
        self,
        exclude: Sequence[str] = (),
        symlinks: str = "record",
        outputs: Outputs | None = None,
        links_below: Sequence[str] = (),
        paths: Sequence[bytes] = (),
    ) -> None:
        self.paths = tuple(check_path(path, "path") for path in paths)
        self.exclude = tuple(exclude)
        self.symlinks = symlinks
        self.links_below = tuple(links_below)
        self.outputs = Outputs() if outputs is None else outputs
        self.left_out: list[bytes] = []
        self._counts: Counter[int] = Counter()
        self._asked = 0
        self._rules = _rules(self.exclude)
        self._for_files = self._for_folders = Matcher(self._rules, folders=False)
        if any(rule.only_folders for rule in self._rules):
            self._for_folders = Matcher(self._rules, folders=True)
        if self._for_folders.wildcards > WILDCARD_RULES_MOST:
            raise ValueError(
                f"exclude has {self._for_folders.wildcards:,} rules with wildcards within, must "
                f"have at most {WILDCARD_RULES_MOST:,}"
            )

    def excludes(self, path: bytes, folder: bool) -> bool:
        """Return whether a rule excludes a path, and count it for that rule.

        A listing does not enter an excluded folder.
        """
        return bool(self._rules) and self._excluded_by(self._decides(path, folder))

    def has(self, path: bytes) -> bool:
        """Return whether a file at a path would be part of the manifest.

        Raises:
            FileError: rules and paths are too many.
        """
        folders = [path[:end] for end, byte in enumerate(path) if byte == ord("/")]
        if self.paths and self._named.isdisjoint((*folders, path)):
            return False
        try:
            return not (
                any(self.excludes(folder, folder=True) for folder in folders)
                or self.excludes(path, folder=False)
            )
        except _CostError as error:
            raise FileError(str(error)) from error

    @cached_property
    def _named(self) -> frozenset[bytes]:
        return frozenset(self.paths)

    def kept(self, parent: bytes, names: Sequence[bytes], folders: Sequence[bool]) -> list[int]:
        """Return the numbers of the names that no rule excludes; count the others for their rules.

        Args:
            parent: what the paths begin with: a folder and its slash.
            names: in this folder.
            folders: whether each name is a folder's.
        """
        found: list[int] = []
        for start in range(0, len(names), _NAMES_AT_ONCE):
            stop = start + _NAMES_AT_ONCE
            rules = self._decide(parent, names[start:stop], folders[start:stop])
            found += [
                number for number, rule in enumerate(rules, start) if not self._excluded_by(rule)
            ]
        return found

    def _decide(
        self, parent: bytes, names: Sequence[bytes], folders: Sequence[bool]
    ) -> Sequence[int]:
        """Return for each name what `_decides` returns."""
        self._asked += len(names)
        rules = [-1] * len(names)
        for matcher, are_folders in ((self._for_files, False), (self._for_folders, True)):
            asked = [number for number, folder in enumerate(folders) if folder is are_folders]
            decisions = matcher.lasts(parent, [names[number] for number in asked])
            for number, rule in zip(asked, decisions, strict=True):
                rules[number] = rule
            self._require_cheap(matcher)
        return rules

    def leave_out_named(self, path: bytes, folder: bool) -> bool:
        """Leave out one of `paths` if a rule excludes it, or a folder around it.

        Returns:
            Whether it was left out; then it is in `left_out`.
        """
        if not self._rules:
            return False
        end = path.find(b"/")
        while end >= 0:
            number = self._decides(path[:end], folder=True)
            if self._excluded_by(number):
                break
            end = path.find(b"/", end + 1)
        else:
            if not self._excluded_by(self._decides(path, folder)):
                return False
        self.left_out.append(path)
        return True

    def _excluded_by(self, number: int) -> bool:
        if number < 0 or self._rules[number].negative:
            return False
        self._counts[number] += 1
        return True

    def _decides(self, path: bytes, folder: bool) -> int:
        """Return the number of the rule that decides; negative if none does."""
        self._asked += 1
        matcher = self._for_folders if folder else self._for_files
        number = matcher.last(path)
        self._require_cheap(matcher)
        return number

    def _require_cheap(self, matcher: Matcher) -> None:
        if matcher.steps > STEPS_MOST:
            raise _CostError(
                f"{self._asked:,} paths and {len(self._rules):,} rules are too many: to match them "
                f"may take more than {STEPS_MOST:,} steps"
            )

    @property
    def own(self) -> int:
        """Number of rules that came with the files."""
        return sum(isinstance(rule, OwnRule) for rule in self.exclude)

    @property
    def excluded_by(self) -> tuple[Excluded, ...]:
        """What each rule excluded, in order; rules that excluded nothing are left out."""
        return tuple(
            Excluded(str(rule), isinstance(rule, OwnRule), self._counts[number])
            for number, rule in enumerate(self.exclude)
            if self._counts[number]
        )

    def __reduce__(self) -> tuple[type[Selection], tuple[object, ...]]:
        kept = (self.exclude, self.symlinks, self.outputs, self.links_below, self.paths)
        return Selection, kept


def _rules(exclude: tuple[str, ...]) -> list[Rule]:
    size = 0
    rules = []
    for rule in exclude:
        if not is_text(rule) or "\n" in rule or "\0" in rule:
            raise ValueError(f"exclude has {_cut(rule)}, must be texts of one line, without NUL")
        count = len(rule.encode())
        if count > RULE_BYTES_MOST:
            raise ValueError(
                f"exclude has {_cut(rule)} of {count:,} bytes, must have rules of at most "
                f"{RULE_BYTES_MOST:,}"
            )
        size += count
        if size > RULES_BYTES_MOST:
            raise ValueError(
                f"exclude has more than {RULES_BYTES_MOST:,} bytes, must have at most as many"
            )
        rules.append(Rule(rule))
    return rules


def _cut(rule: str) -> str:
    return repr(rule) if not isinstance(rule, str) or len(rule) < 80 else f"{rule[:77]!r}..."


def listed(source: Source, selection: Selection, problem: Problem) -> Iterator[Found]:
    """Yield what `source.list` yields, as long as the rules can be matched.

    Raises:
        FileError: as `source.list`; or rules and paths are too many.
    """
    try:
        yield from source.list(selection, problem)
    except _CostError as error:
        raise FileError(str(error)) from error


def walked(source: Source, selection: Selection, problem: Problem) -> Iterator[Found | Siblings]:
    """Yield what `source.walk` yields, or else `source.list`, as `listed` does."""
    try:
        found = source.walk(selection, problem)
        yield from source.list(selection, problem) if found is None else found
    except _CostError as error:
        raise FileError(str(error)) from error


def ignore_file_rules(text: bytes) -> tuple[OwnRule, ...]:
    """Return the rules of an ignore file: its lines but blank ones and comments, split as git does.

    Raises:
        FileError: it is not UTF-8, or has a NUL.
    """
    try:
        lines = text.removeprefix(codecs.BOM_UTF8).decode().split("\n")
    except UnicodeDecodeError as error:
        raise FileError(f"is not a list of rules in UTF-8: {error}") from error
    if b"\0" in text:
        raise FileError("is not a list of rules: it has a NUL")
    lines = [line.removesuffix("\r") for line in lines]
    return tuple(OwnRule(line) for line in lines if line.strip(" ") and line[0] != "#")
