# SPDX-License-Identifier: Apache-2.0
"""What the commands about witnesses share: witness files, the leaves beside them, options."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain, islice
from typing import Final

import click

from .._errors import WitnessError
from .._files import STDIN, FileError, RegularFile, read_chunks, shown
from .._outputs import OutputKind, Target
from .._sidecars import Leaves, leaves_of
from .._tree import TreeWitness, witness_from_json
from .._witness import WITNESS_MOST_BYTES, Witness
from ..manifest._beside import is_url, leaves_name
from .console import file_name

_NO_WITNESS: Final = "null"  # stands for a file that could not be read: lines and files stay paired
ONLY_ROOT_IS_URL: Final = (
    "is a URL, must be a file of this machine: only what is witnessed may be elsewhere"
)
# The keys of a manifest; a witness has none of them.
_MANIFEST: Final = rb'\s*\{\s*"(?:_type|predicate|predicateType|subject)"\s*:'
_DATASET: Final = rb'"type"\s*:\s*"atlas12288/(?:array|tensors|table)/v1"'
_SUMS_LOOKED_AT: Final = 10  # lines: a list may begin with comments and lines that are none

threads_option = click.option(
    "--threads",
    metavar="N",
    type=click.IntRange(min=1),
    help="Hash with N threads.  [default: one per core]",
)
leaves_option = click.option(
    "--leaves",
    "sidecar",
    metavar="LEAVES",
    type=file_name,
    help="Read the leaves of WITNESS from this file.  [default: the file beside it]",
)


def witness_line(witness: Witness | TreeWitness | None) -> str:
    """Return the line of a witness file, without a line break; None is for an unread file."""
    return _NO_WITNESS if witness is None else witness.to_json()


def read_whole(chunks: Iterable[bytes | memoryview], most: int, rule: str) -> bytearray:
    """Return the bytes of a file of at most `most`.

    Raises:
        FileError: not readable, or longer; the message then gives `rule`.
    """
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) > most:
            raise FileError(f"is not {rule}: too long")
    return data


def read_text(chunks: Iterable[bytes | memoryview], most: int, rule: str) -> str:
    """Return the text of a file of at most `most` bytes.

    Raises:
        FileError: as `read_whole`, or the file is not text.
    """
    data = read_whole(chunks, most, rule)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileError(f"is not {rule}: {error}") from error


def open_witnesses(
    name: str, opened: Callable[[os.stat_result], object] | None = None
) -> tuple[bool, Iterator[bytes | memoryview]]:
    """Return whether a file begins like a manifest, and all its bytes.

    Args:
        name: name of the file.
        opened: as for `read_chunks`.

    Raises:
        FileError: not readable; also from the iterator.
    """
    if is_url(name):
        raise FileError(ONLY_ROOT_IS_URL)
    chunks = read_chunks(name, opened=opened, or_pipe=True)
    head = bytes(next(chunks, b""))
    return re.match(_MANIFEST, head) is not None, chain((head,), chunks)


def looks_like(head: bytes) -> str | None:
    """Return the kind of a file by its beginning, in words; None if it is not one of ours."""
    if re.match(_MANIFEST, head) is not None:
        return "a manifest"
    first, *_ = head.splitlines() or [b""]
    if re.search(_DATASET, head[:WITNESS_MOST_BYTES]) is not None:
        return "a witness of a dataset"
    try:
        line = first.decode()
        if line.strip() == _NO_WITNESS or not isinstance(_read_line(line), FileError):
            return "a witness file"
    except UnicodeDecodeError:
        return None
    from .._sums import read_sums

    sums = islice(read_sums((head,)), _SUMS_LOOKED_AT)
    return "a list of SHA-256 sums" if any(found is not None for _, found in sums) else None


def misplaced(name: str, head: bytes, others: Sequence[str]) -> str | None:
    """Return a hint for a file that is neither a witness file nor a manifest.

    Args:
        name: the file.
        head: its first bytes; b"" for a folder.
        others: the names that follow it on the command line.
    """
    kind = looks_like(head)
    if kind == "a list of SHA-256 sums":
        return f"is {kind}: atlas12288 check-sums {shown(name)} checks its files"
    if kind == "a witness of a dataset":
        return f"is {kind}: what atlas12288.tensors or atlas12288.tables made verifies it in Python"
    if kind is not None:
        return None
    for other in others:
        with suppress(FileError):
            _, chunks = open_witnesses(other)
            if (its := looks_like(bytes(next(chunks, b"")))) in ("a manifest", "a witness file"):
                return f"is not a witness, but {shown(other)} is {its}: name WITNESS first"
    return None


def read_witnesses(name: str, count: int) -> list[Witness | TreeWitness | FileError]:
    """Return the witnesses of a witness file, with a FileError for each line that holds none.

    Raises:
        FileError: not readable, or not `count` lines of text.
    """
    is_manifest, chunks = open_witnesses(name)
    if is_manifest:
        raise FileError("is a manifest, which verify alone takes; must be a witness file")
    return parse_witnesses(chunks, count)


def parse_witnesses(
    chunks: Iterable[bytes | memoryview], count: int
) -> list[Witness | TreeWitness | FileError]:
    """Return the witnesses of a witness file that is being read; as `read_witnesses`."""
    rule = f"a witness file of {count} lines, one for each FILE"
    lines = read_text(chunks, count * WITNESS_MOST_BYTES, rule).splitlines()
    if len(lines) != count:
        raise FileError(f"has {len(lines)} witnesses for {count} files, must have one for each")
    return [_read_line(line) for line in lines]


def _read_line(line: str) -> Witness | TreeWitness | FileError:
    if line.strip() == _NO_WITNESS:
        return FileError("has no witness: it could not be read when the witnesses were made")
    try:
        return witness_from_json(line)
    except WitnessError as error:
        return FileError(str(error))


def output_file(name: str | None, as_json: bool) -> str | None:
    """Return the file that `-o` names; None for standard output.

    Raises:
        click.UsageError: it is a URL, or standard output, which JSON needs.
    """
    if name is None:
        return None
    if is_url(name):
        raise click.UsageError(f"-o {shown(name)}: {ONLY_ROOT_IS_URL}")
    if name != STDIN:
        return name
    if as_json:
        raise click.UsageError("-o - is standard output, and so is what --json prints: not both")
    return None


def output_at(
    option: str, name: str, kind: OutputKind, inputs: Sequence[str], stack: ExitStack
) -> Target:
    """Return the target of an output, before any work is done.

    Args:
        option: the option that gave its name.
        name, kind, inputs: as for `Target`.
        stack: closes the target.

    Raises:
        click.UsageError: it cannot be written, or the existing file is not ours.
    """
    try:
        return stack.enter_context(Target(name, kind, inputs))
    except FileError as error:
        raise click.UsageError(f"{option} {shown(name)}: {error}") from error


@contextmanager
def errors_about(name: str) -> Iterator[None]:
    """Add the file's name to each FileError that has none."""
    try:
        yield
    except FileError as error:
        if error.name is not None:
            raise
        raise FileError(error.reason, name) from error


def read_tree_witness(name: str) -> TreeWitness:
    """Return the only witness of a witness file.

    Raises:
        FileError: not readable, or not a single tree witness; it knows the file.
    """
    with errors_about(name):
        (witness,) = read_witnesses(name, 1)
        if isinstance(witness, FileError):
            raise witness
        if not isinstance(witness, TreeWitness):
            raise FileError(
                f"is a {witness.algorithm} witness, which knows no windows; --tree makes one"
            )
        return witness


def find_sidecar(witnesses: str) -> str | None:
    """Return the sidecar beside a witness file; None if there is none.

    Links at this name must not be followed, because the user did not type it.
    """
    name = leaves_name(witnesses)
    return name if witnesses != STDIN and os.path.lexists(name) else None


@contextmanager
def open_sidecar(
    name: str, witnesses: Sequence[Witness | TreeWitness | FileError], *, follow: bool
) -> Iterator[list[Leaves | None]]:
    """Yield the leaves of each witness of a witness file; None for a flat or missing witness.

    Args:
        name: of the sidecar.
        witnesses: what `read_witnesses` gave.
        follow: may the sidecar be a symbolic link? Only where a user named it.

    Raises:
        FileError: not readable, or of another size; it knows the sidecar. The leaves themselves are
            not read yet.
    """
    trees = [witness for witness in witnesses if isinstance(witness, TreeWitness)]
    with ExitStack() as stack:
        with errors_about(name):
            sidecar = stack.enter_context(RegularFile(name, follow=follow))
            found = iter(leaves_of(sidecar, trees))
        yield [next(found) if isinstance(each, TreeWitness) else None for each in witnesses]


@contextmanager
def open_only_leaves(witness_name: str, sidecar: str | None) -> Iterator[Leaves]:
    """Yield the checked leaves of the only witness of a witness file.

    Args:
        witness_name: the witness file.
        sidecar: the file with the leaves; None for the one beside the witness file.

    Raises:
        FileError: not a single tree witness, or no leaves, or not its leaves; it knows the file.
    """
    witness = read_tree_witness(witness_name)
    is_named = sidecar is not None
    sidecar = sidecar or find_sidecar(witness_name)
    if sidecar is None:
        raise FileError(
            "has no leaves: witness --tree -o writes them beside it, --leaves names them elsewhere",
            witness_name,
        )
    with open_sidecar(sidecar, [witness], follow=is_named) as (leaves,):
        assert leaves is not None
        with errors_about(sidecar):
            leaves.check()
        yield leaves
