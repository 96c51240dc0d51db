# SPDX-License-Identifier: Apache-2.0
"""What a benchmark reports: its facts, as `bench --json` prints them, and the table made of them.

A table is lines of cells. The command line draws them, and benchmarks/performance_docs.py writes
them as Markdown.
"""

import platform
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from .. import __version__
from .._native import kernel_set
from .._parallel import thread_count
from .measuring import Figure, Judged, Measurement, left_out, targets_hold, versions
from .rows import Family, size_text

# --- The facts ---


def to_fields(measurements: Sequence[Measurement], families: Sequence[Family]) -> dict[str, Any]:
    """Return the verdict, where it was measured, and all rows, ready for JSON."""
    return {
        "holds": targets_hold(measurements),
        "version": __version__,
        "kernel_set": kernel_set(),
        "cpu": _cpu(),
        "cores": thread_count(None),
        "system": platform.platform(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": versions(families),
        "left_out": left_out(families),
        "rows": list(map(_row, measurements)),
    }


def _cpu() -> str:
    """Return the system's name for the CPU."""
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        match = None
    return match[1] if match else platform.processor() or platform.machine()


def _row(measured: Measurement) -> dict[str, object]:
    return {
        "family": measured.family.name,
        "work": measured.row.work,
        "caller": measured.row.caller,
        "size": measured.size if measured.family.sized else None,
        "kernel_set": measured.kernel_set,
        "unit": measured.family.unit.name,
        "ours": _figure(measured.ours),
        "peers": [
            {"name": peer.name, "ratio": _figure(peer.ratio)} | _figure(peer.figure)
            for peer in measured.peers
        ],
        "target": None if measured.target is None else _judged(measured.target),
        "goals": list(map(_judged, measured.goals)),
    }


def _figure(figure: Figure) -> dict[str, float]:
    return {"median": figure.median, "q1": figure.q1, "q3": figure.q3}


def _judged(judged: Judged) -> dict[str, object]:
    bound = judged.bound
    return {
        "comparison": bound.comparison,
        "limit": bound.limit,
        "peer": bound.peer,
        "stretch": bound.stretch,
        "measured": judged.measured,
        "holds": judged.holds,
    }


# --- The table: all of it is made from the facts ---

COLUMNS: Final[dict[str, Literal["left", "right"]]] = {
    "work, called from": "left",
    "size": "right",
    "unit": "left",
    "ours": "right",
    "contract": "left",
    "goal": "left",
    "peer": "left",
    "peer's": "right",
    "ratio": "right",
    "goal of the ratio": "left",
}
LEGEND: Final = (
    "ours, peer's: median ± half the interquartile range.",
    "ratio: how many times as fast as the peer ours is, median of the same rounds.",
    "(…): a stretch goal, more than is asked for.",
)
# A line of the table: a cell for each of `COLUMNS`.
Line = tuple[str, ...]


def heads(report: dict[str, Any]) -> Iterator[str]:
    """Yield lines of text that say what ran, and where."""
    yield f"cpu: {report['cpu']}, {report['cores']} cores"
    yield f"kernel set: {report['kernel_set']}"
    of_others = ", ".join(f"{name} {text}" for name, text in report["versions"].items())
    yield f"python: {report['python']}; {of_others}"
    by_reason: dict[str, list[str]] = {}
    for name, reason in report["left_out"].items():
        by_reason.setdefault(reason, []).append(name)
    for reason, names in by_reason.items():
        yield f"left out: {'; '.join(names)}: {reason}"


def sections(report: dict[str, Any], families: Sequence[Family]) -> Iterator[list[Line]]:
    """Yield the lines of each family: measured rows, then rows left out, with the reason."""
    for family in families:
        measured = [row for row in report["rows"] if row["family"] == family.name]
        lines = [line for row in measured for line in _lines(row)]
        names = set(map(_name, measured))
        for row in family.rows:
            if row.name not in names:
                reason = report["left_out"].get(row.name, "not at these sizes")
                # The reason in the last column, where its length widens no other one.
                lines.append((row.name, "", "", "not measured", *[""] * 5, reason))
        yield lines


def summary(report: dict[str, Any]) -> str:
    """Return in words how many bounds hold."""
    goals = [judged for row in report["rows"] for judged in row["goals"]]
    counted = {
        "the contract's targets": [row["target"] for row in report["rows"] if row["target"]],
        "goals": [judged for judged in goals if not judged["stretch"]],
        "stretch": [judged for judged in goals if judged["stretch"]],
    }
    return "; ".join(
        f"{name}: {sum(judged['holds'] for judged in all_judged)} of {len(all_judged)}"
        for name, all_judged in counted.items()
    )


def _lines(row: dict[str, Any]) -> Iterator[Line]:
    """Yield the lines of a row: one, or one for each peer."""

    def goals(peer: str | None) -> str:
        return _judged_text(*(judged for judged in row["goals"] if judged["peer"] == peer))

    start: Line = (
        _name(row),
        "" if row["size"] is None else size_text(row["size"]),
        row["unit"],
        _figure_text(row["ours"]),
        _judged_text(row["target"]),
        goals(None),
    )
    if not row["peers"]:
        yield *start, "", "", "", ""
    for peer in row["peers"]:
        end = _figure_text(peer), f"{peer['ratio']['median']:.3g}"
        yield *start, peer["name"], *end, goals(peer["name"])
        start = ("",) * len(start)


def _name(row: dict[str, Any]) -> str:
    return f"{row['work']}, {row['caller']}"


def _figure_text(figure: dict[str, float]) -> str:
    spread = 100 * (figure["q3"] - figure["q1"]) / figure["median"]
    return f"{figure['median']:.3g} ±{spread / 2:.0f}%"


def _judged_text(*all_judged: dict[str, Any] | None) -> str:
    texts = []
    for judged in all_judged:
        if judged is not None:
            verdict = "pass" if judged["holds"] else "miss"
            text = f"{judged['comparison']} {judged['limit']:g} {verdict}"
            texts.append(f"({text})" if judged["stretch"] else text)
    return " ".join(texts)
