# SPDX-License-Identifier: Apache-2.0
"""Indices of windows as ranges of neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from ._native import WINDOW_BYTES
from ._sidecars import WindowRange


def neighbours(indices: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield sorted indices as ranges of neighbours: the first, and the one behind the last."""
    # Among neighbours, index and place grow alike.
    for _, group in groupby(enumerate(indices), lambda each: each[1] - each[0]):
        some = [index for _, index in group]
        yield some[0], some[-1] + 1


def window_ranges(windows: Iterable[int], length: int) -> tuple[WindowRange, ...]:
    """Return sorted windows of a region of `length` bytes as ranges."""
    return tuple(
        WindowRange(first, stop, first * WINDOW_BYTES, min(stop * WINDOW_BYTES, length))
        for first, stop in neighbours(windows)
    )
