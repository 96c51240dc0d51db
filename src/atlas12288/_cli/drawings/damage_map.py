# SPDX-License-Identifier: Apache-2.0
"""A map of a file: its windows in reading order, with marks where they differ from the witness.

Each cell stands for one window or, in a large file, for several neighbours. A cell is marked even
if only one of its windows differs, so that no difference is lost.
"""

from array import array
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final, NamedTuple

import click

from ..._native import WINDOW_BYTES
from ..._subtree import window_count
from ..._words import word
from .figures import drawing, save

MAX_CELLS: Final = 4096
_SKETCH_CELLS: Final = 1024
_MAX_COLUMNS: Final = 128
_SKETCH_COLUMNS: Final = 64
_MIN_COLUMNS: Final = 16
# Rings point at small marks. Too many of them, or rings around long marks, would hide the marks.
_MAX_RINGS: Final = 40
_MAX_RINGED_CELLS: Final = 3


class _Shade(NamedTuple):
    """A kind of cell, and how it is shown."""

    label: str
    colour: str  # in an image
    character: str  # in a sketch
    style: str | None  # its colour there


_SAME: Final = _Shade("same", "#dfe5ea", "·", None)
_SOME: Final = _Shade("some windows changed", "#ff8c1a", "x", "yellow")
_CHANGED: Final = _Shade("changed", "#d3121b", "X", "red")
_MISSING: Final = _Shade("missing from the file", "#1a1a1a", "-", "magenta")
_ADDED: Final = _Shade("added to the file", "#2274c4", "+", "cyan")
_KINDS: Final = (_SAME, _SOME, _CHANGED, _MISSING, _ADDED)


class DamageMap:
    """The differing windows of a file in at most `MAX_CELLS` cells, in memory of that size.

    Args:
        title: title of the picture.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.windows = 0
        self.differ = 0
        self.ranges = 0
        self.windows_per_cell = 1
        self.cells = array("Q", bytes(8 * MAX_CELLS))  # windows that differ
        self._kept = 0  # windows that witness and file both have
        self._grown = False

    def update(self, first: int, stop: int) -> None:
        """Mark the windows first..stop-1; ranges come in order, and never touch."""
        self._reach(stop)
        self.ranges += 1
        self.differ += stop - first
        while first < stop:
            cell, within = divmod(first, self.windows_per_cell)
            count = min(stop - first, self.windows_per_cell - within)
            self.cells[cell] += count
            first += count

    def finish(self, witnessed: int, found: int) -> None:
        """Take the lengths in bytes of the witnessed region and of the file."""
        self.windows = window_count(max(witnessed, found))
        self._kept = window_count(min(witnessed, found))
        self._grown = found > witnessed
        self._reach(self.windows)

    def _reach(self, windows: int) -> None:
        """Merge neighbouring cells until that many windows fit."""
        while windows > MAX_CELLS * self.windows_per_cell:
            self.cells = _merged(self.cells, 2) + array("Q", bytes(8 * (MAX_CELLS // 2)))
            self.windows_per_cell *= 2

    def kinds(self, most: int) -> tuple[list[_Shade], int]:
        """Return the kinds of at most `most` cells, and how many windows each one stands for.

        Args:
            most: a power of two.
        """
        merge = 1
        while self.windows > most * merge * self.windows_per_cell:
            merge *= 2
        step = merge * self.windows_per_cell
        counts = _merged(self.cells, merge)
        return [
            self._kind(counts[index], index * step, min((index + 1) * step, self.windows))
            for index in range(-(-self.windows // step))
        ], step

    def _kind(self, differ: int, first: int, stop: int) -> _Shade:
        if differ == 0:
            return _SAME
        if first >= self._kept:
            return _ADDED if self._grown else _MISSING
        return _CHANGED if differ == stop - first else _SOME

    def summary(self) -> str:
        """Return what the map shows, in one line."""
        if self.windows == 0:
            return "empty, as witnessed"
        if self.differ == 0:
            return f"none of {self.windows} windows differs"
        ranges = f"{self.ranges} {word(self.ranges, 'range')}"
        return f"{self.differ} of {self.windows} windows differ, in {ranges}"

    def sketch(self, colour: bool) -> Iterator[str]:
        """Return the map as lines of text.

        Args:
            colour: whether the lines may contain colours.
        """
        kinds, step = self.kinds(_SKETCH_CELLS)
        columns = _columns(len(kinds), _SKETCH_COLUMNS)

        def cell(kind: _Shade) -> str:
            return click.style(kind.character, fg=kind.style) if colour else kind.character

        for start in range(0, len(kinds), columns):
            row = kinds[start : start + columns]
            blank = " " * (columns - len(row))
            yield f"{start * step * WINDOW_BYTES:>13} |{''.join(map(cell, row))}{blank}|"
        if kinds:
            legend = "  ".join(f"{cell(kind)} {kind.label}" for kind in _KINDS if kind in kinds)
            yield f"{'':13}{legend}"
            yield f"{'':13}offsets in bytes; one character: {_cell_size(step)}"


def _merged(cells: "array[int]", merge: int) -> "array[int]":
    return array("Q", (sum(cells[at : at + merge]) for at in range(0, len(cells), merge)))


def _columns(cells: int, most: int) -> int:
    """Return how many cells go in a row: a power of two, about four times the number of rows."""
    columns = _MIN_COLUMNS
    while columns < most and columns * columns < 4 * cells:
        columns *= 2
    return columns


def _cell_size(windows: int) -> str:
    return f"{windows} {word(windows, 'window')} of {WINDOW_BYTES} bytes"


def _groups(kinds: list[_Shade], columns: int) -> list[tuple[int, int]]:
    """Return the marked cells that are neighbours in one row, as first..last."""
    found: list[tuple[int, int]] = []
    for index, kind in enumerate(kinds):
        if kind is _SAME:
            continue
        if found and found[-1][1] == index - 1 and index % columns > 0:
            found[-1] = found[-1][0], index
        else:
            found.append((index, index))
    return found


@drawing()
def draw(
    maps: Sequence[DamageMap],
    file: BinaryIO,
    image_format: str,
    *,
    heading: str = "",
    notes: Sequence[str] = (),
) -> None:
    """Draw the maps of several files, one below the other.

    Needs matplotlib.

    Args:
        maps: finished ones, at most `plot.MAX_PANELS`.
        file: the file to write the image to.
        image_format: "png", "svg" or "pdf".
        heading: a line above all of them.
        notes: lines below them.
    """
    from matplotlib.axes import Axes
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.ticker import EngFormatter

    formatter = EngFormatter("B", places=1)

    def offset(window: int) -> str:
        return formatter(window * WINDOW_BYTES) if window > 0 else "0 B"

    def draw_one(axes: Axes, damage_map: DamageMap) -> None:
        kinds, step = damage_map.kinds(MAX_CELLS)
        axes.set_title(
            f"{damage_map.title}\n{damage_map.summary()}",
            loc="left",
            fontsize=10,
            parse_math=False,
        )
        if not kinds:
            axes.set_axis_off()
            return
        columns = _columns(len(kinds), _MAX_COLUMNS)
        rows = -(-len(kinds) // columns)
        numbers: list[float] = [_KINDS.index(kind) for kind in kinds]
        numbers += [float("nan")] * (rows * columns - len(kinds))
        axes.pcolormesh(
            [numbers[start : start + columns] for start in range(0, len(numbers), columns)],
            cmap=ListedColormap([kind.colour for kind in _KINDS]),
            vmin=-0.5,
            vmax=len(_KINDS) - 0.5,
            edgecolors="white",
            linewidth=min(2.0, 40 / columns),
        )
        axes.set_xlim(0, columns)
        axes.set_ylim(rows, 0)
        for side in axes.spines.values():
            side.set_visible(False)
        axes.tick_params(length=0)
        at_rows = range(0, rows, -(-rows // 8))
        axes.set_yticks([row + 0.5 for row in at_rows])
        axes.set_yticklabels(
            [f"{row * columns * step:,}  ({offset(row * columns * step)})" for row in at_rows]
        )
        axes.set_ylabel("first window (offset)")
        at_columns = range(0, columns, columns // 8)
        axes.set_xticks([column + 0.5 for column in at_columns])
        axes.set_xticklabels([f"+{column * step:,}" for column in at_columns])
        axes.set_xlabel(f"window in the row; one cell: {_cell_size(step)}")
        groups = _groups(kinds, columns)
        if columns == _MAX_COLUMNS and len(groups) <= _MAX_RINGS:
            small = [group for group in groups if group[1] - group[0] < _MAX_RINGED_CELLS]
            axes.scatter(
                [(first % columns + last % columns + 1) / 2 for first, last in small],
                [first // columns + 0.5 for first, _ in small],
                s=420,
                facecolors="none",
                edgecolors=_CHANGED.colour,
                linewidths=1.8,
                clip_on=False,
            )
        axes.legend(
            handles=[
                Patch(facecolor=kind.colour, label=f"{kind.label} ({kinds.count(kind)})")
                for kind in _KINDS
                if kind in kinds
            ],
            title="cells",
            alignment="left",
            loc="upper left",
            bbox_to_anchor=(1.0, 1.0),
            frameon=False,
        )

    heights = []
    for damage_map in maps:
        cells = len(damage_map.kinds(MAX_CELLS)[0])
        rows = -(-cells // _columns(cells, _MAX_COLUMNS))
        heights.append(1.2 + max(0.5, 0.115 * rows) if cells else 0.6)
    if notes or not maps:
        heights.append(0.2 + 0.2 * len(notes))
    height = sum(heights) + (0.5 if heading else 0)
    figure = Figure(figsize=(12, height), dpi=120, layout="constrained")
    if heading:
        figure.suptitle(heading, x=0.01, ha="left", fontsize=12, weight="bold", parse_math=False)
    panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for damage_map, axes in zip(maps, panels[: len(maps)], strict=True):
        draw_one(axes, damage_map)
    if len(panels) > len(maps):
        panels[-1].set_axis_off()
        text = "\n".join(notes)
        panels[-1].text(0, 1, text, va="top", fontsize=10, parse_math=False)
    save(figure, file, image_format)
