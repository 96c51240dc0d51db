# SPDX-License-Identifier: Apache-2.0
"""Count what a comparison of a folder with its manifest finds, and tell the listener."""

from __future__ import annotations

from ._beside import Outputs
from ._differences import Difference, ManifestReport
from ._entries import UNKNOWN_SIZE, Entry
from ._listener import Listener
from ._sources.selection import Excluded
from ._sources.source import Found


class Tally:
    """Counts the differences, and tells the listener."""

    def __init__(self, allow_extra: bool, listener: Listener, outputs: Outputs) -> None:
        self.listener = listener
        self.allow_extra = allow_extra
        self.files = 0
        self.links = 0
        self.bytes = 0
        self.leaves_error: str | None = None
        self.excluded: tuple[Excluded, ...] = ()
        self.allowed = 0
        self._differences: list[Difference] = []
        self._outputs = outputs

    def add(self, difference: Difference) -> None:
        self._differences.append(difference)
        self.listener.difference(difference)

    def report(self, complete: bool) -> ManifestReport:
        return ManifestReport(
            differences=tuple(self._differences),
            files=self.files,
            bytes=self.bytes,
            complete=complete,
            leaves_error=self.leaves_error,
            links=self.links,
            left_out=tuple(sorted(self._outputs.left_out)),
            excluded=self.excluded,
            allowed=self.allowed,
        )


def changed_file(entry: Entry, found: Found, what: tuple[str, ...], reason: str = "") -> Difference:
    """Return the difference of an entry that changed; without a reason, name what differs."""
    if not reason and "size" in what:
        reason = f"has {found.size} bytes, must have {entry.size}"
    elif not reason:
        reason = f"differs in {', '.join(what)}"
    return Difference(entry.path, "changed", what, reason, _size(entry), _size(found))


def _size(file: Entry | Found) -> int | None:
    return None if file.target is not None or file.size == UNKNOWN_SIZE else file.size
