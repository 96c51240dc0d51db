# SPDX-License-Identifier: Apache-2.0
"""Where tensors come from: files that are opened, and what is in them."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from .._files import FileError, open_regular, require_unchanged
from ._content import How
from ._witness import ArrayWitness


class Source(Protocol):
    """A tensor that has not been read. There may be a million: it has slots, and no closure."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int:
        """Its bytes, about: what its witness costs."""
        ...

    def witness(self, how: How) -> ArrayWitness:
        """Return its witness.

        Raises:
            ValueError, OSError, TypeError: there is none; for a tensor of a file the message has
                neither the name of the file nor that of the tensor.
        """
        ...


def witness_in(file_name: str, source: Source, how: How) -> ArrayWitness:
    """Return the witness of a tensor of a file, with errors that name the file, and the tensor
    where it is at fault."""
    try:
        return source.witness(how)
    except ValueError as error:
        raise ValueError(f"{file_name}: tensor {source.name!r}: {error}") from error
    except OSError as error:
        error.filename = file_name
        raise


class TensorFile(NamedTuple):
    """An open file of tensors.

    Attributes:
        name: of the file.
        sources: its tensors, again each time that they are gone through.
        metadata: its texts; None where files of its kind have none.
        problems: what is wrong with the file and with none of its tensors.
    """

    name: str
    sources: Iterable[Source]
    metadata: Mapping[str, str] | None
    problems: list[str]


@contextmanager
def opened_regular(name: str) -> Iterator[io.FileIO]:
    """Open a regular file that may not change until it is closed.

    Raises:
        OSError: it cannot be opened.
        ValueError: not a regular file, or it changed meanwhile.
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
