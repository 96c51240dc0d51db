# SPDX-License-Identifier: Apache-2.0
"""Witness files that are written without leaves beside them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

from .._outputs import OutputKind, Target, atomic_write_all, open_outdated
from ..manifest._beside import leaves_name
from .console import Printer, shown


@contextmanager
def write_without_leaves(
    output: Target, kind: OutputKind, printer: Printer
) -> Iterator[tuple[BinaryIO]]:
    """Yield a witness file without trees to write, as `atomic_write_all` does.

    Leaves beside the witness file that it replaces are removed with that, and a message says so.

    Args:
        output: the target of the witness file.
        kind: what the leaves must be.
        printer: prints the message.
    """
    outdated = open_outdated(leaves_name(output.name), kind)
    with ExitStack() as stack:
        if outdated is not None:
            stack.enter_context(outdated)
        with atomic_write_all(output, outdated=outdated) as (file,):
            yield (file,)
        if outdated is not None:
            owner = shown(output.name)
            printer.warning(
                outdated.name, f"is removed: it had the leaves of {owner}, which has no trees now"
            )
