# SPDX-License-Identifier: Apache-2.0
"""What the commands about witnesses share: witness files, the leaves beside them, options."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from typing import Final, NamedTuple

import click

from .._errors import WitnessError
from .._files import STDIN, FileError, RegularFile, read_chunks, shown
from .._outputs import OutputKind, Target
from .._sidecars import Leaves, leaves_of
from .._tree import TreeWitness
from .._witness import Witness
from .._witness_lists import (
    NO_WITNESS,
    ListedWitness,
    NamedLineError,
    line_of,
    lines_of,
    read_line,
)
from ..manifest._beside import is_url, leaves_name
from .console import file_name
from .file_kinds import (
    BINARY,
    MANIFEST,
    SIGNATURE,
    TENSORS,
    WITNESSES,
    Kind,
    kind_of,
    require_kind,
    wrong_kind,
)

# Of a witness file. A command line cannot name so many files.
LINES_MOST: Final = 1 << 20
LIST_MOST_BYTES: Final = 1 << 28
ONLY_ROOT_IS_URL: Final = (
    "is a URL, must be a file of this machine: only what is witnessed may be elsewhere"
)
# The kind of a file, and all its bytes.
Opened = tuple[Kind | None, Iterator[bytes | memoryview]]
_TAKEN_BY_VERIFY: Final = (MANIFEST, WITNESSES, TENSORS, SIGNATURE)

leaves_option = click.option(
    "--leaves",
    "sidecar",
    metavar="LEAVES",
    type=file_name,
    help="Read the leaves of WITNESS from this file.  [default: the file beside it]",
)


class WitnessFile(NamedTuple):
    """What a witness file says, line by line.

    Attributes:
        has_names: whether its lines have the names of their files. They have none in the witness
            file of a single file, and in lists of versions before the release.
        names: names of the files; None for a line that has none.
        witnesses: for each line the witness, or a FileError that says why there is none.
    """

    has_names: bool
    names: list[bytes | None]
    witnesses: list[Witness | TreeWitness | FileError]


def witness_line(name: str | None, witness: Witness | TreeWitness | None) -> str:
    """Return the line of a witness file, without a line break.

    Args:
        name: the file; None where it is the only one.
        witness: its witness; None if it could not be read.
    """
    if name is not None:
        return line_of(os.fsencode(name), witness)
    return NO_WITNESS.decode() if witness is None else witness.to_json()


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


def open_witnesses(name: str, opened: Callable[[os.stat_result], object] | None = None) -> Opened:
    """Return the kind of a file, or None if it is of none, and all its bytes.

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
    return kind_of(name, head), chain((head,), chunks)


def misplaced(name: str, kind: Kind | None, others: Sequence[str]) -> str | None:
    """Return why `verify` cannot take a file, with a hint; None where its readers say it.

    Args:
        name: the file.
        kind: its kind; None for a folder.
        others: the names that follow it on the command line.
    """
    if kind not in (None, BINARY):
        return None if kind in _TAKEN_BY_VERIFY else wrong_kind(kind, name)
    for other in others:
        with suppress(FileError):
            its, _ = open_witnesses(other)
            if its is not None and its in _TAKEN_BY_VERIFY:
                return f"is not a witness, but {shown(other)} is {its.words}: name WITNESS first"
    must = "WITNESS must be a witness file, a manifest or a signature"
    return None if kind is None else wrong_kind(kind, name, must)


def read_witnesses(name: str, count: int) -> list[Witness | TreeWitness | FileError]:
    """Return the witnesses of a witness file, with a FileError for each line that holds none.

    Raises:
        FileError: not readable, or not `count` lines of text.
    """
    kind, chunks = open_witnesses(name)
    require_kind(kind, name, "WITNESS", WITNESSES)
    return parse_witnesses(chunks, count)


def parse_witnesses(
    chunks: Iterable[bytes | memoryview], count: int
) -> list[Witness | TreeWitness | FileError]:
    """Return the witnesses of a witness file that is being read; as `read_witnesses`."""
    found = parse_lines(chunks)
    require_lines(found, count)
    return found.witnesses


def require_lines(found: WitnessFile, count: int) -> None:
    """Raise FileError unless a witness file has a line for each of `count` files."""
    if len(found.witnesses) != count:
        raise FileError(
            f"has {len(found.witnesses)} witnesses for {count} files, must have one for each"
        )


def parse_lines(chunks: Iterable[bytes | memoryview]) -> WitnessFile:
    """Return the lines of a witness file that is being read.

    Raises:
        FileError: not readable, or a line or the file is too long.
    """
    lines: list[ListedWitness | str] = []
    has_names = False
    try:
        for line in lines_of(_bounded(chunks)):
            if len(lines) == LINES_MOST:
                raise FileError(f"is not a witness file of at most {LINES_MOST:,} lines")
            try:
                listed = read_line(line)
                lines.append(listed)
                has_names = has_names or listed.name is not None
            except WitnessError as error:
                lines.append(str(error))
                has_names = has_names or isinstance(error, NamedLineError)
    except WitnessError as error:
        raise FileError(f"is not a witness file: {error}") from error
    names = [None if isinstance(line, str) else line.name for line in lines]
    is_alone = len(lines) == 1
    witnesses = [
        _outcome(line, "" if is_alone else f"line {number}: ", has_names)
        for number, line in enumerate(lines, 1)
    ]
    return WitnessFile(has_names, names, witnesses)


def _outcome(
    line: ListedWitness | str, place: str, has_names: bool
) -> Witness | TreeWitness | FileError:
    """Return the witness of a line, or why there is none; `place` says which line it is."""
    if isinstance(line, str):
        return FileError(place + line)
    if has_names and line.name is None:
        return FileError(f"{place}it has no name, must have one as other lines have")
    if line.witness is None:
        return FileError("has no witness: it could not be read when the witnesses were made")
    return line.witness


def _bounded(chunks: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > LIST_MOST_BYTES:
            raise FileError(f"is not a witness file of at most {LIST_MOST_BYTES:,} bytes: too long")
        yield chunk


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


def output_at(name: str, kind: OutputKind, inputs: Sequence[str], stack: ExitStack) -> Target:
    """Return the target of an output that `-o` names, before any work is done.

    Args:
        name, kind, inputs: as for `Target`.
        stack: closes the target.

    Raises:
        click.UsageError: it cannot be written, or the existing file is not ours.
    """
    try:
        return stack.enter_context(Target(name, kind, inputs))
    except FileError as error:
        raise click.UsageError(f"-o {shown(name)}: {error}") from error


@contextmanager
def errors_about(name: str) -> Iterator[None]:
    """Add the file's name to each FileError that has none."""
    try:
        yield
    except FileError as error:
        if error.name is not None:
            raise
        raise FileError(error.reason, name) from error


def read_tree_witness(name: str, opened: Opened | None = None) -> TreeWitness:
    """Return the only witness of a witness file.

    Args:
        name: the witness file.
        opened: what `open_witnesses` gave for it; None to open it.

    Raises:
        FileError: not readable, or not a single tree witness; it knows the file.
    """
    with errors_about(name):
        kind, chunks = opened or open_witnesses(name)
        require_kind(kind, name, "WITNESS", WITNESSES)
        (witness,) = parse_witnesses(chunks, 1)
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
def open_only_leaves(
    witness_name: str, sidecar: str | None, opened: Opened | None = None
) -> Iterator[Leaves]:
    """Yield the checked leaves of the only witness of a witness file.

    Args:
        witness_name: the witness file.
        sidecar: the file with the leaves; None for the one beside the witness file.
        opened: what `open_witnesses` gave for the witness file; None to open it.

    Raises:
        FileError: not a single tree witness, or no leaves, or not its leaves; it knows the file.
    """
    witness = read_tree_witness(witness_name, opened)
    name, is_named = require_sidecar(witness_name, sidecar)
    with open_sidecar(name, [witness], follow=is_named) as (leaves,):
        assert leaves is not None
        with errors_about(name):
            leaves.check()
        yield leaves


def require_sidecar(witness_name: str, sidecar: str | None) -> tuple[str, bool]:
    """Return the file with the leaves, and whether the user named it, so that links are followed.

    Args:
        witness_name, sidecar: as of `open_only_leaves`.

    Raises:
        FileError: there is none; it knows the witness file.
    """
    name = sidecar or find_sidecar(witness_name)
    if name is None:
        raise FileError(
            "has no leaves: witness --tree -o writes them beside it, --leaves names them elsewhere",
            witness_name,
        )
    return name, sidecar is not None
