# SPDX-License-Identifier: Apache-2.0
"""Pictures of the residues of a file's windows.

In both pictures, left to right is the place in the file, and bottom to top is the residue of the
windows there, with conserved ones at the bottom. Random bytes give an even cloud; zeros, text,
tables and other structure give lines and steps.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final

import click

from ..._native import MODULUS, WINDOW_BYTES
from .figures import drawing, save

MAX_COLUMNS: Final = 1024
MAX_PANELS: Final = 32  # files in one image
_SKETCH_COLUMNS: Final = 64
_SKETCH_BAND: Final = 8  # residues in one line of a sketch: 12 lines
_SHADES: Final = " ·░▒▓█"


class ResidueMap:
    """The number of windows of each residue in each part of a file.

    It needs the same memory for a file of any size: there are at most `MAX_COLUMNS` parts, and
    when they are full, neighbours are merged.

    Args:
        title: title of the picture.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.columns: list[array[int]] = []  # windows by residue, for each part of the file
        self.windows = 0
        self.windows_per_column = 1
        self._room = 0  # windows that still fit into the last column

    def update(self, residues: bytes) -> None:
        """Add the residues of the next windows."""
        start = 0
        while start < len(residues):
            if self._room == 0:
                if len(self.columns) == MAX_COLUMNS:
                    self.columns = [
                        array("Q", map(sum, zip(even, odd, strict=True)))
                        for even, odd in zip(self.columns[::2], self.columns[1::2], strict=True)
                    ]
                    self.windows_per_column *= 2
                self.columns.append(array("Q", bytes(8 * MODULUS)))
                self._room = self.windows_per_column
            part = residues[start : start + self._room]
            column = self.columns[-1]
            for residue, count in Counter(part).items():
                column[residue] += count
            start += len(part)
            self._room -= len(part)
            self.windows += len(part)

    def _totals(self) -> list[int]:
        return [sum(column[residue] for column in self.columns) for residue in range(MODULUS)]

    def sketch(self, colour: bool) -> Iterator[str]:
        """Return the picture as lines of text.

        Args:
            colour: whether the lines may contain colours.
        """
        if not self.columns:
            return
        merge = -(-len(self.columns) // _SKETCH_COLUMNS)
        groups = [
            [sum(counts) for counts in zip(*self.columns[start : start + merge], strict=True)]
            for start in range(0, len(self.columns), merge)
        ]

        def row(first: int, stop: int) -> str:
            cells = []
            for group in groups:
                share = sum(group[first:stop]) / sum(group)
                # Rounded up, so that one window in a million is still visible.
                cells.append(_SHADES[-int(-share * (len(_SHADES) - 1) // 1)])
            return "".join(cells)

        for first in range(MODULUS - _SKETCH_BAND, -1, -_SKETCH_BAND):
            start = max(first, 1)  # residue 0 has a line of its own
            yield f"{start:>9}-{first + _SKETCH_BAND - 1:<2} |{row(start, first + _SKETCH_BAND)}|"
        conserved = row(0, 1)
        yield f"   conserved |{click.style(conserved, fg='green') if colour else conserved}|"
        yield (
            f"     residue of {self.windows} windows of {WINDOW_BYTES} bytes, from the start of the"
            f" file to its end; {merge * self.windows_per_column} a column"
        )


@drawing()
def draw(maps: Sequence[ResidueMap], file: BinaryIO, image_format: str) -> None:
    """Draw the pictures of several files, one below the other.

    Needs matplotlib.

    Args:
        maps: at most `MAX_PANELS`.
        file: the file to write the image to.
        image_format: "png", "svg" or "pdf".
    """
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator

    figure = Figure(figsize=(11, 3.4 * len(maps)), dpi=120, layout="constrained")
    panels = figure.subplots(len(maps), 2, squeeze=False, sharey=True, width_ratios=(6, 1))
    for residue_map, (place, histogram) in zip(maps, panels, strict=True):
        totals = residue_map._totals()
        conserved = totals[0]
        place.set_title(
            f"{residue_map.title}\n{conserved} of {residue_map.windows} windows conserved",
            loc="left",
            fontsize=9,
            parse_math=False,
        )
        place.set_ylabel(f"residue (mod {MODULUS})")
        place.set_yticks(range(0, MODULUS, MODULUS // 8))
        place.set_xlabel("offset in the file")
        place.xaxis.set_major_formatter(EngFormatter("B"))
        histogram.set_xlabel("windows")
        histogram.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        if residue_map.windows == 0:
            continue
        end = len(residue_map.columns) * residue_map.windows_per_column * WINDOW_BYTES
        # Two images, so that conserved windows have a colour of their own.
        counts = [[column[residue] for column in residue_map.columns] for residue in range(MODULUS)]
        # From a tenth, so that a single window is dark enough to be seen.
        scale = LogNorm(vmin=0.1, vmax=max(2, residue_map.windows_per_column))
        for first, stop, colours in ((0, 1, "Greens"), (1, MODULUS, "Purples")):
            shaded = [[count or float("nan") for count in row] for row in counts[first:stop]]
            place.imshow(
                shaded,
                origin="lower",
                aspect="auto",
                interpolation="nearest",
                extent=(0, end, first - (0.5 if first else 1.5), stop - 0.5),  # row 0 is thicker
                cmap=colours,
                norm=scale,
            )
        place.set_xlim(0, end)
        place.set_ylim(-1.5, MODULUS - 0.5)
        histogram.barh(range(MODULUS), totals, color=["green"] + ["indigo"] * (MODULUS - 1))
    save(figure, file, image_format)
