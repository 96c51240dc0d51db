# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 verify`."""

import os
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import groupby, repeat
from typing import TYPE_CHECKING, Any, Final

import click

from ..._file_witnesses import compare_file, tree_witness_file
from ..._files import STDIN, FileError
from ..._many_files import witness_in_order
from ..._reports import range_to_fields
from ..._sidecars import Leaves, WindowRange
from ..._tree import TreeWitness
from ..._witness import Witness
from ..._words import counted
from ...manifest._beside import SUFFIX, is_url
from ..console import (
    COULD_NOT_CHECK,
    RANGES_SHOWN,
    Item,
    Printer,
    bytes_to_read,
    complain,
    file_name,
    json_option,
    range_lines,
    shown,
    threads_option,
)
from ..file_kinds import MANIFEST, SIGNATURE, TENSORS, WITNESSES, Kind, require_kind
from ..manifests import allow_cache_option, is_folder
from ..pairing import pair
from ..plotting import SKETCH, PlotCommand, require_plot, write_plot
from ..quantities import duration as duration_of
from ..quantities import rate as rate_of
from ..signature_files import signature_options
from ..witness_files import (
    errors_about,
    find_sidecar,
    leaves_option,
    misplaced,
    open_sidecar,
    open_witnesses,
    parse_lines,
    require_lines,
)

if TYPE_CHECKING:
    from ..drawings.damage_map import DamageMap

NAMES_SHOWN: Final = 20  # of files that have a witness and are no FILE
_NO_VERDICT: Final[dict[str, object]] = dict.fromkeys(
    ("ranges", "holds", "what", "witness", "found", "error")
)


class _Changes:
    """Counts the differing windows of a file, and shows some of them (in JSON, all)."""

    def __init__(self, printer: Printer, item: Item, damage_map: "DamageMap | None") -> None:
        self.windows = 0
        self._range_count = 0
        self._first_ranges: list[WindowRange] = []
        self._printer = printer
        self._map = damage_map
        self._item = item
        item.begin("ranges")

    def add(self, changed: WindowRange) -> None:
        self.windows += changed.stop - changed.first
        self._range_count += 1
        if self._range_count <= RANGES_SHOWN:
            self._first_ranges.append(changed)
        self._item.extend([range_to_fields(changed)])
        if self._map is not None:
            self._map.update(changed.first, changed.stop)

    def show(self, windows: int) -> None:
        """Print the lines for people; `windows` is the number of windows."""
        more = "; locate prints them all"
        for line in range_lines(self._first_ranges, self._range_count, self.windows, windows, more):
            self._printer.line(line)


class _Verifier:
    """Verifies files one by one.

    Args:
        printer: prints the verdicts.
        witnesses: name of the witness file.
        sidecar: name of the witnesses' sidecar; None if there is none.
        threads: number of threads that hash a tree; None for one per core.
        plot: the value of --plot.
        quiet: print nothing for a file that matches.
    """

    def __init__(
        self,
        printer: Printer,
        witnesses: str,
        sidecar: str | None,
        threads: int | None,
        plot: str | None,
        quiet: bool,
    ) -> None:
        self._printer = printer
        self._witnesses = witnesses
        self._without_file = 0
        self._files = self._changed = self._unreadable = 0
        self._lines_failed = False
        self._sidecar = sidecar
        self._threads = threads
        self._plot = plot
        self._quiet = quiet
        self.maps: list[DamageMap] = []

    def verify(
        self,
        name: str,
        expected: Witness | TreeWitness | FileError,
        leaves: Leaves | None,
        flat: Witness | FileError | None,
        witnessed_as: str,
    ) -> None:
        """Report on a file.

        Args:
            name: the file.
            witnessed_as: the file's name in the list of witnesses; `name` if there is none.
            expected: its witness, or the error that explains why there is none.
            leaves: leaves of a tree witness, not checked yet.
            flat: the present witness of the file, or why there is none; None for a tree.
        """
        with self._printer.item(name, _NO_VERDICT) as item:
            self._verify(name, expected, leaves, flat, witnessed_as, item)
            self._count(item)

    def without_file(self, name: str, witness: Witness | TreeWitness | FileError) -> None:
        """Report on a file that has a witness and is no FILE."""
        reason = f"has a witness in {shown(self._witnesses)}, and is not among the FILEs"
        fields = {} if isinstance(witness, FileError) else {"witness": witness.to_fields()}
        with self._printer.item(name, _NO_VERDICT | fields | {"error": reason}) as item:
            self._count(item)
            if self._without_file < NAMES_SHOWN:
                self._printer.error(name, reason)
            self._without_file += 1
            self._printer.undecided()

    def without_witness(self, reason: str) -> None:
        """Report on a line of the list of witnesses that says neither file nor witness."""
        self._printer.error(self._witnesses, reason)
        self._lines_failed = True

    def _count(self, item: Item) -> None:
        holds = item.fields["holds"]
        self._files += 1
        self._changed += holds is False
        self._unreadable += holds is None

    def finish(self) -> None:
        """Print how many more files have a witness and are no FILE, and the totals of several."""
        if self._without_file > NAMES_SHOWN:
            more = counted(self._without_file - NAMES_SHOWN, "more file")
            self._printer.error(
                self._witnesses, f"has witnesses of {more} that are not among the FILEs"
            )
        if self._files > 1 and not self._quiet:
            undecided = self._unreadable or self._lines_failed
            holds = False if self._changed else None if undecided else True
            verdict = {
                True: "its files match",
                False: "its files do not match",
                None: "its files could not be checked",
            }[holds]
            counts = {"changed": self._changed, "unreadable": self._unreadable}
            parts = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
            more = f"; {counted(self._files, 'file')}: {parts}"
            self._printer.line(f"{shown(self._witnesses)}: ", holds, verdict, more)

    def _verify(
        self,
        name: str,
        expected: Witness | TreeWitness | FileError,
        leaves: Leaves | None,
        flat: Witness | FileError | None,
        witnessed_as: str,
        item: Item,
    ) -> None:
        printer, fields = self._printer, item.fields
        damage_map: DamageMap | None = None
        changes: _Changes | None = None
        try:
            if isinstance(expected, FileError):
                raise expected
            fields["witness"] = expected.to_fields()
            try:
                if leaves is not None:
                    with errors_about(str(self._sidecar)):
                        leaves.check()
            except FileError as error:  # the root still gives a verdict
                printer.error(str(error.name), error.reason)
                fields["error"] = f"{error.name}: {error.reason}"
                leaves = None
            if leaves is not None:
                damage_map = None if self._plot is None else _new_map(name)
                changes = _Changes(printer, item, damage_map)
            if isinstance(flat, FileError):
                raise flat
            found = flat or self._tree_witness(name, leaves, changes)
        except FileError as error:
            printer.error(name, str(error))
            fields["error"] = str(error)
        else:
            differences = expected.differences(found)
            holds = not differences and (changes is None or changes.windows == 0)
            fields["found"] = found.to_fields()
            fields |= {"holds": holds, "what": list(differences)}
            printer.verdict(holds)
            self._show(name, witnessed_as, expected, found, changes)
            if damage_map is not None:
                self._draw(damage_map, expected, found)

    def _tree_witness(
        self, name: str, leaves: Leaves | None, changes: _Changes | None
    ) -> TreeWitness:
        """Return the present tree witness of the file."""
        advance = self._printer.advance
        if leaves is None or changes is None:
            return tree_witness_file(name, threads=self._threads, advance=advance)
        return compare_file(name, leaves, changes.add, threads=self._threads, advance=advance)

    def _show(
        self,
        name: str,
        witnessed_as: str,
        expected: Witness | TreeWitness,
        found: Witness | TreeWitness,
        changes: _Changes | None,
    ) -> None:
        printer = self._printer
        other = "" if witnessed_as == name else f", that of {shown(witnessed_as)}"
        differences = expected.differences(found)
        if not differences:
            if self._quiet:
                return
            printer.line(f"{shown(name)}: ", good=True, verdict="matches its witness", more=other)
            return
        verdict = "does not match its witness"
        printer.line(f"{shown(name)}: ", good=False, verdict=verdict, more=other)
        if isinstance(expected, TreeWitness) and isinstance(found, TreeWitness):
            if changes is not None:
                changes.show(max(expected.windows, found.windows))
            else:
                printer.line("  windows  not known without the leaves of the witness")
        for difference in differences:
            printer.line(f"  {difference:8} witnessed {_field(expected, difference)}")
            printer.line(f"  {'':8} found     {_field(found, difference)}")

    def _draw(
        self,
        damage_map: "DamageMap",
        expected: Witness | TreeWitness,
        found: Witness | TreeWitness,
    ) -> None:
        damage_map.finish(expected.length, found.length)
        if self._plot != SKETCH:
            self.maps.append(damage_map)
            return
        for line in damage_map.sketch(self._printer.colour):
            self._printer.line(line)


def _new_map(name: str) -> "DamageMap":
    from ..drawings.damage_map import DamageMap

    return DamageMap(shown(name))


def _field(witness: Witness | TreeWitness, difference: str) -> str:
    value = getattr(witness, difference)
    return value.hex() if isinstance(value, bytes) else str(value)


@click.command(
    "verify",
    cls=PlotCommand,
    short_help="Check files or a folder against what was witnessed or signed.",
    epilog="""\b
Examples:
  atlas12288 verify model.witness.json model.bin
  atlas12288 verify --plot damage.png model.witness.json model.bin
  atlas12288 verify model.witness.json model.safetensors  # of tensors
  atlas12288 verify tables.witnesses *.parquet
  atlas12288 verify data.atlas.json             # the folder data beside it
  atlas12288 verify data.atlas.json /mnt/copy   # a copy elsewhere
  atlas12288 verify data.atlas.json --path raw/2026 --path notes.txt
  atlas12288 verify data.atlas.json s3://bucket/data
  atlas12288 verify data.atlas.json --every 30d  # until Ctrl-C
  atlas12288 verify data.atlas.json --every 30d --once --rate 50MB/s
  atlas12288 verify data.sig data --public-key signer.pub

Exit codes: 0 nothing differs; 1 a file changed, is missing, was added or moved; 2 a file, WITNESS
or its leaves could not be read, or ROOT has no file of the manifest. With --once, what an earlier
pass told counts too; without it, --every ends by Ctrl-C (130), or with 2 if the first pass cannot
begin.""",
)
@click.argument("witnesses", metavar="WITNESS", type=file_name)
@click.argument("files", metavar="[FILE... | ROOT]", nargs=-1, type=file_name)
@leaves_option
@threads_option
@click.option(
    "--plot",
    metavar="[OUT.png]",
    type=file_name,
    help="Draw a map of the windows that differ, in a .png, .svg or .pdf or on the terminal.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print only differences and errors.")
@click.option(
    "--fail-fast",
    is_flag=True,
    help="For a manifest: stop at the first difference. A moved file is then told as missing or "
    "added.",
)
@click.option(
    "--allow-extra",
    is_flag=True,
    help="For a manifest: allow files that it does not list.",
)
@click.option(
    "--path",
    "parts",
    metavar="SUB",
    multiple=True,
    type=file_name,
    help="For a manifest: check only this file or folder of it; repeatable.",
)
@allow_cache_option
@click.option(
    "--rate",
    callback=rate_of,
    metavar="RATE",
    help="For a manifest or a signature: read at most so much, such as 50MB/s or 1GiB/s, with one "
    "thread.",
)
@click.option(
    "--every",
    callback=duration_of,
    metavar="TIME",
    help="For a manifest or a signature, not for the witness of a FILE: verify again and again, "
    "and begin a pass every TIME (30s, 15m, 12h, 1d). A difference is told once. A pass that is "
    "interrupted goes on where it was.",
)
@click.option(
    "--once",
    is_flag=True,
    help="With --every: make one pass, or go on with one, if it is due; then end.",
)
@signature_options
@json_option
def command(
    witnesses: str,
    files: tuple[str, ...],
    sidecar: str | None,
    threads: int | None,
    plot: str | None,
    quiet: bool,
    fail_fast: bool,
    allow_extra: bool,
    parts: tuple[str, ...],
    allow_cache: bool,
    rate: float | None,
    every: float | None,
    once: bool,
    as_json: bool,
    **of_signatures: Any,
) -> int:
    """Check each FILE, or the folder ROOT, against WITNESS, and print what differs.

    WITNESS is a file that the command witness wrote. If it is a manifest, the folder or URL ROOT is
    compared with it, and each file that changed, is missing, was added, was moved or cannot be read
    is named.
    The default ROOT is the folder DATA for DATA.atlas.json, else the folder of the manifest.

    If WITNESS is a signature over a folder, which sign or model_signing wrote, --public-key or
    --certificate-root says whose it must be. The signature is checked first, then all files.

    If WITNESS was made with --tensors, FILE is compared with it tensor by tensor.

    Otherwise WITNESS has one line for each FILE, in any order: a FILE is found by its name, or by
    its base name if only one has it. If it has tree witnesses with their leaves beside it, the
    windows that differ are named.
    """
    if as_json and quiet:
        raise click.UsageError("--json prints every verdict: not with --quiet")
    if witnesses == STDIN and STDIN in files:
        raise click.UsageError("WITNESS and FILE cannot both be standard input (-)")
    if once and every is None:
        raise click.UsageError("--once makes one of the passes of --every, which is not given")
    if rate is not None and threads is not None:
        raise click.UsageError("--rate reads with one thread: not with --threads")
    from . import verify_manifest, verify_signature

    wanted = verify_manifest.VerifyOptions(
        manifest=witnesses,
        root=files[0] if files else None,
        sidecar=sidecar,
        threads=threads,
        plot=plot,
        quiet=quiet,
        fail_fast=fail_fast,
        allow_extra=allow_extra,
        allow_cache=allow_cache,
        as_json=as_json,
        parts=parts,
        rate=rate,
        every=every,
        once=once,
    )
    of_folder = len(files) == 1 and (is_url(files[0]) or is_folder(files[0]))
    kind: Kind | None = None
    try:
        statuses: list[os.stat_result] = []
        kind, chunks = open_witnesses(witnesses, statuses.append)
        reason = misplaced(witnesses, kind, files)
        if of_folder and kind == WITNESSES:
            require_kind(kind, witnesses, "WITNESS of a folder", MANIFEST)
    except FileError as error:
        reason = misplaced(witnesses, kind, files) if is_folder(witnesses) else None
        reason = reason or error.reason
    # If it is of no kind but has the name of one, the error says what is wrong with it.
    is_named = kind is None and witnesses.endswith(SUFFIX) and len(files) < 2
    should_be = is_named or (of_folder and kind != TENSORS)
    if reason is not None:
        if should_be:
            return verify_manifest.refused(wanted, reason)
        return _refused(files, witnesses, reason, as_json)
    what = "is not one" if kind is None else f"is {kind.words}"
    if kind == SIGNATURE:
        return verify_signature.verify(wanted, of_signatures, files, chunks, statuses[0])
    verify_signature.require_none(of_signatures, what)
    if kind == MANIFEST and len(files) > 1:
        raise click.UsageError(f"WITNESS is a manifest: one ROOT is compared, not {len(files)}")
    if every is not None and (kind == MANIFEST or should_be):
        from . import verify_rotation

        return verify_rotation.verify(wanted)
    if kind == MANIFEST or should_be:
        return verify_manifest.verify(wanted, chunks, statuses[0])
    if every is not None:
        raise click.UsageError(
            f"--every is for manifests and signatures, and WITNESS {what}: make a manifest of a "
            'folder, with "atlas12288 witness FOLDER -o OUT"'
        )
    for option, given in (
        ("--fail-fast", fail_fast),
        ("--allow-extra", allow_extra),
        ("--allow-cache", allow_cache),
        ("--path", parts),
        ("--rate", rate is not None),
    ):
        if given:
            raise click.UsageError(f"{option} is for manifests, and WITNESS {what}")
    if kind == TENSORS:
        from . import verify_tensors

        if plot is not None:
            require_plot(plot, (), [witnesses, *files], as_json)
        return verify_tensors.verify(
            witnesses, chunks, files, sidecar, threads, plot, quiet, as_json
        )
    return _verify_files(witnesses, chunks, files, sidecar, threads, plot, quiet, as_json)


def _refused(files: tuple[str, ...], witnesses: str, reason: str, as_json: bool) -> int:
    """Report that a witness file cannot be used; return the exit code."""
    complain(witnesses, reason)
    error = f"{shown(witnesses)}: {reason}"
    with Printer("verify", as_json, None) as printer:
        for name in files:
            with printer.item(name, _NO_VERDICT | {"error": error}):
                pass
        printer.fields["error"] = error
    return COULD_NOT_CHECK


def _flat_outcomes(
    files: Sequence[str],
    expected: Sequence[Witness | TreeWitness | FileError],
    threads: int | None,
    printer: Printer,
) -> Generator[Witness | FileError | None, None, None]:
    """Yield the present witness of each file that has a flat one, or why there is none.

    Files that follow one another are hashed many at once. None for each other file, which is not
    read.
    """
    pairs = zip(files, expected, strict=True)
    for is_flat, some in groupby(pairs, lambda pair: isinstance(pair[1], Witness)):
        names = [name for name, _ in some]
        if not is_flat:
            yield from repeat(None, len(names))
            continue
        with closing(witness_in_order(names, threads=threads, advance=printer.advance)) as found:
            for known in found:
                yield known.outcome


def _verify_files(
    witnesses: str,
    chunks: Iterable[bytes | memoryview],
    files: tuple[str, ...],
    sidecar: str | None,
    threads: int | None,
    plot: str | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Verify files by a witness file, whose bytes are `chunks`."""
    if not files:
        raise click.UsageError("FILE is needed: WITNESS is a witness file, not a manifest")
    try:
        listed = parse_lines(chunks)
        if not listed.has_names:
            require_lines(listed, len(files))
    except FileError as error:
        return _refused(files, witnesses, str(error), as_json)
    lines: Sequence[int | str] = range(len(files))
    others: list[int] = []
    if listed.has_names:
        lines, others = pair(listed.names, list(map(os.fsencode, files)))
    expected = [
        FileError(line) if isinstance(line, str) else listed.witnesses[line] for line in lines
    ]
    trees = [witness for witness in listed.witnesses if isinstance(witness, TreeWitness)]
    if sidecar is not None and not trees:
        raise click.UsageError("--leaves: WITNESS has no tree witness, which alone has leaves")
    is_named = sidecar is not None
    if sidecar is None and trees:
        sidecar = find_sidecar(witnesses)
    if plot is not None:
        if sidecar is None or not all(isinstance(each, TreeWitness) for each in expected):
            raise click.UsageError("--plot needs tree witnesses with leaves: witness --tree -o")
        require_plot(plot, files, [*files, witnesses, sidecar], as_json)
    with Printer("verify", as_json, bytes_to_read(files)) as printer, ExitStack() as stack:
        if not listed.has_names and len(files) > 1:
            printer.warning(witnesses, "has no names of files: FILEs are taken in its order")
        leaves: list[Leaves | None] = [None] * len(listed.names)
        if sidecar is not None:
            try:
                of_lines = open_sidecar(sidecar, listed.witnesses, follow=is_named)
                leaves = stack.enter_context(of_lines)
            except FileError as error:
                printer.error(str(error.name), error.reason)
        verifier = _Verifier(printer, witnesses, sidecar, threads, plot, quiet)
        if listed.has_names:
            for its_name, outcome in zip(listed.names, listed.witnesses, strict=True):
                if its_name is None:
                    verifier.without_witness(str(outcome))
        found = stack.enter_context(closing(_flat_outcomes(files, expected, threads, printer)))
        for name, witness, line, flat in zip(files, expected, lines, found, strict=True):
            witnessed = None if isinstance(line, str) else listed.names[line]
            its_leaves = None if isinstance(line, str) else leaves[line]
            witnessed_as = name if witnessed is None else os.fsdecode(witnessed)
            verifier.verify(name, witness, its_leaves, flat, witnessed_as)
        for line in others:
            verifier.without_file(os.fsdecode(listed.names[line] or b""), listed.witnesses[line])
        verifier.finish()
        if verifier.maps and plot is not None:
            from ..drawings.damage_map import draw

            write_plot(plot, partial(draw, verifier.maps), printer)
    return printer.code
