# SPDX-License-Identifier: Apache-2.0
"""What differs between a set of named tensors or columns and its witness."""

from __future__ import annotations

from dataclasses import dataclass

from .._errors import WitnessError
from .._tree_files import Run


@dataclass(frozen=True)
class Change:
    """A tensor or column that differs.

    Attributes:
        name: its name.
        differences: which of its facts differ, in the order "dtype" (of a column "type"), "shape"
            ("nullable"), "length", "residue", "digest".
        ranges: the neighbouring windows that differ, `first` to `stop - 1`, with their bytes,
            `start` to `end - 1`; None where one of the witnesses has no leaves.
    """

    name: str
    differences: tuple[str, ...]
    ranges: tuple[Run, ...] | None = None


@dataclass(frozen=True)
class Report:
    """What differs; true where nothing does. str() gives a line for each difference, "" where
    there is none.

    Attributes:
        kind: "tensor" or "column", for the lines.
        changed: those that differ.
        missing: names that only the witness has.
        added: names that the witness has not.
        unreadable: names of those of which no witness could be made, each with the reason.
        other: lines on the whole: metadata, rows, order, bytes that belong to no tensor.
    """

    kind: str
    changed: tuple[Change, ...] = ()
    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    other: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Does nothing differ?"""
        return not (self.changed or self.missing or self.added or self.unreadable or self.other)

    def __bool__(self) -> bool:
        return self.holds

    def lines(self) -> list[str]:
        """A line for each difference."""
        found = []
        for change in self.changed:
            verb = "differs" if len(change.differences) == 1 else "differ"
            line = f"{self.kind} {change.name!r}: {', '.join(change.differences)} {verb}"
            for run in change.ranges or ():
                line += f"; windows {run.first}..{run.stop - 1}, bytes {run.start}..{run.end - 1}"
            found.append(line)
        found += [f"{self.kind} {name!r} is missing" for name in self.missing]
        found += [f"{self.kind} {name!r} was added" for name in self.added]
        found += [f"{self.kind} {name!r} is unreadable: {why}" for name, why in self.unreadable]
        return [*found, *self.other]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def raise_unless_holds(self) -> None:
        """For callers that must not go on with what changed.

        Raises:
            WitnessError: something differs; the message has all lines.
        """
        if not self.holds:
            raise WitnessError(str(self))
