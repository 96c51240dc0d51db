# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 conformance`."""

import json
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ..._files import FileError, RegularFile
from ..._outputs import OutputKind, Target, atomic_write
from ..console import COULD_NOT_CHECK, DOES_NOT_HOLD, HOLDS, complain, file_name, json_option, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...conformance import Clause, Kind, Outcome

_WIDTH: Final = 120  # where there is no terminal
_TIME_LIMIT_MAX_S: Final = 86_400  # a day: no clause is worth more
_SPEED: Final = "Performance Characteristics"
_SUITE: Final = "atlas12288 conformance"
_HEAD_BYTES: Final = 256


def _is_report(file: RegularFile) -> bool:
    head = file.read(0, _HEAD_BYTES)
    return head.startswith(b"<?xml ") and f'<testsuite name="{_SUITE} '.encode() in head


_REPORT: Final = OutputKind("report of conformance", _is_report)

Row = tuple["Clause", "Outcome"]


def _counts(clause: "Clause", performance: bool) -> bool:
    """Must this clause pass?"""
    targets = performance and clause.section == _SPEED
    return clause.required or targets


class _Verdict:
    """What the rows say together.

    Args:
        rows: all that were run.
        performance: must the contract's speeds hold?

    Attributes:
        broken: ids of the clauses that fail and must not.
        not_checked: ids of those that must pass and could not be tried.
        not_shown: ids of those that nothing breaks, but whose words are not shown.
        code: the exit code.
        text: the same in words.
    """

    def __init__(self, rows: Sequence[Row], performance: bool) -> None:
        from ...conformance import Status

        def counted(status: Status) -> list[str]:
            return [
                clause.id
                for clause, outcome in rows
                if outcome.status is status and _counts(clause, performance)
            ]

        self.broken = counted(Status.FAIL)
        self.not_checked = counted(Status.NOT_CHECKED)
        self.not_shown = counted(Status.NOT_SHOWN)
        tried = any(outcome.status in (Status.PASS, Status.FAIL) for _, outcome in rows)
        more = f"; not checked: {', '.join(self.not_checked)}" if self.not_checked else ""
        if self.broken:
            self.code, self.text = DOES_NOT_HOLD, f"not conformant: {', '.join(self.broken)}{more}"
        elif self.not_checked:
            self.code, self.text = COULD_NOT_CHECK, f"could not be decided{more}"
        elif not tried:
            self.code, self.text = COULD_NOT_CHECK, "nothing was checked"
        else:
            self.code, self.text = HOLDS, "conformant"
        if self.not_shown:
            self.text += "".join(
                f"; not shown: {clause.id}, {clause.words}"
                for clause, _ in rows
                if clause.id in self.not_shown
            )


# --- Output ---


def _row_json(clause: "Clause", outcome: "Outcome", performance: bool) -> dict[str, object]:
    return {
        "id": clause.id,
        "section": clause.section,
        "words": clause.words,
        "shows": clause.shows,
        "required": _counts(clause, performance),
        "status": outcome.status,
        "evidence": outcome.evidence,
        "seconds": round(outcome.seconds, 3),
    }


def _junit(library: str, rows: Sequence[Row], performance: bool) -> bytes:
    """The report as JUnit's XML. A clause that need not pass and does not is skipped there."""
    from ...conformance import Status

    suite = ET.Element("testsuite", name=f"{_SUITE} {shown(library)}")
    failures = errors = skipped = 0
    for clause, outcome in rows:
        seconds = f"{outcome.seconds:.3f}"
        case = ET.SubElement(
            suite, "testcase", classname=clause.section, name=clause.id, time=seconds
        )
        message = shown(outcome.evidence)  # XML has no control characters
        if outcome.status is Status.FAIL and _counts(clause, performance):
            failures += 1
            ET.SubElement(case, "failure", message=message).text = clause.words
        elif outcome.status is Status.NOT_CHECKED and _counts(clause, performance):
            errors += 1
            ET.SubElement(case, "error", message=message).text = clause.words
        elif outcome.status is not Status.PASS:
            skipped += 1
            ET.SubElement(case, "skipped", message=f"{outcome.status}: {message}")
        else:
            ET.SubElement(case, "system-out").text = message
    suite.set("tests", str(len(rows)))
    suite.set("failures", str(failures))
    suite.set("errors", str(errors))
    suite.set("skipped", str(skipped))
    return _document(suite)


def _junit_error(library: str, error: str) -> bytes:
    """The report of a run in which no clause could be tried."""
    suite = ET.Element("testsuite", name=f"{_SUITE} {shown(library)}")
    case = ET.SubElement(suite, "testcase", classname=_SUITE, name="load")
    ET.SubElement(case, "error", message=shown(error))
    for name, count in (("tests", 1), ("failures", 0), ("errors", 1), ("skipped", 0)):
        suite.set(name, str(count))
    return _document(suite)


def _document(suite: ET.Element) -> bytes:
    ET.indent(suite)
    document: bytes = ET.tostring(suite, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _write_junit(junit: str, report: bytes) -> bool:
    """Writes the report to a file; False, with a message, where it cannot be written."""
    try:
        with atomic_write(junit, _REPORT) as file:
            file.write(report)
    except FileError as error:
        complain(junit, str(error))
        return False
    return True


def _print_table(kind: "Kind", name: str, rows: Sequence[Row], performance: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ...conformance import Status

    colours = {Status.PASS: "green", Status.FAIL: "red"}
    width = None if sys.stdout.isatty() else _WIDTH
    console = Console(file=sys.stdout, width=width, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("clause", no_wrap=True)
    table.add_column("the contract", ratio=4, overflow="fold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("evidence", ratio=5, overflow="fold")
    section = words = ""
    for clause, outcome in rows:
        if clause.section != section:
            section = clause.section
            table.add_section()
            table.add_row(Text(section, style="bold"))
        status = Text(outcome.status, style=colours.get(outcome.status, "yellow"))
        if not _counts(clause, performance):
            status.append("\noptional", style="dim")
        said = "" if clause.words == words else clause.words  # once for all rows that try it
        words = clause.words
        table.add_row(clause.id, Text(said), status, Text(shown(outcome.evidence)))
    console.print(f"{kind}: {shown(name)}", markup=False, soft_wrap=True)
    console.print(table)
    counts = [
        f"{sum(outcome.status is status for _, outcome in rows)} {status}" for status in Status
    ]
    verdict = _Verdict(rows, performance)
    style = {HOLDS: "green", DOES_NOT_HOLD: "red"}.get(verdict.code, "yellow")
    if verdict.code == HOLDS and verdict.not_shown:
        style = "yellow"
    console.print(f"{len(rows)} clauses: {', '.join(counts)}", markup=False)
    console.print(verdict.text, style=style, markup=False, soft_wrap=True)


def _print_list() -> None:
    from ...conformance import CLAUSES

    for clause in CLAUSES:
        need = "required" if clause.required else "optional"
        click.echo(f"{clause.id:36} {need}  {clause.words}: {clause.shows}")


# --- The command ---


@contextmanager
def _progress(total: int) -> "Iterator[Callable[[str], None]]":
    """What to call with the clause that is done; a bar where standard error is a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    progress = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with progress:
        task = progress.add_task("", total=total)
        yield lambda id: progress.update(task, description=id, advance=1)


def _check_usage(
    subjects: Mapping[str, str | None],
    chosen: Sequence[str],
    time_limit: float,
    junit: str | None,
) -> None:
    """Refuses what is not run; `subjects` are the options that name what is judged."""
    from ...conformance._clauses import BY_ID

    named = [path for path in subjects.values() if path is not None]
    if len(named) > 1:
        raise click.UsageError(f"{' and '.join(subjects)} exclude each other")
    for option, path in subjects.items():
        if path == "":
            raise click.UsageError(f"{option} '': must name a file")

    for id in chosen:
        if id not in BY_ID:
            raise click.UsageError(f"--clause {shown(id)}: there is none; --list shows them all")
    if not 0 < time_limit <= _TIME_LIMIT_MAX_S:
        raise click.UsageError(
            f"--time-limit {time_limit:g}: must be above 0 and at most {_TIME_LIMIT_MAX_S}"
        )
    if junit is not None:
        try:
            Target(junit, _REPORT, named).close()
        except FileError as error:
            raise click.UsageError(f"--junit {shown(junit)}: {error}") from error


def _complete_clause(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return what the shell offers for --clause."""
    from ...conformance import CLAUSES

    return [clause.id for clause in CLAUSES if clause.id.startswith(incomplete)]


@click.command(
    "conformance",
    short_help="Prove the contract against a library.",
    epilog="""\b
Examples:
  atlas12288 conformance
  atlas12288 conformance --library ./libother.so --junit report.xml
  atlas12288 conformance --library ./libother.so --clause thread-budget
  atlas12288 conformance --wasm atlas12288.wasm
\b
Exit codes: 0 conformant, 1 not conformant, 2 it cannot be loaded, or a clause not be tried.
docs/conformance.md says how to read the table, and what it cannot show.""",
)
@click.option(
    "--library",
    metavar="PATH",
    type=file_name,
    help="The shared library to judge.  [default: the one of this program]",
)
@click.option(
    "--wasm",
    metavar="PATH",
    type=file_name,
    help="Judge a WebAssembly module instead; needs wasmtime.",
)
@click.option(
    "--clause",
    "chosen",
    metavar="ID",
    shell_complete=_complete_clause,
    multiple=True,
    help="Run only this clause and those that decide it; may be given several times.",
)
@click.option("--list", "as_list", is_flag=True, help="Print all clauses, and run none.")
@click.option("--performance", is_flag=True, help="Require the contract's table of speeds as well.")
@click.option(
    "--time-limit",
    metavar="SECONDS",
    type=float,
    default=60.0,
    show_default=True,
    help="A clause that has no verdict after this time fails.",
)
@click.option(
    "--junit", metavar="OUT.xml", type=file_name, help="Write the report as JUnit XML as well."
)
@json_option
def command(
    library: str | None,
    wasm: str | None,
    chosen: tuple[str, ...],
    as_list: bool,
    performance: bool,
    time_limit: float,
    junit: str | None,
    as_json: bool,
) -> int:
    """Run the clauses of the Layer 2 contract against any shared library or WebAssembly module.

    Each clause runs in a process of its own, so that a crash or a hang is a failed row. Only the
    contract's functions are needed; where the library has none of this program's extensions, what
    they would show is "not offered". A module has one thread: what the contract says of several is
    "not applicable" to it. pip install 'atlas12288[wasm]' has what runs modules.
    """
    if as_list:
        _print_list()
        return HOLDS
    _check_usage({"--library": library, "--wasm": wasm}, chosen, time_limit, junit)

    from ... import conformance

    kind = conformance.Kind.LIBRARY if wasm is None else conformance.Kind.WASM
    named = library if wasm is None else wasm
    name = conformance.own_library() if named is None else named
    clauses = conformance.with_parts(chosen) if chosen else list(conformance.CLAUSES)
    rows: list[Row] = []
    error: str | None = None
    try:
        with _progress(len(clauses)) as on_done:
            outcomes = conformance.run(str(Path(name).resolve()), clauses, time_limit, kind)
            for clause, outcome in zip(clauses, outcomes, strict=True):
                rows.append((clause, outcome))
                on_done(clause.id)
    except conformance.LoadError as load_error:
        error = str(load_error)
        complain(name, error)
    if junit is not None:
        report = _junit_error(name, error) if error else _junit(name, rows, performance)
        if not _write_junit(junit, report):
            return COULD_NOT_CHECK
    verdict = _Verdict(rows, performance)
    if as_json:
        fields = {
            "library": name,
            "kind": kind,
            "conformant": {HOLDS: True, DOES_NOT_HOLD: False}.get(verdict.code),
            "not_shown": verdict.not_shown,
            "error": error,
        }
        cells = [_row_json(clause, outcome, performance) for clause, outcome in rows]
        click.echo(json.dumps(fields | {"clauses": cells}, indent=2))
    elif error is None:
        _print_table(kind, name, rows, performance)
    return verdict.code
