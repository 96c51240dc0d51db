# SPDX-License-Identifier: Apache-2.0
"""Say what differs between a new manifest and the one that it replaces.

A file whose content changed while its size and modification time did not is not known to have been
edited: a disk, a copy or a program may have damaged it. The manifest that is replaced is the only
evidence of that, so it stays until somebody accepts the change.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Final, Literal, NamedTuple

from .._files import FileError, RegularFile, shown
from .._reports import MismatchError
from .._sidecars import TreeLeaves, require_size
from .._witness import TREE_ALGORITHM, WitnessStream
from .._words import counted, word
from ._diff import Comparison, NothingCommonError
from ._diff_windows import Pair, ranged
from ._differences import CHANGES_MOST, Changes, Difference
from ._entries import Entry, Lines, read_line
from ._kinds import is_manifest
from ._manifest_file import Block, ManifestFile, NotCanonicalError, in_memory
from ._paths import quoted
from ._rows import Facts, Places
from ._sources.source import UNTRUSTED, same_but_ctime
from ._state_file import StateFile
from ._state_frames import Finished
from ._statement import Options

_UNWRITTEN: Final = "changed without a write: damage, or written through a memory map"
_SET_BACK: Final = "written, and its time set back"
_CLOCK_BACK: Final = "written, and the clock set back"
_ACCEPTED: Final = "; accepted"
_NOT_ACCEPTED: Final = "; not accepted, because no run before has refused it as it is now"

_NOT_COMPARED: Final = "cannot be compared with what it replaces"
_BETWEEN: Final = "\n"  # a place and an identity
_UNTRUSTED: Final = UNTRUSTED.encode()

# Yields the lines of a manifest, and calls a function with the identities of each before it.
MakeLines = Callable[[Callable[[list[bytes]], object]], Iterable[Lines]]
# True for all files, or the paths of some: of those that were refused before, as they are now.
Accept = Literal[True] | Collection[bytes]


class Before(NamedTuple):
    """What is known of the manifest that is replaced.

    Attributes:
        output: its name.
        state: the state of the run that wrote it; None if there is none.
        finished: that run; None likewise.
        local: whether identities are the times of files of this machine.
        leaves: the sidecar of that manifest; None if none is wanted or there.
    """

    output: str
    state: StateFile | None
    finished: Finished | None
    local: bool
    leaves: RegularFile | None = None


class New(NamedTuple):
    """The manifest that will be written.

    Attributes:
        options: its options.
        lines: yields its lines.
        leaves: yields the leaves of the file at a path, joined, in batches.
        refused: yields the entries that the refused run read with which this one goes on, each with
            its identity.
    """

    options: Options
    lines: MakeLines
    leaves: Callable[[bytes], Iterable[bytes]]
    refused: Callable[[], Iterable[tuple[Entry, str]]]


def changes_since(
    before: Before,
    new: New,
    accept: Accept,
    note: Callable[[str], object],
) -> Changes | None:
    """Return what differs from the manifest that is replaced; None if there is none.

    Args:
        before: what is known of that manifest.
        new: the new one.
        accept: the files that may have changed without being known to have been edited.
        note: called with a sentence for people.

    Raises:
        FileError: the old manifest cannot be read, so that nobody knows what it would tell; or as
            from `new`.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(RegularFile(before.output))
            if not is_manifest(file):
                return None
        except FileError:  # there is none
            return None
        known: _Known | None = None
        found = _Found(new)
        digest = WitnessStream()
        try:
            manifest = ManifestFile(file, digest.update)
            known = _Known(before, manifest)
            comparison = stack.enter_context(Comparison(manifest.options, new.options))
            comparison.compare(known.blocks(), found.blocks(), known, found)
            knows = known.identities.are_of(digest.digest())
        except NothingCommonError as error:
            note(f"{_NOT_COMPARED}: {error}")
            return None
        except NotCanonicalError:
            try:
                whole = in_memory(file)
                comparison = stack.enter_context(Comparison(whole.options, new.options))
            except FileError as error:  # it is damaged, or has nothing in common
                note(f"{_NOT_COMPARED}: {error}")
                return None
            comparison.compare(whole.blocks(), found.blocks())
            known, knows = None, False
        windows = None if known is None else known.windows(new)
        accepted = _Accepted(accept, new)
        if knows and accept:
            accepted.look_up(comparison, before.local)
        return _judged(comparison, before.local, knows, windows, accepted, note)


def require_accepted(changes: Changes, output: str) -> None:
    """Raise MismatchError if a change was refused."""
    if changes.refused > 0:
        first, others = changes.unexplained[0], changes.refused - 1
        more = f"; and {counted(others, 'more file')}" if others else ""
        raise MismatchError(
            f"{shown(output)} is not replaced: {quoted(first.path)}: {first.reason}{more}",
            replace(changes.report, differences=changes.unexplained),
        )


def _judged(
    comparison: Comparison,
    local: bool,
    knows: bool,
    windows: _Windows | None,
    accepted: _Accepted,
    note: Callable[[str], object],
) -> Changes:
    counts: Counter[str] = Counter()
    kept: list[Difference] = []
    unexplained: list[Difference] = []
    refused = same_size = 0
    for found, pair in comparison.pairs():
        counts[found.kind] += 1
        reason = ""
        if found.kind == "changed" and found.size is not None and found.size == found.found_size:
            same_size += 1
            reason = _unexplained(pair, local) if knows else ""
        said = accepted.judge(found.path) if reason else ""
        reason += said
        is_refused = bool(reason) and said != _ACCEPTED
        refused += is_refused
        wanted = is_refused and len(unexplained) < CHANGES_MOST
        if not wanted and len(kept) >= CHANGES_MOST:
            continue
        difference = found if windows is None else windows.judge(found, pair)
        if reason:
            difference = replace(difference, reason=reason)
        if wanted:
            unexplained.append(difference)
        if len(kept) < CHANGES_MOST:
            kept.append(difference)
    if same_size and not knows:
        files = counted(same_size, "changed file")
        note(
            f"{files} of the same size {word(same_size, 'is', 'are')} taken as edited: the times "
            "that the files had when the old manifest was written are not known here"
        )
    for path in sorted(accepted.unused):
        note(
            f"there is nothing to accept at {quoted(path)}: each path must be of a file that was "
            "refused, relative to the folder"
        )
    report = comparison.report(kept)
    return Changes(dict(counts), report, tuple(unexplained), refused, accepted.count)


class _Accepted:
    """Judges which of the files that are not known to have been edited are accepted.

    Attributes:
        count: number of files that are.
        unused: paths to accept at which there is no such file.
    """

    def __init__(self, accept: Accept, new: New) -> None:
        self._accept = accept
        self._new = new
        self._refused: set[bytes] = set()
        self.count = 0
        self.unused = set() if accept is True else set(accept)

    def _names(self, path: bytes) -> bool:
        return self._accept is True or path in self._accept

    def look_up(self, comparison: Comparison, local: bool) -> None:
        """Find the files that the refused run read as they are now: with the same identity and
        digests."""
        wanted: dict[tuple[Entry, str], bytes] = {}
        for found, pair in comparison.pairs():
            is_suspect = found.kind == "changed" and found.size == found.found_size is not None
            if is_suspect and self._names(found.path) and _unexplained(pair, local):
                entry = read_line(pair.after, self._new.options.digests)
                identity = pair.fact_after.decode("utf-8", "surrogatepass").removeprefix(UNTRUSTED)
                wanted[entry, identity] = found.path
        if wanted:
            for entry, identity in self._new.refused():
                path = wanted.get((entry, identity.removeprefix(UNTRUSTED)))
                if path is not None:
                    self._refused.add(path)

    def judge(self, path: bytes) -> str:
        """Return what to add to the reason of a file; `_ACCEPTED` if it is accepted."""
        self.unused.discard(path)
        if not self._names(path):
            return ""
        if path not in self._refused:  # nobody has seen what is there now
            return _NOT_ACCEPTED
        self.count += 1
        return _ACCEPTED


def _unexplained(pair: Pair, local: bool) -> str:
    """Return why a file of the same size is not known to have been edited; "" if it is.

    Args:
        pair: its entries, with the identities as facts.
        local: whether these are times of a file of this machine.
    """
    _, before = _place_and_identity(pair.fact_before)
    before, after = (fact.removeprefix(_UNTRUSTED) for fact in (before, pair.fact_after))
    if not before or not after:
        return ""
    if before == after:
        return _UNWRITTEN
    texts = [fact.decode("utf-8", "surrogatepass") for fact in (before, after)]
    if not local or not same_but_ctime(*texts):
        return ""
    was, now = (int(text.split(" ")[1]) for text in texts)
    return _SET_BACK if now > was else _CLOCK_BACK


class _Known(Facts):
    """The blocks of the manifest that is replaced, and what else is known of its entries: the place
    of the first leaf, where there is a sidecar, and the identity."""

    def __init__(self, before: Before, manifest: ManifestFile) -> None:
        self.identities = _Identities(before)
        self._manifest = manifest
        self._sidecar = before.leaves if TREE_ALGORITHM in manifest.options.digests else None
        self._places = None if self._sidecar is None else Places(manifest)

    def blocks(self) -> Iterator[Block]:
        return (self._manifest if self._places is None else self._places).blocks()

    def take(self) -> str:
        place = "" if self._places is None else self._places.take()
        return f"{place}{_BETWEEN}{self.identities.take()}"

    def skip(self, count: int) -> None:
        if self._places is not None:
            self._places.skip(count)
        self.identities.skip(count)

    def windows(self, new: New) -> _Windows | None:
        """Return what finds the windows that differ, after all blocks; None without leaves."""
        if self._sidecar is None or self._places is None:
            return None
        with suppress(FileError):  # it belongs to something else
            require_size(self._sidecar, self._places.leaves, "manifest")
            return _Windows(self._sidecar, self._manifest.options, new.leaves)
        return None


def _place_and_identity(fact: bytes) -> tuple[bytes, bytes]:
    place, _, identity = fact.partition(_BETWEEN.encode())
    return place, identity


class _Windows:
    """Finds the windows that differ in changed files."""

    def __init__(
        self, sidecar: RegularFile, options: Options, leaves: Callable[[bytes], Iterable[bytes]]
    ) -> None:
        self._sidecar = sidecar
        self._options = options
        self._leaves = leaves

    def judge(self, difference: Difference, pair: Pair) -> Difference:
        """Return the difference with its ranges, if it is of a file whose leaves are there."""
        if difference.kind != "changed" or None in (difference.size, difference.found_size):
            return difference
        entry = read_line(pair.before, self._options.digests)
        place, _ = _place_and_identity(pair.fact_before)
        assert entry.root is not None
        before = TreeLeaves(self._sidecar, int(place), entry.size, entry.root)
        with suppress(FileError):  # the digests tell that it changed
            return ranged(difference, before, self._leaves(difference.path))
        return difference


class _Identities(Facts):
    """The identities that the last run kept, as long as they can be read."""

    def __init__(self, before: Before) -> None:
        state = before.state
        self._finished = before.finished
        known = state is not None and self._finished is not None
        self._lists = state.identity_lists() if state is not None and known else iter(())
        self._some: list[bytes] = []
        self._place = 0  # of the next one in the list
        self._count = 0

    def take(self) -> str:
        if self._place == len(self._some):
            self._fill()
        if not self._some:
            return ""
        self._place += 1
        self._count += 1
        return self._some[self._place - 1].decode("utf-8", "surrogatepass")

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

    def __init__(self, new: New) -> None:
        self._new = new
        self._identities: deque[bytes] = deque()

    def blocks(self) -> Iterator[Block]:
        self._identities.clear()
        for some in self._new.lines(self._identities.extend):
            yield Block(some.text, self._new.options.digests)

    def take(self) -> str:
        return self._identities.popleft().decode("utf-8", "surrogatepass")

    def skip(self, count: int) -> None:
        if count == len(self._identities):
            self._identities.clear()
        for _ in range(min(count, len(self._identities))):
            self._identities.popleft()
