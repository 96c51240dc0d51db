# SPDX-License-Identifier: Apache-2.0
"""Measures, and writes the tables and the picture of docs/performance.md.

A table stands between `<!-- NAME -->` and `<!-- end of NAME -->`, NAME as in `TABLES`; the rest of
the document is left as it is. Arguments are the names of the tables to make; without any, all are
made, and the picture. That takes about twelve minutes; leave the machine alone meanwhile.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from atlas12288._bench import FAMILIES, size_text

ROOT: Final = Path(__file__).parent.parent
DOCUMENT: Final = ROOT / "docs" / "performance.md"
_BENCH: Final = ("-m", "atlas12288", "bench")
_JS: Final = ("--js", "js")  # with the rows of the WebAssembly module
# Arguments of this Python, started in the project's root.
TABLES: Final = {
    "this machine": (*_BENCH, *_JS, "--json"),
    "avx2": (*_BENCH, *_JS, "--kernels", "avx2", "--json"),
    "avx2 without sha": (*_BENCH, *_JS, "--kernels", "avx2", "--no-sha-ni", "--json"),
    "growth": ("benchmarks/growth.py",),
    "folders": ("benchmarks/folders.py",),
}
PICTURE: Final = (*_BENCH, "--plot", "docs/throughput.png")
_TARGET_MISSED: Final = 1  # the exit code of a benchmark that was made and shows a miss
_COLUMNS: Final = {
    "work, called from": "---",
    "size": "---:",
    "unit": "---",
    "ours": "---:",
    "contract": "---",
    "goal": "---",
    "peer": "---",
    "peer's": "---:",
    "ratio": "---:",
    "goal of the ratio": "---",
}
_LEGEND: Final = (
    "ours, peer's: median ± half the interquartile range. ratio: how many times as fast as the "
    "peer ours is, median of the same rounds. (…): a stretch goal, more than is asked for."
)


# --- The report of `bench --json` as Markdown ---


def _figure(figure: dict[str, float]) -> str:
    spread = 100 * (figure["q3"] - figure["q1"]) / figure["median"]
    return f"{figure['median']:.3g} ±{spread / 2:.0f}%"


def _judgements(all_judged: list[dict[str, Any]]) -> str:
    texts = []
    for judged in all_judged:
        verdict = "pass" if judged["holds"] else "**miss**"
        text = f"{judged['comparison']} {judged['limit']:g} {verdict}"
        texts.append(f"({text})" if judged["stretch"] else text)
    return " ".join(texts)


def _lines(row: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the lines of a row, one for each peer; a row without peers has one line."""

    def goals(peer: str | None) -> str:
        return _judgements([judged for judged in row["goals"] if judged["peer"] == peer])

    start: tuple[str, ...] = (
        f"{row['work']}, {row['caller']}",
        "" if row["size"] is None else size_text(row["size"]),
        row["unit"],
        _figure(row["ours"]),
        _judgements([row["target"]] if row["target"] else []),
        goals(None),
    )
    if not row["peers"]:
        yield *start, "", "", "", ""
    for peer in row["peers"]:
        ratio = f"{peer['ratio']['median']:.3g}"
        yield *start, peer["name"], _figure(peer), ratio, goals(peer["name"])
        start = ("",) * len(start)


def _table(report: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the lines of each family: its measured rows, then the others with the reason."""
    for family in FAMILIES:
        measured = [row for row in report["rows"] if row["family"] == family.name]
        for row in measured:
            yield from _lines(row)
        names = {f"{row['work']}, {row['caller']}" for row in measured}
        for name in (row.name for row in family.rows if row.name not in names):
            reason = report["left_out"].get(name, "not at these sizes")
            yield name, "", "", "not measured", *[""] * 5, reason


def _heads(report: dict[str, Any]) -> Iterator[str]:
    yield f"cpu: {report['cpu']}, {report['cores']} cores"
    yield f"kernel set: {report['kernel_set']}"
    versions = ", ".join(f"{name} {text}" for name, text in report["versions"].items())
    yield f"python: {report['python']}; {versions}"
    by_reason: dict[str, list[str]] = {}
    for name, reason in report["left_out"].items():
        by_reason.setdefault(reason, []).append(name)
    for reason, names in by_reason.items():
        yield f"left out: {'; '.join(names)}: {reason}"


def _summary(rows: list[dict[str, Any]]) -> str:
    goals = [judged for row in rows for judged in row["goals"]]
    counted = {
        "the contract's targets": [row["target"] for row in rows if row["target"]],
        "goals": [judged for judged in goals if not judged["stretch"]],
        "stretch": [judged for judged in goals if judged["stretch"]],
    }
    return "; ".join(
        f"{name}: {sum(judged['holds'] for judged in all_judged)} of {len(all_judged)}"
        for name, all_judged in counted.items()
    )


def markdown(report: dict[str, Any]) -> str:
    """Return the report of `atlas12288 bench --json` as Markdown."""
    table = (list(_COLUMNS), list(_COLUMNS.values()), *_table(report))
    return "\n".join(
        (
            *(f"- {head}" for head in _heads(report)),
            "",
            *(f"| {' | '.join(cells)} |" for cells in table),
            "",
            f"{_LEGEND} {_summary(report['rows'])}.",
        )
    )


# --- The document ---


def run(arguments: tuple[str, ...]) -> str:
    """What a command printed; ends the program where it could not measure."""
    print("python", *arguments, file=sys.stderr, flush=True)
    done = subprocess.run(
        (sys.executable, *arguments), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode not in (0, _TARGET_MISSED):
        sys.exit(done.returncode)
    return done.stdout


def replace_table(document: str, name: str, table: str) -> str:
    """The document with another table of that name."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    changed, count = pattern.subn(lambda _: f"{begin}\n{table.strip()}\n\n{end}", document)
    if count != 1:
        raise ValueError(f"{DOCUMENT.name} has {count} tables named {name!r}, must have 1")
    return changed


def main() -> None:
    document = DOCUMENT.read_text()
    for name in TABLES:  # before minutes of measuring
        replace_table(document, name, "")
    chosen = sys.argv[1:] or list(TABLES)
    for name in chosen:
        printed = run(TABLES[name])
        table = markdown(json.loads(printed)) if "--json" in TABLES[name] else printed
        document = replace_table(document, name, table)
    if chosen == list(TABLES):
        run(PICTURE)
    DOCUMENT.write_text(document)


if __name__ == "__main__":
    main()
