# SPDX-License-Identifier: Apache-2.0
"""What a folder that was compared with its manifest differs in."""

from __future__ import annotations

import json
import os
from typing import Literal, NamedTuple

from .._errors import WitnessError
from .._files import FileError, shown
from .._sidecars import Run
from . import _paths
from ._sources.selection import Excluded

Kind = Literal["changed", "missing", "added", "unreadable"]


class Difference(NamedTuple):
    """A file or symbolic link that is not what the manifest says.

    Attributes:
        path: relative to the folder, as in `Entry`.
        kind: "changed", "missing", "added" or "unreadable".
        what: of what changed: "size", "residue", names of digests, "symlink". A file whose size
            differs is read only where the leaves are known: otherwise it is "size" alone.
        reason: of what changed or is unreadable, in words; else "".
        size: of a file of the manifest, in bytes; None where it has no such file.
        found_size: of the file that was found; None where there is none.
        ranges: of a changed file, its first `RANGES_MOST` runs of windows that differ, in order;
            None where they are not known.
        range_count: how many runs there are.
        windows: how many windows differ.
    """

    path: bytes
    kind: Kind
    what: tuple[str, ...] = ()
    reason: str = ""
    size: int | None = None
    found_size: int | None = None
    ranges: tuple[Run, ...] | None = None
    range_count: int = 0
    windows: int = 0

    def to_fields(self) -> dict[str, object]:
        """The fields of its JSON object."""
        ranges = None if self.ranges is None else [[run.start, run.end] for run in self.ranges]
        return dict([_paths.to_json("path", self.path)]) | {
            "kind": self.kind,
            "what": list(self.what),
            "reason": self.reason or None,
            "size": self.size,
            "found_size": self.found_size,
            "ranges": ranges,
            "range_count": None if ranges is None else self.range_count,
            "windows": None if ranges is None else self.windows,
        }

    def __str__(self) -> str:
        name = shown(os.fsdecode(self.path))
        return f"{name} is {self.kind}" + (f": {self.reason}" if self.reason else "")


def _is_known(difference: Difference) -> bool:
    """Is it known to differ, not only unreadable?"""
    return difference.kind != "unreadable"


_Paths = tuple[bytes, ...]  # `bytes` is a field below


class ManifestReport(NamedTuple):
    """How a folder compares with its manifest; true where `holds` is true, and only there.

    Attributes:
        differences: in order of path; without what was added where that is allowed.
        files: how many files of the manifest were compared, or could not be.
        bytes: how many bytes were read.
        changed, missing, added, unreadable: how many paths. A folder that cannot be listed counts
            by its files in the manifest, and as one where it has none.
        complete: was everything compared? Not where the first difference was the end.
        leaves_error: why the leaves were of no use, or None.
        links: how many symbolic links of the manifest were compared, or could not be.
        excluded: what each rule of the manifest excluded that excluded something.
        left_out: the paths of files that are in the folder, and that were not compared because they
            are what those who witness and verify it write: regular files, and no others.
    """

    differences: tuple[Difference, ...]
    files: int
    bytes: int
    changed: int
    missing: int
    added: int
    unreadable: int
    complete: bool = True
    leaves_error: str | None = None
    links: int = 0
    left_out: _Paths = ()
    excluded: tuple[Excluded, ...] = ()

    @property
    def holds(self) -> bool | None:
        """Is the folder what the manifest says? None where nothing is known to differ, but not all
        could be compared."""
        if any(map(_is_known, self.differences)):
            return False
        return None if self.differences or self.files + self.links == 0 else True

    def __bool__(self) -> bool:
        return self.holds is True

    def raise_unless_holds(self) -> None:
        """For callers that must not go on with what changed.

        Raises:
            WitnessError: it does not hold; names the first path that differs, and how many other
                differences there are.
            FileError: it could not be checked; names the first path, and how many others.
        """
        if self.holds:
            return
        if not self.differences:
            raise FileError("no file was compared with the manifest")
        first = next(filter(_is_known, self.differences), self.differences[0])
        others = len(self.differences) - 1
        more = "" if others == 0 else f"; and {others} more difference{'s' if others > 1 else ''}"
        raise (FileError if self.holds is None else WitnessError)(f"{first}{more}")

    def to_fields(self) -> dict[str, object]:
        """The fields of its JSON object."""
        fields = {"holds": self.holds} | self._asdict()
        left_out = [dict([_paths.to_json("path", path)]) for path in self.left_out]
        differences = [each.to_fields() for each in self.differences]
        excluded = [{"rule": each.rule, "paths": each.paths} for each in self.excluded]
        return fields | {"differences": differences, "left_out": left_out, "excluded": excluded}

    def to_json(self) -> str:
        """The report as a JSON object, on one line without its end."""
        return json.dumps(self.to_fields(), ensure_ascii=False)
