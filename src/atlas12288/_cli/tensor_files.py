# SPDX-License-Identifier: Apache-2.0
"""What the commands about files of tensors share: their witnesses, leaves and errors."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final

from .._errors import WitnessError
from .._files import FileError, RegularFile, expected_bytes, shown
from .._names import is_text
from .._outputs import OutputKind
from .._parallel import thread_count
from .._sidecars import Leaves, Trees, first_without_leaves, leaves_of
from .._tree import TreeWitness
from .._witness import TREE_ALGORITHM
from ..manifest._kinds import LEAVES_WAY_OUT
from .console import Printer, shows_progress
from .file_kinds import TENSORS, require_kind
from .witness_files import (
    Opened,
    errors_about,
    open_witnesses,
    read_whole,
    require_sidecar,
)

if TYPE_CHECKING:
    from ..tensors import TensorsWitness

TENSORS_MOST_BYTES: Final = 1 << 30  # of a witness of tensors, some four million of them
_MAKES_ONE: Final = "witness --tensors --tree makes trees"
_WRITTEN: Final = b'{"type": "atlas12288/tensors/v1", "algorithm": "'


def read_tensors_witness(chunks: Iterable[bytes | memoryview]) -> "TensorsWitness":
    """Return the witness of tensors in a file that is being read.

    Raises:
        FileError: not readable, too long, or not a witness of tensors.
    """
    from ..tensors import TensorsWitness

    rule = f"a witness of tensors of at most {TENSORS_MOST_BYTES:,} bytes"
    try:
        witness = TensorsWitness.from_json(bytes(read_whole(chunks, TENSORS_MOST_BYTES, rule)))
    except WitnessError as error:
        raise FileError(f"is not a witness of tensors: {error}") from error
    for name in witness.arrays:
        if not is_text(name):
            raise FileError(f"is not a witness of tensors: name {name!r} must be UTF-8")
    return witness


def tensor_bytes(name: str) -> int | None:
    """Return the bytes of the files of a set, for the progress bar; None if they are not known."""
    if not shows_progress():
        return None
    from ..tensors._set import files_of

    with suppress(OSError, ValueError):  # reading them will report it
        return expected_bytes(files_of(name))
    return None


@contextmanager
def tensor_errors(name: str) -> Iterator[None]:
    """Turn what reading a file of tensors raises into FileError, with its name only once."""
    try:
        yield
    except OSError as error:
        raise FileError(error.strerror or str(error)) from error
    except (ValueError, ImportError) as error:
        reason = str(error).removeprefix(f"{name}: ").removeprefix(f"{name} ")
        raise FileError(reason if reason.isprintable() else shown(reason)) from error


class TreesOfTensors:
    """The witnessed trees of tensors; leaves are read from a sidecar when a tree is asked for.

    Args:
        sidecar: the open file.
        witness: the witness whose leaves it has.

    Attributes:
        leaves: the leaves of each tensor, by its name.

    Raises:
        FileError: the sidecar has not the leaves of the witness.
    """

    def __init__(self, sidecar: RegularFile, witness: "TensorsWitness") -> None:
        names = list(witness.arrays)
        trees = [tree for _, tree in _trees(witness)]
        self.leaves: dict[str, Leaves] = dict(zip(names, leaves_of(sidecar, trees), strict=True))
        for leaves in self.leaves.values():
            leaves.check()

    def tree(self, name: str) -> TreeWitness | None:
        """Return the tree of a tensor with its leaves; None if they cannot be read any more."""
        leaves = self.leaves[name]
        try:
            return leaves.witness.with_leaves(b"".join(leaves.chunks()))
        except (FileError, WitnessError):
            return None


def _trees(witness: "TensorsWitness") -> Iterator[tuple[str, TreeWitness]]:
    for name, array in witness.arrays.items():
        yield name, array._as_tree()


@contextmanager
def open_trees(
    name: str, opened: Opened, sidecar: str | None
) -> Iterator[tuple["TensorsWitness", TreesOfTensors]]:
    """Yield a witness of tensors, and its trees with their leaves.

    Args:
        name: the file with the witness.
        opened: what `open_witnesses` gave for it.
        sidecar: the file with the leaves; None for the one beside it.

    Raises:
        FileError: not such a witness, or no leaves, or not its leaves; it knows the file.
    """
    with errors_about(name):
        witness = _read_trees(name, opened, "WITNESS")
    leaves, is_named = require_sidecar(name, sidecar)
    with ExitStack() as stack:
        with errors_about(leaves):
            file = stack.enter_context(RegularFile(leaves, follow=is_named))
            trees = TreesOfTensors(file, witness)
        yield witness, trees


@contextmanager
def open_leaves_of(name: str, sidecar: str | None, tensor: str) -> Iterator[Leaves]:
    """Yield the checked leaves of a tensor.

    Args:
        name: the file with the witness.
        sidecar: as of `open_trees`.
        tensor: its name.

    Raises:
        FileError: as `open_trees`, or there is no such tensor; it knows the file.
    """
    with errors_about(name):
        opened = open_witnesses(name)
    with open_trees(name, opened, sidecar) as (_, trees):
        if tensor not in trees.leaves:
            raise FileError(_no_tensor(tensor), name)
        yield trees.leaves[tensor]


def read_tree_of(name: str, tensor: str) -> TreeWitness:
    """Return the witness of the tree of a tensor, without leaves, from a witness of tensors.

    Raises:
        FileError: not readable, not of trees, or there is no such tensor; it knows the file.
    """
    with errors_about(name):
        witness = _read_trees(name, open_witnesses(name), "WITNESS with --tensor")
        array = witness.arrays.get(tensor)
        if array is None:
            raise FileError(_no_tensor(tensor))
        return array._as_tree()


def _read_trees(name: str, opened: Opened, argument: str) -> "TensorsWitness":
    """Return a witness of tensors that has trees; `argument` is what messages call the file."""
    kind, chunks = opened
    require_kind(kind, name, argument, TENSORS)
    witness = read_tensors_witness(chunks)
    if witness.algorithm != TREE_ALGORITHM:
        raise FileError(f"has {witness.algorithm} digests, which know no windows; {_MAKES_ONE}")
    return witness


def tree_in(name: str, tensor: str, threads: int | None, printer: Printer) -> TreeWitness:
    """Return the tree of a tensor of a file, with its leaves.

    Raises:
        FileError: it cannot be read, or has no such tensor; it knows the file.
    """
    from ..tensors._content import How
    from ..tensors._set import _opened
    from ..tensors._tensor_file import witness_in

    how = How(True, True, thread_count(threads), advance=printer.advance)
    with errors_about(name), tensor_errors(name), _opened(name) as file:
        for problem in file.problems:
            raise ValueError(problem)
        for found in file.tensors:
            if found.name == tensor:
                return witness_in(file.name, found, how)._as_tree()
        raise ValueError(_no_tensor(tensor))


def _no_tensor(name: str) -> str:
    return f"has no tensor {name!r}"


def _is_ours(file: RegularFile) -> bool:
    """Return whether a file is a witness of tensors, as we write them."""
    return file.read(0, len(_WRITTEN)) == _WRITTEN and file.read(file.size - 2, 2) == b"}\n"


TENSORS_WITNESS: Final = OutputKind("witness of tensors", _is_ours, through_links=True)


def leaves_of_tensors(output: str) -> OutputKind:
    """Return the kind of file that holds the leaves of the present witness of tensors."""

    def are_its_leaves(file: RegularFile) -> bool:
        try:
            with RegularFile(output) as opened:
                witness = read_tensors_witness(opened.chunks())
            trees = ((tree.length, tree.root) for _, tree in _trees(witness))
            return first_without_leaves(file, Trees.of(trees)) is None
        except FileError:
            return False

    words = f"file with the leaves of {shown(output)} as it is"
    return OutputKind(words, are_its_leaves, way_out=LEAVES_WAY_OUT)
