# SPDX-License-Identifier: Apache-2.0
"""The report of a folder that was compared with its manifest."""

from __future__ import annotations

import os
from dataclasses import dataclass

from .._files import shown
from .._reports import BaseDifference, DifferenceKind, Report
from .._sidecars import WindowRange
from . import _paths
from ._sources.selection import Excluded


@dataclass(frozen=True)
class Difference(BaseDifference):
    """A file or symbolic link that is not what the manifest says.

    Attributes:
        path: relative to the folder, as in `Entry`.
        kind: "changed", "missing", "added" or "unreadable".
        what: the facts that changed: "size", "residue", names of digests, "symlink". A file whose
            size differs is read only where the leaves are known: otherwise it is "size" alone.
        reason: what changed, or why it could not be read, in words; else "".
        size: bytes of the file in the manifest; None where it has no such file.
        found_size: bytes of the file in the folder; None where there is none.
        ranges: the first `RANGES_MOST` ranges of a changed file that differ, in order; None where
            they are not known.
        range_count: how many ranges there are.
        windows: how many windows differ.
    """

    path: bytes
    kind: DifferenceKind
    what: tuple[str, ...] = ()
    reason: str = ""
    size: int | None = None
    found_size: int | None = None
    ranges: tuple[WindowRange, ...] | None = None
    range_count: int = 0
    windows: int = 0

    def to_fields(self) -> dict[str, object]:
        """Return the fields of its JSON object."""
        counts = {"ranges": self.range_count, "windows": self.windows}
        return (
            dict([_paths.to_json("path", self.path)])
            | super().to_fields()
            | {
                "size": self.size,
                "found_size": self.found_size,
                "counts": None if self.ranges is None else counts,
            }
        )

    def __str__(self) -> str:
        name = shown(os.fsdecode(self.path))
        return f"{name} is {self.kind}" + (f": {self.reason}" if self.reason else "")


_Paths = tuple[bytes, ...]  # `bytes` is a field below


@dataclass(frozen=True)
class ManifestReport(Report[Difference]):
    """How a folder compares with its manifest; true where `holds` is true, and only there.

    Attributes:
        differences: in order of path; without what was added where that is allowed.
        files: how many files of the manifest were compared, or could not be.
        bytes: how many bytes were read.
        complete: whether everything was compared: not where the first difference was the end.
        leaves_error: why the leaves were of no use, or None.
        links: how many symbolic links of the manifest were compared, or could not be.
        excluded: what each rule of the manifest excluded, for rules that excluded something.
        left_out: the paths of files in the folder that were not compared, because those who witness
            and verify it write them: regular files, and no others.
        allowed: how many paths were added where that is allowed; `count("added")` counts them, and
            they are no difference.
    """

    differences: tuple[Difference, ...] = ()
    files: int = 0
    bytes: int = 0
    complete: bool = True
    leaves_error: str | None = None
    links: int = 0
    left_out: _Paths = ()
    excluded: tuple[Excluded, ...] = ()
    allowed: int = 0

    _nothing_compared = "no file was compared with the manifest"

    @property
    def holds(self) -> bool | None:
        """Whether the folder is what the manifest says. None where nothing is known to differ, but
        not everything could be compared."""
        return None if self.files + self.links == 0 and not self.differences else super().holds

    def count(self, kind: DifferenceKind) -> int:
        """Return how many paths there are of a kind. A folder that cannot be listed counts by its
        files in the manifest, and as one where it has none."""
        return super().count(kind) + (self.allowed if kind == "added" else 0)

    def to_fields(self) -> dict[str, object]:
        """Return the fields of its JSON object."""
        fields = super().to_fields()
        fields["counts"] = {
            "files": self.files,
            "links": self.links,
            "bytes": self.bytes,
            **self.counts(),
        }
        return fields | {
            "complete": self.complete,
            "leaves_error": self.leaves_error,
            "excluded": [{"rule": each.rule, "paths": each.paths} for each in self.excluded],
            "left_out": [dict([_paths.to_json("path", path)]) for path in self.left_out],
        }
