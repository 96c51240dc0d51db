# SPDX-License-Identifier: Apache-2.0
"""The plot of the benchmark: throughput against size, for this library and its peers."""

from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from .._cli.drawings.figures import drawing, save
from . import NS_PER_BYTE, Bound, Measurement, size_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours that people with any colour vision tell apart (Okabe and Ito).
_OURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_PEERS: Final = (
    ("#000000", "-"),
    ("#777777", "--"),
    ("#000000", ":"),
    ("#777777", "-."),
    ("#999999", "-"),
)
_TARGET: Final = "#AA0000"
_COLUMNS: Final = 2
_DECADES_LEAST: Final = 3.0  # a panel spans at least this factor, so that noise looks like noise


def _throughput(measured: Measurement, figure: float) -> float:
    """Return a figure in GB/s, which is bytes of one buffer per nanosecond."""
    return 1 / figure if measured.family.unit is NS_PER_BYTE else figure


def _throughputs(measured: Measurement) -> Iterator[tuple[str, float]]:
    """Yield names and throughputs: ours first, then the peers."""
    yield measured.row.name, _throughput(measured, measured.ours.median)
    for peer in measured.peers:
        yield peer.name, _throughput(measured, peer.figure.median)


def _cache_sizes() -> dict[str, int]:
    """Return the data caches that the first core sees, in bytes by level; empty where unknown."""
    found = {}
    for cache in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind, level, size = (
                (cache / name).read_text().strip() for name in ("type", "level", "size")
            )
        except OSError:
            continue
        if kind != "Instruction" and size.endswith("K"):
            found[f"L{level}"] = int(size.removesuffix("K")) * 1024
    return found


def _draw_lines(axes: "Axes", name: str, measurements: Sequence[Measurement]) -> None:
    lines: dict[str, list[tuple[int, float]]] = {}
    ours = {measured.row.name for measured in measurements}
    for measured in measurements:
        for line, throughput in _throughputs(measured):
            points = lines.setdefault(line, [])
            if all(size != measured.size for size, _ in points):  # a peer of several rows
                points.append((measured.size, throughput))
    our_colours, peer_styles = cycle(_OURS), cycle(_PEERS)
    # Peers are drawn behind ours, and listed after them in the legend.
    for line in sorted(lines, key=lambda line: line not in ours):
        sizes, throughputs = zip(*sorted(lines[line]), strict=True)
        if line in ours:
            colour, dashes, width, marker = next(our_colours), "-", 2.2, "o"
        else:
            (colour, dashes), width, marker = next(peer_styles), 1.3, "."
        axes.plot(
            sizes,
            throughputs,
            label=line,
            color=colour,
            linestyle=dashes,
            linewidth=width,
            marker=marker,
            zorder=3 if line in ours else 2,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_title(name, loc="left", fontsize=11, fontweight="bold")


def _draw_targets(axes: "Axes", measurements: Sequence[Measurement]) -> None:
    """Draw the contract's targets, each over the range of sizes that it applies to."""
    left, right = axes.get_xlim()
    drawn: set[Bound] = set()
    for measured in measurements:
        bound = measured.row.target
        if bound is None or bound in drawn:
            continue
        drawn.add(bound)
        target = _throughput(measured, bound.limit)
        # A line needs some length to be visible, even if it is for one size only.
        sizes = max(left, bound.sizes.least / 1.4), min(right, bound.sizes.most * 1.4)
        axes.plot(sizes, (target, target), color=_TARGET, linewidth=2, linestyle=(0, (3, 1)))
        axes.annotate(
            f"contract {bound} {measured.family.unit.name}",
            (sizes[0], target),
            xytext=(3, 3),
            textcoords="offset points",
            fontsize=9,
            color=_TARGET,
        )
    axes.set_xlim(left, right)


def _finish_panel(axes: "Axes", sizes: Sequence[int]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    low, high = axes.get_ylim()
    stretch = max(1.0, _DECADES_LEAST / (high / low)) ** 0.5
    axes.set_ylim(low / stretch, high * stretch * 1.15)  # room for the names of the caches
    axes.set_xticks(sizes, [size_text(size) for size in sizes], fontsize=9)
    axes.xaxis.set_minor_locator(NullLocator())
    few = high / low < 100
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, which="major", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    left, right = axes.get_xlim()
    for level, size in _cache_sizes().items():
        if left < size < right:
            axes.axvline(size, color="#BBBBBB", linewidth=1, linestyle=":", zorder=0)
            axes.annotate(
                level,
                (size, 1),
                xycoords=axes.get_xaxis_transform(),
                xytext=(-2, -3),
                textcoords="offset points",
                ha="right",
                va="top",
                fontsize=8,
                color="#888888",
            )
    axes.set_ylabel("GB/s")
    axes.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


@drawing()
def draw(
    measurements: Sequence[Measurement], title: str, file: BinaryIO, image_format: str
) -> None:
    """Draw a panel for each family of works on buffers.

    Needs matplotlib.

    Args:
        measurements: at several sizes, `bench.ALL_SIZES` for example.
        title: what ran, and where.
        file: where the image goes.
        image_format: "png", "svg" or "pdf".
    """
    from matplotlib.figure import Figure

    by_family: dict[str, list[Measurement]] = {}
    for measured in measurements:
        if measured.family.sized:
            by_family.setdefault(measured.family.name, []).append(measured)
    rows = -(-len(by_family) // _COLUMNS)
    figure = Figure(figsize=(15, 1 + 3.2 * rows), dpi=110, layout="constrained")
    figure.suptitle(
        f"Throughput against the size of a buffer, logarithmic. {title}", fontsize=11, x=0.01,
        ha="left",
    )  # fmt: skip
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).flat
    for (name, members), panel in zip(by_family.items(), panels, strict=False):
        _draw_lines(panel, name, members)
        _draw_targets(panel, members)
        _finish_panel(panel, sorted({measured.size for measured in members}))
    for panel in list(panels):  # a place that no family needs
        panel.remove()
    save(figure, file, image_format)
