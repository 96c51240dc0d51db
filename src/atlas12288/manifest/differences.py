# SPDX-License-Identifier: Apache-2.0
"""What a folder that was compared with its manifest differs in."""

from __future__ import annotations

import json
import os
from typing import Literal, NamedTuple

from ..errors import WitnessError
from ..file_tree import Run
from . import paths

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
        return dict([paths.to_json("path", self.path)]) | {
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
        name = os.fsdecode(self.path)
        return f"{name} is {self.kind}" + (f": {self.reason}" if self.reason else "")


class ManifestReport(NamedTuple):
    """How a folder compares with its manifest.

    Attributes:
        differences: in order of path; without the added files where those are allowed.
        files: how many entries of the manifest were compared, or could not be.
        bytes: how many bytes were read.
        changed, missing, added, unreadable: how many files.
        complete: was everything compared? Not where the first difference was the end.
        leaves_error: why the leaves were of no use, or None.
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

    @property
    def holds(self) -> bool:
        """Is the folder what the manifest says? False as well where nothing was compared."""
        return self.files > 0 and not self.differences

    def raise_for_status(self) -> None:
        """Enforces `holds`.

        Raises:
            WitnessError: it does not hold; names the first difference, and how many others there
                are.
        """
        if self.holds:
            return
        if not self.differences:
            raise WitnessError("no file was compared with the manifest")
        first, others = self.differences[0], len(self.differences) - 1
        more = "" if others == 0 else f"; and {others} more difference{'s' if others > 1 else ''}"
        raise WitnessError(f"{first}{more}")

    def to_fields(self) -> dict[str, object]:
        """The fields of its JSON object."""
        fields = {"holds": self.holds} | self._asdict()
        return fields | {"differences": [each.to_fields() for each in self.differences]}

    def to_json(self) -> str:
        """The report as a JSON object, on one line without its end."""
        return json.dumps(self.to_fields(), ensure_ascii=False)
