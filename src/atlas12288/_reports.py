# SPDX-License-Identifier: Apache-2.0
"""Reports: what differs between data and its witness, in one shape for all kinds of data.

`Manifest.verify` returns a `ManifestReport`; tensors and tables return a `Report`; a `Scrubber`
returns a `ScrubReport`. Each has a verdict in `holds`, and a difference for each part that does not
match the witness. All ranges are half-open.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar

from ._errors import WitnessError
from ._files import FileError
from ._sidecars import WindowRange
from ._words import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

JSON_TYPE: Final = "atlas12288/report/v1"
DifferenceKind = Literal["changed", "missing", "added", "moved", "unreadable", "other"]
KINDS: Final = ("changed", "missing", "added", "unreadable")


class MismatchError(WitnessError):
    """Data does not match its witness.

    Attributes:
        report: the report, with all differences.
    """

    def __init__(self, message: str, report: Report[Any]) -> None:
        super().__init__(message)
        self.report = report

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.report)


class UndecidedError(FileError):
    """Nothing is known to differ from the witness, but not everything could be compared.

    Attributes:
        report: the report, with the parts that could not be compared.
    """

    def __init__(self, message: str, report: Report[Any]) -> None:
        super().__init__(message)
        self.report = report

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.report)


class BaseDifference:
    """The attributes of every difference; str() gives one line.

    Attributes:
        kind: "changed", "missing", "added" or "unreadable"; "other" for a difference of the whole,
            such as the order of columns.
        what: names of the properties that changed.
        reason: the change, or the reason why it could not be read, in words; else "".
        ranges: windows that differ, in order, with their bytes; None if they are not known.
    """

    if TYPE_CHECKING:

        @property
        def kind(self) -> DifferenceKind: ...
        @property
        def what(self) -> tuple[str, ...]: ...
        @property
        def reason(self) -> str: ...
        @property
        def ranges(self) -> tuple[WindowRange, ...] | None: ...

    def to_fields(self) -> dict[str, object]:
        """Return the fields of its JSON object."""
        ranges = None if self.ranges is None else ranges_to_fields(self.ranges)
        return {
            "kind": self.kind,
            "what": list(self.what),
            "reason": self.reason or None,
            "ranges": ranges,
        }


@dataclass(frozen=True)
class PartDifference(BaseDifference):
    """A tensor, column or buffer that is not what its witness says. str() gives one line.

    Attributes:
        part: "tensor", "column" or "buffer".
        name: its name; None for a difference of the whole.
        kind: "changed", "missing", "added" or "unreadable"; "other" for a difference of the whole,
            such as the order of columns.
        what: the properties that changed: "dtype" (for a column "type"), "shape" ("nullable"),
            "length", "residue" and "digest", in this order.
        reason: what changed, or why it could not be read, in words; else "".
        ranges: windows that differ, in order, with their bytes; None where they are not known. Of a
            buffer that is unreadable, the windows that are.
    """

    part: str
    name: str | None
    kind: DifferenceKind
    what: tuple[str, ...] = ()
    reason: str = ""
    ranges: tuple[WindowRange, ...] | None = None

    def to_fields(self) -> dict[str, object]:
        """Return the fields of its JSON object."""
        return {"part": self.part, "name": self.name} | super().to_fields()

    def __str__(self) -> str:
        if self.name is None:
            return self.reason
        subject = f"{self.part} {self.name!r}"
        places = "".join(f"; {range_words(each, ', ')}" for each in self.ranges or ())
        if self.kind == "changed":
            verb = "differs" if len(self.what) == 1 else "differ"
            return f"{subject}: {', '.join(self.what)} {verb}{places}"
        if self.kind == "unreadable":
            return f"{subject} is unreadable: {self.reason}{places}"
        return f"{subject} {'is missing' if self.kind == 'missing' else 'was added'}"


D = TypeVar("D", bound=BaseDifference)


@dataclass(frozen=True)
class Report(Generic[D]):
    """The differences between data and its witness; true if and only if `holds` is True.

    str() gives a line for each difference, or "" if there is none.

    Attributes:
        differences: all differences. For a manifest they are in order of path; for tensors and
            columns in the order changed, missing, added, unreadable, other.
    """

    differences: tuple[D, ...] = ()

    @property
    def holds(self) -> bool | None:
        """Whether the data matches the witness.

        None if nothing is known to differ, but not everything could be compared.
        """
        if any(map(_is_known, self.differences)):
            return False
        return None if self.differences else True

    def __bool__(self) -> bool:
        return self.holds is True

    @property
    def changed(self) -> tuple[D, ...]:
        """The differences of kind "changed"."""
        return self._of_kind("changed")

    @property
    def missing(self) -> tuple[D, ...]:
        """The differences of kind "missing": the witness has these parts, the data does not."""
        return self._of_kind("missing")

    @property
    def added(self) -> tuple[D, ...]:
        """The differences of kind "added": the data has these parts, the witness does not."""
        return self._of_kind("added")

    @property
    def unreadable(self) -> tuple[D, ...]:
        """The differences of kind "unreadable": these parts could not be compared."""
        return self._of_kind("unreadable")

    @property
    def other(self) -> tuple[D, ...]:
        """The differences of kind "other", which are about the whole."""
        return self._of_kind("other")

    def _of_kind(self, kind: DifferenceKind) -> tuple[D, ...]:
        return tuple(each for each in self.differences if each.kind == kind)

    def count(self, kind: DifferenceKind) -> int:
        """Return the number of parts of a kind."""
        return sum(each.kind == kind for each in self.differences)

    def lines(self) -> list[str]:
        """Return a line for each difference."""
        return list(map(str, self.differences))

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def raise_unless_holds(self) -> None:
        """Raise an error unless the data matches the witness.

        The message names the first difference and counts the others; `report` of the error has all.

        Raises:
            MismatchError: something differs; a WitnessError.
            UndecidedError: not everything could be checked; a FileError.
        """
        if self.holds:
            return
        first = next(filter(_is_known, self.differences), None)
        error = UndecidedError if first is None else MismatchError
        first = first or next(iter(self.differences), None)
        if first is None:
            raise error(self._nothing_compared, self)
        others = len(self.differences) - 1
        more = f"; and {counted(others, 'more difference')}" if others else ""
        raise error(f"{first}{more}", self)

    _nothing_compared = "nothing was compared with the witness"

    def counts(self) -> dict[str, int]:
        """Return the number of parts of each kind."""
        return {kind: self.count(kind) for kind in KINDS}

    def to_fields(self) -> dict[str, object]:
        """Return the fields of its JSON object."""
        return {
            "type": JSON_TYPE,
            "holds": self.holds,
            "counts": self.counts(),
            "differences": [each.to_fields() for each in self.differences],
        }

    def to_json(self) -> str:
        """Return the report as a JSON object, on one line without its end."""
        return json.dumps(self.to_fields())


def _is_known(difference: BaseDifference) -> bool:
    """Return whether the part is known to differ, rather than unreadable."""
    return difference.kind != "unreadable"


def range_to_fields(some: WindowRange) -> dict[str, int]:
    """Return a range of bytes as a JSON object: `start`, and `end`, the first byte after it."""
    return {"start": some.start, "end": some.end}


def ranges_to_fields(ranges: Iterable[WindowRange]) -> list[dict[str, int]]:
    """Return ranges of bytes as JSON objects."""
    return list(map(range_to_fields, ranges))


def range_words(some: WindowRange, between: str) -> str:
    """Return a range in words: "bytes [24576, 36864)", then the windows in it."""
    one = some.stop == some.first + 1
    windows = f"window {some.first}" if one else f"windows {some.first} to {some.stop - 1}"
    return f"bytes [{some.start}, {some.end}){between}{windows}"
