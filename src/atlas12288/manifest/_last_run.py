# SPDX-License-Identifier: Apache-2.0
"""Read the results of the last run for each file: digests from the manifest that it wrote, and
identities from its state."""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedReader

from .._errors import WitnessError
from .._files import FileError, file_errors, open_regular
from .._witness import WitnessStream
from ._entries import Entry, read_line
from ._state_file import StateFile
from ._state_frames import Finished

# Longer than any entry with a path and target that a file system allows.
_LINE_MOST = 1 << 20
_ENTRY = b'{"path'


def last_entries(
    state: StateFile, finished: Finished, output: str
) -> Iterator[tuple[Entry, str, bool]]:
    """Yield the entries of a manifest, in its order, in constant memory.

    Args:
        state: the state; `finished` is its last run.
        finished: the run that wrote the manifest.
        output: the manifest.

    Yields:
        Each entry, its identity, and whether the identity shows later changes. Use them only after
        the last one: only then is it known that the run wrote this manifest.

    Raises:
        FileError: the run did not write this manifest, or the state is damaged.
    """
    other = FileError("the manifest is not the one that the last run wrote")
    identities = state.identities()
    digests = _digests(finished)
    digest = WitnessStream()
    count = 0
    begins = True  # a line
    with file_errors(), open_regular(output) as raw:
        file = BufferedReader(raw, _LINE_MOST)
        while line := file.readline(_LINE_MOST):
            digest.update(line)
            ends = line.endswith(b"\n")
            if begins and line.startswith(_ENTRY):
                count += 1
                identity = next(identities, None)
                if identity is None:
                    raise other
                try:
                    entry = read_line(line.rstrip(b",\n"), digests)
                except WitnessError:
                    raise other from None
                yield entry, *identity
            begins = ends
    if (digest.digest(), count) != (finished.sha256, finished.entries) or next(identities, None):
        raise other


def _digests(finished: Finished) -> tuple[str, ...]:
    found = finished.context.get("digests")
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise FileError("the state is damaged")
    return tuple(found)
