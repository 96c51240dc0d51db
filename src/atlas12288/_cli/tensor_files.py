# SPDX-License-Identifier: Apache-2.0
"""What the commands about files of tensors share: their witnesses, leaves and errors."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from .._errors import WitnessError
from .._files import FileError, RegularFile, expected_bytes, shown
from .._names import is_text
from .._outputs import OutputKind
from .._sidecars import TreeLeaves, Trees, first_without_leaves, require_size
from .._tree import TreeWitness
from ..manifest._kinds import LEAVES_WAY_OUT
from .console import shows_progress
from .witness_files import read_whole

if TYPE_CHECKING:
    from ..tensors import TensorsWitness

TENSORS_MOST_BYTES: Final = 1 << 30  # of a witness of tensors, some four million of them
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

    Raises:
        FileError: the sidecar has not the leaves of the witness.
    """

    def __init__(self, sidecar: RegularFile, witness: "TensorsWitness") -> None:
        self._leaves: dict[str, tuple[TreeWitness, TreeLeaves]] = {}
        first = 0
        for name, tree in _trees(witness):
            leaves = TreeLeaves(sidecar, first, tree.length, tree.root)
            self._leaves[name] = tree, leaves
            first += leaves.windows
        require_size(sidecar, first, "witness")
        for _, leaves in self._leaves.values():
            leaves.check()

    def tree(self, name: str) -> TreeWitness | None:
        """Return the tree of a tensor with its leaves; None if they cannot be read any more."""
        tree, leaves = self._leaves[name]
        try:
            return tree.with_leaves(b"".join(leaves.chunks()))
        except (FileError, WitnessError):
            return None


def _trees(witness: "TensorsWitness") -> Iterator[tuple[str, TreeWitness]]:
    for name, array in witness.arrays.items():
        yield name, array._as_tree()


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
