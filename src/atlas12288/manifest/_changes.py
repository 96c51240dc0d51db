# SPDX-License-Identifier: Apache-2.0
"""Say what differs between a new manifest and the one that it replaces.

A file whose content changed while its size and modification time did not is not known to have been
edited: a disk, a copy or a program may have damaged it. The manifest that is replaced is the only
evidence of that, so it stays until somebody accepts the change.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from hashlib import sha256
from typing import Final, Literal, NamedTuple

from .._files import FileError, RegularFile, shown
from .._reports import MismatchError
from .._words import counted, word
from ._diff import Comparison, Facts, NothingCommonError, Pair
from ._differences import CHANGES_MOST, Changes, Difference
from ._entries import Lines
from ._kinds import is_manifest
from ._manifest_file import Block, ManifestFile, NotCanonicalError, in_memory
from ._paths import quoted
from ._sources.source import UNTRUSTED, same_but_ctime
from ._state_file import Finished, State
from ._statement import Options

_UNWRITTEN: Final = "changed without a write: damage, or written through a memory map"
_SET_BACK: Final = "written, and its time set back"
_CLOCK_BACK: Final = "written, and the clock set back"

_NOT_COMPARED: Final = "cannot be compared with what it replaces"
_UNTRUSTED: Final = UNTRUSTED.encode()

# Yields the lines of a manifest, and calls a function with the identities of each before it.
MakeLines = Callable[[Callable[[list[str]], object]], Iterable[Lines]]
# True for all files, or the paths of some.
Accept = Literal[True] | Collection[bytes]


class Before(NamedTuple):
    """What is known of the manifest that is replaced.

    Attributes:
        output: its name.
        state: the state of the run that wrote it; None if there is none.
        finished: that run; None likewise.
        local: whether identities are the times of files of this machine.
    """

    output: str
    state: State | None
    finished: Finished | None
    local: bool


def changes_since(
    before: Before,
    options: Options,
    lines: MakeLines,
    accept: Accept,
    note: Callable[[str], object],
) -> Changes | None:
    """Return what differs from the manifest that is replaced; None if there is none.

    Args:
        before: what is known of that manifest.
        options: the options of the new manifest.
        lines: yields the lines of the new one.
        accept: the files that may have changed without being known to have been edited.
        note: called with a sentence for people.

    Raises:
        FileError: the old manifest cannot be read, so that nobody knows what it would tell; or as
            from `lines`.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(RegularFile(before.output))
            if not is_manifest(file):
                return None
        except FileError:  # there is none
            return None
        identities = _Identities(before)
        found = _Found(options, lines)
        digest = sha256()
        try:
            manifest = ManifestFile(file, digest.update)
            comparison = stack.enter_context(Comparison(manifest.options, options))
            comparison.compare(manifest.blocks(), found.blocks(), identities, found)
            knows = identities.are_of(digest.digest())
        except NothingCommonError as error:
            note(f"{_NOT_COMPARED}: {error}")
            return None
        except NotCanonicalError:
            try:
                whole = in_memory(file)
                comparison = stack.enter_context(Comparison(whole.options, options))
            except FileError as error:  # it is damaged, or has nothing in common
                note(f"{_NOT_COMPARED}: {error}")
                return None
            comparison.compare(whole.blocks(), found.blocks())
            knows = False
        return _judged(comparison, before, knows, accept, note)


def require_accepted(changes: Changes | None, output: str) -> None:
    """Raise MismatchError if a change was refused."""
    if changes is not None and changes.refused > 0:
        first, others = changes.unexplained[0], changes.refused - 1
        more = f"; and {counted(others, 'more file')}" if others else ""
        raise MismatchError(
            f"{shown(output)} is not replaced: {quoted(first.path)}: {first.reason}{more}",
            replace(changes.report, differences=changes.unexplained),
        )


def _judged(
    comparison: Comparison,
    before: Before,
    knows: bool,
    accept: Accept,
    note: Callable[[str], object],
) -> Changes:
    counts: Counter[str] = Counter()
    kept: list[Difference] = []
    unexplained: list[Difference] = []
    unused = set() if accept is True else set(accept)
    refused = accepted = same_size = 0
    for found, pair in comparison.pairs():
        counts[found.kind] += 1
        difference, reason = found, ""
        if found.kind == "changed" and found.size is not None and found.size == found.found_size:
            same_size += 1
            reason = _unexplained(pair, before.local) if knows else ""
        if reason and (accept is True or found.path in accept):
            accepted += 1
            unused.discard(found.path)
            difference = replace(found, reason=f"{reason}; accepted")
        elif reason:
            refused += 1
            difference = replace(found, reason=reason)
            if len(unexplained) < CHANGES_MOST:
                unexplained.append(difference)
        if len(kept) < CHANGES_MOST:
            kept.append(difference)
    if same_size and not knows:
        files = counted(same_size, "changed file")
        note(
            f"{files} of the same size {word(same_size, 'is', 'are')} taken as edited: the times "
            "that the files had when the old manifest was written are not known here"
        )
    for path in sorted(unused):
        note(f"there is nothing to accept at {quoted(path)}")
    return Changes(dict(counts), comparison.report(kept), tuple(unexplained), refused, accepted)


def _unexplained(pair: Pair, local: bool) -> str:
    """Return why a file of the same size is not known to have been edited; "" if it is.

    Args:
        pair: its entries, with the identities as facts.
        local: whether these are times of a file of this machine.
    """
    before, after = (fact.removeprefix(_UNTRUSTED) for fact in (pair.fact_before, pair.fact_after))
    if not before or not after:
        return ""
    if before == after:
        return _UNWRITTEN
    texts = [fact.decode("utf-8", "surrogatepass") for fact in (before, after)]
    if not local or not same_but_ctime(*texts):
        return ""
    was, now = (int(text.split(" ")[1]) for text in texts)
    return _SET_BACK if now > was else _CLOCK_BACK


class _Identities(Facts):
    """The identities that the last run kept, as long as they can be read."""

    def __init__(self, before: Before) -> None:
        state = before.state
        self._finished = before.finished
        known = state is not None and self._finished is not None
        self._lists = state.identity_lists() if state is not None and known else iter(())
        self._some: list[str] = []
        self._place = 0  # of the next one in the list
        self._count = 0

    def take(self) -> str:
        if self._place == len(self._some):
            self._fill()
        if not self._some:
            return ""
        self._place += 1
        self._count += 1
        return self._some[self._place - 1]

    def skip(self, count: int) -> None:
        left = count
        while left > 0:
            if self._place == len(self._some):
                self._fill()
            if not self._some:
                return
            step = min(left, len(self._some) - self._place)
            self._place += step
            self._count += step
            left -= step

    def _fill(self) -> None:
        self._place = 0
        try:
            self._some = next(self._lists, [])
        except FileError:  # the state is damaged
            self._some = []
            self._finished = None

    def are_of(self, manifest: bytes) -> bool:
        """Return whether they are of the entries of a manifest, by the SHA-256 of its bytes; after
        each entry took its own."""
        finished = self._finished
        if finished is None or finished.sha256 != manifest:
            return False
        return finished.entries == self._count


class _Found(Facts):
    """The blocks of the new manifest, and the identities of its entries."""

    def __init__(self, options: Options, lines: MakeLines) -> None:
        self._options = options
        self._lines = lines
        self._identities: deque[str] = deque()

    def blocks(self) -> Iterator[Block]:
        self._identities.clear()
        for some in self._lines(self._identities.extend):
            yield Block(some.text, self._options.digests)

    def take(self) -> str:
        return self._identities.popleft()

    def skip(self, count: int) -> None:
        if count == len(self._identities):
            self._identities.clear()
        for _ in range(min(count, len(self._identities))):
            self._identities.popleft()
