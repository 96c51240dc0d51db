# SPDX-License-Identifier: Apache-2.0
"""A manifest as its lines, read without an object for each entry.

Most entries of a manifest that is verified have not changed: then the line that the folder gives is
the line of the manifest, and only others are parsed.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import accumulate
from typing import Final

from .. import _json
from .._errors import WitnessError
from .._native import leaf_hashes, leaf_places, read_lines, read_roots
from .._sidecars import Trees
from ._entries import Entry, LineDigests, Lines, flat_and_tree, read_line, read_text
from ._paths import PATH_MOST_BYTES, is_utf8, quoted
from ._sources.siblings import Siblings
from ._statement import MANIFEST_BEGIN, OPTIONS_BEGIN, Options, Witnessed, statement_end

_LINK: Final = -1  # in the place of a size
_LINES_AT_ONCE: Final = 1024


class Lined:
    """A manifest whose entries are parsed only where they are needed.

    Made by `of` and `read`.

    Attributes:
        options: its options.
        paths: the path of each entry, sorted.
        root: the root over options and entries, where it was read; else b"".
    """

    def __init__(
        self,
        options: Options,
        paths: list[bytes],
        sizes: array[int],
        text: bytes = b"",
        places: array[int] | None = None,
        entries: tuple[Entry, ...] = (),
        root: bytes = b"",
    ) -> None:
        self.options = options
        self.paths = paths
        self.root = root
        self._sizes = sizes
        self._text = text
        self._places = places  # where each line begins in the text; None if there are entries
        self._made = entries

    @classmethod
    def of(cls, manifest: Witnessed) -> Lined:
        """Return a manifest whose entries are there."""
        if isinstance(manifest, Lined):
            return manifest
        entries = manifest.entries
        sizes = [entry.size if entry.target is None else _LINK for entry in entries]
        paths = [entry.path for entry in entries]
        return cls(manifest.options, paths, array("q", sizes), entries=entries)

    @classmethod
    def read(cls, text: bytes) -> Lined | None:
        """Return a manifest in JSON, if each byte is as we write it and no path needs an escape.

        Returns:
            None where another reader must judge the text.
        """
        middle = text.rfind(OPTIONS_BEGIN)
        if not text.startswith(MANIFEST_BEGIN) or middle < len(MANIFEST_BEGIN):
            return None
        chosen, _, end = text[middle + len(OPTIONS_BEGIN) :].partition(b"\n")
        try:
            options = Options.of_json(_json.read(chosen))
            if options.to_json() != chosen:
                return None
        except (WitnessError, UnicodeDecodeError):
            return None
        found = read_lines(
            memoryview(text)[len(MANIFEST_BEGIN) : middle],
            *flat_and_tree(options.digests),
            PATH_MOST_BYTES,
        )
        if found is None or not is_utf8(found[0]):
            return None
        lines, paths, numbers = found
        digests = LineDigests()
        digests.add(Lines.of([chosen]))
        digests.add(Lines(lines, leaf_hashes(lines)))
        root = digests.root()
        if end != statement_end(root, digests.sha256()):
            return None
        places = array("q", numbers)
        names = paths.split(b"\0")[:-1]
        return cls(options, names, places[:-2:2], lines, places[1::2], root=root)

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """All entries."""
        return self._made or tuple(read_text(self._text, self.options.digests))

    def entry(self, index: int) -> Entry:
        """Return one entry."""
        if self._places is None:
            return self._made[index]
        return read_line(self.text(index, index + 1)[:-1], self.options.digests)

    def sizes(self) -> Iterator[int | None]:
        """Yield the size of each entry in bytes; None for a link."""
        return (None if size == _LINK else size for size in self._sizes)

    def trees(self) -> Iterator[Trees]:
        """Yield the trees of the files, some at a time, if all have one."""
        if self._places is None:
            yield from Trees.of(
                (entry.size, entry.root) for entry in self._made if entry.root is not None
            )
            return
        for start in range(0, len(self.paths), _LINES_AT_ONCE):
            stop = min(start + _LINES_AT_ONCE, len(self.paths))
            sizes = self._sizes[start:stop]
            if _LINK in sizes:
                sizes = array("q", (size for size in sizes if size != _LINK))
            yield Trees(sizes, read_roots(self.text(start, stop)))

    def leaf_places(self) -> array[int]:
        """Return the place of the first leaf of each entry in the sidecar, and the number of all
        leaves."""
        return array("q", leaf_places(self._sizes))

    def text(self, start: int, stop: int) -> bytes:
        """Return some lines, each ended by one line feed."""
        if self._places is None:
            lines = [entry.to_json() for entry in self._made[start:stop]]
            return b"\n".join([*lines, b""])
        return self._text[self._places[start] : self._places[stop]]

    @property
    def links(self) -> int:
        """The number of symbolic links."""
        return self._sizes.count(_LINK)

    def part(self, paths: Iterable[bytes]) -> Lined:
        """Return the entries at some paths and below them, with the same options and no root.

        Args:
            paths: in their canonical form.

        Raises:
            WitnessError: there is no entry at or below one of the paths.
        """
        places = self._places
        numbers: set[int] = set()
        for path in paths:
            start, stop = (bisect_left(self.paths, path + end) for end in (b"/", b"0"))
            found = set(range(start, stop))
            index = bisect_left(self.paths, path)
            if self.paths[index : index + 1] == [path]:
                found.add(index)
            if not found:
                raise WitnessError(f"the manifest has nothing at or below {quoted(path)}")
            numbers |= found
        chosen = sorted(numbers)
        names = [self.paths[number] for number in chosen]
        sizes = array("q", [self._sizes[number] for number in chosen])
        if places is None:
            made = tuple(self._made[number] for number in chosen)
            return Lined(self.options, names, sizes, entries=made)
        lines = [self.text(number, number + 1) for number in chosen]
        begins = array("q", accumulate(map(len, lines), initial=0))
        return Lined(self.options, names, sizes, b"".join(lines), begins)

    def index(self, siblings: Siblings) -> int | None:
        """Return the index of the first of some siblings, if entries of files with their paths and
        sizes, and no others, follow one another from there on."""
        paths = siblings.paths
        start = bisect_left(self.paths, paths[0])
        stop = start + len(paths)
        if self.paths[start:stop] == paths and self._sizes[start:stop] == siblings.sizes:
            return start
        return None
