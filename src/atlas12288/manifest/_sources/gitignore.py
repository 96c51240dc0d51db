# SPDX-License-Identifier: Apache-2.0
"""The rules of gitignore, matched byte by byte as git does it, in time that is bounded.

A rule may come from a stranger, and a regular expression that tries all lengths of each `*` may
never end. Here each `*` is given the shortest length that works, once and for all: the part between
two `*` of a rule has a fixed length, so that the first place where it fits leaves the most for what
follows, and no other place needs to be tried. That is an atomic group of `re`. The same goes for
`**` and the folders between two of them. A rule of m bytes takes at most m * n steps on a path of n
bytes; `Matcher.steps` is what all have taken at most.

Rules with a literal name, or with one `*` at its beginning or end, are the most common; they are
looked up in dictionaries, however many there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Final, NamedTuple

_SLASH, _END, _TO, _COLON = map(ord, "/]-:")
_NO_RANGE: Final = (b"", b"]")  # what makes a `-` before it a byte like others
_NOT_SLASH: Final = frozenset(range(256)) - {_SLASH}
# Number of rules in one regular expression: `re` allocates all its groups for each match.
_AT_ONCE: Final = 64
# Steps that a rule costs before it compares a byte, and a `**` for each folder that it passes over.
# One step is a comparison of a byte at worst.
_RULE_STEPS: Final = 16
_FOLDER_STEPS: Final = 128


class _Star:
    """A token for any number of bytes."""


_STAR: Final = _Star()  # within a name
_FOLDERS: Final = _Star()  # `**/`: any number of folders, with the slash behind each
_SOME_FOLDERS: Final = _Star()  # `**\/`: the same, at least one
_REST: Final = _Star()  # `**` at the end: the rest of the path, in folders too

# A byte, or a set of bytes that it must be in.
_Atom = int | frozenset[int]
_Token = _Atom | _Star


def _ascii(holds: Callable[[str], bool]) -> frozenset[int]:
    return frozenset(byte for byte in range(128) if holds(chr(byte)))


_PRINTED: Final = frozenset(range(0x20, 0x7F))
# As in git, ASCII only in every locale.
_CLASSES: Final[dict[bytes, frozenset[int]]] = {
    b"alnum": _ascii(str.isalnum),
    b"alpha": _ascii(str.isalpha),
    b"blank": frozenset(b" \t"),
    b"cntrl": frozenset((*range(0x20), 0x7F)),
    b"digit": _ascii(str.isdigit),
    b"graph": _PRINTED - {0x20},
    b"lower": _ascii(str.islower),
    b"print": _PRINTED,
    b"punct": _PRINTED - {0x20} - _ascii(str.isalnum),
    b"space": frozenset(b" \t\n\r"),
    b"upper": _ascii(str.isupper),
    b"xdigit": frozenset(b"0123456789abcdefABCDEF"),
}


class _Expression(NamedTuple):
    """A rule as a regular expression.

    Attributes:
        text: the expression, to be matched against a whole path or name.
        byte_steps, folder_steps: most steps for each byte and each folder of the path.
    """

    text: bytes
    byte_steps: int
    folder_steps: int = 0


class Rule:
    """A rule of gitignore.

    Args:
        text: a line of gitignore, without its newline. A `#` at its start is a plain character.

    Attributes:
        negative: whether it begins with `!`, so that paths that match are not excluded.
        only_folders: whether it ends with `/`.
    """

    def __init__(self, text: str) -> None:
        line = _trimmed(text.encode())
        self.negative = line.startswith(b"!")
        line = line.removeprefix(b"!")
        self.only_folders = line.endswith(b"/")
        line = line.removesuffix(b"/")
        # A slash anywhere, also between brackets, makes it a rule on paths from the root.
        in_names = b"/" not in line
        tokens = _tokens(line.removeprefix(b"/"), in_names) if line else None
        if tokens is not None and tokens[:1] == [_FOLDERS] and not _has_slash(tokens[1:]):
            tokens, in_names = tokens[1:], True
        self.in_names = in_names
        self._tokens = tokens  # None: it matches nothing

    @property
    def matches_something(self) -> bool:
        """Return whether it matches any path."""
        return self._tokens is not None

    @property
    def literal(self) -> bytes | None:
        """Return the only name or path that it matches; None if there are several."""
        return _literal(self._tokens or ())

    @property
    def suffix(self) -> bytes | None:
        """Return the suffix of all names that it matches; None if it says more than that."""
        tokens = self._tokens or ()
        return _literal(tokens[1:]) if self.in_names and tokens[:1] == [_STAR] else None

    @property
    def prefix(self) -> bytes | None:
        """Return the prefix of all names that it matches; None if it says more than that."""
        tokens = self._tokens or ()
        return _literal(tokens[:-1]) if self.in_names and tokens[-1:] == [_STAR] else None

    def expression(self) -> _Expression:
        """Return the rule as a regular expression for the name or for the whole path."""
        blocks: list[list[_Token]] = [[]]
        leaps: list[_Star] = []
        for token in self._tokens or ():
            if token in (_FOLDERS, _SOME_FOLDERS, _REST):
                assert isinstance(token, _Star)
                leaps.append(token)
                blocks.append([])
            else:
                blocks[-1].append(token)
        text, steps = _block(blocks[0], max)
        parts = [text]
        folder_steps = 0
        for number, (leap, block) in enumerate(zip(leaps, blocks[1:], strict=True), 1):
            if leap is _REST:
                return _Expression(b"".join(parts), steps, folder_steps)
            text, more = _block(block, sum)
            steps += more
            folder_steps += _FOLDER_STEPS
            way = b"(?:[^/]*/)%b%b" % (b"+?" if leap is _SOME_FOLDERS else b"*?", text)
            # The last one is bound to the end of the path, and found by trying each folder.
            parts.append(way if number == len(leaps) else b"(?>%b)" % way)
        return _Expression(b"".join(parts) + rb"\Z", steps, folder_steps)


def _trimmed(line: bytes) -> bytes:
    """Return a line without trailing spaces, except one after a backslash."""
    kept = line.rstrip(b" ")
    backslashes = len(kept) - len(kept.rstrip(b"\\"))
    return line[: len(kept) + 1] if backslashes % 2 else kept


def _tokens(pattern: bytes, in_names: bool) -> list[_Token] | None:
    """Return the tokens of a rule; None if it matches nothing."""
    tokens: list[_Token] = []
    index = 0
    while index < len(pattern):
        byte = pattern[index : index + 1]
        index += 1
        if byte == b"\\":
            if index == len(pattern):
                return None
            tokens.append(pattern[index])
            index += 1
        elif byte == b"?":
            tokens.append(_NOT_SLASH)
        elif byte == b"[":
            found = _set(pattern, index)
            if found is None:
                return None
            members, index = found
            tokens.append(members)
        elif byte == b"*":
            before = index - 2
            while pattern[index : index + 1] == b"*":
                index += 1
            star = _STAR
            whole = before < 0 or pattern[before] == _SLASH
            if not in_names and whole and index - before > 2:
                if index == len(pattern):
                    star = _REST
                elif pattern[index] == _SLASH:
                    star = _FOLDERS
                    index += 1
                elif pattern[index : index + 2] == rb"\/":
                    star = _SOME_FOLDERS
                    index += 2
            tokens.append(star)
        else:
            tokens.append(byte[0])
    return tokens


def _set(pattern: bytes, index: int) -> tuple[frozenset[int], int] | None:
    """Return the bytes that `[...]` matches and its end; None if it has no end or matches nothing.

    Args:
        pattern: the rule.
        index: the one after the opening bracket.
    """

    def escaped(index: int) -> int:
        return index + (pattern[index : index + 1] == b"\\")

    negated = pattern[index : index + 1] in (b"!", b"^")
    index += negated
    members: set[int] = set()
    before: int | None = None  # the byte that a `-` makes a range from
    first = index
    while index < len(pattern) and (pattern[index] != _END or index == first):
        if (
            pattern[index] == _TO
            and before is not None
            and pattern[index + 1 : index + 2] not in _NO_RANGE
        ):
            index = escaped(index + 1)
            if index < len(pattern):
                members.update(range(before, pattern[index] + 1))
            before = None
        elif pattern.startswith(b"[:", index) and (named := _named(pattern, index + 2)) is not None:
            if named not in _CLASSES:
                return None
            members |= _CLASSES[named]
            index += len(b"[:]") + len(named)
            before = None
        else:
            index = escaped(index)
            if index < len(pattern):
                before = pattern[index]
                members.add(before)
        index += 1
    found = (_NOT_SLASH - members) if negated else (_NOT_SLASH & members)
    return (found, index + 1) if found and index < len(pattern) else None


def _named(pattern: bytes, index: int) -> bytes | None:
    """Return the name in the `[:name:]` that begins at `index`; None if there is none."""
    end = pattern.find(b"]", index)
    return pattern[index : end - 1] if end > index and pattern[end - 1] == _COLON else None


def _has_slash(tokens: Sequence[_Token]) -> bool:
    """Return whether the tokens span more than one name."""
    return any(each == _SLASH or (type(each) is _Star and each is not _STAR) for each in tokens)


def _literal(tokens: Sequence[_Token]) -> bytes | None:
    """Return the bytes if all tokens are bytes; otherwise None."""
    found = bytearray()
    for token in tokens:
        if not isinstance(token, int):
            return None
        found.append(token)
    return bytes(found)


def _block(tokens: Sequence[_Token], total: Callable[[list[int]], int]) -> tuple[bytes, int]:
    """Return the part between two `**` as an expression that matches in at most one way, and the
    most steps that it takes for each byte, which `total` combines over all its names."""
    names: list[list[_Token]] = [[]]
    for token in tokens:
        if token == _SLASH:
            names.append([])
        else:
            names[-1].append(token)
    found = [_name(name) for name in names]
    return b"/".join(text for text, _ in found), total([steps for _, steps in found])


def _name(tokens: Sequence[_Token]) -> tuple[bytes, int]:
    """Return the same as `_block` for a single name."""
    pieces: list[list[_Atom]] = [[]]
    for token in tokens:
        if isinstance(token, _Star):
            pieces.append([])
        else:
            pieces[-1].append(token)
    parts = [_fixed(pieces[0])]
    if len(pieces) == 1:
        return parts[0], 1
    parts += (b"(?>[^/]*?%b)" % _fixed(piece) for piece in pieces[1:-1])
    last = pieces[-1]
    if last:
        # There is room for it, and it is what the name ends with.
        parts.append(b"(?=[^/]{%d})(?>[^/]*)(?<=%b)" % (len(last), _fixed(last)))
    else:
        parts.append(b"(?>[^/]*)")
    return b"".join(parts), 2 + sum(map(len, pieces[1:-1]))


def _fixed(atoms: Sequence[_Atom]) -> bytes:
    """Return the expression for a sequence of bytes and sets."""
    text = bytearray()
    for atom, same in groupby(atoms):
        count = len(list(same))
        text += _one(atom)
        if count > 1:
            text += b"{%d}" % count
    return bytes(text)


def _one(atom: _Atom) -> bytes:
    if isinstance(atom, int):
        return rb"\x%02x" % atom
    if atom == _NOT_SLASH:
        return b"[^/]"
    ranges = []
    # Numbers that follow one another have the same distance to their place.
    for _, run in groupby(enumerate(sorted(atom)), lambda pair: pair[1] - pair[0]):
        members = [byte for _, byte in run]
        ranges.append(rb"\x%02x-\x%02x" % (members[0], members[-1]))
    return b"[%b]" % b"".join(ranges)


class _Regexes:
    """Rules as regular expressions, matched in groups, the last group first."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, bytes]] = []
        self._groups: list[tuple[int, re.Pattern[bytes], list[int]]] | None = None
        self.byte_steps = 0
        self.folder_steps = 0

    def add(self, number: int, expression: _Expression) -> None:
        """Add a rule; its number must be higher than all before."""
        self._waiting.append((number, expression.text))
        self.byte_steps += expression.byte_steps
        self.folder_steps += expression.folder_steps

    def __len__(self) -> int:
        return len(self._waiting)

    def last(self, text: bytes, least: int) -> int:
        """Return the highest number of a rule that matches, or `least` if none is higher."""
        if self._groups is None:
            self._groups = list(map(self._compiled, range(len(self._waiting), 0, -_AT_ONCE)))
        for highest, regex, numbers in self._groups:
            if highest < least:
                break
            found = regex.match(text)
            if found is not None and found.lastindex is not None:
                return max(least, numbers[found.lastindex - 1])
        return least

    def _compiled(self, stop: int) -> tuple[int, re.Pattern[bytes], list[int]]:
        rules = self._waiting[max(0, stop - _AT_ONCE) : stop][::-1]
        # The empty group says which of them it was.
        regex = re.compile(b"|".join(b"(?:%b)()" % text for _, text in rules), re.DOTALL)
        return rules[0][0], regex, [number for number, _ in rules]


class _Table:
    """Rules on names, looked up by a number of bytes at one end of the name.

    Args:
        part: returns that many bytes at the end of a name; the whole name if it is shorter.
    """

    def __init__(self, part: Callable[[bytes, int], bytes]) -> None:
        self._part = part
        self._by_length: dict[int, dict[bytes, int]] = {}

    def add(self, number: int, text: bytes) -> None:
        self._by_length.setdefault(len(text), {})[text] = number

    def __len__(self) -> int:
        return len(self._by_length)

    def last(self, name: bytes, least: int) -> int:
        """Return what `_Regexes.last` returns."""
        for length, numbers in self._by_length.items():
            number = numbers.get(self._part(name, length), -1)
            if number > least:
                least = number
        return least

    def lasts(self, names: Sequence[bytes], least: list[int]) -> list[int]:
        """Return what `last` returns, for each of some names."""
        part = self._part
        for length, numbers in self._by_length.items():
            get = numbers.get
            found = [get(part(name, length), -1) for name in names]
            if any(number >= 0 for number in found):
                least = list(map(max, least, found))
        return least


def _head(name: bytes, length: int) -> bytes:
    return name[:length]


def _tail(name: bytes, length: int) -> bytes:
    return name[-length:] if length else b""


class Matcher:
    """Find the rule that decides about a path.

    Args:
        rules: the rules in order.
        folders: whether the paths are folders.

    Attributes:
        wildcards: how many of the rules are regular expressions.
        steps: upper bound on the steps taken so far.
    """

    def __init__(self, rules: Sequence[Rule], folders: bool) -> None:
        self.steps = 0
        self._names: dict[bytes, int] = {}
        self._paths: dict[bytes, int] = {}
        self._suffixes, self._prefixes = _Table(_tail), _Table(_head)
        self._name_regexes, self._path_regexes = _Regexes(), _Regexes()
        for number, rule in enumerate(rules):
            if rule.matches_something and (folders or not rule.only_folders):
                self._add(number, rule)
        self.wildcards = len(self._name_regexes) + len(self._path_regexes)
        self._rule_steps = _RULE_STEPS * (1 + self.wildcards)
        self._name_steps = self._name_regexes.byte_steps
        self._name_steps += len(self._suffixes) + len(self._prefixes)
        self._path_steps = 1 + self._path_regexes.byte_steps
        self._folder_steps = self._path_regexes.folder_steps

    def _add(self, number: int, rule: Rule) -> None:
        if (literal := rule.literal) is not None:
            (self._names if rule.in_names else self._paths)[literal] = number
        elif (suffix := rule.suffix) is not None:
            self._suffixes.add(number, suffix)
        elif (prefix := rule.prefix) is not None:
            self._prefixes.add(number, prefix)
        else:
            regexes = self._name_regexes if rule.in_names else self._path_regexes
            regexes.add(number, rule.expression())

    def last(self, path: bytes) -> int:
        """Return the number of the last rule that matches a path; -1 if none does."""
        name = path[path.rfind(b"/") + 1 :]
        self.steps += self._rule_steps + self._name_steps * len(name) + self._path_steps * len(path)
        found = self._names.get(name, -1)
        if self._suffixes:
            found = self._suffixes.last(name, found)
        if self._prefixes:
            found = self._prefixes.last(name, found)
        if self._paths:
            found = max(found, self._paths.get(path, -1))
        if self._name_regexes:
            found = self._name_regexes.last(name, found)
        if self._path_regexes:
            if self._folder_steps:
                self.steps += self._folder_steps * (1 + path.count(b"/"))
            found = self._path_regexes.last(path, found)
        return found

    def lasts(self, parent: bytes, names: Sequence[bytes]) -> list[int]:
        """Return what `last` returns, for each of some names in one folder.

        Args:
            parent: what their paths begin with: the folder and its slash.
            names: the names.
        """
        count, size = len(names), sum(map(len, names))
        self.steps += count * self._rule_steps + self._name_steps * size
        self.steps += self._path_steps * (count * len(parent) + size)
        get = self._names.get
        found = [get(name, -1) for name in names]
        if self._suffixes:
            found = self._suffixes.lasts(names, found)
        if self._prefixes:
            found = self._prefixes.lasts(names, found)
        if self._paths:
            get = self._paths.get
            found = [
                max(least, get(parent + name, -1)) for least, name in zip(found, names, strict=True)
            ]
        if self._name_regexes:
            found = list(map(self._name_regexes.last, names, found))
        if self._path_regexes:
            self.steps += count * self._folder_steps * (1 + parent.count(b"/"))
            last = self._path_regexes.last
            found = [last(parent + name, least) for least, name in zip(found, names, strict=True)]
        return found
