# SPDX-License-Identifier: Apache-2.0
"""Open files of tensors, and tensors that have not been read yet."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from .._files import FileError, open_regular, require_unchanged
from ._content import How, Whole
from ._witness import ArrayWitness


class UnreadTensor(Protocol):
    """A tensor that has not been read yet. There may be a million, so it has slots, no closure."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int:
        """Approximate size in bytes, which tells the cost of its witness."""
        ...

    def whole(self) -> Whole | None:
        """Return what a flat witness covers, to be hashed beside other tensors; None if it has more
        than `CHUNK_BYTES`, or is hashed already.

        Raises:
            ValueError, OSError, TypeError, BufferError: it cannot be read; `witness` says why.
        """
        ...

    def witness(self, how: How) -> ArrayWitness:
        """Return the witness of the tensor.

        Raises:
            ValueError, OSError, TypeError: it cannot be witnessed; for a tensor of a file the
                message names neither the file nor the tensor.
        """
        ...


def witness_in(file_name: str, tensor: UnreadTensor, how: How) -> ArrayWitness:
    """Return the witness of a tensor of a file; errors name the file, and the tensor if it is at
    fault."""
    try:
        return tensor.witness(how)
    except ValueError as error:
        raise ValueError(f"{file_name}: tensor {tensor.name!r}: {error}") from error
    except OSError as error:
        error.filename = file_name
        raise


class TensorFile(NamedTuple):
    """An open file of tensors.

    Attributes:
        name: name of the file.
        tensors: its tensors; can be iterated over more than once.
        metadata: its texts by key; None if files of its kind have none.
        problems: faults of the file that belong to none of its tensors.
    """

    name: str
    tensors: Iterable[UnreadTensor]
    metadata: Mapping[str, str] | None
    problems: list[str]


@contextmanager
def opened_regular(name: str) -> Iterator[io.FileIO]:
    """Open a regular file, which must not change until it is closed.

    Raises:
        OSError: it cannot be opened.
        ValueError: not a regular file, or it changed while it was open.
    """
    try:
        file = open_regular(name)
    except FileError as error:
        raise ValueError(f"{name} must be a regular file") from error
    with file:
        before = os.fstat(file.fileno())
        yield file
        try:
            require_unchanged(file, before)
        except FileError as error:
            raise ValueError(f"{name} {error}") from error
