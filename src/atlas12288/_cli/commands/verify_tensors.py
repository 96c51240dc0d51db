# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 verify` with a witness of tensors: which tensors differ, and in which windows."""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import click

from ..._files import FileError, RegularFile
from ..._reports import PartDifference, Report
from ..._witness import TREE_ALGORITHM
from ..._words import counted
from ..console import Printer, printable, range_lines, shown
from ..drawings.residue_map import MAX_PANELS
from ..plotting import SKETCH, write_plot
from ..tensor_files import TreesOfTensors, read_tensors_witness, tensor_bytes, tensor_errors
from ..witness_files import find_sidecar

if TYPE_CHECKING:
    from ...tensors import TensorsWitness
    from ..drawings.damage_map import DamageMap

NOTES_DRAWN: Final = 20  # lines about differences without a map


def verify(
    witnesses: str,
    chunks: Iterable[bytes | memoryview],
    files: tuple[str, ...],
    sidecar: str | None,
    threads: int | None,
    plot: str | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Verify a file of tensors; return the exit code.

    Args:
        witnesses: name of the witness of tensors.
        chunks: its bytes.
        files, sidecar, threads, plot, quiet, as_json: as of the command.
    """
    if len(files) != 1:
        count = len(files) or "none"
        raise click.UsageError(f"WITNESS is of tensors: one FILE is compared with it, not {count}")
    (name,) = files
    with Printer("verify", as_json, tensor_bytes(name)) as printer, ExitStack() as stack:
        try:
            witness = read_tensors_witness(chunks)
        except FileError as error:
            printer.error(witnesses, error.reason)
            printer.document(_document(name, None, f"{shown(witnesses)}: {error.reason}"))
            return printer.code
        trees, leaves_error = _open_leaves(witnesses, witness, sidecar, printer, stack)
        try:
            with tensor_errors(name):
                found = _compared(name, witness, trees, threads, printer)
        except FileError as error:
            printer.error(name, error.reason)
            printer.document(_document(name, None, error.reason, leaves_error))
            return printer.code
        maps = {} if plot is None else _maps(found, witness, None if plot == SKETCH else MAX_PANELS)
        _show(
            name, witness, found, trees is not None, quiet, printer, maps if plot == SKETCH else {}
        )
        if plot is not None and plot != SKETCH:
            _draw(name, plot, found, maps, printer)
        printer.document(_document(name, found, None, leaves_error, len(witness.arrays)))
    return printer.code


def _open_leaves(
    witnesses: str,
    witness: "TensorsWitness",
    sidecar: str | None,
    printer: Printer,
    stack: ExitStack,
) -> tuple[TreesOfTensors | None, str | None]:
    """Return the trees with their leaves, and why they are of no use."""
    is_named = sidecar is not None
    if witness.algorithm != TREE_ALGORITHM:
        if is_named:
            raise click.UsageError("--leaves: WITNESS has no trees, which alone have leaves")
        return None, None
    sidecar = sidecar or find_sidecar(witnesses)
    if sidecar is None:
        return None, None
    try:
        file = stack.enter_context(RegularFile(sidecar, follow=is_named))
        return TreesOfTensors(file, witness), None
    except FileError as error:
        printer.error(sidecar, error.reason)
        return None, f"{shown(sidecar)}: {error.reason}"


def _compared(
    name: str,
    witness: "TensorsWitness",
    trees: TreesOfTensors | None,
    threads: int | None,
    printer: Printer,
) -> Report[PartDifference]:
    how = witness._how(threads)._replace(leaves=trees is not None, advance=printer.advance)
    return witness._verify_file(name, how, None if trees is None else trees.tree)


def _show(
    name: str,
    witness: "TensorsWitness",
    found: Report[PartDifference],
    has_leaves: bool,
    quiet: bool,
    printer: Printer,
    maps: "dict[str, DamageMap]",
) -> None:
    """Print the verdict, and for each difference a line, and its map if there is one."""
    if found.holds is False:
        printer.verdict(False)
    if not quiet or not found.holds:
        more = _summary(found, witness)
        printer.line(f"{shown(name)}: ", good=found.holds, verdict=_verdict(found), more=more)
    for each in found.differences:
        if each.kind == "unreadable":
            printer.error(name, printable(str(each)))
            continue
        printer.line(f"  {printable(str(replace(each, ranges=None)))}")
        if each.ranges is not None:
            windows = sum(some.stop - some.first for some in each.ranges)
            total = max(_windows(each, witness), each.ranges[-1].stop if each.ranges else 0)
            for line in range_lines(each.ranges, len(each.ranges), windows, total):
                printer.line(line)
        if (damage_map := maps.get(each.name or "")) is not None:
            for line in damage_map.sketch(printer.colour):
                printer.line(line)
    is_tree = witness.algorithm == TREE_ALGORITHM
    if found.changed and is_tree and not has_leaves:
        printer.line("  windows  not known without the leaves of the witness")


def _verdict(found: Report[PartDifference]) -> str:
    if found.holds is None:
        return "could not be checked"
    return "matches its witness" if found.holds else "does not match its witness"


def _summary(found: Report[PartDifference], witness: "TensorsWitness") -> str:
    parts = [f"{count:,} {kind}" for kind, count in found.counts().items() if count]
    count = counted(len(witness.arrays), "tensor")
    return f"; {count}" + (f": {', '.join(parts)}" if parts else "")


def _maps(
    found: Report[PartDifference], witness: "TensorsWitness", most: int | None
) -> "dict[str, DamageMap]":
    """Return a map of each tensor whose windows are known, by name; of the first `most`."""
    from ..drawings.damage_map import DamageMap

    maps: dict[str, DamageMap] = {}
    arrays = witness.arrays
    for each in found.differences:
        if each.name is None or each.ranges is None or len(maps) == most:
            continue
        damage_map = maps[each.name] = DamageMap(printable(f"tensor {each.name!r}"))
        for some in each.ranges:
            damage_map.update(some.first, some.stop)
        # Of another length only with another shape, and then no windows are known.
        damage_map.finish(arrays[each.name].length, arrays[each.name].length)
    return maps


def _draw(
    name: str,
    plot: str,
    found: Report[PartDifference],
    maps: "dict[str, DamageMap]",
    printer: Printer,
) -> None:
    from ..drawings.damage_map import draw

    left = [each for each in found.differences if each.name not in maps]
    notes = [printable(str(replace(each, ranges=None))) for each in left[:NOTES_DRAWN]]
    if len(left) > NOTES_DRAWN:
        notes.append(f"and {counted(len(left) - NOTES_DRAWN, 'more difference')}")
    heading = f"{shown(name)}: {_verdict(found)}"
    write_plot(plot, partial(draw, list(maps.values()), heading=heading, notes=notes), printer)


def _windows(difference: PartDifference, witness: "TensorsWitness") -> int:
    """Return the number of windows of a tensor in the witness."""
    return witness.arrays[difference.name]._as_tree().windows if difference.name else 0


def _document(
    name: str,
    found: Report[PartDifference] | None,
    error: str | None,
    leaves_error: str | None = None,
    tensors: int | None = None,
) -> dict[str, object]:
    """Return the fields of what --json prints."""
    fields = dict.fromkeys(Report[PartDifference]().to_fields())
    if found is not None:
        fields = found.to_fields() | {"counts": {"tensors": tensors} | found.counts()}
    return {"file": name, **fields, "leaves_error": leaves_error, "error": error}
