# SPDX-License-Identifier: Apache-2.0
"""Read the results of the last run for each file: digests from the manifest that it wrote, and
identities from its state."""

from __future__ import annotations

from collections.abc import Iterator
from io import FileIO
from typing import Final

from .._errors import WitnessError
from .._files import FileError, file_errors, open_regular
from .._witness import WitnessStream
from ._known_lines import Piece, Single, parted
from ._state_file import StateFile
from ._state_frames import Finished
from ._statement import MANIFEST_BEGIN

# Longer than any entry with a path and target that a file system allows.
_LINE_MOST: Final = 1 << 20
_READ_BYTES: Final = 1 << 18


def last_lines(
    state: StateFile, finished: Finished, output: str, digests: tuple[bool, bool]
) -> Iterator[Piece | Single]:
    """Yield the lines of a manifest, in its order, in constant memory.

    Args:
        state: the state; `finished` is its last run.
        finished: the run that wrote the manifest.
        output: the manifest.
        digests: the digests in it, flat or tree or both.

    Yields:
        The lines, with the places of their leaves in the sidecar. Use them only after the last one:
        only then is it known that the run wrote this manifest.

    Raises:
        FileError: the run did not write this manifest, or the state is damaged.
    """
    identities = _Identities(state)
    digest = WitnessStream()
    leaf = 0
    with file_errors(), open_regular(output) as file:
        for text in _entry_lines(file, digest):
            some = identities.take(text.count(b"\n"))
            try:
                text.decode()
                leaf = yield from parted(text, some, leaf, digests)
            except (WitnessError, UnicodeDecodeError):
                raise _other() from None
    if (digest.digest(), identities.count) != (finished.sha256, finished.entries):
        raise _other()
    if not identities.are_over:
        raise _other()


def _other() -> FileError:
    return FileError("the manifest is not the one that the last run wrote")


def _entry_lines(file: FileIO, digest: WitnessStream) -> Iterator[bytes]:
    """Yield the lines of the entries of a manifest, some at a time; the digest gets all its
    bytes."""
    begin = file.read(len(MANIFEST_BEGIN))
    if begin != MANIFEST_BEGIN:
        raise _other()
    digest.update(begin)
    rest = b""
    is_over = False
    while chunk := file.read(_READ_BYTES):
        digest.update(chunk)
        if is_over:
            continue
        text = rest + chunk
        end = text.rfind(b"\n") + 1
        text, rest = text[:end], text[end:]
        # What follows the entries begins with a bracket.
        after = 0 if text.startswith(b"]") else text.find(b"\n]") + 1
        if after or text.startswith(b"]"):
            is_over, text = True, text[:after]
        elif len(rest) > _LINE_MOST:
            raise _other()
        if text:
            yield text


class _Identities:
    """The identities of the entries, in order.

    Attributes:
        count: how many were taken.
    """

    def __init__(self, state: StateFile) -> None:
        self._lists = state.identity_lists()
        self._some: list[bytes] = []
        self._place = 0  # of the next one in the list
        self.count = 0

    def take(self, count: int) -> list[bytes]:
        """Return the next ones.

        Raises:
            FileError: there are fewer, or the state is damaged.
        """
        taken: list[bytes] = []
        while len(taken) < count:
            if self._place == len(self._some) and not self._fill():
                raise _other()
            start = self._place
            self._place = min(start + count - len(taken), len(self._some))
            taken += self._some[start : self._place]
        self.count += count
        return taken

    @property
    def are_over(self) -> bool:
        """Whether all were taken."""
        return self._place == len(self._some) and not self._fill()

    def _fill(self) -> bool:
        self._some = next(self._lists, [])
        self._place = 0
        return bool(self._some)
