# SPDX-License-Identifier: Apache-2.0
"""Which line of a list of witnesses belongs to which FILE, by their names."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from .._words import counted

_STDIN: Final = b"-"
_NONE: Final = "has no witness by its name"


class Pairing(NamedTuple):
    """FILEs and lines of a list, paired.

    Attributes:
        lines: for each FILE the index of its line, or why it has none, in words.
        others: indices of the lines that belong to no FILE, in order.
    """

    lines: list[int | str]
    others: list[int]


def pair(names: Sequence[bytes | None], files: Sequence[bytes]) -> Pairing:
    """Pair FILEs with the lines of a list.

    A name is matched as it is. If it is there several times on both sides, they are taken in
    their order. What is left is matched by base name, where only one name of the list and only one
    FILE has it. Standard input, `-`, has no name of its own: if it is the only one that is left on
    its side, and one is left on the other, these two are a pair.

    Args:
        names: names of the lines; None for a line that has none and is no pair.
        files: the FILEs as typed.
    """
    typed, listed = _places(files), _places(names)
    found: list[int | str | None] = [None] * len(files)
    used: set[int] = set()
    for name, places in typed.items():
        own = listed.get(name, [])
        if len(own) == len(places):
            for place, line in zip(places, own, strict=True):
                found[place] = line
        elif own:
            count = counted(len(own), "witness", "witnesses")
            for place in places:
                found[place] = f"is {_times(len(places))} among FILE and has {count}, must be equal"
        used.update(own)
    _pair_by_base_name(names, files, found, used)
    left = [place for place, line in enumerate(found) if line is None]
    others = [line for line, name in enumerate(names) if name is not None and line not in used]
    is_one = len(left) == len(others) == 1 and None not in names
    if is_one and _STDIN in (files[left[0]], names[others[0]]):
        found[left[0]] = others.pop()
    return Pairing([_NONE if line is None else line for line in found], others)


def _pair_by_base_name(
    names: Sequence[bytes | None],
    files: Sequence[bytes],
    found: list[int | str | None],
    used: set[int],
) -> None:
    """Pair what is left where a base name is unique; add to `found` and `used`."""
    lines_by_base = _places(map(_base, names))
    count = Counter(map(_base, files))
    for place, name in enumerate(files):
        base = _base(name)
        if found[place] is not None or base is None:
            continue
        own = lines_by_base.get(base, [])
        if len(own) == count[base] == 1 and used.isdisjoint(own):
            found[place] = own[0]
            used.update(own)
        elif len(own) > 1:
            found[place] = f"{_NONE}, and {len(own)} by its base name"
        elif own and count[base] > 1:
            found[place] = f"{_NONE}, and another FILE has its base name"


def _base(name: bytes | None) -> bytes | None:
    """Return the last part of a name; None for standard input, and where there is none."""
    if name is None or name == _STDIN:
        return None
    return name.rpartition(b"/")[2] or None


def _places(names: Iterable[bytes | None]) -> dict[bytes, list[int]]:
    """Return the indices of each name, in order."""
    found: dict[bytes, list[int]] = {}
    for index, name in enumerate(names):
        if name is not None:
            found.setdefault(name, []).append(index)
    return found


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
