# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 check --tensors`: which tensors of a file are conserved."""

import time
from typing import TYPE_CHECKING

from ..._files import FileError
from ..._native import MODULUS
from ..._parallel import thread_count
from ..._words import word
from ..console import Item, Printer, shown
from ..tensor_files import tensor_bytes, tensor_errors

if TYPE_CHECKING:
    from ...tensors import TensorsWitness


def check(files: tuple[str, ...], as_json: bool) -> int:
    """Check whether each tensor of files of tensors is conserved; return the exit code."""
    sizes = list(map(tensor_bytes, files))
    total = None if None in sizes else sum(size or 0 for size in sizes)
    with Printer("check", as_json, total) as printer:
        for name in files:
            fields = dict.fromkeys(("tensors", "length", "residue", "holds", "error"))
            with printer.item(name, fields) as item:
                _check(name, printer, item)
    return printer.code


def _check(name: str, printer: Printer, item: Item) -> None:
    from ...tensors import TensorsWitness
    from ...tensors._content import How

    how = How(False, False, thread_count(None), time.time_ns(), advance=printer.advance)
    try:
        with tensor_errors(name):
            found = TensorsWitness._of_file(name, how)
    except FileError as error:
        printer.error(name, error.reason)
        item.fields["error"] = error.reason
        return
    _show(name, found, printer, item)


def _show(name: str, found: "TensorsWitness", printer: Printer, item: Item) -> None:
    arrays = found.arrays
    conserved = sum(array.residue == 0 for array in arrays.values())
    holds = conserved == len(arrays)
    printer.line(
        f"{shown(name)}: {conserved} of {len(arrays)} {word(len(arrays), 'tensor')} ",
        good=holds,
        verdict="conserved",
    )
    for tensor, array in arrays.items():
        if array.residue != 0:
            length = f"{array.length} {word(array.length, 'byte')}"
            printer.line(f"  tensor {tensor!r}: {length}, residue {array.residue}")
    item.fields |= {
        "tensors": [
            {"name": tensor, "length": array.length, "residue": array.residue}
            for tensor, array in arrays.items()
        ],
        "length": sum(array.length for array in arrays.values()),
        "residue": sum(array.residue for array in arrays.values()) % MODULUS,
        "holds": holds,
    }
    printer.verdict(holds)
