# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 conformance`."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ..._files import FileError, RegularFile
from ..._outputs import OutputKind, Target, atomic_write
from ..console import COULD_NOT_CHECK, HOLDS, Printer, complain, file_name, json_option, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...conformance import ConformanceReport, Kind

_WIDTH: Final = 120  # without a terminal
_TIME_LIMIT_MAX_S: Final = 86_400  # a day: no clause is worth more
_HEAD_BYTES: Final = 256


def _is_report(file: RegularFile) -> bool:
    from ...conformance._report import SUITE

    head = file.read(0, _HEAD_BYTES)
    return head.startswith(b"<?xml ") and f'<testsuite name="{SUITE} '.encode() in head


_REPORT: Final = OutputKind("report of conformance", _is_report)


def _write_junit(junit: str, report: bytes) -> bool:
    """Write the report to a file; return False, after a message, if that fails."""
    try:
        with atomic_write(junit, _REPORT) as file:
            file.write(report)
    except FileError as error:
        complain(junit, str(error))
        return False
    return True


def _print_table(kind: "Kind", name: str, found: "ConformanceReport") -> None:
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
    for clause, outcome in found.rows:
        if clause.section != section:
            section = clause.section
            table.add_section()
            table.add_row(Text(section, style="bold"))
        status = Text(outcome.status, style=colours.get(outcome.status, "yellow"))
        if not found.is_required(clause):
            status.append("\noptional", style="dim")
        said = "" if clause.words == words else clause.words  # once for all rows that try it
        words = clause.words
        table.add_row(clause.id, Text(said), status, Text(shown(outcome.evidence)))
    console.print(f"{kind}: {shown(name)}", markup=False, soft_wrap=True)
    console.print(table)
    style = "yellow" if found.holds is None else "green" if found.holds else "red"
    if found.holds and found.not_shown:
        style = "yellow"
    console.print(found.summary(), markup=False)
    console.print(str(found), style=style, markup=False, soft_wrap=True)


def _print_list(as_json: bool) -> None:
    from ...conformance import CLAUSES
    from ...conformance._report import clause_to_fields

    with Printer("conformance", as_json, None) as printer:
        rows = [clause_to_fields(clause, clause.required) for clause in CLAUSES]
        printer.document({"clauses": rows})
        for clause in CLAUSES:
            need = "required" if clause.required else "optional"
            printer.line(f"{clause.id:36} {need}  {clause.words}: {clause.shows}")


# --- The command ---


@contextmanager
def _progress(total: int) -> "Iterator[Callable[[str], None]]":
    """Yield a callback for each finished clause; on a terminal it drives a progress bar."""
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
    """Refuse options that do not fit; `subjects` are the options that name what is judged."""
    from ...conformance._clauses import BY_ID

    named = [path for path in subjects.values() if path is not None]
    if len(named) > 1:
        raise click.UsageError(f"{' and '.join(subjects)} exclude each other")
    for option, path in subjects.items():
        if path == "":
            raise click.UsageError(f"{option} '': must name a file")

    for id in chosen:
        if id not in BY_ID:
            raise click.UsageError(f"--clause {shown(id)}: must be a clause of --list")
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
    short_help="Test a library against the contract.",
    epilog="""\b
Examples:
  atlas12288 conformance
  atlas12288 conformance --library ./libother.so --junit report.xml
  atlas12288 conformance --library ./libother.so --clause thread-budget
  atlas12288 conformance --wasm atlas12288.wasm

Exit codes: 0 conformant; 1 not conformant; 2 the library could not be loaded, or a clause could not
be tried. docs/conformance.md explains the table and its limits.""",
)
@click.option(
    "--library",
    metavar="PATH",
    type=file_name,
    help="Test this shared library.  [default: the library of this package]",
)
@click.option(
    "--wasm",
    metavar="PATH",
    type=file_name,
    help="Test this WebAssembly module instead; needs wasmtime.",
)
@click.option(
    "--clause",
    "chosen",
    metavar="ID",
    shell_complete=_complete_clause,
    multiple=True,
    help="Run only this clause and the clauses that decide it; repeatable.",
)
@click.option("--list", "as_list", is_flag=True, help="List all clauses without running them.")
@click.option("--performance", is_flag=True, help="Require the contract's speeds too.")
@click.option(
    "--time-limit",
    metavar="SECONDS",
    type=float,
    default=60.0,
    show_default=True,
    help="Fail a clause that has no verdict after this time.",
)
@click.option(
    "--junit", metavar="OUT.xml", type=file_name, help="Write the report as JUnit XML too."
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
    """Test a shared library or a WebAssembly module against the Layer 2 contract.

    Each clause runs in a process of its own, so that a crash or a hang only fails its row. The
    library needs only the contract's functions; clauses that need an extension are "not offered"
    without it. A module has one thread, so clauses about threads are "not applicable". Modules need
    pip install 'atlas12288[wasm]'.
    """
    if as_list:
        _print_list(as_json)
        return HOLDS
    _check_usage({"--library": library, "--wasm": wasm}, chosen, time_limit, junit)

    from ... import conformance
    from ...conformance._report import junit_of_error

    kind = conformance.Kind.LIBRARY if wasm is None else conformance.Kind.WASM
    named = library if wasm is None else wasm
    name = conformance.own_library() if named is None else named
    clauses = conformance.with_parts(chosen) if chosen else list(conformance.CLAUSES)
    outcomes: list[conformance.Outcome] = []
    error: str | None = None
    try:
        with _progress(len(clauses)) as on_done:
            for outcome in conformance.run(str(Path(name).resolve()), clauses, time_limit, kind):
                outcomes.append(outcome)
                on_done(outcome.id)
    except conformance.LoadError as load_error:
        error = str(load_error)
        complain(name, error)
    # A library that cannot be loaded has no outcomes.
    rows = tuple(zip(clauses, outcomes, strict=error is None))
    found = conformance.ConformanceReport(rows, performance)
    if junit is not None:
        text = junit_of_error(name, error) if error else found.to_junit(name)
        if not _write_junit(junit, text):
            return COULD_NOT_CHECK
    with Printer("conformance", as_json, None) as printer:
        printer.document({"library": name, "kind": kind} | found.to_fields() | {"error": error})
        if error is None and not as_json:
            _print_table(kind, name, found)
        if found.holds is None:
            printer.undecided()
        else:
            printer.verdict(found.holds)
    return printer.code
