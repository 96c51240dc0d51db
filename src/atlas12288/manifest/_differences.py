# SPDX-License-Identifier: Apache-2.0
"""The report on a folder that was compared with its manifest."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from .._files import shown
from .._reports import BaseDifference, DifferenceKind, Report
from .._sidecars import WindowRange
from . import _paths
from ._sources.selection import Excluded


@dataclass(frozen=True)
class Difference(BaseDifference):
    """A file or symbolic link that does not match the manifest.

    Attributes:
        path: relative to the folder, as in `Entry`; of a moved file, the path in the manifest.
        kind: "changed", "missing", "added", "moved" or "unreadable".
        what: the fields that differ: "size", "residue", names of digests, "symlink". Only "size" if
            the size differs and the leaves are not known, because the file is not read then.
        reason: the change, or the reason why it could not be read, in words; else "".
        size: size of the file in the manifest, in bytes; None if it is not there.
        found_size: size of the file in the folder, in bytes; None if it is not there.
        ranges: the first `RANGES_MOST` differing ranges of a changed file, in order; None if they
            are not known.
        range_count: number of differing ranges.
        windows: number of differing windows.
        moved_to: the path that a moved file has now; else None.
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
    moved_to: bytes | None = None

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
            | (
                {"moved_to": None}
                if self.moved_to is None
                else dict([_paths.to_json("moved_to", self.moved_to)])
            )
        )

    def __str__(self) -> str:
        name = shown(os.fsdecode(self.path))
        if self.moved_to is not None:
            return f"{name} is moved to {shown(os.fsdecode(self.moved_to))}"
        return f"{name} is {self.kind}" + (f": {self.reason}" if self.reason else "")


def described(target: bytes | None) -> str:
    """Return what an entry is, in words: a file, or a symbolic link to its target."""
    return "a file" if target is None else f"a symbolic link to {_paths.quoted(target)}"


_Paths = tuple[bytes, ...]  # `bytes` is a field below


@dataclass(frozen=True)
class ManifestReport(Report[Difference]):
    """The result of comparing a folder with its manifest; true if and only if `holds` is True.

    Attributes:
        differences: all differences, in order of path; without added files if they are allowed.
        files: number of files of the manifest that were compared or could not be.
        bytes: number of bytes read.
        complete: whether everything was compared; False after stopping at the first difference.
        leaves_error: why the leaves could not be used, or None.
        links: number of symbolic links of the manifest that were compared or could not be.
        excluded: the paths that each rule excluded, for rules that excluded any.
        left_out: paths of regular files in the folder that were not compared, because witnessing or
            verifying writes them.
        allowed: number of added paths, if they are allowed; `count("added")` includes them, but
            `differences` does not.
        part: the paths that were compared, with everything below them; empty for all.
        manifest_files: number of files of the whole manifest.
        manifest_links: number of symbolic links of the whole manifest.
        not_compared: of two manifests, the number of paths that only one of them can have, because
            rules, paths or the treatment of links differ.
        other_options: of two manifests, the options that differ: each with its name and the value
            in either.
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
    part: _Paths = ()
    manifest_files: int = 0
    manifest_links: int = 0
    not_compared: int = 0
    other_options: tuple[tuple[str, Any, Any], ...] = ()

    _nothing_compared = "no file was compared with the manifest"

    @property
    def holds(self) -> bool | None:
        """Whether the folder matches the manifest; None if nothing is known to differ but not
        everything could be compared."""
        return None if self.files + self.links == 0 and not self.differences else super().holds

    @property
    def moved(self) -> tuple[Difference, ...]:
        """The differences of kind "moved": files whose content is missing at exactly one path and
        was added at exactly one other."""
        return self._of_kind("moved")

    def counts(self) -> dict[str, int]:
        """Return the number of paths of each kind."""
        return super().counts() | {"moved": self.count("moved")}

    def count(self, kind: DifferenceKind) -> int:
        """Return the number of paths of a kind. A folder that cannot be listed counts as its files
        in the manifest, or as one."""
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
            "part": self._part_to_fields(),
            "not_compared": self.not_compared,
            "other_options": [
                {"option": name, "before": before, "after": after}
                for name, before, after in self.other_options
            ],
        }

    def _part_to_fields(self) -> dict[str, object] | None:
        if not self.part:
            return None
        return {
            "paths": [dict([_paths.to_json("path", path)]) for path in self.part],
            "manifest_files": self.manifest_files,
            "manifest_links": self.manifest_links,
        }


CHANGES_MOST: Final = 1000  # differences that are kept, of any number


class Changes(NamedTuple):
    """What differs from the manifest that a run replaces.

    Attributes:
        counts: the number of differences of each kind.
        report: the comparison, with the first `CHANGES_MOST` differences.
        unexplained: of the files that are not known to have been edited, the first `CHANGES_MOST`
            that were not accepted, with the reason.
        refused: number of files that are not known to have been edited and were not accepted; if
            there are any, nothing was written.
        accepted: number of files that are not known to have been edited and were accepted.
    """

    counts: dict[str, int]
    report: ManifestReport
    unexplained: tuple[Difference, ...]
    refused: int
    accepted: int
